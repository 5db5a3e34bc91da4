"""Builds the worker's image on a temporary instance, and pushes it to the env's repository.

The builder is an instance with the key `build_runner`, which no stack declares: it exists for one build. It is
terminated by this command, also when the build fails or is interrupted, by its own timer after 50 minutes, and by the
guard in AWS. One that is left over all the same is found by its tags, and `down` removes it.

Builds that start in the same second don't interfere: each has its own builder, distinguished by a random word in its
user data (which also changes EC2's client token), and terminates only that.
"""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from aistratus.cloud import Cloud
from aistratus.core.errors import Failure
from aistratus.core.resource import Found
from aistratus.core.settle import Wait, until
from aistratus.node.ssm import SsmTransport
from aistratus.node.transport import on_node
from aistratus.resources.calls import unless_gone
from aistratus.resources.compute import Instance
from aistratus.resources.instance_listing import INSTANCES, state_of
from aistratus.resources.instance_start import start_first
from aistratus.resources.instances import INSTANCE_GONE

KEY: Final = "build_runner"
NEEDS: Final = ("subnet_public", "node_group", "build_runner_profile", "builder_images")
"""What of the stack it stands on, by key."""

TYPE: Final = "t3.medium"
"""Two processors and 4 GiB: pip needs 1 GiB for the largest wheel, and nothing is compiled."""

RUNNING: Final = Wait(what="the builder runs", within=300, first=0.5)
WITHIN_S: Final = 2400.0
"""Docker's installation, the base image, 150 MB of wheels and the push take ten minutes on a slow day."""

NO_DOCKER: Final = 3
"""The script's status where there is no Docker."""
IMAGE: Final = re.compile(r"^image (\S+)$", re.M)

_SCRIPT: Final = """set -euo pipefail
exec > >(tee -a "${NODE_ROOT-}/var/log/build.log") 2>&1
trap 'exec >&- 2>&-; wait '"$!" EXIT
# The agent is there before the machine's first boot has ended, and Docker comes with that.
if command -v cloud-init >/dev/null; then cloud-init status --wait >/dev/null || true; fi
if ! said=$(docker info 2>&1 >/dev/null); then
  echo "there is no Docker on this machine: ${said##*$'\\n'}"
  exit NO_DOCKER
fi
cd FOLDER
aws ecr get-login-password | docker login --username AWS --password-stdin "REGISTRY"
if docker manifest inspect "IMAGE" >/dev/null 2>&1; then
  echo "it is there already, built from the same worker"
else
  rm -rf context
  python3 -m zipfile -e worker.zip context
  docker build --tag "IMAGE" --file Dockerfile context
  docker push --quiet "IMAGE"
fi
echo "image IMAGE"
"""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is to be built.

    ids: of what `NEEDS` names.
    bundle: the worker's zip, and its SHA-256, which is the image's tag.
    """

    ids: Mapping[str, Mapping[str, str]]
    image: str
    bucket: str
    log_group: str
    dockerfile: bytes
    bundle: bytes
    tag: str


def user_data(*, region: str, log_group: str) -> str:
    """The builder's first boot."""
    script = files("aistratus.node").joinpath("builder.sh").read_text(encoding="utf-8")
    for name, value in {"BUILDER_REGION": region, "BUILDER_LOG_GROUP": log_group}.items():
        if not re.fullmatch(r"[A-Za-z0-9._/-]+", value):
            raise ValueError(f"{name} can't be {value!r}")
        script = script.replace(f"{name}=''\n", f"{name}='{value}'\n", 1)
    return script


def build(aws: Cloud, work: Work, *, told: Callable[[str], None], heard: Callable[[str], None]) -> str:
    """Builds and pushes the image; gives its name.

    Args:
        told: is told what is being waited for.
        heard: is told the build's output as it comes.

    Raises:
        Failure: a builder is there already, or the build failed; nothing was pushed then.
    """
    want = _builder(aws, work)
    if there := _builders(aws.fresh()):
        raise Failure(
            f"the builder {there[0]} is there already: another build is under way, or one has died",
            todo="wait for its end, or end it with `aistratus node build --stop`",
        )
    builder = ""
    try:
        builder = start_first(aws, want, lambda cloud: _own(cloud, want)).id
        told(f"the builder {builder} ({TYPE}) starts …")
        until(RUNNING, lambda: _runs(aws, builder), clock=aws.clock)
        return _build_on(SsmTransport(aws, builder, bucket=work.bucket, told=told), aws.region, work, heard)
    finally:
        if not builder and (own := _own(aws.fresh(), want)) is not None:
            builder = own.id  # it was made, though the answer never came, or Ctrl-C did
        if builder:
            _end(aws, builder)


def script(folder: str, image: str, region: str) -> str:
    """What the builder does with the Dockerfile and the bundle in `folder`."""
    text = _SCRIPT.replace("NO_DOCKER", str(NO_DOCKER)).replace("FOLDER", on_node(folder))
    text = text.replace("REGISTRY", image.split("/")[0]).replace("IMAGE", image)
    return f"export AWS_DEFAULT_REGION={region}\n{text}"


def stop(aws: Cloud) -> list[str]:
    """Ends every builder, without waiting for it; gives their ids. It is safe at any time, also after Ctrl-C."""
    ended = _builders(aws.fresh())
    for identity in ended:
        _end(aws, identity)
    return ended


def _builders(aws: Cloud) -> list[str]:
    """Ids of all that haven't ended."""
    return [instance["InstanceId"] for key, instance in INSTANCES.left(aws) if key == KEY and INSTANCES.alive(instance)]


def _own(aws: Cloud, want: Instance) -> Found | None:
    """The builder with this run's user data."""
    for identity in _builders(aws):
        params = {"InstanceId": identity, "Attribute": "userData"}
        answer = unless_gone(INSTANCE_GONE, aws.ec2.describe_instance_attribute, **params) or {}
        text = base64.b64decode(answer.get("UserData", {}).get("Value", "")).decode(errors="replace")
        if text == want.user_data:
            return Found(state=want, ids={"id": identity})
    return None


def _end(aws: Cloud, identity: str) -> None:
    unless_gone(INSTANCE_GONE, aws.ec2.terminate_instances, InstanceIds=[identity])


def _builder(aws: Cloud, work: Work) -> Instance:
    ids = work.ids
    return Instance(
        key=KEY,
        image="/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
        type=TYPE,
        subnets=(ids["subnet_public"]["id"],),
        security_groups=(ids["node_group"]["id"],),
        profile=ids["build_runner_profile"].get("name") or ids["build_runner_profile"]["id"],
        user_data=f"{user_data(region=aws.region, log_group=work.log_group)}# build {uuid.uuid4().hex}\n",
        shutdown_behavior="terminate",
        public_ip=True,
    )


def _runs(aws: Cloud, identity: str) -> bool | None:
    instance = INSTANCES.by_id(aws, identity)
    if instance is not None and not INSTANCES.alive(instance):
        raise Failure(f"the builder {identity} was ended before it ran", todo="run the command again")
    return True if instance is not None and state_of(instance) == "running" else None


def _build_on(builder: SsmTransport, region: str, work: Work, heard: Callable[[str], None]) -> str:
    folder = f"/var/tmp/build-{work.tag[:12]}"  # noqa: S108 - root's own machine, for one build  # nosec B108
    builder.put(work.dockerfile, f"{folder}/Dockerfile")
    builder.put(work.bundle, f"{folder}/worker.zip")
    done = builder.run(script(folder, work.image, region), within=WITHIN_S, heard=heard)
    words = [line for line in done.out.splitlines() if line.strip()]
    if done.code == NO_DOCKER:
        raise Failure(f"no image was built: {words[-1] if words else 'there is no Docker'}")
    made = IMAGE.findall(done.out)
    if done.code != 0 or not made:
        raise Failure(f"no image was built (status {done.code}): {words[-1] if words else 'the builder said nothing'}")
    return str(made[-1])

"""`python -m aistratus.deploy`: deploys the router's code from a build, and nothing else.

It packages the router from the source that it is run in, byte for byte as `aistratus up` does, and deploys it: upload,
publish a version, move the alias. If that code is deployed already, nothing happens. The env comes from
`AISTRATUS_ENV`, region and credentials from the SDK's own chain.

Everything besides code (variables, memory, the role) is left to `up`: a version is published with the function's
current configuration. It needs boto3 and the distributions that ship in the zip, no other part of the project's
installation (`scripts/lock/deploy.txt`).
"""

from __future__ import annotations

import os
import re
import sys

from aistratus.cloud import Access, Clients, Cloud, Identity
from aistratus.core.errors import Absent, Failure, UsageError
from aistratus.core.settle import RealClock
from aistratus.explain import explain
from aistratus.package import Package, router_zip
from aistratus.resources.calls import unless_gone
from aistratus.resources.lambda_code import GONE, change, ready
from aistratus.trace import Meter

ROUTER = "router"
ALIAS = "live"


def main() -> int:
    """Deploys; says what became of it, or in one sentence why nothing did. Gives the exit code."""
    try:
        package = router_zip()
        aws = _cloud(_env())
        version = deploy(aws, package)
    except Exception as error:  # noqa: BLE001 - whatever it is, the build's log gets a sentence and the build fails
        failure = explain(error)
        print(failure, file=sys.stderr)
        return failure.exit_code
    print(f"{aws.name(ROUTER)}:{ALIAS} leads to version {version} with code {package.sha256_base64}")
    return 0


def deploy(aws: Cloud, package: Package) -> str:
    """Makes this package the router's code; gives the version that the alias leads to.

    Publishing what is published already gives the same version again, so it may be repeated after any failure.

    Raises:
        Absent: there is no such function.
    """
    name = aws.name(ROUTER)
    there = unless_gone(GONE, aws.lambda_.get_function_configuration, FunctionName=name)
    if there is None:
        raise Absent(f"there is no function {name} in {aws.region}", todo=f"`aistratus --env {aws.env} up` builds it")
    if there["CodeSha256"] != package.sha256_base64:
        change(aws, aws.lambda_.update_function_code, FunctionName=name, ZipFile=package.content)
        ready(aws, name)
    # The digest makes Lambda refuse if somebody uploaded other code meanwhile.
    published = change(aws, aws.lambda_.publish_version, FunctionName=name, CodeSha256=package.sha256_base64)
    version: str = published["Version"]
    ready(aws, name, Qualifier=version)
    change(
        aws,
        aws.lambda_.update_alias,
        FunctionName=name,
        Name=ALIAS,
        FunctionVersion=version,
        RoutingConfig={"AdditionalVersionWeights": {}},
    )
    return version


def _env() -> str:
    """The env's name.

    Raises:
        UsageError: it isn't given.
    """
    env = os.environ.get("AISTRATUS_ENV", "")
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,14}[a-z0-9])?", env):
        raise UsageError("AISTRATUS_ENV doesn't say which env's router to deploy", todo="the build project sets it")
    return env


def _cloud(env: str) -> Cloud:
    import boto3

    region = boto3.session.Session().region_name
    if region is None:
        raise Failure("there is no region", todo="set AWS_DEFAULT_REGION")
    clients = Clients(Access(region, endpoint=os.environ.get("AWS_ENDPOINT_URL")), Meter())
    caller = clients.get("sts").get_caller_identity()
    identity = Identity(account=caller["Account"], arn=caller["Arn"], region=region)
    return Cloud(env=env, identity=identity, clients=clients, clock=RealClock())


if __name__ == "__main__":
    sys.exit(main())

"""Replacements of the system tools that the bootstrap script uses, for a node that is a folder on this computer.

`aistratus node launch` really runs the script there: below the node's folder (`NODE_ROOT`), with bash and the tools of
this computer. Tools that would change the computer (packages, users, owners of files) or that only an instance has (its
metadata, the AWS command line, Amazon Linux's Python) are replaced by these programs, which come first on the `PATH`.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import Final

from aistratus.local.node_bootstrap import Prepared

UNIT: Final = "etc/systemd/system/aistratus-worker.service"
FOLDERS: Final = ("etc/systemd/system", "etc/logrotate.d", "var/log/aistratus", "var/lib", "opt/aistratus")

_PYTHON: Final = """#!/bin/sh
# A virtual environment here has nothing of its own: what the worker needs is installed where the embedded cloud runs.
if [ "$1 $2" = "-m venv" ]; then
  mkdir -p "$3/bin"
  printf '#!/bin/sh\\nexec %s "$@"\\n' {python} >"$3/bin/python"
  printf '#!/bin/sh\\nexit 0\\n' >"$3/bin/pip"
  chmod +x "$3/bin/python" "$3/bin/pip"
  exit
fi
exec {python} -S "$@"
"""
_CURL: Final = """#!/bin/bash
# The instance's metadata; besides, a node here goes nowhere but to this computer itself.
for url in "$@"; do :; done
case $url in
  http://169.254.169.254/latest/api/token) echo token; exit ;;
  http://169.254.169.254/latest/meta-data/instance-id) echo {instance_id}; exit ;;
  http://169.254.169.254/latest/meta-data/instance-type) echo {instance_type}; exit ;;
  http://127.0.0.1:*|http://localhost:*) PATH=${{PATH#*:}} exec curl "$@" ;;
esac
echo "curl: (7) an embedded node has no way to $url" >&2
exit 7
"""
_DNF: Final = """#!/bin/sh
# Nothing is installed on this computer. The log is shipped by the embedded cloud itself.
case $* in
  *amazon-cloudwatch-agent*)
    agent="$NODE_ROOT/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl"
    mkdir -p "${agent%/*}" && printf '#!/bin/sh\\n' >"$agent" && chmod +x "$agent" ;;
  *nvidia*) echo "an embedded node has no GPU" >&2; exit 1 ;;
esac
"""
_INSTALL: Final = """#!/bin/bash
# Files stay their user's.
given=()
while (($#)); do case $1 in -o|-g) shift 2 ;; *) given+=("$1"); shift ;; esac; done
PATH=${PATH#*:} exec install "${given[@]}"
"""
_AWS: Final = """#!/bin/sh
exec {python} -IS "$0.py" "$@"
"""
_AWS_PROGRAM: Final = """# aws s3 cp FROM TO, one of them an object; as the instance, which is believed here.
import os, shutil, sys, urllib.error, urllib.request

source, target = [word for word in sys.argv[1:] if not word.startswith("-")][2:4]
credential = "/".join((os.environ["AWS_ACCESS_KEY_ID"], "20260101", os.environ["AWS_REGION"], "s3/aws4_request"))
headers = {"Authorization": f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0"}

def address(place):
    return os.environ["AWS_ENDPOINT_URL"] + "/" + place.removeprefix("s3://")

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    if source.startswith("s3://"):
        asked = urllib.request.Request(address(source), headers=headers)
        with opener.open(asked) as answer, open(target, "wb") as file:
            shutil.copyfileobj(answer, file)
    else:
        with open(source, "rb") as file:
            headers["Content-Length"] = str(os.path.getsize(source))
            opener.open(urllib.request.Request(address(target), file, headers, method="PUT")).close()
except (OSError, urllib.error.URLError) as error:
    sys.exit(f"{source} can't be copied to {target}: {error}")
"""


def programs(instance_id: str, instance_type: str) -> dict[str, str]:
    """The programs by name."""
    nothing = "#!/bin/sh\n"
    return {
        "python3.11": _PYTHON.format(python=shlex.quote(sys.executable)),
        "curl": _CURL.format(instance_id=shlex.quote(instance_id), instance_type=shlex.quote(instance_type)),
        "dnf": _DNF,
        "install": _INSTALL,
        "aws": _AWS.format(python=shlex.quote(sys.executable)),
        "aws.py": _AWS_PROGRAM,
        "useradd": nothing,
        "id": nothing,
        "nvidia-smi": "#!/bin/sh\nexit 9\n",
        "docker": "#!/bin/sh\necho 'an embedded machine has no Docker' >&2\nexit 1\n",
        "cloud-init": nothing,
    }


def unit(root: Path) -> Prepared | None:
    """The worker as the script's unit describes it: the release on its path, and its environment."""
    file = root / UNIT
    if not file.is_file():
        return None
    said: dict[str, list[str]] = {}
    for line in file.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals:
            said.setdefault(name, []).append(value)
    release = re.search(r"PYTHONPATH=(.*?)(?= [A-Z_]+=|$)", said["Environment"][0])
    assert release is not None
    lines = Path(said["EnvironmentFile"][0]).read_text().splitlines()
    environment = dict(line.partition("=")[::2] for line in lines if "=" in line)
    return Prepared(bundle=Path(release[1]), environment=environment)

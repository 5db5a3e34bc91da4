"""SSH through Systems Manager: needs no open port, but AWS's `session-manager-plugin` on this machine.

StartSession opens a session to the node's sshd; the plugin forwards bytes between it and its own standard input and
output, which are one end of a socket here. The token is passed in the plugin's environment, because arguments can be
read by everybody on the machine.

Source: aws-cli, `customizations/sessionmanager.py` (arguments, `AWS_SSM_START_SESSION_RESPONSE`, and the first version
that reads it); Systems Manager user guide, "Allow and control permissions for SSH connections through Session Manager".
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from dataclasses import dataclass
from typing import Final

from aistratus.cloud import Cloud
from aistratus.core.errors import Failure, UsageError
from aistratus.node.ssh import Way
from aistratus.node.transport import Unreachable

PLUGIN: Final = "session-manager-plugin"
DOCUMENT: Final = "AWS-StartSSHSession"
RESPONSE: Final = "AWS_SSM_START_SESSION_RESPONSE"
READS_ENVIRONMENT_AFTER: Final = (1, 2, 497, 0)
WHERE: Final = (
    "https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-install-plugin.html"
)


def plugin() -> str | None:
    """The plugin, if it is on PATH."""
    return shutil.which(PLUGIN)


def through_session(aws: Cloud, instance_id: str, port: int, *, profile: str | None) -> Way:
    """A way to the node's sshd through the plugin."""
    opened = _Session(aws, instance_id, port, profile or "")
    return Way(
        connect=opened.connect,
        place=f"{instance_id} by way of {PLUGIN}",
        closed="`aistratus node status` shows the machine; its SSM agent must be online",
    )


@dataclass(frozen=True)
class _Session:
    aws: Cloud
    instance_id: str
    port: int
    profile: str

    def connect(self, within: float) -> socket.socket:
        """Begins a session and the plugin that carries it; both end when the socket is closed."""
        program = plugin()
        if program is None:
            raise UsageError(f"{PLUGIN} isn't on this machine any more", todo=f"install it: {WHERE}")
        _check_version(program)
        asked = {"Target": self.instance_id, "DocumentName": DOCUMENT, "Parameters": {"portNumber": [str(self.port)]}}
        try:
            answer = self.aws.ssm.start_session(**asked)
        except self.aws.ssm.exceptions.TargetNotConnected as error:
            raise Unreachable(
                f"the SSM agent of {self.instance_id} isn't connected",
                todo="a machine that has just started needs a minute; `aistratus node status` shows it",
            ) from error
        response = {name: answer[name] for name in ("SessionId", "TokenValue", "StreamUrl")}
        ours, its = socket.socketpair()
        try:
            subprocess.Popen(
                [program, RESPONSE, self.aws.region, "StartSession", self.profile, json.dumps(asked),
                 self.aws.ssm.meta.endpoint_url],
                env={**os.environ, RESPONSE: json.dumps(response)},
                stdin=its.fileno(),
                stdout=its.fileno(),
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for us; it ends when its input does
            )  # fmt: skip
        except OSError as error:
            ours.close()  # nobody comes for the session: it ends by itself
            raise Failure(f"{program} can't be started: {error.strerror}") from error
        finally:
            its.close()
        ours.settimeout(within)
        return ours


def _check_version(program: str) -> None:
    """Raises UsageError for a plugin that would need the token among its arguments."""
    try:
        told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
        version = tuple(int(part) for part in told.strip().split("."))
    except (OSError, ValueError, subprocess.TimeoutExpired):
        version = ()
    if version <= READS_ENVIRONMENT_AFTER:
        raise UsageError(
            f"{program} is too old ({'.'.join(map(str, version)) or 'it tells no version'}): it would show the "
            "session's token to everybody on this machine",
            todo=f"install a newer one: {WHERE}",
        )

"""Chooses the transport to the node: Systems Manager where its agent is online, SSH on request or as the fallback.

`node.transport = "auto"` uses Systems Manager if the agent is online; if not, SSH directly to the node where
`node.ssh_cidr` allows that; otherwise it waits for the agent. `ssm` and `ssh` use only that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from aistratus.cloud import Cloud
from aistratus.core.errors import Absent, Failure, UsageError
from aistratus.node import session_plugin
from aistratus.node.host_keys import PRINT_KEYS, HostKeys, keys_in, keys_on_console
from aistratus.node.keys import key_path
from aistratus.node.ssh import SshTransport, Way, direct
from aistratus.node.ssm import SsmTransport
from aistratus.node.transport import Transport, Unreachable
from aistratus.resources.ec2 import Described
from aistratus.resources.instance_listing import state_of
from aistratus.settings import NodeSettings

Choice = Literal["auto", "ssm", "ssh"]
NO_CONSOLE: Final = frozenset({"UnsupportedOperation", "InvalidParameterCombination"})
"""`Latest` is for instances on Nitro only. Source: EC2 API reference, GetConsoleOutput."""


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How the operator gets to the node of an env.

    bucket: the env's bucket, for long output.
    folder: where keys are kept; the user's data folder by default.
    told: is told a sentence while there is something to wait for.
    """

    aws: Cloud
    settings: NodeSettings
    bucket: str
    profile: str | None = None
    folder: Path | None = None
    told: Callable[[str], None] = lambda sentence: None

    def transport(self, instance: Described, choice: Choice) -> Transport:
        """The way to this instance.

        Raises:
            Failure: the machine doesn't run.
            UsageError: the way that was chosen isn't open.
        """
        _require_running(instance)
        ssm = self._ssm(instance)
        if choice == "ssm" or (choice == "auto" and (ssm.online() or self._address(instance) is None)):
            return ssm
        return self.ssh(instance)

    def ssh(self, instance: Described) -> SshTransport:
        """SSH to this instance, straight or through a session; the host key is known before."""
        _require_running(instance)
        identity, keys = instance["InstanceId"], HostKeys(self.aws.env, self.folder)
        key = key_path(self.aws.env, self.folder)
        if not key.exists():
            raise UsageError(
                f"this machine has no SSH key of env {self.aws.env!r} ({key})",
                todo="bring it from the machine on which `up` made the node, or use `--transport ssm`",
            )
        way = self._way(instance)
        host_key = keys.pinned(identity) or keys.pin(identity, self._told_by_aws(instance))
        return SshTransport(
            way, instance_id=identity, user=self.settings.ssh_user, key=key, host_key=(host_key, keys.path),
            clock=self.aws.clock,
        )  # fmt: skip

    def _ssm(self, instance: Described) -> SsmTransport:
        return SsmTransport(self.aws, instance["InstanceId"], bucket=self.bucket, told=self.told)

    def _address(self, instance: Described) -> str | None:
        """Where sshd answers directly, if the settings open that and the machine has an address."""
        return instance.get("PublicIpAddress") if self.settings.ssh_cidr else None

    def _way(self, instance: Described) -> Way:
        port, address = self.settings.ssh_port, self._address(instance)
        if address is not None:
            closed = (
                f"SSH is open for {self.settings.ssh_cidr} only: set node.ssh_cidr to your address of today and run "
                "`aistratus up`"
            )
            return direct(address, port, closed=closed)
        if session_plugin.plugin() is not None:
            return session_plugin.through_session(self.aws, instance["InstanceId"], port, profile=self.profile)
        why = "the node has no public address" if self.settings.ssh_cidr else "node.ssh_cidr opens no address"
        raise UsageError(
            f"there is no way for SSH to the node: {why}, and {session_plugin.PLUGIN} isn't on this machine",
            todo=f"install it ({session_plugin.WHERE}), or use `--transport ssm`",
        )

    def _told_by_aws(self, instance: Described) -> list[str]:
        """The node's host keys, from its console or by a command that Systems Manager runs on it.

        Raises:
            Unreachable: neither tells them; a key that the connection itself shows is never taken.
        """
        identity = instance["InstanceId"]
        if keys := keys_on_console(self._console(identity)):
            return keys
        self.told(f"asking {identity} for its host key by way of Systems Manager …")
        try:
            keys = keys_in(self._ssm(instance).run(PRINT_KEYS, within=60).out)
        except Unreachable as error:
            raise Unreachable(
                f"nobody can tell the SSH host key of {identity}: it isn't on the console, and {error.what}",
                todo="it is never taken from the connection itself; try again when the SSM agent is online",
            ) from error
        if not keys:
            raise Unreachable(f"the node {identity} has no SSH host key", todo="it runs no sshd; use `--transport ssm`")
        return keys

    def _console(self, identity: str) -> str:
        from aistratus.core.errors import error_code

        try:
            answer = self.aws.ec2.get_console_output(InstanceId=identity, Latest=True)
        except Exception as error:
            if error_code(error) not in NO_CONSOLE:
                raise
            answer = self.aws.ec2.get_console_output(InstanceId=identity)
        return str(answer.get("Output") or "")


def _require_running(instance: Described) -> None:
    state = state_of(instance)
    if state in ("stopped", "stopping"):
        raise Absent(f"the node is {state}", todo="`aistratus node start` starts it")
    if state not in ("pending", "running"):
        raise Failure(f"the node is {state}", todo="`aistratus up` makes another")

"""The SSH host keys of an env's nodes: obtained once from the node through AWS, then pinned.

SSH alone can't verify the first key that it is shown. AWS can: the console output comes from the machine (cloud-init
writes the keys there at the first boot), and so does the output of a command run by Systems Manager. So a key is never
taken from the connection that it is to protect, and a node with another key than the pinned one is refused.

Source: cloud-init's documentation, "Keys to Console" (the lines between which the keys stand).
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from aistratus.core.errors import Failure
from aistratus.node.keys import key_path
from aistratus.private import make_private

BEGIN, END = "-----BEGIN SSH HOST KEY KEYS-----", "-----END SSH HOST KEY KEYS-----"
KEY: Final = re.compile(r"\b(ssh-ed25519|ecdsa-sha2-nistp(?:256|384|521)|ssh-rsa)[ \t]+(AAAA[0-9A-Za-z+/]+=*)")
PREFERRED: Final = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")

PRINT_KEYS: Final = 'cat "${NODE_ROOT-}"/etc/ssh/ssh_host_*_key.pub'
"""A script that has a node tell its keys."""


class HostKeyChanged(Failure):
    """The node shows another host key than the pinned one: nothing was sent."""

    kind = "host key"


class HostKeys:
    """The pinned keys of an env, in OpenSSH's own form, so that `ssh -o UserKnownHostsFile=…` can use them too.

    Args:
        folder: where keys are kept; the user's data folder by default.
    """

    def __init__(self, env: str, folder: Path | None = None) -> None:
        self.path = key_path(env, folder).with_suffix(".hosts")

    def pinned(self, instance_id: str) -> str | None:
        """The key of this node as `type base64`, if it is pinned."""
        for line in self._lines():
            name, _, key = line.partition(" ")
            if name == instance_id:
                return key
        return None

    def pin(self, instance_id: str, keys: Iterable[str]) -> str:
        """Keeps the best of a node's keys, and gives it.

        Raises:
            ValueError: there is none.
        """
        key = min(keys, key=lambda one: PREFERRED.index(one.split()[0]))
        lines = [line for line in self._lines() if not line.startswith(f"{instance_id} ")]
        make_private(self.path.parent)
        part = self.path.with_suffix(f".{os.getpid()}.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in [*lines, f"{instance_id} {key}"])
        part.replace(self.path)
        return key

    def _lines(self) -> list[str]:
        try:
            return self.path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []


def keys_in(text: str) -> list[str]:
    """All public keys in a text, as `type base64`."""
    return [f"{kind} {key}" for kind, key in KEY.findall(text)]


def keys_on_console(output: str) -> list[str]:
    """The host keys that cloud-init wrote to the console; those of the last boot that did."""
    _, begun, rest = output.rpartition(BEGIN)
    told, ended, _ = rest.partition(END)
    return keys_in(told) if begun and ended else []


def fingerprint(key: str) -> str:
    """A key as people compare it: `SHA256:…`. Source: OpenSSH's ssh-keygen -l."""
    digest = hashlib.sha256(base64.b64decode(key.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def changed(instance_id: str, pinned: str, shown: str, path: Path) -> HostKeyChanged:
    """The refusal, with what it means."""
    return HostKeyChanged(
        f"the node {instance_id} shows another SSH host key ({fingerprint(shown)}) than the one that was pinned "
        f"({fingerprint(pinned)}): somebody may stand between you and it, so nothing was sent",
        todo=f"if you know why, take its line out of {path}, and the next connection learns its keys from AWS",
    )

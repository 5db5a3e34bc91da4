"""The interface of the transports to a node.

A `Transport` runs a script on the node as root, uploads a file, and follows a growing file. Systems Manager needs no
open port and no key; SSH needs both and streams output. Callers don't depend on which one they use.

A script names the node's files through `on_node`: a machine has them at `/`, the embedded cloud's node below the folder
in `NODE_ROOT`.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from aistratus.core.errors import Failure

RUN_WITHIN_S: Final = 600.0
"""What a script gets when nobody says otherwise."""

Heard = Callable[[str], None]
"""Is told output as it comes: pieces of text, not always whole lines."""


class Unreachable(Failure):
    """The node can't be reached, or the way to it broke off."""

    kind = "unreachable"


class TookTooLong(Failure):
    """A script on the node was ended because its time was over."""

    kind = "timed out"


@dataclass(frozen=True)
class Done:
    """How a script ended: its exit status and what it wrote. Told as it came, `out` holds both streams."""

    code: int
    out: str
    err: str

    def check(self, what: str) -> Done:
        """Itself, if the script was successful.

        Raises:
            Failure: it wasn't; its last words are in the sentence.
        """
        if self.code == 0:
            return self
        words = [line.strip() for line in (self.err.strip() or self.out.strip()).splitlines() if line.strip()]
        raise Failure(f"{what} failed on the node with status {self.code}: {words[-1] if words else 'it said nothing'}")


class Transport(Protocol):
    """One way to one node."""

    @property
    def name(self) -> str:
        """`ssm` or `ssh`."""

    def run(self, script: str, *, within: float = RUN_WITHIN_S, heard: Heard | None = None) -> Done:
        """Runs a bash script as root and waits for its end.

        Args:
            within: seconds after which it is ended, with all that it started.
            heard: is told both streams, as they come.

        Raises:
            TookTooLong: it was ended because its time was over.
            Interrupted: Ctrl-C; it was ended.
            Unreachable: the node can't be reached, or the way broke off.
        """

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """Makes a file of the node, whole or not at all; `path` is absolute."""

    def tail(self, path: str, *, lines: int = 100, follow: bool = False) -> Iterator[str]:
        """The last lines of a file, in pieces; with `follow` what is added to it until the caller has enough.

        Raises:
            Interrupted: Ctrl-C.
        """

    def close(self) -> None:
        """Ends the connection, if it is one."""


def on_node(path: str) -> str:
    """A file of the node as a word of a script."""
    return f'"${{NODE_ROOT-}}"{shlex.quote(path)}'


def put_script(path: str, digest: str, mode: int, source: str) -> str:
    """A script that makes a file out of what the command `source` writes, if it is what it shall be."""
    return f"""set -euo pipefail
umask 077
file={on_node(path)}
mkdir -p "$(dirname "$file")"
{source} >"$file.part"
sum=$(sha256sum "$file.part")
if [[ ${{sum%% *}} != {digest} ]]; then rm -f "$file.part"; echo "it didn't arrive whole" >&2; exit 1; fi
chmod {mode:o} "$file.part"
mv "$file.part" "$file"
"""

"""Streams a script's output over Run Command, which itself returns none before a command has ended.

The script runs on the node in a session of its own, with its output in a file. Short commands read what was appended.
Ctrl-C and the time-out end the whole session. If this program is killed, the script runs to its own end.
"""

from __future__ import annotations

import codecs
import shlex
import uuid
from typing import TYPE_CHECKING, Final

from aistratus.core.errors import Interrupted
from aistratus.core.settle import Clock
from aistratus.node.transport import Done, Heard, TookTooLong, Unreachable

if TYPE_CHECKING:
    from aistratus.node.ssm import SsmTransport

LOST_LOOKS: Final = 3
"""Looks in a row that may get lost, each after up to a minute: an agent that is updated or starved comes back."""

_BEGIN: Final = r"""set -euo pipefail
dir={folder}
mkdir -m 0700 "$dir"
printf '%s' {script} >"$dir/script"
setsid bash -c 'echo "$$" >"$1/session"; bash "$1/script" >"$1/out" 2>&1 </dev/null; echo "$?" >"$1/code"' \
  _ "$dir" >/dev/null 2>&1 </dev/null &
# Until it has left this command's process group it would be ended with the command.
until [[ -s $dir/session ]]; do sleep 0.02; done
"""
_END: Final = """dir={folder}
mkdir "$dir" 2>/dev/null && exit  # it hasn't begun, and now it can't
for i in {{1..50}}; do [[ -s $dir/session ]] && break; sleep 0.1; done
session=$(cat "$dir/session")
kill -TERM -- "-$session" 2>/dev/null
for i in {{1..50}}; do kill -0 -- "-$session" 2>/dev/null || break; sleep 0.1; done
kill -KILL -- "-$session" 2>/dev/null
rm -rf "$dir"
"""
"""What is ended gets five seconds between SIGTERM and SIGKILL."""


def run_heard(ssm: SsmTransport, clock: Clock, script: str, within: float, heard: Heard) -> Done:
    """See `Transport.run`."""
    from aistratus.node.ssm import LOOK_S, pauses_of

    folder = f'"${{TMPDIR:-/tmp}}/aistratus-{uuid.uuid4().hex}"'
    text, told, at = codecs.getincrementaldecoder("utf-8")(errors="replace"), [], 0
    deadline, pauses, lost = clock.now() + within, pauses_of(LOOK_S), 0
    try:
        ssm.run(_BEGIN.format(folder=folder, script=shlex.quote(script)), within=60).check("starting the script")
        while True:
            try:
                seen = ssm.look(f"{folder}/out", str(at), code=f"{folder}/code")
            except Unreachable:  # the script goes on meanwhile, and a look changes nothing
                lost += 1
                if lost > LOST_LOOKS or clock.now() > deadline:
                    raise
                clock.wait(next(pauses))
                continue
            lost = 0
            at = seen.at + len(seen.content)
            if piece := text.decode(seen.content):
                told.append(piece)
                heard(piece)
                pauses = pauses_of(LOOK_S)
            if seen.more:
                continue
            if seen.code:
                break
            if clock.now() > deadline:
                raise TookTooLong(f"the script on the node was ended after {within:.0f} s")
            clock.wait(next(pauses))
    except (TookTooLong, Interrupted, KeyboardInterrupt) as ended:
        ssm.send_only(_END.format(folder=folder))  # waiting may be over: one command does it all
        if isinstance(ended, TookTooLong):
            raise
        raise Interrupted("interrupted; the script on the node was ended") from None
    ssm.run(f"rm -rf {folder}", within=60)
    return Done(int(seen.code), "".join(told), "")

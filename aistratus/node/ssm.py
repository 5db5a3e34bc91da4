"""The Systems Manager transport (Run Command): no open port, no key, and a CloudTrail entry for each command.

A command is sent exactly once, even if the call's answer gets lost: its comment holds an idempotency key, by which it
is looked for before it is sent again. Output that GetCommandInvocation truncates is fetched from the env's bucket,
where the agent stores it. Run Command returns no output before a command has ended; a script whose output is to be
streamed is therefore started in the background, and read by short commands (`ssm_heard.py`).

Sources: Systems Manager API reference, SendCommand and GetCommandInvocation (StandardOutputContent: the first 24,000
characters, StandardErrorContent: the first 8,000); user guide, "Understanding command statuses". The agent, which does
the cutting, counts bytes, a mark at the end among them (amazon-ssm-agent, `pluginutil.ReadPrefix`).
"""

from __future__ import annotations

import base64
import codecs
import hashlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from aistratus.cloud import Cloud
from aistratus.core.errors import Failure, Interrupted
from aistratus.core.resource import Found, Resource
from aistratus.core.settle import Wait, until
from aistratus.node.transport import RUN_WITHIN_S, Done, Heard, TookTooLong, Unreachable, on_node, put_script

DOCUMENT: Final = "AWS-RunShellScript"
OUTPUT_PREFIX: Final = "run-command"
"""Where in the bucket the agent leaves output; the bucket's lifecycle takes it away."""
STDOUT_BYTES: Final = 24_000
STDERR_BYTES: Final = 8_000

AGENT_THERE: Final = Wait(what="the node's SSM agent answers", within=90, first=0.5, longest=3.0)
"""It registers some ten seconds after the machine has booted, and again after each start."""

AGENT_TAKES: Final = Wait(
    what="Run Command takes the command for the node",
    within=30,
    codes=frozenset({"InvalidInstanceId"}),
    longest=3.0,
)
"""An agent that has just come back is online for one part of Systems Manager before it is for another."""

SENT_SEEN: Final = Wait(what="the command that was sent shows up", within=30, first=0.1)

INVOCATION_SEEN: Final = Wait(
    what="the command reaches the node",
    within=30,
    codes=frozenset({"InvocationDoesNotExist"}),
    first=0.1,
    longest=1.0,
)
"""GetCommandInvocation may not know a command that SendCommand has just answered."""

OUTPUT_THERE: Final = Wait(
    what="the agent has left the command's output in the bucket",
    within=30,
    codes=frozenset({"NoSuchKey", "404"}),
)
"""The agent reports the end of a command before its upload is over."""

DELIVERY_S: Final = 60
"""SendCommand's TimeoutSeconds: how long a command may wait for the agent (at least 30)."""

GRACE_S: Final = 30.0
"""How much longer than a command's own limit we wait to be told of its end."""

POLL_S: Final = (0.1, 2.0)
"""First and longest pause between two looks at a command."""

LOOK_S: Final = (0.2, 2.0)
"""The same between two looks at a script that is heard as it goes."""

CHUNK: Final = 16_000
"""Bytes read in one look: in base64 they stay below what an answer holds."""

PIECE: Final = 24_000
"""Bytes of a file that one command carries: in base64 half of what a document may have with all that is filled in.

Source: Systems Manager's quotas, "SSM document size": 64 KB.
"""

WAITING: Final = frozenset({"Pending", "InProgress", "Delayed", "Cancelling"})
NOT_DELIVERED: Final = frozenset({"Delivery Timed Out", "Undeliverable", "Terminated", "Invalid Platform"})


@dataclass(frozen=True, kw_only=True)
class _Sent(Resource):
    """A command that was sent."""


class SsmTransport:
    """Run Command on one instance.

    Args:
        bucket: the env's bucket, for output that is too long for an answer.
        told: is told a sentence while there is something to wait for.
    """

    name = "ssm"

    def __init__(self, aws: Cloud, instance_id: str, *, bucket: str, told: Callable[[str], None] | None = None) -> None:
        self._aws, self._instance, self._bucket = aws, instance_id, bucket
        self._told = told or (lambda sentence: None)
        self._there = False

    def online(self) -> bool:
        """Does Systems Manager hear from the node's agent?"""
        filters = [{"Key": "InstanceIds", "Values": [self._instance]}]
        listed = self._aws.ssm.describe_instance_information(Filters=filters)["InstanceInformationList"]
        self._there = any(one["PingStatus"] == "Online" for one in listed)
        return self._there

    def run(self, script: str, *, within: float = RUN_WITHIN_S, heard: Heard | None = None) -> Done:
        """See `Transport.run`."""
        if heard is not None:
            from aistratus.node.ssm_heard import run_heard

            return run_heard(self, self._aws.clock, script, within, heard)
        self._await_agent()
        identity = self._send(script, within)
        return self._ended(identity, within)

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        """See `Transport.put`. A long file goes in pieces."""
        pieces = [content[at : at + PIECE] for at in range(0, len(content), PIECE)] or [b""]
        carried = f"{path}.{uuid.uuid4().hex}.base64"
        for piece in pieces if len(pieces) > 1 else ():
            word, part = base64.b64encode(piece).decode(), on_node(carried)
            append = f"set -eu; umask 077; mkdir -p \"$(dirname {part})\"; printf '%s' '{word}' >>{part}"
            self.run(append).check(f"putting {path}")
        if len(pieces) > 1:
            source = f"base64 -d {on_node(carried)}"
        else:
            source = f"printf '%s' '{base64.b64encode(content).decode()}' | base64 -d"
        script = put_script(path, hashlib.sha256(content).hexdigest(), mode, source)
        tidy = f"carried={on_node(carried)}\ntrap 'rm -f \"$carried\"' EXIT\n"
        self.run(tidy + script).check(f"putting {path}")

    def tail(self, path: str, *, lines: int = 100, follow: bool = False) -> Iterator[str]:
        """See `Transport.tail`. A file that got shorter was begun anew."""
        text = codecs.getincrementaldecoder("utf-8")(errors="replace")
        at, pauses = f'$((size - $(tail -n {lines} "$f" 2>/dev/null | wc -c)))', pauses_of(LOOK_S)
        while True:
            seen = self.look(on_node(path), at)
            at = str(seen.at + len(seen.content))
            if seen.content:
                pauses = pauses_of(LOOK_S)
                yield text.decode(seen.content)
            if seen.more:
                continue
            if not follow:
                return
            self._aws.clock.wait(next(pauses))

    def look(self, file: str, at: str, code: str = "/dev/null") -> Seen:
        """A piece of a file.

        Args:
            file, at: words of a script; `at` is the position in bytes, and may use `$f` and `$size`.
            code: a file that is read before the other.
        """
        script = f"""code=$(cat {code} 2>/dev/null); f={file}; size=$(cat "$f" 2>/dev/null | wc -c); at={at}
((size >= at)) || at=0
echo "$((at)) $code"
tail -c "+$((at + 1))" "$f" 2>/dev/null | head -c {CHUNK} | base64"""
        done = self.run(script, within=60).check("reading a file")
        head, _, encoded = done.out.partition("\n")
        position, _, ended = head.partition(" ")
        return Seen(int(position), base64.b64decode(encoded), ended.strip())

    def send_only(self, script: str) -> None:
        """Has a script run and doesn't wait for its end: for when waiting is over. It may run twice."""
        self._aws.ssm.send_command(**self._order(script, 60, "aistratus"))

    def close(self) -> None:
        """Nothing is kept open."""

    # --- one command ------------------------------------------------------------------------------------------

    def _await_agent(self) -> None:
        """Waits for the agent, and says so.

        Raises:
            Unreachable: it didn't come; what it needs is in the sentence.
        """
        if self._there:
            return
        clock = self._aws.clock
        since = clock.now()

        def probe() -> bool | None:
            if self.online():
                return True
            self._told(
                f"waiting for the SSM agent of {self._instance} … "
                f"{clock.now() - since:.0f} of {AGENT_THERE.within:.0f} s"
            )
            return None

        try:
            until(AGENT_THERE, probe, clock=clock)
        except Interrupted:
            raise
        except Failure as unsettled:
            raise Unreachable(
                f"the SSM agent of {self._instance} hasn't answered for {AGENT_THERE.within:.0f} s: it needs a machine "
                "that runs, the role that `up` gives it, and a way out",
                todo="`aistratus node status` shows the machine, `aistratus plan` what differs; one that has just "
                "started may need a minute more",
            ) from unsettled

    def _send(self, script: str, within: float) -> str:
        mark = f"aistratus {uuid.uuid4().hex}"

        def look(cloud: Cloud) -> Found | None:
            listed = cloud.ssm.list_commands(InstanceId=self._instance, MaxResults=50)["Commands"]
            identity = next((one["CommandId"] for one in listed if one.get("Comment") == mark), None)
            return None if identity is None else Found(state=_Sent(key="command"), ids={"id": identity})

        sent = self._aws.create_once(
            "ssm",
            "send_command",
            look=look,
            settling=AGENT_TAKES,
            seen=SENT_SEEN,
            **self._order(script, within, mark),
        )
        return sent.id

    def _order(self, script: str, within: float, comment: str) -> dict[str, Any]:
        return {
            "InstanceIds": [self._instance],
            "DocumentName": DOCUMENT,
            "Comment": comment,
            "Parameters": {"commands": [as_command(script)], "executionTimeout": [str(max(1, int(within)))]},
            "TimeoutSeconds": DELIVERY_S,
            "OutputS3BucketName": self._bucket,
            "OutputS3KeyPrefix": OUTPUT_PREFIX,
        }

    def _ended(self, identity: str, within: float) -> Done:
        clock = self._aws.clock
        deadline, pauses = clock.now() + DELIVERY_S + within + GRACE_S, pauses_of(POLL_S)
        try:
            while True:
                invocation = self._invocation(identity)
                if invocation["Status"] not in WAITING:
                    return self._done(identity, invocation, within)
                if clock.now() > deadline:
                    self._cancel(identity)
                    raise TookTooLong("the node hasn't reported how the command ended, long after its time limit")
                clock.wait(next(pauses))
        except (Interrupted, KeyboardInterrupt):
            self._cancel(identity)
            raise Interrupted("interrupted; the command on the node was cancelled") from None

    def _invocation(self, identity: str) -> dict[str, Any]:
        def ask() -> dict[str, Any]:
            answer: dict[str, Any] = self._aws.ssm.get_command_invocation(CommandId=identity, InstanceId=self._instance)
            return answer

        return until(INVOCATION_SEEN, ask, clock=self._aws.clock)

    def _cancel(self, identity: str) -> None:
        self._aws.ssm.cancel_command(CommandId=identity, InstanceIds=[self._instance])

    def _done(self, identity: str, invocation: dict[str, Any], within: float) -> Done:
        status, details = invocation["Status"], invocation["StatusDetails"]
        if details in NOT_DELIVERED or (status == "TimedOut" and not invocation["ExecutionStartDateTime"]):
            self._there = False
            raise Unreachable(
                f"the command didn't reach the node ({details}): its SSM agent is gone or busy",
                todo="run the command again; `aistratus node status` shows the machine",
            )
        if status == "TimedOut":
            raise TookTooLong(f"the script on the node was ended after {within:.0f} s")
        if status == "Cancelled":
            raise Failure("the command on the node was cancelled by somebody else", todo="run the command again")
        out = self._whole(identity, invocation, "StandardOutput", STDOUT_BYTES)
        err = self._whole(identity, invocation, "StandardError", STDERR_BYTES)
        return Done(int(invocation["ResponseCode"]), out, err)

    def _whole(self, identity: str, invocation: dict[str, Any], stream: str, most: int) -> str:
        """A stream's text; from the bucket if the answer holds just its beginning."""
        text, url = str(invocation[f"{stream}Content"]), str(invocation.get(f"{stream}Url") or "")
        if len(text.encode()) < most:
            return text
        if f"{OUTPUT_PREFIX}/{identity}" not in url:
            raise Failure(f"the output was cut off after {most} bytes, and the agent kept no copy in the bucket")
        key = url[url.index(f"{OUTPUT_PREFIX}/{identity}") :]

        def fetch() -> str:
            body: bytes = self._aws.s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
            return body.decode(errors="replace")

        return until(OUTPUT_THERE, fetch, clock=self._aws.clock)


@dataclass(frozen=True)
class Seen:
    """What was read of a file, from which byte on, and what `code` held before."""

    at: int
    content: bytes
    code: str

    @property
    def more(self) -> bool:
        """Is there surely more to read at once?"""
        return len(self.content) >= CHUNK


def as_command(script: str) -> str:
    """A bash script as Run Command takes it: it would fill in `{{ssm:name}}`, and hand everything to sh."""
    if "{{" in script:
        script = f"printf '%s' {base64.b64encode(script.encode()).decode()} | base64 -d | exec bash"
    return f"#!/bin/bash\n{script}"


def pauses_of(bounds: tuple[float, float]) -> Iterator[float]:
    """Growing pauses in seconds, from the first to the longest."""
    pause, longest = bounds
    while True:
        yield pause
        pause = min(pause * 1.6, longest)

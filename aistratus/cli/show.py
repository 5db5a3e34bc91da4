"""Formats plans, progress and results: lines for people, one stable JSON document for programs."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import takewhile, zip_longest
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.status import Status

from aistratus.cli.options import Options
from aistratus.core.diff import FieldChange, canonical_policy
from aistratus.core.execute import Progress
from aistratus.core.plan import Change
from aistratus.core.resource import Found
from aistratus.explain import explain

if TYPE_CHECKING:
    from aistratus.cli.quotes import Quotes
    from aistratus.cli.session import Session

SCHEMA = 1
MARKS = {
    "create": ("+", "green"), "update": ("~", "yellow"), "replace": ("!", "magenta"), "delete": ("-", "red"),
    "unchanged": (" ", "dim"), "failed": ("x", "bold red"), "blocked": ("o", "red"), "retained": ("=", "cyan"),
}  # fmt: skip
LONGEST_VALUE = 60
OTHERS = "others"
"""Where a line belongs whose resource the stack doesn't declare: a leftover that a sweep found."""
KEY, KIND, MONTH, HOUR = 18, 18, 14, 16
"""Characters of a line's columns, at least: key, kind, and the two prices."""


def people(options: Options) -> Console:
    """The console for people: standard output, or standard error with `-o json`."""
    return Console(stderr=options.json, quiet=options.quiet, highlight=False, soft_wrap=True)


def results(options: Options) -> Console:
    """The console for a command's result: like `people`, but shown with --quiet too, unless it is in the JSON."""
    return Console(stderr=options.json, quiet=options.quiet and options.json, highlight=False, soft_wrap=True)


def emit(document: Mapping[str, Any]) -> None:
    """Prints one JSON document."""
    print(json.dumps({"schema": SCHEMA, **document}, default=_plain))


def heading(session: Session, console: Console) -> None:
    """Which env, account and region this is about, before anything happens."""
    identity = session.cloud.identity
    who = identity.arn.rsplit(":", 1)[-1]
    console.print(
        f"[bold]{escape(session.settings.env)}[/] in account {identity.account}, {identity.region}, as {escape(who)}"
    )


def lines(changes: Iterable[Change], console: Console) -> None:
    """One line a resource, with its fields old → new."""
    for change in changes:
        _line(change, console, *((change.found.id,) if change.found else ()))


def priced(changes: Iterable[Change], console: Console, quotes: Quotes, group_of: Mapping[str, str]) -> None:
    """The same by group, each line with its price a month while idle and an hour while active."""
    groups: dict[str, list[Change]] = {group: [] for group in [*group_of.values(), OTHERS]}
    for change in changes:
        groups[group_of.get(change.key, OTHERS)].append(change)
    width = max([KEY, *(len(change.key) for here in groups.values() for change in here)])
    header = f" [dim]{'a month idle':>{MONTH}} {'an hour active':>{HOUR}}[/]"
    for group, here in ((group, here) for group, here in groups.items() if here):
        name = f"{escape(group):<{width + KIND + 3}}" if header else escape(group)
        console.print(f"[bold]{name}[/]{header}")
        header = ""
        for change in here:
            month, hour = quotes.columns(change)
            identifier = f"  {change.found.id}" if change.found else ""
            _line(change, console, f"{month:>{MONTH}} {hour:>{HOUR}}{identifier}", width=width)


def _line(change: Change, console: Console, *more: str, width: int = KEY) -> None:
    mark, style = MARKS[change.action]
    text = " ".join([f"{mark} {change.key:<{width}} {change.resource.kind:<{KIND}}", *more]).rstrip()
    console.print(f"[{style}]{escape(text)}[/]")
    for difference in change.changes:
        field, old, new = _told(difference)
        console.print(f"    [dim]{escape(field)}:[/] {escape(old)} → {escape(new)}")
    if change.error is not None and change.action != "blocked":
        console.print(f"    {escape(str(explain(change.error)))}")


def short(changes: Iterable[Change], console: Console, quotes: Quotes, group_of: Mapping[str, str]) -> None:
    """The same for one who is about to do it: what is new by kind, everything else line by line, and what it costs.

    Each resource gets a line of its own when it is made; forty of them twice would hide what matters.
    """
    everything = changes = list(changes)
    changes = [change for change in changes if change.action != "unchanged"]
    kinds = Counter(change.resource.kind for change in changes if change.action == "create")
    if kinds:
        mark, style = MARKS["create"]
        told = ", ".join(kind if number == 1 else f"{number} {kind}" for kind, number in kinds.items())
        console.print(f"[{style}]{mark} {kinds.total()} to create:[/] {told}")
    priced((change for change in changes if change.action != "create"), console, quotes, group_of)
    console.print(quotes.told(everything), markup=False)


def many(number: int) -> str:
    """`1 resource`, `2 resources`."""
    return f"{number} resource{'' if number == 1 else 's'}"


def counted(changes: Iterable[Change]) -> str:
    """`3 to create, 1 to update`; empty when there is nothing to do."""
    tally: dict[str, int] = {}
    for change in changes:
        if change.action != "unchanged":
            tally[change.action] = tally.get(change.action, 0) + 1
    words = {"failed": "failed", "blocked": "blocked", "retained": "retained"}
    return ", ".join(f"{count} {words.get(action, f'to {action}')}" for action, count in tally.items())


class Ticker:
    """Live progress: a line as each resource ends, and on a terminal what is in flight right now.

    Args:
        changes: whose lines are to be expected; the longest key makes the column.
        quotes: each line tells what the thing costs.
    """

    def __init__(self, console: Console, changes: Iterable[Change], quotes: Quotes) -> None:
        self._console = console
        self._prices = {change.key: quotes.columns(change) for change in changes if change.action != "unchanged"}
        self._width = max([KEY, *map(len, self._prices)])
        self._busy: dict[str, str] = {}
        self._lock = threading.Lock()
        self._status: Status | None = None

    def __enter__(self) -> Ticker:
        if self._prices:
            head = f"{'a month idle':>{self._width + KIND + 3 + MONTH + 1}} {'an hour active':>{HOUR}}"
            self._console.print(f"[dim]{head}[/]")
        if self._console.is_terminal and not self._console.quiet:
            self._status = self._console.status("…")
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def __call__(self, progress: Progress) -> None:
        with self._lock:
            if progress.phase == "started":
                self._busy[progress.key] = progress.action
            else:
                self._busy.pop(progress.key, None)
                mark, style = MARKS["failed" if progress.phase == "failed" else progress.action]
                month, hour = self._prices.get(progress.key, ("", ""))
                text = (
                    f"{mark} {progress.key:<{self._width}} {progress.kind:<{KIND}} {month:>{MONTH}} {hour:>{HOUR}} "
                    f"{progress.seconds:6.1f} s"
                )
                # With SystemExit rich tells that nobody reads any more; the console is quiet then, the work goes on.
                with suppress(SystemExit):
                    self._console.print(f"[{style}]{text}[/]")
            if self._status is not None:
                self._status.update(", ".join(sorted(self._busy)) or "…")


def resources(changes: Iterable[Change], quotes: Quotes, group_of: Mapping[str, str]) -> list[dict[str, Any]]:
    """The `resources` list of `plan|up|down -o json`."""
    return [
        {
            "key": change.key,
            "kind": change.resource.kind,
            "group": group_of.get(change.key),
            "id": change.found.id if change.found else None,
            "action": change.action,
            "changes": [
                {"field": difference.field, "old": difference.old, "new": difference.new}
                for difference in change.changes
            ],
            "cost": quotes.document(quotes.afterwards(change)),
            "seconds": round(change.seconds, 3),
            **({"error": str(explain(change.error))} if change.error else {}),
            **({"todo": change.found.todo} if change.found and change.found.todo else {}),
        }
        for change in changes
    ]


def left(found: Iterable[Found]) -> list[dict[str, Any]]:
    """The `left` list of `down -o json`."""
    return [{"key": entry.state.key, "kind": entry.state.kind, "id": entry.id} for entry in found]


def report(
    session: Session,
    command: str,
    changes: Iterable[Change],
    *,
    seconds: float,
    leftovers: Iterable[Found] = (),
    spent: Mapping[str, Any] | None = None,
) -> None:
    """The JSON document of `plan`, `up` and `down`.

    Args:
        spent: what the stack has cost, where it has just been taken down.
    """
    identity, quotes, changes = session.cloud.identity, session.quotes, list(changes)
    cost = quotes.saved(changes) if command == "down" else quotes.total(changes)
    emit(
        {
            "command": command,
            "env": session.settings.env,
            "account": identity.account,
            "region": identity.region,
            "resources": resources(changes, quotes, session.stack.group_of),
            "cost": quotes.document(cost),
            "calls": {"read": session.meter.read, "write": session.meter.write},
            "seconds": round(seconds, 3),
            "left": left(leftovers),
            **({"spent": spent} if spent else {}),
        }
    )


def confirm(question: str, options: Options) -> bool:
    """Asks the user at a terminal, on standard error whatever the output format; Ctrl-C means no.

    A script, whose input is no terminal, has decided already by calling.
    """
    if options.yes or not sys.stdin.isatty():
        return True
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    # While a run is on, Ctrl-C lets calls in flight end; here there are none, and it has to end the waiting.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return sys.stdin.readline().strip().lower() in {"y", "yes"}
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return False
    finally:
        signal.signal(signal.SIGINT, before)


def _told(difference: FieldChange) -> tuple[str, str, str]:
    """A field, its old and its new value; of long values the first place inside in which they differ."""
    field, old, new = difference.field, difference.old, difference.new
    if max(len(_text(old)), len(_text(new))) > LONGEST_VALUE:
        field, old, new = _first_difference(field, old, new)
    return field, *_cut(_text(old), _text(new))


def _first_difference(place: str, old: Any, new: Any) -> tuple[str, Any, Any]:
    """Where two values begin to differ, and what they have there; policies are compared by their meaning."""
    before, after = _parsed(old), _parsed(new)
    inside: Iterable[tuple[str, Any, Any]] = ()
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        if "Statement" in before and "Statement" in after and canonical_policy(before) != canonical_policy(after):
            before, after = canonical_policy(before), canonical_policy(after)
        inside = ((f"{place}.{name}", before.get(name), after.get(name)) for name in {**before, **after})
    elif isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)):
        inside = ((f"{place}[{i}]", one, other) for i, (one, other) in enumerate(zip_longest(before, after)))
    differing = next((entry for entry in inside if entry[1] != entry[2]), None)
    return _first_difference(*differing) if differing else (place, old, new)


def _parsed(value: Any) -> Any:
    """The value of a JSON text; every other value as it is."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        with suppress(ValueError):
            return json.loads(value)
    return value


def _text(value: Any) -> str:
    """One line for a person."""
    if value is None:
        return "(none)"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_text(entry)}" for name, entry in value.items()) + "}"
    return value.replace("\n", "\\n") if isinstance(value, str) else repr(value)


def _cut(old: str, new: str) -> tuple[str, str]:
    """Both no longer than is shown, with their first difference in sight."""
    begin = 0
    if max(len(old), len(new)) > LONGEST_VALUE:
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
        begin = max(0, same - LONGEST_VALUE // 3)

    def part(text: str) -> str:
        text = "…" + text[begin:] if begin else text
        return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"

    return part(old), part(new)


def _plain(value: Any) -> Any:
    """What JSON has no form for: sets as sorted lists, everything else as its text."""
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=repr)
    if isinstance(value, FieldChange):
        return vars(value)
    if hasattr(value, "__dataclass_fields__"):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    return repr(value)

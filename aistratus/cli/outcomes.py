"""The output of `up`, `plan` and `down`: the plan before any change, and the result of a run.

It only reports; `lifecycle.py` decides what is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import typer

from aistratus.cli.options import Options
from aistratus.core.errors import Absent, Failure, Interrupted, Locked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from aistratus.cli.session import Session
    from aistratus.core.execute import Outcome
    from aistratus.core.graph import Stack
    from aistratus.core.plan import Change, Plan, Survey
    from aistratus.core.resource import Found


def show_plan(session: Session, stack: Stack, planned: Plan, begun: float) -> None:
    from aistratus.cli import show

    console, quotes = show.results(session.options), session.quotes
    if session.options.json:
        show.report(session, "plan", planned.changes, seconds=session.clock.now() - begun)
    different = (change for change in planned.changes if change.action != "unchanged")
    show.priced(different, console, quotes, stack.group_of)
    console.print(show.counted(planned.changes) or f"nothing to do: {show.many(len(planned.changes))} as declared")
    _tell_as_found(planned.changes, show.people(session.options))
    if drift := quotes.drift(planned.changes):
        show.people(session.options).print(drift, markup=False)
    show.people(session.options).print(quotes.told(planned.changes), markup=False)
    cut = tell_of_the_way_out(session, planned, console)
    if (cut or not planned.empty) and not planned.survey.failed:
        show.people(session.options).print(f"Next: aistratus{_option(session)} up{' --replace' if cut else ''}")


def show_removals(session: Session, doomed: list[Change], begun: float) -> None:
    """The output of `down --plan`: each resource that is removed with its price, and the savings."""
    from aistratus.cli import show

    options = session.options
    if options.json:
        show.report(session, "down", doomed, seconds=session.clock.now() - begun)
    show.priced(doomed, show.results(options), session.quotes, session.stack.group_of)
    if doomed:
        saved = session.quotes.sentence(session.quotes.saved(doomed))
        show.people(options).print(f"{show.counted(doomed)}; on AWS that saves {saved}", markup=False)


def end_of_plan(looked: Survey, *, empty: bool) -> Failure | typer.Exit:
    """Ends a command that only shows the plan: with the first resource that couldn't be read, if there is one."""
    from aistratus.explain import explain

    if looked.failed:
        (first, why), number = next(iter(looked.failed.items())), len(looked.failed)
        more = f" (and {number - 1} more)" if number > 1 else ""
        return Failure(f"not everything could be looked at: {first}{more}: {explain(why)}", reported=True)
    return typer.Exit(0 if empty else 2)


def draw_stack(options: Options, form: Literal["mermaid", "dot", "svg"]) -> None:
    """Draws the declared stack, without any call."""
    from aistratus.cli import show
    from aistratus.cli.session import described
    from aistratus.pictures import draw

    settings = options.load()
    picture = draw(described(settings), form)
    if options.json:
        show.emit({"env": settings.env, "form": form, "picture": picture})
    else:
        print(picture, end="")


def failures(outcome: Outcome) -> str:
    from aistratus.explain import explain

    told = [f"{change.key}: {explain(change.error)}" for change in outcome.failures if change.error]
    blocked = sum(change.action == "blocked" for change in outcome.changes)
    return "; ".join(told) + (f"; {blocked} more weren't touched because of that" if blocked else "")


def conclude_up(session: Session, outcome: Outcome, seconds: float) -> None:
    from aistratus.cli import show
    from aistratus.stack import CUT_OFF, STAYS_PUBLIC, stays_public

    console = show.people(session.options)
    done = sum(change.action in ("create", "update", "replace", "delete") for change in outcome.changes)
    console.print(f"{show.many(len(there_after(outcome)))}, {done} changed, {seconds:.1f} s")
    _tell_as_found(outcome.changes, console)
    if told := _saved(session, outcome):
        console.print(told, markup=False)
    cut = is_cut_off(session, outcome)
    if cut or stays_public(session.stack, there_after(outcome)):
        console.print(CUT_OFF if cut else STAYS_PUBLIC, markup=False)
    for change in outcome.changes:
        if change.found and change.found.todo:
            console.print(f"{change.key} is {change.found.health}: {change.found.todo}", markup=False)
    url = next((c.found.ids.get("endpoint") for c in outcome.changes if c.key == "api" and c.found), None)
    for sentence in left_to_do(outcome.changes, account_changes=session.asks):
        console.print(sentence, markup=False)
    if outcome.ok and url:
        show.results(session.options).print(f"API: {url}", markup=False)
        following = "up --replace" if cut else 'chat "How do I stop the GPU?"'
        console.print(f"Next: aistratus{_option(session)} {following}")


def _tell_as_found(changes: Iterable[Change], console: Console) -> None:
    """What `--only` has left as it is although it isn't as declared."""
    if left := [change.key for change in changes if change.action == "unchanged" and change.changes]:
        console.print(f"left as they are, though not as declared: {', '.join(left)}", markup=False)


def _saved(session: Session, outcome: Outcome) -> str:
    """What an hour cost of what was switched off; empty for what isn't paid for by the hour."""
    from aistratus.cli.quotes import hourly
    from aistratus.costs.prices import HOURS_A_MONTH

    quotes, gone = session.quotes, [change for change in outcome.changes if change.action == "delete"]
    paid = [change for change in gone if quotes.afterwards(change).idle_month != 0]
    if not paid:
        return ""
    month = quotes.rate.euros(quotes.saved(paid).idle_month)
    each = hourly(None if month is None else month / HOURS_A_MONTH)
    what = " and ".join(sorted(change.key for change in paid))
    return f"{what}: gone; an hour of it cost {each} (AWS's list price in {quotes.region}, without tax and traffic)"


def is_cut_off(session: Session, outcome: Outcome) -> bool:
    from aistratus.stack import cut_off

    return cut_off(session.stack, there_after(outcome))


def there_after(outcome: Outcome) -> dict[str, Found]:
    """What the run left there, by key."""
    return {change.key: change.found for change in outcome.changes if change.found and change.action != "delete"}


def tell_of_the_way_out(session: Session, planned: Plan, console: Console) -> bool:
    """Warns before any change if the node has no internet access, or doesn't use a NAT gateway that costs money.

    A node that is to be replaced isn't mentioned. Returns whether it has, or will have, no internet access.
    """
    from aistratus.stack import CUT_OFF, STAYS_PUBLIC, WILL_BE_CUT_OFF, cut_off, stays_public

    found = planned.survey.found
    if any(change.key == "node" and change.action == "replace" for change in planned.changes):
        return False
    if cut_off(session.stack, found, when_done=True):
        console.print(CUT_OFF if cut_off(session.stack, found) else WILL_BE_CUT_OFF, markup=False)
        return True
    if stays_public(session.stack, found):
        console.print(STAYS_PUBLIC, markup=False)
    return False


def left_to_do(changes: Iterable[Change], *, account_changes: bool) -> list[str]:
    """What only a person can do and no resource's health says, one sentence each.

    Args:
        account_changes: the env lives in an AWS account, where things cost money.
    """
    sentences = []
    for change in changes:
        if change.key == "budget" and change.action == "create" and account_changes:
            sentences.append(
                "The budget counts nothing until the tags Project and Env are activated as cost allocation tags; AWS "
                "offers them up to a day after their first use (AWS console, Billing, Cost allocation tags), and "
                "`aistratus doctor` has the command"
            )
    return sentences


def _option(session: Session) -> str:
    """How this call's env was chosen, to be typed again."""
    return f" --env {session.options.env}" if session.options.env else ""


def conclude_down(session: Session, outcome: Outcome, seconds: float) -> None:
    from aistratus.cli import show

    console = show.results(session.options)
    kept = [change.key for change in outcome.changes if change.action == "retained"]
    ended = False
    if kept:
        console.print(f"kept: {', '.join(kept)}; everything else is gone ({seconds:.1f} s)")
    else:
        assert session.options.embedded is not None
        ended = session.options.embedded.ended(session.settings)
        console.print(f"0 resources left, €0.00 a month ({seconds:.1f} s)")
    if ended:
        console.print("the embedded cloud has ended")


def not_gone(session: Session, outcome: Outcome) -> Failure:
    """Shows what `down` couldn't remove, and returns its failure."""
    from aistratus.cli import show
    from aistratus.explain import explain

    console = show.results(session.options)
    show.lines((change for change in outcome.changes if change.action in ("failed", "blocked")), console)
    for entry in outcome.left:
        console.print(f"left: {entry.state.kind} {entry.id}", markup=False)
    what = [f"{show.many(len(outcome.left))} left" if outcome.left else "not everything is proved to be gone"]
    what += [failures(outcome)] if outcome.failures else []
    what += sorted({f"couldn't be listed: {explain(error)}" for error in outcome.unlisted})
    return Failure("; ".join(what), todo="repair that and run `aistratus down` again", reported=True)


def nothing_to_remove(options: Options, absent: Absent) -> None:
    from aistratus.cli import show
    from aistratus.cli.quotes import empty

    settings = options.load()
    if options.json:
        show.emit(
            {"command": "down", "env": settings.env, "account": None, "region": settings.region, "resources": [],
             "cost": empty(), "calls": {"read": 0, "write": 0}, "seconds": 0.0, "left": []}
        )  # fmt: skip
    show.results(options).print(f"0 resources left, €0.00 a month ({absent.what})", markup=False)


def cut_short(outcome: Outcome, command: str, lost: str) -> Failure:
    """How a run ends that didn't start everything: by Ctrl-C, or because it lost the env's lock (a sentence)."""
    if lost:
        return Locked(f"{lost}; {_undone(outcome)}", todo=f"when that has ended, `{command}` continues", reported=True)
    return Interrupted(_undone(outcome), todo=f"`{command}` continues where this ended", reported=True)


def tell_lost(session: Session) -> None:
    """For a run that had nothing left to start when it lost the lock."""
    from aistratus.cli import show

    if session.lost:
        show.results(session.options).print(session.lost, markup=False)


def _undone(outcome: Outcome) -> str:
    """What an interrupted run did and what it didn't."""
    undone = [change.key for change in outcome.changes if change.action in ("blocked", "failed")]
    done = sum(change.action in ("create", "update", "replace", "delete") for change in outcome.changes)
    return f"interrupted: {done} done, {len(undone)} not ({', '.join(undone) or 'none'})"

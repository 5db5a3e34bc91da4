"""`up`, `plan` and `down`: three readings of the same description."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aistratus.cli.options import Options
from aistratus.core.errors import Absent, Failure, Interrupted, Locked

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

    from aistratus.cli.session import Session
    from aistratus.cloud import Cloud
    from aistratus.core.execute import Outcome
    from aistratus.core.graph import Stack
    from aistratus.core.plan import Change, Plan, Survey
    from aistratus.core.resource import Found


def up(
    context: typer.Context,
    plan: Annotated[bool, typer.Option("--plan", help="Only show what would be done")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Allow recreating what can't be changed in place")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help="Change only the resource with this key (repeatable); what it needs is created only if missing"
        ),
    ] = None,
    no_node: Annotated[
        bool, typer.Option("--no-node", help="Leave alone the EC2 instance, and the alarm and dashboard that watch it")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Return only when the worker is ready")] = False,
    steal_lock: Annotated[
        bool, typer.Option("--steal-lock", help="Take over the lock of a command that has died")
    ] = False,
) -> None:
    """Builds the stack, or repairs whatever differs from its description; changes nothing if nothing differs.

    Machines that the budget has stopped stay off until the month ends, or until you raise `budget.kill_eur` and run
    this command.
    """
    from aistratus.cli import show
    from aistratus.cli.recording import after_up
    from aistratus.cli.session import ending_gently, open_session
    from aistratus.core.execute import Run
    from aistratus.doctor import preflight

    options: Options = context.obj
    console = show.people(options)
    session = open_session(options, start=True)
    begun = session.clock.now()
    with ending_gently(session):
        show.heading(session, console)
        stack = session.stack.without(["node"]) if no_node else session.stack
        stack = stack.only(only) if only else stack
        aws = session.cloud.fresh()
        planned = _look(aws, stack, session, anew=replace)
        if plan:
            _show_plan(session, stack, planned, begun)
            raise _end_of_plan(planned.survey, empty=planned.empty)
        if planned.empty and not _unrecorded(aws, stack, planned):
            if told := session.unlocked("aistratus up", steal=steal_lock):
                console.print(told)
            outcome = Run(stack, aws, session.ledger, session.clock, session.stop).up(planned)
        else:
            preflight(session.cloud.region, session.caller)
            show.short(planned.changes, console, session.quotes, stack.group_of)
            _tell_of_the_way_out(session, planned, console)
            asks = session.asks and not planned.empty
            if asks and not show.confirm(f"Go on ({show.counted(planned.changes)})?", options):
                raise Interrupted("nothing was changed")
            ticker = show.Ticker(console, planned.changes, session.quotes)
            with session.locked("aistratus up", steal=steal_lock) as told, ticker:
                if told:
                    console.print(told)
                # Somebody may have changed things while the lock was not ours.
                aws = session.cloud.fresh()
                planned = _look(aws, stack, session, anew=replace)
                run = Run(stack, aws, session.ledger, session.clock, session.stop, ticker)
                outcome = run.up(planned, replace_allowed=replace)
        if wait and outcome.ok and not session.lost and not no_node and not _is_cut_off(session, outcome):
            _wait_until_ready(session, outcome)
    seconds = session.clock.now() - begun
    after_up(session, outcome.changes, seconds, show.people(options))
    if "node_key" in _there(outcome):
        _note_key(session, used=True)
    if options.json:
        show.report(session, "up", outcome.changes, seconds=seconds)
    _conclude_up(session, outcome, seconds)
    if outcome.interrupted:
        raise cut_short(outcome, "aistratus up", session.lost)
    _tell_lost(session)
    if not outcome.ok:
        raise Failure(_failures(outcome), todo="`aistratus up` continues when that is mended", reported=True)


def plan(
    context: typer.Context,
    graph: Annotated[
        Literal["mermaid", "dot", "svg"] | None,
        typer.Option("--graph", help="Only draw the declared stack in this form; needs no account"),
    ] = None,
) -> None:
    """Shows what `up` would do and what it costs; exits with 2 if there is something to do."""
    from aistratus.cli import show
    from aistratus.cli.session import ending_gently, open_session

    if graph is not None:
        _draw(context.obj, graph)
        return
    session = open_session(context.obj, start=True)
    begun = session.clock.now()
    show.heading(session, show.people(context.obj))
    with ending_gently(session):
        planned = _look(session.cloud.fresh(), session.stack, session)
    _show_plan(session, session.stack, planned, begun)
    raise _end_of_plan(planned.survey, empty=planned.empty)


def down(
    context: typer.Context,
    plan: Annotated[bool, typer.Option("--plan", help="Only show what would be removed")] = False,
    keep_data: Annotated[bool, typer.Option("--keep-data", help="Keep the data bucket")] = False,
    steal_lock: Annotated[
        bool, typer.Option("--steal-lock", help="Take over the lock of a command that has died")
    ] = False,
) -> None:
    """Removes everything that belongs to the env, looks again, and proves that nothing is left."""
    from aistratus.cli import show
    from aistratus.cli.recording import after_down, before_down
    from aistratus.cli.session import ending_gently, open_session
    from aistratus.core.execute import Run, inventory
    from aistratus.core.plan import deletions, survey
    from aistratus.explain import explain

    options: Options = context.obj
    console = show.people(options)
    try:
        session = open_session(options)
    except Absent as absent:
        _nothing_to_remove(options, absent)
        return
    begun = session.clock.now()
    with ending_gently(session):
        show.heading(session, console)
        found = survey(session.stack, session.cloud, stop=session.stop)
        doomed = deletions(session.stack, found, keep_data=keep_data)
        if plan:
            if options.json:
                show.report(session, "down", doomed, seconds=session.clock.now() - begun)
            show.priced(doomed, show.results(options), session.quotes, session.stack.group_of)
            if doomed:
                saved = session.quotes.sentence(session.quotes.saved(doomed))
                console.print(f"{show.counted(doomed)}; on AWS that saves {saved}", markup=False)
            raise _end_of_plan(found, empty=not doomed)
        if (
            session.asks
            and (doomed or any(inventory(session.cloud)))
            and not show.confirm(f"Remove {show.many(len(doomed))} of env {session.settings.env!r}?", options)
        ):
            raise Interrupted("nothing was removed")
        ticker = show.Ticker(console, doomed, session.quotes)
        with session.locked("aistratus down", steal=steal_lock) as told, ticker:
            if told:
                console.print(told)
            found = survey(session.stack, session.cloud.fresh(), stop=session.stop)
            records = before_down(session, console)
            run = Run(session.stack, session.cloud.fresh(), session.ledger, session.clock, session.stop, ticker)
            outcome = run.down(found, keep_data=keep_data)
    seconds = session.clock.now() - begun
    spent = None
    if outcome.ok and not outcome.interrupted:
        spent = after_down(session, records, console)
        _note_key(session, used=False)
    if options.json:
        show.report(session, "down", outcome.changes, seconds=seconds, leftovers=outcome.left, spent=spent)
    if outcome.interrupted:
        raise cut_short(outcome, "aistratus down", session.lost)
    _tell_lost(session)
    if not outcome.ok:
        told_always = show.results(options)
        show.lines((change for change in outcome.changes if change.action in ("failed", "blocked")), told_always)
        for entry in outcome.left:
            told_always.print(f"left: {entry.state.kind} {entry.id}", markup=False)
        what = [f"{show.many(len(outcome.left))} left" if outcome.left else "not everything is proved to be gone"]
        what += [_failures(outcome)] if outcome.failures else []
        what += sorted({f"couldn't be listed: {explain(error)}" for error in outcome.unlisted})
        raise Failure("; ".join(what), todo="mend that and run `aistratus down` again", reported=True)
    _conclude_down(session, outcome, seconds)


# --- parts ------------------------------------------------------------------------------------------------------


def _look(aws: Cloud, stack: Stack, session: Session, *, anew: bool = False) -> Plan:
    from aistratus.core.plan import plan as compare_all
    from aistratus.core.plan import survey

    return compare_all(stack, aws, survey(stack, aws, stop=session.stop), anew=anew)


def _unrecorded(aws: Cloud, stack: Stack, planned: Plan) -> bool:
    """Does the ledger lack or mistake something, although everything is as declared? A run died, or it was deleted."""
    if any(aws.recorded(resource.key) for resource in stack.unwanted):
        return True
    return any(change.found is not None and aws.recorded(change.key) != change.found.ids for change in planned.changes)


def _show_plan(session: Session, stack: Stack, planned: Plan, begun: float) -> None:
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
    cut = _tell_of_the_way_out(session, planned, console)
    if (cut or not planned.empty) and not planned.survey.failed:
        show.people(session.options).print(f"Next: aistratus{_option(session)} up{' --replace' if cut else ''}")


def _end_of_plan(looked: Survey, *, empty: bool) -> Failure | typer.Exit:
    """How a command ends that only shows the plan: with the first thing that couldn't be looked at, if there is one."""
    from aistratus.explain import explain

    if looked.failed:
        (first, why), number = next(iter(looked.failed.items())), len(looked.failed)
        more = f" (and {number - 1} more)" if number > 1 else ""
        return Failure(f"not everything could be looked at: {first}{more}: {explain(why)}", reported=True)
    return typer.Exit(0 if empty else 2)


def _draw(options: Options, form: Literal["mermaid", "dot", "svg"]) -> None:
    """Draws the declared stack, for which nobody has to be asked."""
    from aistratus.cli import show
    from aistratus.cli.session import described
    from aistratus.pictures import draw

    settings = options.load()
    picture = draw(described(settings), form)
    if options.json:
        show.emit({"env": settings.env, "form": form, "picture": picture})
    else:
        print(picture, end="")


def _failures(outcome: Outcome) -> str:
    from aistratus.explain import explain

    told = [f"{change.key}: {explain(change.error)}" for change in outcome.failures if change.error]
    blocked = sum(change.action == "blocked" for change in outcome.changes)
    return "; ".join(told) + (f"; {blocked} more weren't touched because of that" if blocked else "")


def _conclude_up(session: Session, outcome: Outcome, seconds: float) -> None:
    from aistratus.cli import show
    from aistratus.stack import CUT_OFF, STAYS_PUBLIC, stays_public

    console = show.people(session.options)
    done = sum(change.action in ("create", "update", "replace", "delete") for change in outcome.changes)
    console.print(f"{show.many(len(_there(outcome)))}, {done} changed, {seconds:.1f} s")
    _tell_as_found(outcome.changes, console)
    if told := _saved(session, outcome):
        console.print(told, markup=False)
    cut = _is_cut_off(session, outcome)
    if cut or stays_public(session.stack, _there(outcome)):
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


def _note_key(session: Session, *, used: bool) -> None:
    """Notes that the env has this machine's key, or takes the key away when no env of that name has it any more."""
    from aistratus.node import keys

    place = f"{session.cloud.account}-{session.cloud.region}"
    with suppress(OSError):  # it is no reason to fail after all is done
        (keys.taken if used else keys.given_back)(session.settings.env, place)


def _is_cut_off(session: Session, outcome: Outcome) -> bool:
    from aistratus.stack import cut_off

    return cut_off(session.stack, _there(outcome))


def _there(outcome: Outcome) -> dict[str, Found]:
    """What the run left there, by key."""
    return {change.key: change.found for change in outcome.changes if change.found and change.action != "delete"}


def _tell_of_the_way_out(session: Session, planned: Plan, console: Console) -> bool:
    """Says before anything is done if the node stands where it has no way out, or where one is paid for in vain.

    Nothing is said of a node that is to be made anew. Gives whether it has, or will have, no way out.
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
    """What only a person can do and no resource tells by itself, a sentence each.

    Args:
        account_changes: the env lives in an AWS account, where things cost money.
    """
    sentences = []
    for change in changes:
        if change.key == "budget" and change.action == "create" and account_changes:
            sentences.append(
                "The budget counts nothing until the tags Project and Env are activated as cost allocation tags; AWS "
                "offers them up to a day after their first use (AWS console, Billing, Cost allocation tags)"
            )
    return sentences


def _option(session: Session) -> str:
    """How this call's env was chosen, to be typed again."""
    return f" --env {session.options.env}" if session.options.env else ""


def _conclude_down(session: Session, outcome: Outcome, seconds: float) -> None:
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


def _nothing_to_remove(options: Options, absent: Absent) -> None:
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


def _tell_lost(session: Session) -> None:
    """For a run that had nothing left to start when it lost the lock."""
    from aistratus.cli import show

    if session.lost:
        show.results(session.options).print(session.lost, markup=False)


def _undone(outcome: Outcome) -> str:
    """What an interrupted run did and what it didn't."""
    undone = [change.key for change in outcome.changes if change.action in ("blocked", "failed")]
    done = sum(change.action in ("create", "update", "replace", "delete") for change in outcome.changes)
    return f"interrupted: {done} done, {len(undone)} not ({', '.join(undone) or 'none'})"


def _wait_until_ready(session: Session, outcome: Outcome) -> None:
    from aistratus.cli.status import worker_state
    from aistratus.core.settle import Wait, until

    node = next((change.found for change in outcome.changes if change.key == "node"), None)
    if node is not None and node.health in ("stopped", "stopping"):
        raise Failure("the node is asleep, so its worker won't get ready", todo="the next prompt wakes it")

    def ready() -> bool | None:
        beat = worker_state(session)
        if beat.get("fresh") and beat.get("reason"):
            raise Failure(
                f"the worker can't get ready: {beat['reason']}", todo="mend that and run `aistratus up` again"
            )
        return True if beat.get("fresh") and beat["state"] != "loading" else None

    # Source: measured boots of others (1 m 41 s to a usable GPU node) plus fetching a 670 MB model.
    until(Wait(what="the worker is ready", within=600, first=0.5, longest=5), ready, clock=session.clock)

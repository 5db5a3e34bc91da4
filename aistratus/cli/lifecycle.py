"""`up`, `plan` and `down`: what they do. What they print is in `outcomes.py`."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aistratus.cli.options import Options
from aistratus.cli.outcomes import (
    conclude_down,
    conclude_up,
    cut_short,
    draw_stack,
    end_of_plan,
    failures,
    is_cut_off,
    not_gone,
    nothing_to_remove,
    show_plan,
    show_removals,
    tell_lost,
    tell_of_the_way_out,
    there_after,
)
from aistratus.core.errors import Absent, Failure, Interrupted

if TYPE_CHECKING:
    from aistratus.cli.session import Session
    from aistratus.cloud import Cloud
    from aistratus.core.execute import Outcome
    from aistratus.core.graph import Stack
    from aistratus.core.plan import Plan


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
            show_plan(session, stack, planned, begun)
            raise end_of_plan(planned.survey, empty=planned.empty)
        if planned.empty and not _unrecorded(aws, stack, planned):
            if told := session.unlocked("aistratus up", steal=steal_lock):
                console.print(told)
            outcome = Run(stack, aws, session.ledger, session.clock, session.stop).up(planned)
        else:
            outcome = _change(session, stack, planned, replace=replace, steal_lock=steal_lock)
        if wait and outcome.ok and not session.lost and not no_node and not is_cut_off(session, outcome):
            _wait_until_ready(session, outcome)
    seconds = session.clock.now() - begun
    after_up(session, outcome.changes, seconds, show.people(options))
    if "node_key" in there_after(outcome):
        _note_key(session, used=True)
    if options.json:
        show.report(session, "up", outcome.changes, seconds=seconds)
    conclude_up(session, outcome, seconds)
    if outcome.interrupted:
        raise cut_short(outcome, "aistratus up", session.lost)
    tell_lost(session)
    if not outcome.ok:
        raise Failure(failures(outcome), todo="`aistratus up` continues once that is repaired", reported=True)


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
        draw_stack(context.obj, graph)
        return
    session = open_session(context.obj, start=True)
    begun = session.clock.now()
    show.heading(session, show.people(context.obj))
    with ending_gently(session):
        planned = _look(session.cloud.fresh(), session.stack, session)
    show_plan(session, session.stack, planned, begun)
    raise end_of_plan(planned.survey, empty=planned.empty)


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

    options: Options = context.obj
    console = show.people(options)
    try:
        session = open_session(options)
    except Absent as absent:
        nothing_to_remove(options, absent)
        return
    begun = session.clock.now()
    with ending_gently(session):
        show.heading(session, console)
        found = survey(session.stack, session.cloud, stop=session.stop)
        doomed = deletions(session.stack, found, keep_data=keep_data)
        if plan:
            show_removals(session, doomed, begun)
            raise end_of_plan(found, empty=not doomed)
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
    tell_lost(session)
    if not outcome.ok:
        raise not_gone(session, outcome)
    conclude_down(session, outcome, seconds)


# --- parts ------------------------------------------------------------------------------------------------------


def _look(aws: Cloud, stack: Stack, session: Session, *, anew: bool = False) -> Plan:
    from aistratus.core.plan import plan as compare_all
    from aistratus.core.plan import survey

    return compare_all(stack, aws, survey(stack, aws, stop=session.stop), anew=anew)


def _change(session: Session, stack: Stack, planned: Plan, *, replace: bool, steal_lock: bool) -> Outcome:
    """Shows the plan, asks where that is in place, and makes the stack under the env's lock.

    Raises:
        Interrupted: the answer was no.
        Locked: another command changes this env.
    """
    from aistratus.cli import show
    from aistratus.core.execute import Run
    from aistratus.doctor import preflight
    from aistratus.node.room import require_own

    console = show.people(session.options)
    preflight(session.cloud.region, session.caller)
    for change in planned.changes:
        if change.key == "node":
            require_own(session.settings, change.found)
    show.short(planned.changes, console, session.quotes, stack.group_of)
    tell_of_the_way_out(session, planned, console)
    asks = session.asks and not planned.empty
    if asks and not show.confirm(f"Go on ({show.counted(planned.changes)})?", session.options):
        raise Interrupted("nothing was changed")
    ticker = show.Ticker(console, planned.changes, session.quotes)
    with session.locked("aistratus up", steal=steal_lock) as told, ticker:
        if told:
            console.print(told)
        # Somebody may have changed things while the lock was not ours.
        aws = session.cloud.fresh()
        planned = _look(aws, stack, session, anew=replace)
        run = Run(stack, aws, session.ledger, session.clock, session.stop, ticker)
        return run.up(planned, replace_allowed=replace)


def _unrecorded(aws: Cloud, stack: Stack, planned: Plan) -> bool:
    """Does the ledger lack or mistake something, although everything is as declared? A run died, or it was deleted."""
    if any(aws.recorded(resource.key) for resource in stack.unwanted):
        return True
    return any(change.found is not None and aws.recorded(change.key) != change.found.ids for change in planned.changes)


def _note_key(session: Session, *, used: bool) -> None:
    """Notes that the env has this machine's key, or takes the key away when no env of that name has it any more."""
    from aistratus.node import keys

    place = f"{session.cloud.account}-{session.cloud.region}"
    with suppress(OSError):  # it is no reason to fail after all is done
        (keys.taken if used else keys.given_back)(session.settings.env, place)


def _wait_until_ready(session: Session, outcome: Outcome) -> None:
    from aistratus.cli.env_state import worker_state
    from aistratus.core.settle import Wait, until

    node = next((change.found for change in outcome.changes if change.key == "node"), None)
    if node is not None and node.health in ("stopped", "stopping"):
        raise Failure("the node is asleep, so its worker won't get ready", todo="the next prompt wakes it")

    def ready() -> bool | None:
        beat = worker_state(session)
        if beat.get("fresh") and beat.get("reason"):
            raise Failure(
                f"the worker can't get ready: {beat['reason']}", todo="repair that and run `aistratus up` again"
            )
        return True if beat.get("fresh") and beat["state"] != "loading" else None

    # Source: measured boots of others (1 m 41 s to a usable GPU node) plus fetching a 670 MB model.
    until(Wait(what="the worker is ready", within=600, first=0.5, longest=5), ready, clock=session.clock)

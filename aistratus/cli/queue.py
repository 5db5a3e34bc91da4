"""`aistratus queue`: the queue's health, and the redrive of dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aistratus.cli.options import Group, Options
from aistratus.core.errors import Failure

if TYPE_CHECKING:
    from rich.console import Console

    from aistratus.redrive import DeadLetter, Returned

app = typer.Typer(
    help="The queue of prompts: its state, and the prompts that were given up.", cls=Group, no_args_is_help=True
)

NUMBERS = ("depth", "in_flight", "dead", "oldest_age_s", "heartbeat_age_s")


@app.command()
def health(context: typer.Context) -> None:
    """Shows how many prompts wait and how long, how many were given up, and the worker's last heartbeat."""
    from aistratus.cli import show
    from aistratus.cli.door import knock
    from aistratus.client.api import Api
    from aistratus.client.errors import ClientError

    options: Options = context.obj
    door = knock(options)
    try:
        with Api(door.url, door.signed_in) as api:
            answer = api.queue_health()
    except ClientError as error:
        raise Failure(str(error).rstrip(".")) from error
    numbers = {name: answer.get(name) for name in NUMBERS}
    if options.json:
        show.emit({"env": door.env, **numbers})
        return
    _numbers(show.results(options), numbers)


def _numbers(console: Console, numbers: dict[str, Any]) -> None:
    oldest, beat = numbers["oldest_age_s"], numbers["heartbeat_age_s"]
    console.print(f"waiting       {numbers['depth']}")
    console.print(f"in flight     {numbers['in_flight']}")
    console.print(f"oldest        {'–' if oldest is None else ago(oldest)}")
    console.print(f"dead letters  {numbers['dead']}")
    console.print(f"heartbeat     {'none: no worker is awake' if beat is None else ago(beat) + ' ago'}")


@app.command()
def redrive(
    context: typer.Context,
    plan: Annotated[bool, typer.Option("--plan", help="Only show what was given up")] = False,
) -> None:
    """Shows the prompts that were given up and, if you agree, puts them back into the queue.

    Of each conversation ten are shown at a time; the end says how many are left, and the next run takes them.
    """
    from aistratus import redrive as way
    from aistratus.cli import show
    from aistratus.cli.operator import ids_of
    from aistratus.cli.session import ending_gently, open_session

    options: Options = context.obj
    session = open_session(options)
    ids = ids_of(session, ("jobs_queue", "dead_letters", "jobs_table"))
    table = ids["jobs_table"]["name"]
    dead = ids["dead_letters"]["url"]
    there = way.count(session.cloud, dead)
    letters = way.look(session.cloud, dead, table)
    console = show.people(options)
    _list(console, letters)
    back = None
    if letters and not plan:
        question = f"Put {len(letters)} back into the queue of env {session.settings.env!r}?"
        if not show.confirm(question, options):
            console.print("nothing was put back")
        else:
            with ending_gently(session):
                back = way.put_back(session.cloud, letters, dead, ids["jobs_queue"]["url"], table)
    gone = back.sent + back.ended if back else 0
    unseen = max(0, there - len(letters))
    if options.json:
        listed = [letter.document for letter in letters]
        moved = back.sent if back else 0
        show.emit({"env": session.settings.env, "dead": listed, "moved": moved, "left": len(letters) - gone + unseen})
        return
    result = show.results(options)
    if back is not None:
        _tell(result, letters, back)
    elif not letters:
        result.print("there are no dead letters" if not unseen else "no dead letter can be seen right now")
    if unseen:
        console.print(
            f"about {unseen} more can't be seen now: ten of a conversation are shown at a time, and none that a worker "
            "is looking at; run it again for the rest"
        )


def _tell(console: Console, letters: list[DeadLetter], back: Returned) -> None:
    """What became of those that were seen."""
    console.print(f"{back.sent} moved back; a node that sleeps wakes with the next prompt")
    if back.ended:
        console.print(f"{back.ended} had been answered or cancelled after all")
    unreadable = sum(letter.job is None for letter in letters)
    if unreadable:
        console.print(f"{unreadable} can't be read and stay where they are")
    if missed := len(letters) - unreadable - back.sent - back.ended:
        console.print(f"{missed} were being looked at by somebody else and stay; run it again")


def _list(console: Console, letters: list[DeadLetter]) -> None:
    """One line each; prompts aren't shown."""
    for letter in letters:
        job = letter.job
        name = f"{job.job_id}  conversation {job.conversation}" if job else f"message {letter.message_id}"
        console.print(f"{name}  {ago(letter.age_s)} old", markup=False)
        console.print(f"    {letter.reason}", markup=False)


def ago(seconds: float) -> str:
    """A time span for people: its two largest units."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3_600} h {whole % 3_600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3_600} h"

"""`aistratus cost --check`: one line and an exit code, for cron.

It reads the env's record (one call to DynamoDB) and the budget's figure (free, and half a day late); the greater of
the two counts. EC2 is asked as well where the guard hasn't run for a while. No prompt, no colour, no call that AWS
charges for, and no import that isn't needed. Any failure to find out exits with 1.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aistratus.core.errors import Failure
from aistratus.spending import Counted, Records

if TYPE_CHECKING:
    from aistratus.cli.options import Options
    from aistratus.cloud import Clients
    from aistratus.settings import Settings

T = TypeVar("T")

WARNING: Final = Decimal("0.8")
"""Of the limit, as the budget's mails."""
FINE, WARNED, OVER = 0, 3, 4
LOOKED_MS: Final = 600_000
"""The guard meters every four minutes; when its last result is older than this, EC2 is asked."""
TRIES, PAUSE_S = 3, 0.5
"""Calls are tried so often, so many seconds apart: cron comes again soon, and the answer is due within a second."""


class Unknown(Failure):
    """What the month has cost couldn't be found out."""

    kind = "unknown"


def check(options: Options, limit_eur: Decimal | None, *, kill: bool) -> int:
    """Prints the line and returns the exit code: 0, 3 over 80 % of the limit, 4 over it.

    Args:
        limit_eur: EUR a month; `None`: `budget.limit_eur`.
        kill: stop what runs if it is over the limit, unless somebody has resumed up to more than was spent.

    Raises:
        Unknown: it couldn't be found out.
    """
    try:
        settings = options.load()
        found = _look(options, settings)
    except Failure as failure:
        raise Unknown(failure.what, todo=failure.todo) from failure
    except Exception as error:  # cron is told "unknown" and why, whatever went wrong: never 0 for a guess
        from aistratus.explain import explain

        told = explain(error, profile=options.profile)
        raise Unknown(told.what, todo=told.todo) from error
    limit = Decimal(str(settings.budget.limit_eur)) if limit_eur is None else limit_eur
    rate = Decimal(str(settings.budget.usd_per_eur))
    metered, counted = found.records.month, found.counted_usd
    spent = max(metered.usd, counted or Decimal(0)) / rate
    if spent <= limit and metered.unknown:
        missing = ", ".join(sorted(metered.unknown))
        raise Unknown(f"{missing} has no known price", todo="`aistratus cost prices --refresh`, then `aistratus up`")
    code = OVER if spent > limit else WARNED if spent > limit * WARNING else FINE
    resumed = Decimal(str(found.records.resumed.get("limit_usd", 0))) / rate
    stopped = _stop(options) if kill and code == OVER and spent >= resumed else []
    if code == OVER and spent < resumed:
        who = str(found.records.resumed.get("by", "")).rpartition("/")[2]
        found = replace(found, notes=(f"resumed up to {euros(resumed)} by {who}", *found.notes))
    _tell(options, settings, found, spent, limit, code, stopped)
    return code


@dataclass(frozen=True)
class _Found:
    """What was found.

    counted_usd: the budget's own figure; `None` where it isn't known.
    notes: what a person should know besides.
    """

    records: Records
    counted_usd: Decimal | None
    notes: tuple[str, ...] = ()


def _look(options: Options, settings: Settings) -> _Found:
    from aistratus import spending
    from aistratus.cloud import Clients
    from aistratus.costs import meter
    from aistratus.trace import Meter

    assert options.embedded is not None
    access = options.embedded.access(settings, False)
    now_ms = int(time.time() * 1000)
    if access is None:
        return _nowhere(settings, now_ms)
    clients = Clients(access, Meter(options.trace))
    table = f"tinyllama-{settings.env}-jobs"
    begin_ms = meter.month_of(now_ms)[0]
    records = _tried(lambda: spending.read(clients.get("dynamodb", retries=False), table, begin_ms, now_ms))
    if records is None:
        if _running(clients, settings):
            raise Unknown(
                f"machines of env {settings.env!r} run, and there is no jobs table with their record",
                todo="`aistratus up` makes it, `aistratus down` takes the machines away",
            )
        return _down(clients, settings, access.region, now_ms)
    if records.tariff.now is None:
        raise Unknown("nobody has written down what the env's resources cost", todo="`aistratus up` does")
    if now_ms - int(records.metered.get("at_ms", 0)) > LOOKED_MS:
        running = _running(clients, settings)
        records = replace(records, signs=(*records.signs, *running), running=frozenset(one.instance for one in running))
    counted = _counted(clients, settings, records)
    return _Found(records, counted.usd, (counted.note,) if counted.note else ())


def _tried(call: Callable[[], T]) -> T:
    """With as much patience as cron has."""
    from botocore.exceptions import BotoCoreError, ClientError

    for left in range(TRIES - 1, -1, -1):
        try:
            return call()
        except (BotoCoreError, ClientError) as error:
            status = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
            throttled = "hrottl" in str(error) or "LimitExceeded" in str(error)
            if not left or not (status >= 500 or throttled):
                raise
            time.sleep(PAUSE_S)
    raise AssertionError("the loop above returns or raises")


def _running(clients: Clients, settings: Settings) -> list[Any]:
    """A sign of each instance of the env that runs. DescribeInstances is free."""
    from aistratus import wire
    from aistratus.node.power import sign

    wanted = {"tag:Project": ["tinyllama"], "tag:Env": [settings.env], "instance-state-name": ["pending", "running"]}
    ec2 = clients.get("ec2", retries=False)
    filters = [{"Name": name, "Values": values} for name, values in wanted.items()]
    pages = _tried(lambda: list(ec2.get_paginator("describe_instances").paginate(Filters=filters)))
    things = [thing for page in pages for entry in page["Reservations"] for thing in entry["Instances"]]
    return [sign(wire.SEEN, thing, int(time.time() * 1000)) for thing in things]


def _counted(clients: Clients, settings: Settings, records: Records) -> Counted:
    """What the env's budget says of this month: free to ask, half a day late, nothing before its tags are activated."""
    from aistratus import spending

    if not records.account:
        return Counted()
    name = f"tinyllama-{settings.env}-monthly"
    try:
        budgets = clients.get("budgets", retries=False)
        answer = budgets.describe_budget(AccountId=records.account, BudgetName=name)["Budget"]
    except Exception:  # noqa: BLE001 - a second opinion; ours stands without it
        return Counted(None, "AWS's own figure couldn't be read")
    return spending.counted(answer, records)


def _down(clients: Clients, settings: Settings, region: str, now_ms: int) -> _Found:
    """Of an env without a table and without a machine what this machine has kept of it.

    Raises:
        Unknown: nothing. It may be up, and this be another region or account than its own.
    """
    from aistratus import spending

    account = str(_tried(clients.get("sts", retries=False).get_caller_identity)["Account"])
    found = spending.kept_of(settings.env, now_ms, account=account, region=region)
    if found is None:
        raise Unknown(
            f"nothing is known of env {settings.env!r} in account {account}, {region}",
            todo="name its region and profile (--region, --profile), or begin its record with `aistratus up`",
        )
    return _Found(found, None, ("it isn't up",))


def _nowhere(settings: Settings, now_ms: int) -> _Found:
    """Of an env whose whole cloud isn't there, and so can cost nothing, what was kept when it was taken down."""
    from aistratus import spending

    found = spending.kept_of(settings.env, now_ms)
    if found is None:
        return _Found(Records(now_ms), None, ("it isn't up, and never was as far as this machine knows",))
    return _Found(found, None, ("it isn't up",))


def _stop(options: Options) -> list[str]:
    """Stops all machines of the env, keeps prompts from waking the node, and returns what was stopped.

    Raises:
        Failure: not all of it could be done; what could be is done.
    """
    from aistratus.cli.session import open_session
    from aistratus.explain import explain
    from aistratus.node.stop_all import stop_all
    from aistratus.resources.instance_listing import INSTANCES, state_of
    from aistratus.spending import hold

    session = open_session(options)
    failed: dict[str, Exception] = {}
    try:
        hold(session.cloud, session.settings.budget.kill_usd)
    except Exception as error:  # noqa: BLE001 - told below; what runs is to stop all the same
        failed["the mark that keeps prompts from waking the node"] = error
    things = [one for one in INSTANCES.ours(session.cloud.fresh()) if state_of(one) in ("pending", "running")]
    stops = stop_all(session.cloud, things)
    if failed := failed | stops.failed:
        reasons = "; ".join(
            f"{what} ({explain(error, profile=options.profile).what})" for what, error in failed.items()
        )
        raise Failure(
            f"env {session.settings.env!r} is over the limit; stopped: {', '.join(stops.stopped) or 'nothing'}; "
            f"not done: {reasons}",
            todo="run the command again",
        )
    return stops.stopped


def _tell(
    options: Options, settings: Settings, found: _Found, spent: Decimal, limit: Decimal, code: int, stopped: list[str]
) -> None:
    from aistratus.costs import meter

    records, rate = found.records, Decimal(str(settings.budget.usd_per_eur))
    hour = meter.per_hour(records.stretches, records.now_ms).usd / rate
    state = {FINE: "fine", WARNED: "over the warning line", OVER: "over the limit"}[code]
    if options.json:
        document = {
            "schema": 1, "env": settings.env, "state": state, "month_eur": round(float(spent), 4),
            "limit_eur": float(limit), "eur_per_hour": round(float(hour), 6), "stopped": stopped,
        }  # fmt: skip
        print(json.dumps(document))
        return
    figures = f"{euros(spent)} of {euros(limit)} this month, {euros(hour)} an hour now"
    parts = [f"{settings.env}: {state}, {figures}"]
    running = [f"{span.type} {span.instance}" for span in records.spans if span.running and not stopped]
    parts += [f"running: {', '.join(running)}"] if running else []
    parts += [f"stopped: {', '.join(stopped)}"] if stopped else []
    print("; ".join([*parts, *found.notes]))


def euros(amount: Decimal) -> str:
    """To the cent; below ten of them as exactly as an hour of the smallest machine needs."""
    return f"€{amount:.2f}" if amount >= Decimal("0.1") or not amount else f"€{amount:.4f}"

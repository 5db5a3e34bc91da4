"""`aistratus cost`: what the env has cost, what it will cost, and a hard stop."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aistratus.cli.options import Options
from aistratus.core.errors import Absent, Failure, Interrupted, UsageError

if TYPE_CHECKING:
    from aistratus.cli.cost_report import Report
    from aistratus.cli.cost_shares import Shares
    from aistratus.cli.cost_usage import Usage

MOST_EUR = 1e9
"""Nobody means more, and what is no number isn't below it."""

app = typer.Typer(invoke_without_command=True)
prices = typer.Typer(invoke_without_command=True)
app.add_typer(prices, name="prices")


@app.callback()
def cost(
    context: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="Print one line for cron, and tell by the exit code")] = False,
    limit: Annotated[float | None, typer.Option(help="EUR a month, for --check (default: budget.limit_eur)")] = None,
    kill: Annotated[bool, typer.Option("--kill", help="With --check: if over the limit, stop what runs")] = False,
    idle: Annotated[bool, typer.Option("--idle", help="What a stopped stack costs, line by line")] = False,
    what_if: Annotated[
        str | None,
        typer.Option("--what-if", metavar="hours=H,type=T", help="What so many hours of a machine would cost"),
    ] = None,
    by: Annotated[
        Literal["conversation"] | None, typer.Option("--by", help="Cost of each conversation, and of 1,000 tokens")
    ] = None,
    usage: Annotated[bool, typer.Option("--usage", help="Also this month's usage: requests, jobs, GB")] = False,
    since: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Count from this date (default: the month's first day)"),
    ] = None,
    currency: Annotated[Literal["EUR", "USD"], typer.Option(help="Currency of the amounts")] = "EUR",
    billed: Annotated[
        bool, typer.Option("--billed", help="Ask Cost Explorer what AWS has billed; each answer costs $0.01")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw the days into this file (.svg or .png)")] = None,
) -> None:
    """Shows what this month has cost: metered by the env's own record, billed by AWS, and forecast.

    `--check` is quick and asks nothing: it exits with 0, with 3 over 80 % of the limit, with 4 over it, and with 1 if
    it couldn't find out. `-o csv` prints a row for each day and each thing.
    """
    if context.invoked_subcommand is not None:
        return
    options: Options = context.obj
    if not check and (limit is not None or kill):
        raise UsageError("--limit and --kill belong to --check", todo="add it")
    if limit is not None and not 0 < limit < MOST_EUR:
        raise UsageError("--limit has to be above zero, and an amount that can be", todo="name EUR a month")
    if options.output == "csv" and (check or idle or what_if is not None or by is not None or usage):
        raise UsageError("csv is for the days and things of `aistratus cost` alone", todo="take -o json")
    if check or idle or what_if is not None:
        report_only = {"--by": by, "--usage": usage, "--since": since, "--billed": billed, "--plot": plot}
        if beside := [name for name, value in report_only.items() if value]:
            raise UsageError(
                f"{' and '.join(beside)}: that is for `aistratus cost` without --check, --idle and --what-if",
                todo="ask for one thing at a time",
            )
    if check and (idle or what_if is not None):
        raise UsageError("--check is a line of its own", todo="ask for one thing at a time")
    if check:
        from aistratus.cli.cost_check import check as look

        raise typer.Exit(look(options, None if limit is None else Decimal(str(limit)), kill=kill))
    if plot is not None and plot.suffix.lower() not in (".svg", ".png"):
        raise UsageError(f"--plot {plot}: only SVG and PNG are drawn", todo="name a file that ends with .svg or .png")
    if idle or what_if is not None:
        from aistratus.cli import cost_estimates

        if idle:
            cost_estimates.idle(options, currency)
        if what_if is not None:
            cost_estimates.what_if(options, what_if, currency)
        return
    _report(options, since.date() if since else None, currency, ask=billed, by=by, usage=usage, plot=plot)


def _report(
    options: Options,
    since: date | None,
    currency: Literal["EUR", "USD"],
    *,
    ask: bool,
    by: str | None,
    usage: bool,
    plot: Path | None,
) -> None:
    from aistratus.cli import cost_report, cost_tables, show
    from aistratus.cli.session import open_session

    extra: dict[str, Usage | Shares] = {}
    try:
        session = open_session(options)
    except Absent:
        kept = cost_report.gather_kept(options.load(), since=since, currency=currency)
        if kept is None or ask or by or usage:
            raise
        report = kept
    else:
        report = cost_report.gather(session, since=since, currency=currency, ask=ask)
        if by == "conversation":
            from aistratus.cli import cost_shares

            extra["conversations"] = cost_shares.gather(session, report)
        if usage:
            from aistratus.cli import cost_usage

            extra["usage"] = cost_usage.gather(session, report)
    if plot is not None:
        _draw(report, plot)
    if options.output == "csv":
        cost_tables.write_csv(report)
        return
    if options.json:
        show.emit({**cost_tables.document(report), **{name: part.document() for name, part in extra.items()}})
        return
    console = show.results(options)
    cost_tables.show(report, console, gaps=ask)
    for part in extra.values():
        for line in ("", *part.lines()):
            console.print(line, markup=False)
    if ask:
        show.people(options).print("Cost Explorer was asked: AWS takes $0.01 for that", markup=False)
    if plot is not None:
        show.people(options).print(f"drawn: {plot}", markup=False)


def _draw(report: Report, file: Path) -> None:
    from aistratus.cli.cost_tables import picture
    from aistratus.pictures import shapes

    form = shapes.png if file.suffix.lower() == ".png" else shapes.svg
    try:
        file.write_bytes(form(picture(report)))
    except OSError as error:
        raise Failure(f"{file} can't be written: {error.strerror}", todo="name another file") from error


@app.command()
def resume(
    context: typer.Context,
    up_to: Annotated[
        float | None,
        typer.Option(help="EUR that this month may cost in total (default: a quarter of budget.kill_eur more)"),
    ] = None,
) -> None:
    """Lets prompts wake the node again after the month's limit has stopped it, up to another limit.

    It holds until the month ends, and who did it is recorded. At a terminal it asks first (`--yes` answers). It refuses
    while something that ran this month has no known price: nothing would stop what can't be counted.
    """
    import time

    from aistratus import spending
    from aistratus.cli import cost_report, show
    from aistratus.cli.session import open_session
    from aistratus.costs import meter

    options: Options = context.obj
    if up_to is not None and not 0 < up_to < MOST_EUR:
        raise UsageError("--up-to has to be above zero, and an amount that can be", todo="name EUR")
    session = open_session(options)
    now_ms = int(time.time() * 1000)
    records = cost_report.look(session, meter.month_of(now_ms)[0], now_ms)
    budget, month = session.settings.budget, records.month
    if month.unknown:
        raise Failure(
            f"{', '.join(sorted(month.unknown))} has no known price, so the guard can't count this month and nothing "
            "would stop machines at another line",
            todo="`aistratus cost prices --refresh`, then `aistratus up`, then resume",
        )
    spent = float(month.usd) / budget.usd_per_eur
    line = round(max(spent, budget.kill_eur) + budget.kill_eur / 4, 2) if up_to is None else up_to
    if line <= max(spent, budget.kill_eur):
        raise UsageError(
            f"€{line:.2f} is no more than budget.kill_eur or what this month has cost by now (€{spent:.2f})",
            todo="name more",
        )
    console, held = show.people(options), bool(records.stopped)
    console.print(
        f"env {session.settings.env}: €{spent:.2f} this month; machines stop at €{budget.kill_eur:.2f}; "
        f"{'no prompt wakes the node' if held else 'nothing is held back'}",
        markup=False,
    )
    until = time.strftime("%Y-%m-%d", time.gmtime(meter.month_of(now_ms)[1] / 1000))
    if not show.confirm(f"Go on up to €{line:.2f} until {until} (UTC)?", options):
        raise Interrupted("nothing was changed")
    by = session.cloud.identity.arn
    spending.resume(session.cloud, line * budget.usd_per_eur, by)
    if options.json:
        show.emit({"env": session.settings.env, "limit_eur": line, "until": until, "by": by, "was_held": held})
        return
    who = by.rpartition("/")[2]
    show.results(options).print(
        f"prompts wake the node again; machines stop at €{line:.2f} until {until} (UTC): {who}", markup=False
    )


@prices.callback()
def show_prices(
    context: typer.Context,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Ask AWS's price list (free) and keep its answers on this machine")
    ] = False,
) -> None:
    """Shows the list prices that everything is counted by, each with its date and source."""
    from aistratus.cli import cost_prices

    options: Options = context.obj
    if refresh:
        cost_prices.refresh(options)
    else:
        cost_prices.show(options)

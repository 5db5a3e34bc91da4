"""Kills `up`, `down` and a router deploy at each of their calls to AWS, runs them again, and checks the result.

For every k from 1 to the number of requests that the undisturbed command makes, its process is killed (SIGKILL) twice:
when call k arrives and before it is carried out, and after it was carried out and before the answer is sent. Then the
same command runs once more, undisturbed. The account (the embedded cloud, in strict mode), listed with plain boto3
calls, must then hold what an undisturbed run leaves: the same resources in the same numbers, and a ledger that names
only existing ones. After `down` nothing may be left.

    python scripts/bench/death.py                   every k, both ways, `up`, `down` and deploy (about an hour)
    python scripts/bench/death.py --sample 20       20 deaths of each command, spread evenly
    python scripts/bench/death.py --only deploy     just one of the commands
    python scripts/bench/death.py --everything      with everything on that is off by default: NAT, delivery, warmth …
    python scripts/bench/death.py --journal FILE    goes on where a run ended that wrote the same file and had the same
                                                    settings

Calls run in parallel, so call k isn't the same operation in every run; all k are tried, and the operation at each
death is in the report. A command that makes fewer calls than the undisturbed one may end before its death. Such a case
proves nothing: the report (one JSON object on stdout) counts it under `survived` and not under `converged`. The exit
status is 1 if any case failed, or if most cases of a command survived.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from env_on_cloud import ALL_ON_VARIABLES, KILLED, Death, Env, Unexpected, WarmCommand, embedded_cloud

import aistratus

CASES_A_CLOUD = 40
"""Then a new cloud begins: terminated instances stay listed, and the listing gets slow."""

PARALLEL = 2


@dataclass(frozen=True)
class Kill:
    """One death: at call `k`, before or after it was carried out."""

    command: str
    k: int
    after: bool

    def fault(self) -> Death:
        return Death(only=self.k, after=self.after)


@dataclass(frozen=True)
class Case:
    """How one death went. `died`: the process was killed; it may also have ended before it came to call k."""

    command: str
    k: int
    after: bool
    died: bool
    operation: str
    failure: str = ""


def tally(cases: Sequence[Case], commands: Iterable[str]) -> dict[str, dict[str, int]]:
    """For each command: its cases, those that died, those that didn't, and the deaths after which all was well."""
    counted = {}
    for command in commands:
        own = [case for case in cases if case.command == command and case.k]
        died = [case for case in own if case.died]
        counted[command] = {
            "cases": len(own),
            "died": len(died),
            "survived": len(own) - len(died),
            "converged": sum(not case.failure for case in died),
        }
    return counted


def proven(counted: dict[str, dict[str, int]], chosen: Iterable[str]) -> bool:
    """Whether each of these commands died in more than half of its cases; else its deaths weren't where they should."""
    return all(counted[command]["died"] > counted[command]["survived"] for command in chosen)


def kills(command: str, calls: int, sample: int | None) -> list[Kill]:
    """All deaths of a command, or some that are spread evenly."""
    if sample is None or sample >= 2 * calls:
        return [Kill(command, k, after) for k in range(1, calls + 1) for after in (False, True)]
    return [Kill(command, 1 + (2 * i + 1) * calls // (2 * sample), bool(i % 2)) for i in range(sample)]


def die(env: Env, kill: Kill, *, warm: WarmCommand | None = None) -> tuple[bool, str]:
    """Runs the command to its death; tells whether it died, and in which operation.

    Raises:
        Unexpected: it ended by itself and badly.
    """
    begun = len(env.front.operations)
    ended = env.run("down" if kill.command == "down" else "up", faults=[kill.fault()], warm=warm)
    if ended.status not in (0, KILLED):
        raise Unexpected(f"it ended with {ended.status} before its death:\n{ended.output.strip()}")
    operations = env.front.operations[begun : begun + kill.k]
    return ended.status == KILLED, operations[-1] if len(operations) == kill.k else ""


@contextmanager
def changed_package() -> Iterator[Path]:
    """A copy of the package whose router holds another line of code, as after a day of work."""
    with tempfile.TemporaryDirectory(prefix="package-") as folder:
        own = Path(aistratus.__file__).parent
        copy = Path(folder) / own.name
        shutil.copytree(own, copy, ignore=shutil.ignore_patterns("__pycache__"))
        with (copy / "router" / "__init__.py").open("a") as file:
            file.write("\n# Another state of the code.\n")
        yield Path(folder)


class Bench:
    """Runs cases, some beside each other, and collects what became of them."""

    def __init__(self, journal: Path | None = None, **variables: str) -> None:
        self._journal = journal
        self._variables = variables
        lines = journal.read_text().splitlines() if journal is not None and journal.exists() else []
        self.cases = [Case(**json.loads(line)) for line in lines]
        self._lock = threading.Lock()
        self._begun = time.monotonic()

    def missing(self, wanted: Sequence[Kill]) -> list[Kill]:
        """Those that the journal doesn't tell about yet."""
        done = {(case.command, case.k, case.after) for case in self.cases}
        return [kill for kill in wanted if (kill.command, kill.k, kill.after) not in done]

    def told(self, case: Case) -> None:
        """Keeps a case and shows it."""
        with self._lock:
            self.cases.append(case)
            if self._journal is not None:
                with self._journal.open("a") as file:
                    file.write(json.dumps(asdict(case)) + "\n")
            count, failed = len(self.cases), sum(bool(case.failure) for case in self.cases)
            survived = sum(case.k > 0 and not case.died for case in self.cases)
        if case.failure or count % 50 == 0:
            when = f"[{time.monotonic() - self._begun:.0f} s] {count} cases, {failed} failed, {survived} didn't die"
            print(f"{when}: {case}" if case.failure else when, file=sys.stderr, flush=True)

    def attempt(self, env: Env, kill: Kill | None, again: Sequence[str], wanted: object) -> None:
        """One death of the command `again`, its second run, and the look at what is there; no kill: just one run."""
        died, operation, failure = False, "", ""
        try:
            if kill is not None:
                died, operation = die(env, kill)
            env.must(*again)
            found = env.shape()
            if found != wanted:
                failure = difference_told(found, wanted)
        except Unexpected as error:
            failure = str(error)
        if kill is not None:
            self.told(Case(kill.command, kill.k, kill.after, died, operation, failure))
        elif failure:
            self.told(Case(again[0], 0, False, False, "", failure))

    def ups_and_downs(self, pairs: Sequence[tuple[Kill | None, Kill | None]], folder: Path) -> None:
        """Each pair in an env of its own: `up` dies and runs again, then `down` does."""
        for start in range(0, len(pairs), CASES_A_CLOUD):
            with embedded_cloud(strict=True) as endpoint, WarmCommand() as warm:
                with Env("model", endpoint=endpoint, warm=warm, home=folder, **self._variables) as model:
                    before = model.account.identities()
                    model.must("up")
                    wanted = model.shape()
                    model.must("down")
                for number, (up, down) in enumerate(pairs[start : start + CASES_A_CLOUD]):
                    with Env(f"d{number}", endpoint=endpoint, warm=warm, home=folder, **self._variables) as env:
                        self.attempt(env, up, ["up"], wanted)
                        self.attempt(env, down, ["down"], type(wanted)())
                if left := model.account.identities() - before:
                    print(f"in no env, but left in the account: {sorted(left)}", file=sys.stderr, flush=True)
                    self.told(Case("down", 0, False, False, "", f"left in the account: {sorted(left)}"))

    def deploys(self, cases: Sequence[Kill], folder: Path) -> None:
        """One env whose code goes back and forth; each deploy dies and runs again."""
        with ExitStack() as stack:
            endpoint = stack.enter_context(embedded_cloud(strict=True))
            first = stack.enter_context(WarmCommand())
            second = stack.enter_context(WarmCommand(stack.enter_context(changed_package())))
            env = stack.enter_context(Env("deploy", endpoint=endpoint, warm=first, home=folder, **self._variables))
            turns = (first, second)
            wanted = {}
            for turn in (0, 1, 0, 1, 0):  # until as many old versions are there as are kept
                env.must("up", warm=turns[turn])
                wanted[turn] = env.shape()
            for number, kill in enumerate(cases):
                turn = (number + 1) % 2
                env.warm = turns[turn]
                self.attempt(env, kill, ["up"], wanted[turn])


def difference_told(found: object, wanted: object) -> str:
    """The difference of two shapes, in words."""
    from account_listing import difference

    return difference(found, wanted)  # type: ignore[arg-type]


def count_calls(folder: Path, **variables: str) -> dict[str, int]:
    """How many requests each undisturbed command makes."""
    with ExitStack() as stack:
        endpoint = stack.enter_context(embedded_cloud(strict=True))
        first = stack.enter_context(WarmCommand())
        second = stack.enter_context(WarmCommand(stack.enter_context(changed_package())))
        env = stack.enter_context(Env("count", endpoint=endpoint, warm=first, home=folder, **variables))
        return {"up": env.calls("up"), "deploy": env.calls("up", warm=second), "down": env.calls("down")}


def main() -> int:
    parser = argparse.ArgumentParser(description="Death at every call.")
    parser.add_argument("--sample", type=int, help="this many deaths of each command, spread evenly [default: all]")
    parser.add_argument("--only", choices=("up", "down", "deploy"), action="append", help="just this command")
    parser.add_argument("--everything", action="store_true", help="switch everything on that is off by default")
    parser.add_argument("--journal", type=Path, help="write each case to this file, and skip those that are in it")
    options = parser.parse_args()
    chosen = options.only or ["up", "down", "deploy"]
    variables = ALL_ON_VARIABLES if options.everything else {}
    bench = Bench(options.journal, **variables)
    begun = time.time()
    with tempfile.TemporaryDirectory(prefix="home-") as home:
        folder = Path(home)
        calls = count_calls(folder, **variables)
        print(f"calls: {calls}", file=sys.stderr, flush=True)
        todo = {
            name: bench.missing(kills(name, calls[name], options.sample)) if name in chosen else [] for name in calls
        }
        pairs = list(zip_longest(todo["up"], todo["down"]))
        with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
            parts = [pool.submit(bench.ups_and_downs, pairs[part::PARALLEL], folder) for part in range(PARALLEL)]
        for part in parts:
            part.result()
        if todo["deploy"]:
            bench.deploys(todo["deploy"], folder)
    failed = [case for case in bench.cases if case.failure]
    counted = tally(bench.cases, calls)
    report = {
        "date": time.strftime("%Y-%m-%d", time.gmtime(begun)),
        "everything": options.everything,
        "calls": calls,
        **{what: {name: counted[name][what] for name in calls} for what in ("cases", "died", "survived", "converged")},
        "failed": len(failed),
        "seconds": round(time.time() - begun),
        "failures": [asdict(case) for case in failed],
    }
    print(json.dumps(report, indent=2))
    return 1 if failed or not proven(counted, chosen) else 0


if __name__ == "__main__":
    sys.exit(main())

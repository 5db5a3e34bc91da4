"""The stack as it is declared, with the real packages and the demo model, for tests that put all of it on a cloud."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from threading import Event
from typing import Any

from all_on import ALL_ON
from converge_engine import ACCOUNT, REGION

from aistratus.cloud import Access, Clients, Cloud, Identity
from aistratus.core.execute import Outcome, Run
from aistratus.core.graph import Stack
from aistratus.core.ledger import Ledger
from aistratus.core.plan import Plan, Survey, plan, survey
from aistratus.core.settle import RealClock
from aistratus.models import DEMO, demo_model
from aistratus.node.bootstrap import Model
from aistratus.node.keys import public_key
from aistratus.package import Package
from aistratus.policies import Names
from aistratus.resources.parameters import SsmStore
from aistratus.settings_load import load
from aistratus.stack import Shipped, describe
from aistratus.trace import Meter

ASLEEP = Model(name="nothing", sha256="0" * 64, context_tokens=64, url="https://127.0.0.1:9/nothing.gguf")
"""A model that no node can fetch, so that no worker takes the processor from the tests."""

DEMO_MODEL = Model(
    name=DEMO.name, sha256=DEMO.sha256, context_tokens=DEMO.context_tokens, key=f"models/{DEMO.sha256}.gguf"
)


__all__ = ["ALL_ON", "ASLEEP", "DEMO_MODEL", "Env", "part"]


def part(stack: Stack, *keys: str) -> Stack:
    """These keys and all that they stand on, all of it to be as it is declared."""
    return stack.only(stack.only(keys).whole.by_key)


class Env:
    """One env of the whole stack, in one cloud, with the commands' engine."""

    def __init__(
        self,
        name: str,
        *,
        endpoint: str,
        packages: tuple[Package, Package, Package],
        home: Path,
        model: Model = ASLEEP,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.meter = Meter()
        access = Access(REGION, endpoint=endpoint, access_key="testing", secret_key="testing")
        identity = Identity(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/test", REGION)
        self.cloud = Cloud(
            env=name,
            identity=identity,
            clients=Clients(access, self.meter),
            clock=RealClock(),
            recorded=lambda: self.ledger.read(self.stack.whole.by_key),
        )
        self.ledger = Ledger(SsmStore(self.cloud), f"/tinyllama/{name}")
        router, functions, worker = packages
        self._home = home
        self._shipped = Shipped(
            router=lambda: router.content,
            router_sha256=router.sha256_base64,
            functions=lambda: functions.content,
            functions_sha256=functions.sha256_base64,
            worker=lambda: worker.content,
            worker_sha256=worker.sha256_hex,
            model=model,
            model_content=(lambda: demo_model().open("rb")) if model.key else None,
            public_key=lambda: public_key(name, home),
        )
        self.stack: Stack = self.declared(settings or {})

    def declared(self, settings: Mapping[str, Any]) -> Stack:
        """The stack as these settings describe it."""
        chosen = load(flags={"env": self.name, **settings}, environ={}, start=self._home)
        return describe(chosen, Names("aws", ACCOUNT, REGION, self.name), self._shipped)

    def plan(self, *, anew: bool = False) -> Plan:
        """What is wanted against what is there now."""
        self._looked = self.cloud.fresh()
        return plan(self.stack, self._looked, survey(self.stack, self._looked), anew=anew)

    def up(self, planned: Plan | None = None) -> Outcome:
        """Makes it so; fails the test with the first error if it can't be done."""
        outcome = self.try_up(planned)
        for change in outcome.changes:
            if change.error is not None:
                raise change.error
        return outcome

    def try_up(self, planned: Plan | None = None, *, anew: bool = False) -> Outcome:
        """Makes it so as far as possible: as the plan says that was made last, or as a new one does.

        Args:
            anew: as `--replace` does.
        """
        planned = planned or self.plan(anew=anew)
        return self._run(self._looked).up(planned, replace_allowed=anew)

    def survey(self) -> Survey:
        """What is there now."""
        return survey(self.stack, self.cloud.fresh())

    def down(self, found: Survey | None = None) -> Outcome:
        """Removes what was found (default: looks now), and sweeps."""
        return self._run(self.cloud.fresh()).down(found or self.survey())

    def calls(self) -> tuple[int, int]:
        """Reading and writing calls so far."""
        return self.meter.read, self.meter.write

    def differences(self, planned: Plan) -> Mapping[str, set[str]]:
        """The fields that a plan would change, by key; keys without a difference are left out."""
        return {c.key: {entry.field for entry in c.changes} for c in planned.changes if c.action != "unchanged"}

    def _run(self, aws: Cloud) -> Run:
        return Run(stack=self.stack, aws=aws, ledger=self.ledger, clock=RealClock(), stop=Event())

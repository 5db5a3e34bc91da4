"""The engine of `plan`, `up` and `down` for small stacks, as the commands use it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from threading import Event
from typing import Any

from aistratus.cloud import Access, Clients, Cloud, Identity
from aistratus.core.execute import Outcome, Run
from aistratus.core.graph import Stack
from aistratus.core.ledger import Ledger
from aistratus.core.plan import Plan, plan, survey
from aistratus.core.resource import Resource, reconciler
from aistratus.core.settle import Clock, RealClock
from aistratus.resources.parameters import SsmStore
from aistratus.trace import Meter

ACCOUNT = "123456789012"
REGION = "eu-central-1"

Perturb = Callable[[Cloud, Any], object]
"""Changes one field of a found resource outside the product, with plain boto3 calls."""


def cloud(endpoint: str, *, env: str, meter: Meter | None = None, clock: Clock | None = None) -> Cloud:
    """An env by name; a `meter` counts its calls."""
    access = Access(REGION, endpoint=endpoint, access_key="testing", secret_key="testing")
    identity = Identity(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/test", REGION)
    return Cloud(env=env, identity=identity, clients=Clients(access, meter or Meter()), clock=clock or RealClock())


def key_of(resources: Iterable[Resource], kind: type) -> str:
    """The key of the first resource of a kind."""
    return next(resource.key for resource in resources if type(resource) is kind)


class Engine:
    """`plan`, `up` and `down` of small stacks in one cloud, as the commands do them."""

    def __init__(self, aws: Cloud, meter: Meter) -> None:
        self.aws = aws
        self.meter = meter
        self.ledger = Ledger(SsmStore(aws), f"/tinyllama/{aws.env}")

    def plan(self, *resources: Resource) -> Plan:
        """What is wanted against what is there now."""
        stack, aws = Stack(resources), self.aws.fresh()
        return plan(stack, aws, survey(stack, aws))

    def up(self, *resources: Resource) -> Outcome:
        """Makes it so; fails the test with the first error if it can't be done."""
        outcome = self.try_up(*resources)
        for change in outcome.changes:
            if change.error is not None:
                raise change.error
        return outcome

    def try_up(self, *resources: Resource) -> Outcome:
        """Makes it so as far as possible."""
        return self._run(*resources).up(self.plan(*resources))

    def down(self, *resources: Resource, keep_data: bool = False) -> Outcome:
        """Removes it, and sweeps."""
        aws = self.aws.fresh()
        return self._run(*resources).down(survey(Stack(resources), aws), keep_data=keep_data)

    def remove(self, resource: Resource) -> None:
        """Removes this one alone, as a replacement does; its fields must name no other resource but by `Ref`."""
        functions = reconciler(resource)
        found = functions.find(self.aws.fresh(), resource)
        assert found is not None
        functions.remove(self.aws.fresh(), found)

    def calls(self, work: Callable[[], object]) -> int:
        """How many calls to AWS `work` makes."""
        before = self.meter.read + self.meter.write
        work()
        return self.meter.read + self.meter.write - before

    def differences(self, *resources: Resource) -> dict[str, set[str]]:
        """The fields that a plan would change, by key; keys without a difference are left out."""
        changes = self.plan(*resources).changes
        return {change.key: {entry.field for entry in change.changes} for change in changes if change.changes}

    def assert_repairs(self, resources: Sequence[Resource], key: str, field: str, perturb: Perturb) -> None:
        """A change of this field from outside is shown as drift of just this field, and `up` repairs it."""
        self.up(*resources)
        perturb(self.aws, self.plan(*resources).survey.found[key])
        assert self.differences(*resources) == {key: {field}}
        self.up(*resources)
        assert self.plan(*resources).empty

    def _run(self, *resources: Resource) -> Run:
        return Run(stack=Stack(resources), aws=self.aws.fresh(), ledger=self.ledger, clock=RealClock(), stop=Event())

"""What the ledger holds spares listings; what it holds wrongly misleads nobody."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from converge_engine import Engine

from aistratus.cloud import Access, Clients, Cloud
from aistratus.core.graph import Stack
from aistratus.core.plan import plan, survey
from aistratus.core.resource import Ref, Resource
from aistratus.resources.cognito import UserPool, UserPoolClient, UserPoolGroup
from aistratus.resources.sqs import Queue
from aistratus.trace import Meter

Records = Mapping[str, Mapping[str, str]]


class Listener(Meter):
    """Notes which operations are called."""

    def __init__(self, called: set[str]) -> None:
        super().__init__()
        self._called = called

    def attach(self, events: Any) -> None:
        super().attach(events)
        events.register("provide-client-params.*.*", lambda model, **_: self._called.add(model.name))


def stack() -> list[Resource]:
    pool = UserPool(key="user_pool", deletion_protection=False)
    client = UserPoolClient(key="user_client", pool=Ref(pool))
    group = UserPoolGroup(key="operators", pool=Ref(pool), name="operators")
    return [pool, client, group, Queue(key="jobs_queue", name="jobs")]


def looked_up(endpoint: str, aws: Cloud, records: Records) -> tuple[dict[str, str], dict[str, str], set[str]]:
    """Actions and ids by key, and the operations called, for somebody whose ledger holds these records."""
    called: set[str] = set()
    access = Access(aws.region, endpoint=endpoint, access_key="testing", secret_key="testing")
    theirs = Cloud(
        env=aws.env,
        identity=aws.identity,
        clients=Clients(access, Listener(called)),
        clock=aws.clock,
        recorded=lambda: records,
    )
    described = Stack(stack())
    found = survey(described, theirs)
    actions: dict[str, str] = {change.key: change.action for change in plan(described, theirs, found).changes}
    return actions, {key: one.ids["id"] for key, one in found.found.items()}, called


def test_a_right_ledger_spares_three_listings(endpoint: str, aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    right = engine.ledger.read(resource.key for resource in stack())
    told, untold = looked_up(endpoint, aws, right), looked_up(endpoint, aws, {})
    assert told[:2] == untold[:2]
    assert set(told[0].values()) == {"unchanged"}
    assert untold[2] - told[2] == {"ListQueues", "ListUserPoolClients", "ListUserPools"}


WRONG: dict[str, dict[str, Any]] = {
    "gone": {
        "user_pool": {"id": "eu-central-1_0000000000"},
        "user_client": {"id": "0000000000"},
        "jobs_queue": {"url": "http://127.0.0.1:1/123456789012/tinyllama-other-jobs.fifo"},
    },
    "nonsense": {
        "user_pool": {"id": "../pool"},
        "user_client": {"id": "no client; {}"},
        "jobs_queue": {"url": "nowhere"},
    },
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_ledger_changes_nothing_of_what_is_found(endpoint: str, aws: Cloud, engine: Engine, wrong: str) -> None:
    engine.up(*stack())
    assert looked_up(endpoint, aws, WRONG[wrong])[:2] == looked_up(endpoint, aws, {})[:2]


def test_a_ledger_that_names_a_strangers_pool_makes_nobody_touch_it(endpoint: str, aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    stranger = aws.cognito_idp.create_user_pool(PoolName="theirs")["UserPool"]["Id"]
    actions, ids, _ = looked_up(endpoint, aws, {"user_pool": {"id": stranger}})
    assert set(actions.values()) == {"unchanged"}
    assert ids["user_pool"] != stranger


def test_a_recorded_queue_that_was_deleted_is_made_again(endpoint: str, aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    right = engine.ledger.read(resource.key for resource in stack())
    aws.sqs.delete_queue(QueueUrl=right["jobs_queue"]["url"])
    assert looked_up(endpoint, aws, right)[0]["jobs_queue"] == "create"


def test_a_look_with_an_empty_memory_asks_the_ledger_only_once(endpoint: str, aws: Cloud) -> None:
    asked = []

    def recorded() -> Records:
        asked.append(1)
        return {}

    access = Access(aws.region, endpoint=endpoint, access_key="testing", secret_key="testing")
    theirs = Cloud(
        env=aws.env, identity=aws.identity, clients=Clients(access, Meter()), clock=aws.clock, recorded=recorded
    )
    theirs.recorded("vpc")
    theirs.fresh().fresh().recorded("vpc")
    assert asked == [1]

"""Delivery as the stack declares it: nothing of it by default, all of it with a repository, none again without."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from account_listing import Account
from whole_stack import Env

from aistratus.core.graph import Stack
from aistratus.package import Package, functions_zip, router_zip, worker_zip
from aistratus.resources.iam import Role

ON: dict[str, Any] = {"delivery": {"repository": "owner/name"}}
OWN = "arn:aws:codeconnections:eu-central-1:123456789012:connection/00000000-1111-2222-3333-444444444444"
LARGEST = 10_240
"""Characters of all inline policies of a role."""


@pytest.fixture(scope="module")
def packages() -> tuple[Package, Package, Package]:
    return router_zip(), functions_zip(), worker_zip()


@pytest.fixture
def env(endpoint: str, packages: tuple[Package, Package, Package], tmp_path: Path) -> Env:
    return Env(f"s{secrets.token_hex(3)}", endpoint=endpoint, packages=packages, home=tmp_path)


def delivery_of(stack: Stack) -> Stack:
    """What is declared for delivery, wanted or not, and nothing else: it stands on nothing else."""
    return stack.only(key for key, group in stack.group_of.items() if group == "delivery")


def test_nothing_of_it_is_wanted_until_a_repository_is_named(env: Env) -> None:
    off, on = env.declared({}), env.declared(ON)
    assert delivery_of(off).resources == ()
    assert {entry.key for entry in delivery_of(on).resources} == {entry.key for entry in delivery_of(off).unwanted}
    assert delivery_of(on).unwanted == ()


def test_switching_it_off_takes_all_of_it_away(env: Env, endpoint: str) -> None:
    account = Account(endpoint)
    before = account.identities()
    env.stack = delivery_of(env.declared(ON))
    env.up()
    assert env.plan().empty
    env.stack = delivery_of(env.declared({}))
    assert {change.action for change in env.plan().changes} == {"delete"}
    env.up()
    assert env.plan().empty
    assert account.identities() == before


def test_a_connection_of_ones_own_takes_the_place_of_ours(env: Env, endpoint: str) -> None:
    env.stack = delivery_of(env.declared(ON))
    env.up()
    own = {"delivery": {**ON["delivery"], "connection_arn": OWN}}
    env.stack = delivery_of(env.declared(own))
    planned = env.plan()
    changed = {change.key: change.action for change in planned.changes if change.action != "unchanged"}
    assert changed["github_connection"] == "delete"
    assert changed["deploy_role"] == "update"
    env.down()
    assert [thing for thing in Account(endpoint).of_env(env.name) if thing.kind != "parameter"] == []


def test_a_workflow_may_read_just_what_it_exports(env: Env) -> None:
    stack = env.declared(ON)
    role = stack.by_key["github_role"]
    assert isinstance(role, Role)
    readable = role.inline["github"]["Statement"][0]["Resource"]
    names = {arn.rpartition("/")[2] for arn in readable}
    assert names == {*stack.whole.by_key, "model", "alerts_operator"}, "also what only another machine declares"
    assert {"node", "alarm_heartbeat", "dashboard"} < names
    assert {arn.rpartition("parameter/")[2] for arn in readable} == {f"tinyllama/{env.name}/{key}" for key in names}
    assert "operator_password" not in names


def test_the_policies_of_each_role_fit_whatever_the_envs_name(
    endpoint: str, packages: tuple[Package, Package, Package], tmp_path: Path
) -> None:

    env = Env("abcdefghijklmnop", endpoint=endpoint, packages=packages, home=tmp_path, settings=ON)
    for role in (entry for entry in env.stack.resources if isinstance(entry, Role)):
        size = sum(len(json.dumps(policy, separators=(",", ":"), default=str)) for policy in role.inline.values())
        assert size < LARGEST * 0.9, role.key

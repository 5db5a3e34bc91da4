"""The whole declared stack on a strict cloud: built once, changed from outside in every field, and taken away.

What is there is judged by `account_listing.py`, which reads the account with plain boto3 calls.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import json
import pkgutil
import secrets
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from account_listing import Account, Thing, difference, missing_ids, shape
from whole_stack import ALL_ON, DEMO_MODEL, Env

import aistratus.resources
from aistratus.core.errors import Stranger
from aistratus.core.graph import Stack
from aistratus.core.resource import Found, Resource, kinds, reconciler
from aistratus.local import process
from aistratus.package import Package, functions_zip, router_zip, worker_zip
from aistratus.resources.functions import Alias
from aistratus.resources.leftovers import NetworkInterface, Volume

CALLS_PER_RESOURCE = 1.5

Perturbation = Callable[[Any, Found], None]


def _tables(name: str) -> dict[tuple[type, str], Any]:
    """The tables of this name in all `perturb_*.py`."""
    modules = [importlib.import_module(file.stem) for file in sorted(Path(__file__).parent.glob("perturb_*.py"))]
    return {entry: value for module in modules for entry, value in getattr(module, name, {}).items()}


PERTURB: Mapping[tuple[type, str], Perturbation] = _tables("PERTURB")
NOT_FROM_OUTSIDE: Mapping[tuple[type, str], str] = _tables("NOT_FROM_OUTSIDE")

ONLY_SWEPT = frozenset({Volume, NetworkInterface})
"""Kinds that no stack declares: they have no fields to differ in."""

ALSO: Mapping[tuple[type, str], Mapping[str, set[str]]] = {
    (Alias, "code_sha256"): {"router": {"code_sha256"}},
    (Alias, "architecture"): {"router": {"code_sha256", "architecture"}, "router_live": {"code_sha256"}},
}
"""Changes that can't be made from outside without another one: a version's code comes from the function's."""

MakeEnv = Callable[..., Env]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A strict cloud for this module."""
    state_dir = tmp_path_factory.mktemp("strict")
    yield process.ensure(state_dir=state_dir, strict=True).endpoint
    process.stop(state_dir)


@pytest.fixture(scope="module")
def packages() -> tuple[Package, Package, Package]:
    return router_zip(), functions_zip(), worker_zip()


@pytest.fixture(scope="module")
def make_env(
    endpoint: str, packages: tuple[Package, Package, Package], tmp_path_factory: pytest.TempPathFactory
) -> MakeEnv:
    home = tmp_path_factory.mktemp("operator")
    return lambda name, **options: Env(name, endpoint=endpoint, packages=packages, home=home, **options)


@pytest.fixture(scope="module")
def account(endpoint: str) -> Account:
    return Account(endpoint)


def env_name() -> str:
    return f"w{secrets.token_hex(3)}"


@pytest.fixture(scope="module")
def built(make_env: MakeEnv) -> Env:
    """The whole stack, up."""
    env = make_env(env_name(), model=DEMO_MODEL)
    env.up()
    return env


@pytest.fixture(scope="module")
def extras(make_env: MakeEnv, built: Env) -> Env:
    """What isn't there by default, with all that it stands on, up."""
    env = make_env(env_name(), settings=ALL_ON)
    env.stack = env.stack.only(env.stack.by_key.keys() - built.stack.by_key.keys())
    env.up()
    return env


# --- up ---------------------------------------------------------------------------------------------------------------


def test_up_twice_changes_nothing_and_asks_little(built: Env) -> None:
    before = built.calls()
    planned = built.plan()
    outcome = built.up(planned)
    read, write = (after - now for after, now in zip(built.calls(), before, strict=True))
    assert planned.empty
    assert {change.action for change in outcome.changes} == {"unchanged"}
    assert write == 0
    # What is switched off is looked for, too.
    assert read <= CALLS_PER_RESOURCE * len(built.stack.whole.resources)


def test_the_ledger_names_what_is_there_and_nothing_is_there_twice(built: Env, account: Account) -> None:
    things = account.of_env(built.name)
    assert not missing_ids(things, built.name)
    recorded = {thing.name.rpartition("/")[2] for thing in things if thing.kind == "parameter"}
    assert recorded == set(built.stack.by_key)
    named = Counter((thing.kind, thing.name) for thing in things if thing.name)
    assert [name for name, count in named.items() if count > 1] == []


# --- a part of it -----------------------------------------------------------------------------------------------------


def test_limits_are_brought_back_alone_and_what_they_stand_on_is_left_as_it_is(built: Env) -> None:
    """As after a bad import: nothing of this machine's router shall go along with the limits."""
    drifted = {"router": "code_sha256", "route_infer": "authorizer", "api": "cors", "api_throttle": "default_rate"}
    there = built.survey().found
    for key, field in drifted.items():
        PERTURB[type(built.stack.by_key[key]), field](built.cloud, there[key])
    whole = built.stack
    try:
        before = built.differences(built.plan())
        assert before.keys() >= drifted.keys()
        built.stack = whole.only(["api_throttle"])
        assert built.differences(built.plan()) == {"api_throttle": {"default_rate"}}
        outcome = built.up()
        assert [change.key for change in outcome.changes if change.action != "unchanged"] == ["api_throttle"]
        left = {change.key for change in outcome.changes if change.changes and change.action == "unchanged"}
        assert left == before.keys() - {"api_throttle"}
    finally:
        built.stack = whole
    assert built.differences(built.plan()) == {key: fields for key, fields in before.items() if key != "api_throttle"}
    built.up()
    assert built.plan().empty


def test_without_the_node_a_built_env_has_nothing_to_do(built: Env) -> None:
    whole = built.stack
    built.stack = whole.without(["node"])
    try:
        assert whole.by_key.keys() - built.stack.by_key.keys() == {"node", "alarm_heartbeat", "dashboard"}
        assert built.plan().empty
    finally:
        built.stack = whole


# --- changes from outside ---------------------------------------------------------------------------------------------


def mutable_fields(kind: type[Resource]) -> set[str]:
    """The fields that `up` repairs in place."""
    fields = {entry.name for entry in dataclasses.fields(kind) if entry.metadata.get("compare") != "at-create"}
    return fields - {"key"} - kind.replace_on


def all_kinds() -> set[type[Resource]]:
    """Every kind that the package declares."""
    for module in pkgutil.iter_modules(aistratus.resources.__path__):
        importlib.import_module(f"aistratus.resources.{module.name}")
    return {kind for kind in kinds() if kind.__module__.startswith("aistratus.")}


def test_every_mutable_field_of_every_kind_has_a_change_from_outside() -> None:
    wanted = {(kind, field) for kind in all_kinds() - ONLY_SWEPT for field in mutable_fields(kind)}
    missing = wanted - PERTURB.keys() - NOT_FROM_OUTSIDE.keys()
    assert sorted(f"{kind.__name__}.{field}" for kind, field in missing) == []


def test_every_kind_that_carries_tags_has_a_change_of_them_from_outside(built: Env, extras: Env) -> None:
    found = [*built.survey().found.values(), *extras.survey().found.values()]
    tagged = {type(there.state) for there in found if there.tags is not None}
    assert sorted(kind.__name__ for kind in tagged if (kind, "tags") not in PERTURB) == []


def perturbed(stack: Stack, kind: type, field: str) -> Resource | None:
    """A declared resource of this kind that says something about this field: the one that says most."""
    of_kind = [
        r for r in stack.resources if type(r) is kind and (field == "tags" or getattr(r, field, None) is not None)
    ]
    return max(of_kind, key=lambda resource: len(list(resource.wanted())), default=None)


def _named(value: object) -> str:
    return getattr(value, "__name__", str(value))


def rounds() -> list[list[tuple[type, str]]]:
    """All changes; those of a round are of different kinds. An alias may show what a function is: each alone."""
    of_kind: dict[type, list[tuple[type, str]]] = {}
    for kind, field in sorted(PERTURB, key=lambda entry: (_named(entry[0]), entry[1])):
        of_kind.setdefault(kind, []).append((kind, field))
    alone = [[entry] for entry in of_kind.pop(Alias)]
    return [[entry for entry in several if entry] for several in zip_longest(*of_kind.values())] + alone


@pytest.mark.parametrize(
    "changed", rounds(), ids=lambda entries: f"{len(entries)} of {_named(entries[0][0])}.{entries[0][1]}"
)
def test_changes_from_outside_are_shown_repaired_and_gone(
    built: Env, extras: Env, changed: list[tuple[type, str]]
) -> None:
    """One of each kind at once; each alone is tried in the files of the kinds, on small stacks."""
    for env in (built, extras):
        expected: dict[str, set[str]] = {}
        there = env.survey().found
        for kind, field in changed:
            if any(type(resource) is kind for resource in built.stack.resources) != (env is built):
                continue
            resource = perturbed(env.stack, kind, field)
            if resource is None:
                continue  # the stack declares none of this kind that says anything about this field
            PERTURB[kind, field](env.cloud, there[resource.key])
            expected.setdefault(resource.key, set()).add(field)
            for key, fields in ALSO.get((kind, field), {}).items():
                expected[key] = expected.get(key, set()) | fields
        if not expected:
            continue
        planned = env.plan()
        assert env.differences(planned) == expected
        env.up(planned)
        whole = env.stack
        try:  # a look at these alone; that nothing else is left is seen at the end
            env.stack = whole.only(expected)
            assert env.differences(env.plan()) == {}
        finally:
            env.stack = whole


def test_after_all_these_changes_nothing_is_left_to_do(built: Env, extras: Env) -> None:
    for env in (built, extras):
        assert env.differences(env.plan()) == {}


# --- down -------------------------------------------------------------------------------------------------------------

TRUST = json.dumps({
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "lambda.amazonaws.com"}}],
})  # fmt: skip


def _zip() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("app.py", "def handle(event, context): return 1\n")
    return held.getvalue()


def _list(tags: Mapping[str, str], key: str = "Key", value: str = "Value") -> list[dict[str, str]]:
    return [{key: name, value: text} for name, text in tags.items()]


@dataclasses.dataclass(frozen=True)
class Names:
    """Names of one set of a stranger's things, and the tags that they carry."""

    bucket: str
    table: str
    queue: str
    role: str
    function: str
    api: str
    log_group: str
    pool: str
    key_pair: str
    profile: str
    tags: Mapping[str, str]

    @classmethod
    def like(cls, prefix: str, tags: Mapping[str, str]) -> Names:
        """Similar names: our prefix, something else behind it."""
        return cls(f"{prefix}x-data", f"{prefix}x", f"{prefix}x", f"{prefix}x", f"{prefix}x", f"{prefix}x",
                   f"/aws/vendedlogs/{prefix}x", f"{prefix}x", f"{prefix}x", f"{prefix}x", tags)  # fmt: skip


def make_strangers(account: Account, names: Names) -> None:
    """Makes somebody else's things."""
    clients, tags = account.clients, names.tags
    vpc = {"ResourceType": "vpc", "Tags": _list({"Name": names.api, **tags})}
    clients["ec2"].create_vpc(CidrBlock="10.20.0.0/22", TagSpecifications=[vpc])
    clients["ec2"].create_key_pair(KeyName=names.key_pair)
    clients["s3"].create_bucket(
        Bucket=names.bucket, CreateBucketConfiguration={"LocationConstraint": clients["s3"].meta.region_name}
    )
    if tags:
        clients["s3"].put_bucket_tagging(Bucket=names.bucket, Tagging={"TagSet": _list(tags)})
    clients["s3"].put_object(Bucket=names.bucket, Key="theirs", Body=b"theirs")
    clients["dynamodb"].create_table(
        TableName=names.table,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        Tags=_list(tags),
    )
    fifo = {"FifoQueue": "true"} if names.queue.endswith(".fifo") else {}
    clients["sqs"].create_queue(QueueName=names.queue, Attributes=fifo, tags=dict(tags))
    role = clients["iam"].create_role(RoleName=names.role, AssumeRolePolicyDocument=TRUST, Tags=_list(tags))["Role"]
    clients["iam"].create_instance_profile(InstanceProfileName=names.profile, Tags=_list(tags))
    clients["lambda"].create_function(
        FunctionName=names.function, Runtime="python3.13", Handler="app.handle", Role=role["Arn"],
        Code={"ZipFile": _zip()}, Tags=dict(tags),
    )  # fmt: skip
    clients["apigatewayv2"].create_api(Name=names.api, ProtocolType="HTTP", Tags=dict(tags))
    clients["logs"].create_log_group(logGroupName=names.log_group, **({"tags": dict(tags)} if tags else {}))
    clients["cognito-idp"].create_user_pool(PoolName=names.pool, UserPoolTags=dict(tags))


def theirs(account: Account, before: set[tuple[str, str]]) -> dict[tuple[str, str], Thing]:
    """What has come into the account since then."""
    return {thing.identity: thing for thing in account.things() if thing.identity not in before}


def test_down_takes_all_of_ours_and_nothing_of_a_neighbour_with_similar_names(
    make_env: MakeEnv, account: Account
) -> None:
    """Neighbours: two more envs whose names begin like ours, and strangers with and without tags."""
    before = account.identities()
    name = env_name()
    make_strangers(account, Names.like(f"tinyllama-{name}-", {}))
    make_strangers(account, Names.like(f"tinyllama-{name}2-", {"Project": "tinyllama", "Env": f"{name}2"}))
    make_strangers(account, Names.like(f"tinyllama-{name}-2-", {"Project": "other", "Env": name}))
    strangers = theirs(account, before)
    beside = make_env(f"{name}-2")
    beside.up()
    neighbours = theirs(account, before)

    env = make_env(name)
    env.up()
    assert beside.plan().empty
    assert env.down().ok
    assert theirs(account, before) == neighbours
    assert beside.plan().empty

    assert beside.down().ok
    assert theirs(account, before) == strangers


def test_down_finds_everything_without_its_ledger(make_env: MakeEnv, account: Account) -> None:
    before = account.identities()
    env = make_env(env_name())
    env.up()
    names = env.ledger.everything()
    for start in range(0, len(names), 10):
        account.clients["ssm"].delete_parameters(Names=names[start : start + 10])
    assert env.down().ok
    assert theirs(account, before) == {}


def test_a_lost_ledger_is_written_anew_and_nothing_is_made_twice(built: Env, account: Account) -> None:
    whole = shape(account.of_env(built.name), built.name)
    names = built.ledger.everything()
    for start in range(0, len(names), 10):
        account.clients["ssm"].delete_parameters(Names=names[start : start + 10])
    built.up()
    found = shape(account.of_env(built.name), built.name)
    assert found == whole, difference(found, whole)


def test_down_copes_with_what_somebody_removes_before_and_while_it_runs(make_env: MakeEnv, account: Account) -> None:
    """Half of the stack goes between the look and the removal, then all of it: gone is fine, for every kind."""
    before = account.identities()
    env = make_env(env_name(), settings=ALL_ON)
    env.up()
    seen = env.survey()
    gone_first = list(reversed(env.stack.order))[: len(env.stack.order) // 2]
    for key in gone_first:
        resource = env.stack.by_key[key]
        reconciler(resource).remove(env.cloud.fresh(), seen.found[key])
    assert env.down(seen).ok
    assert theirs(account, before) == {}
    assert {type(resource) for resource in env.stack.resources} == all_kinds() - ONLY_SWEPT
    assert env.down(seen).ok
    assert theirs(account, before) == {}


def test_a_stranger_with_exactly_our_name_is_refused_in_a_sentence_and_left_alone(
    make_env: MakeEnv, account: Account
) -> None:
    before = account.identities()
    name = env_name()
    prefix = f"tinyllama-{name}-"
    names = Names(f"{prefix}data-123456789012-eu-central-1", f"{prefix}jobs", f"{prefix}jobs.fifo",
                  f"{prefix}router_role", f"{prefix}router", f"{prefix}api", f"/aws/vendedlogs/{prefix}api",
                  f"{prefix}user-pool", f"{prefix}node_key", f"{prefix}node_profile",
                  {"Project": "tinyllama", "Env": "another"})  # fmt: skip
    make_strangers(account, names)
    strangers = theirs(account, before)
    env = make_env(name)

    planned = env.plan()
    refused = planned.survey.failed
    assert set(refused) == {"data", "jobs_table", "jobs_queue", "router_role", "router", "api", "api_log", "user_pool",
                            "node_key", "node_profile"}  # fmt: skip
    for key, error in refused.items():
        assert isinstance(error, Stranger), key
        assert "exists but isn't ours" in str(error), key
    outcome = env.try_up(planned)
    assert not outcome.ok
    assert {change.key for change in outcome.failures} <= set(refused)
    assert {change.action for change in outcome.changes if change.key in refused} <= {"failed", "blocked"}

    removed = env.down()
    assert not removed.ok
    assert {change.key for change in removed.changes if change.action in ("failed", "blocked")} == set(refused)
    assert theirs(account, before) == strangers

"""Money, as it is declared and deployed: a budget that is exceeded stops machines, and a morning brings a summary."""

from __future__ import annotations

import json
import secrets
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from whole_stack import Env

from aistratus import wire
from aistratus.local import process
from aistratus.local.process import Running
from aistratus.package import Package, functions_zip, router_zip, worker_zip

IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
WITHIN_S = 60.0
"""Cap for what takes a second on an idle machine."""
LOOK_EVERY_S = 0.1
A_DAY_S = 25 * 3_600
KILLER = ("kill_budget", "killer_function", "killer_permission")


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A strict cloud for this module, whose clock it may move."""
    state_dir = tmp_path_factory.mktemp("strict")
    yield process.ensure(state_dir=state_dir, strict=True)
    process.stop(state_dir)


@pytest.fixture(scope="module")
def packages() -> tuple[Package, Package, Package]:
    return router_zip(), functions_zip(), worker_zip()


@pytest.fixture
def part(cloud: Running, packages: tuple[Package, Package, Package], tmp_path: Path) -> Callable[..., Env]:
    """Makes a part of the declared stack, in an env of its own."""

    def make(*keys: str) -> Env:
        env = Env(f"m{secrets.token_hex(3)}", endpoint=cloud.endpoint, packages=packages, home=tmp_path)
        env.stack = env.stack.only(keys)
        env.up()
        return env

    return make


def order(cloud: Running, **order: Any) -> dict[str, Any]:
    request = urllib.request.Request(f"{cloud.endpoint}/_aistratus/strict", json.dumps(order).encode(), method="POST")
    with urllib.request.urlopen(request, timeout=20) as answer:
        told: dict[str, Any] = json.load(answer)
    return told


def until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not look():
        assert time.monotonic() < deadline
        time.sleep(LOOK_EVERY_S)


def machine(env: Env) -> str:
    """Id of a running instance that carries these tags."""
    aws = env.cloud
    tags = [{"Key": key, "Value": value} for key, value in aws.tags("node").items()]
    (instance,) = aws.ec2.run_instances(
        ImageId=aws.ssm.get_parameter(Name=IMAGE)["Parameter"]["Value"],
        InstanceType="t3.micro",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )["Instances"]
    until(lambda: state(env, instance["InstanceId"]) == "running")
    identifier: str = instance["InstanceId"]
    return identifier


def state(env: Env, instance: str) -> str:
    answer = env.cloud.ec2.describe_instances(InstanceIds=[instance])
    name: str = answer["Reservations"][0]["Instances"][0]["State"]["Name"]
    return name


def test_above_the_limit_aws_budgets_has_our_machines_stopped_and_no_neighbours(
    cloud: Running, part: Callable[..., Env]
) -> None:
    env, neighbour = part(*KILLER), part("jobs_table")
    ours, theirs = machine(env), machine(neighbour)
    budget, topic = env.cloud.name("killer"), env.cloud.arn("sns", env.cloud.name("killer"))
    # 21 EUR are about 24.68 USD by the rate in the settings.
    assert order(cloud, budget=budget, actual_usd=24.6, forecast_usd=90)["told"] == []
    assert order(cloud, budget=budget, actual_usd=24.7, forecast_usd=90)["told"] == [topic]
    until(lambda: state(env, ours) == "stopped")
    assert state(neighbour, theirs) == "running"
    assert env.plan().empty


def test_every_morning_the_schedule_has_the_summary_written(cloud: Running, part: Callable[..., Env]) -> None:
    env = part("daily_summary_schedule")
    order(cloud, budget=env.cloud.name("monthly"), actual_usd=2.35, forecast_usd=4.7)
    order(cloud, advance_s=A_DAY_S)
    which = {"TableName": env.cloud.name("jobs"), "Key": wire.pack({"pk": wire.SUMMARY_PK})}
    until(lambda: "Item" in env.cloud.dynamodb.get_item(**which))
    assert wire.unpack(env.cloud.dynamodb.get_item(**which)["Item"])["usd"] == "2.3500"
    assert env.plan().empty

"""A router that is kept warm: environments that Lambda keeps ready, and a rule that calls it now and then."""

from __future__ import annotations

import json
import secrets
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from whole_stack import Env

from aistratus.local import process
from aistratus.package import functions_zip, router_zip, worker_zip

WITHIN_S = 60.0
"""Cap for what takes a second on an idle machine."""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A strict cloud for this module, whose clock it may move."""
    state_dir = tmp_path_factory.mktemp("strict")
    yield process.ensure(state_dir=state_dir, strict=True).endpoint
    process.stop(state_dir)


def test_the_settings_keep_the_router_warm_and_taking_them_back_ends_it(
    endpoint: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    packages, name = (router_zip(), functions_zip(), worker_zip()), f"h{secrets.token_hex(3)}"
    warm, cold = tmp_path_factory.mktemp("warm"), tmp_path_factory.mktemp("cold")
    (warm / "aistratus.toml").write_text("[router]\nprovisioned_concurrency = 2\nwarm_minutes = 5\n")

    def env(home: Path) -> Env:
        made = Env(name, endpoint=endpoint, packages=packages, home=home)
        made.stack = made.stack.only(["router_live", "warmer", "warmer_permission"])
        return made

    kept = env(warm)
    kept.up()
    aws, function = kept.cloud, kept.cloud.name("router")
    config = aws.lambda_.get_provisioned_concurrency_config(FunctionName=function, Qualifier="live")
    assert config["RequestedProvisionedConcurrentExecutions"] == 2
    assert kept.plan().empty
    body = json.dumps({"advance_s": 301}).encode()
    urllib.request.urlopen(f"{endpoint}/_aistratus/strict", body, timeout=20).close()
    version = aws.lambda_.get_alias(FunctionName=function, Name="live")["FunctionVersion"]
    end = time.monotonic() + WITHIN_S
    while not (lines := log_of(kept, f"/aws/lambda/{function}")):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert any(line.endswith(f"Version: {version}") for line in lines)
    assert not [line for line in lines if "error" in line.lower()]

    cooled = env(cold)
    assert cooled.differences(cooled.plan()) == {"router_live": {"provisioned"}, "warmer": {"enabled", "schedule"}}
    cooled.up()
    assert (
        aws.lambda_.list_provisioned_concurrency_configs(FunctionName=function)["ProvisionedConcurrencyConfigs"] == []
    )
    assert aws.events.describe_rule(Name=aws.name("warmer"))["State"] == "DISABLED"
    assert cooled.plan().empty


def log_of(env: Env, group: str) -> list[str]:
    """What the function wrote so far, once a run of it has ended."""
    logs = env.cloud.logs
    lines = [
        event["message"]
        for stream in logs.describe_log_streams(logGroupName=group)["logStreams"]
        for event in logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])["events"]
    ]
    return lines if any(line.startswith("REPORT ") for line in lines) else []

"""The guard and the budget's killer, as the deployed function, with nobody's, one and 120 machines, and strangers'."""

from __future__ import annotations

import json
import secrets
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError
from converge_engine import ACCOUNT, REGION
from whole_stack import Env

from aistratus import wire
from aistratus.cloud import Cloud
from aistratus.functions import guard_events, stop_build_box
from aistratus.functions.stop_build_box import Environment
from aistratus.local import process
from aistratus.package import functions_zip, router_zip, worker_zip

IMAGE = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
WITHIN_S = 60.0
"""Cap for what takes a second on an idle machine."""
MINUTE = 60


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A strict cloud for this module, whose clock it may move."""
    state_dir = tmp_path_factory.mktemp("strict")
    yield process.ensure(state_dir=state_dir, strict=True).endpoint
    process.stop(state_dir)


@pytest.fixture(scope="module")
def make_env(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Site]:
    packages, home = (router_zip(), functions_zip(), worker_zip()), tmp_path_factory.mktemp("operator")

    def make(*keys: str) -> Site:
        env = Env(f"g{secrets.token_hex(3)}", endpoint=endpoint, packages=packages, home=home)
        env.stack = env.stack.only(keys or ["force_stop_permission", "killer_permission", "killer_function"])
        env.up()
        return Site(env.cloud, endpoint)

    return make


@pytest.fixture
def site(make_env: Callable[[], Site]) -> Site:
    """The guard's and the killer's part of the stack, in an env of its own."""
    return make_env()


class Site:
    """What the function does in one env, seen from outside."""

    def __init__(self, aws: Cloud, endpoint: str) -> None:
        self.aws = aws
        self.endpoint = endpoint
        self.function = aws.name("stop-build-box")
        self.topic = aws.arn("sns", aws.name("killer"))

    def run(self, count: int = 1, tags: Mapping[str, str] | None = None, **wanted: Any) -> list[str]:
        """Ids of new instances; ours unless told otherwise."""
        ours = {"Project": "tinyllama", "Env": self.aws.env}
        listed = [{"Key": name, "Value": value} for name, value in (ours if tags is None else tags).items()]
        marked = {"TagSpecifications": [{"ResourceType": "instance", "Tags": listed}]} if listed else {}
        answer = self.aws.ec2.run_instances(
            ImageId=self.aws.ssm.get_parameter(Name=IMAGE)["Parameter"]["Value"],
            InstanceType="t3.micro",
            MinCount=count,
            MaxCount=count,
            **marked,
            **wanted,
        )
        ids = [instance["InstanceId"] for instance in answer["Instances"]]
        self.until(lambda: self.states(ids) == {"running"})
        return ids

    def states(self, ids: list[str]) -> set[str]:
        pages = self.aws.ec2.get_paginator("describe_instances").paginate(InstanceIds=ids)
        reservations = [reservation for page in pages for reservation in page["Reservations"]]
        return {instance["State"]["Name"] for entry in reservations for instance in entry["Instances"]}

    def kill(self, message: str = "") -> list[dict[str, Any]]:
        """What the function logged after this was published to the budget's topic; by default what a budget says."""
        before = len(self.runs())
        self.aws.sns.publish(TopicArn=self.topic, Message=message or f"Budget Name: {self.aws.name('killer')}\n")
        return self.next_run(before)

    def next_run(self, before: int) -> list[dict[str, Any]]:
        self.until(lambda: len(self.runs()) > before)
        return self.runs()[before]

    def runs(self) -> list[list[dict[str, Any]]]:
        """The JSON lines of each run that has ended."""
        group, runs, lines = f"/aws/lambda/{self.function}", [], []
        for stream in self.aws.logs.describe_log_streams(logGroupName=group)["logStreams"]:
            events = self.aws.logs.get_log_events(
                logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
            )["events"]
            for text in (event["message"] for event in events):
                if text.startswith("{"):
                    lines.append(json.loads(text))
                elif text.startswith("END "):
                    runs.append(lines)
                    lines = []
        return runs

    def ask(self, event: Any) -> Any:
        """The answer to a direct call."""
        answer = self.aws.lambda_.invoke(FunctionName=self.function, Payload=json.dumps(event))
        return json.loads(answer["Payload"].read())

    def mark(self) -> dict[str, Any]:
        key = wire.pack({"pk": wire.BUDGET_PK})
        return wire.unpack(self.aws.dynamodb.get_item(TableName=self.aws.name("jobs"), Key=key).get("Item", {}))

    def beat(self, instance: str, ahead_s: float) -> None:
        """A heartbeat of a worker on this instance, in the future of a clock that will be moved."""
        item = {"pk": wire.HEARTBEAT_PK, "instance_id": instance, "at_ms": int((time.time() + ahead_s) * 1000)}
        self.aws.dynamodb.put_item(TableName=self.aws.name("jobs"), Item=wire.pack(item))

    def advance(self, seconds: float) -> list[dict[str, Any]]:
        """Moves the cloud's clock to the guard's next look; gives back what that logged."""
        before = len(self.runs())
        body = json.dumps({"advance_s": seconds}).encode()
        urllib.request.urlopen(f"{self.endpoint}/_aistratus/strict", body, timeout=20).close()
        return self.next_run(before)

    def until(self, look: Callable[[], bool]) -> None:
        end = time.monotonic() + WITHIN_S
        while not look():
            assert time.monotonic() < end
            time.sleep(0.05)


def stopped(lines: list[dict[str, Any]]) -> set[str]:
    return {line["instance"] for line in lines if line["event"] == "stopped"}


# --- the budget's killer --------------------------------------------------------------------------------------------


def test_the_killer_with_nothing_to_stop_is_no_error_and_leaves_its_mark(site: Site) -> None:
    drill = f"drill: {site.aws.name('killer')}"
    lines = site.kill(drill)
    assert [line["event"] for line in lines] == ["budget", "done"]
    assert (lines[0]["notice"], lines[1]["stopped"], lines[1]["failed"]) == (drill, 0, 0)
    # 21 EUR by the rate in the settings.
    assert site.mark()["limit_usd"] == 24.68
    ends = datetime.fromtimestamp(site.mark()["expires_at"], UTC)
    assert (ends.day, ends.hour, ends.minute, ends.second) == (1, 0, 0, 0)
    assert 0 < (ends - datetime.now(UTC)).days + 1 <= 31


def test_the_killer_stops_the_one_machine_and_says_why(site: Site) -> None:
    (mine,) = site.run()
    lines = site.kill()
    assert stopped(lines) == {mine}
    assert [line["why"] for line in lines if line["event"] == "stopped"] == ["the budget's limit is reached"]
    site.until(lambda: site.states([mine]) == {"stopped"})


def test_the_killer_stops_all_of_120_but_what_cannot_be_and_nothing_of_a_stranger(site: Site) -> None:
    env = site.aws.env
    strangers = [
        *site.run(tags={}),
        *site.run(tags={"Project": "tinyllama", "Env": f"{env}-2"}),
        *site.run(tags={"Project": "tinyllama"}),
        *site.run(tags={"Project": "other", "Env": env}),
        *site.run(tags={"project": "tinyllama", "env": env}),
    ]
    ours = [*site.run(60), *site.run(59)]
    (spot,) = site.run(InstanceMarketOptions={"MarketType": "spot"})  # a one-time spot instance can't be stopped
    lines = site.kill()
    assert stopped(lines) == set(ours)
    (failed,) = [line for line in lines if line["event"] == "not_stopped"]
    assert (failed["instance"], failed["error"]) == (spot, "UnsupportedOperation")
    assert lines[-1] == {"level": "info", "event": "done", "reason": "budget", "stopped": 119, "failed": 1}
    site.until(lambda: site.states(ours) == {"stopped"})
    assert site.states([*strangers, spot]) == {"running"}
    site.aws.ec2.terminate_instances(InstanceIds=[*ours, *strangers, spot])


def test_other_words_on_the_topic_stop_nothing(site: Site) -> None:
    (mine,) = site.run()
    for message in ("the budget is exceeded", f"Budget Name: {site.aws.name('killer')}-2", "Budget Name: my-killer"):
        assert [line["event"] for line in site.kill(message)] == ["ignored"]
    assert (site.states([mine]), site.mark()) == ({"running"}, {})
    site.aws.ec2.terminate_instances(InstanceIds=[mine])


def test_one_that_is_left_running_fails_the_function(site: Site) -> None:
    (spot,) = site.run(InstanceMarketOptions={"MarketType": "spot"})
    answer = site.ask(
        {"Records": [{"EventSource": "aws:sns", "Sns": {"TopicArn": site.topic, "Message": site.aws.name("killer")}}]}
    )
    assert answer["errorType"] == "StillRunning"
    assert answer["errorMessage"] == f"could not be done: {spot} (UnsupportedOperation)"
    site.aws.ec2.terminate_instances(InstanceIds=[spot])


# --- the guard ------------------------------------------------------------------------------------------------------


def test_the_guard_stops_what_ran_unseen_for_55_minutes_and_nothing_else(site: Site) -> None:
    """The cloud's clock says when the rule calls; the rule was made just before the machines."""
    forgotten, beating = site.run()[0], site.run()[0]
    (theirs,) = site.run(tags={"Project": "tinyllama", "Env": "another"})
    site.beat(beating, 30 * MINUTE)
    assert stopped(site.advance(31 * MINUTE)) == set()
    lines = site.advance(30 * MINUTE)
    assert stopped(lines) == {forgotten}
    (why,) = [line["why"] for line in lines if line["event"] == "stopped"]
    assert why.startswith("no heartbeat and no job for ")
    site.until(lambda: site.states([forgotten]) == {"stopped"})
    assert site.states([beating, theirs]) == {"running"}
    assert site.mark() == {}
    assert stopped(site.advance(30 * MINUTE)) == {beating}
    site.aws.ec2.terminate_instances(InstanceIds=[forgotten, beating, theirs])


def test_a_machine_that_was_started_again_has_its_55_minutes_again(site: Site) -> None:
    (again,) = site.run()
    site.advance(31 * MINUTE)
    site.aws.ec2.stop_instances(InstanceIds=[again])
    site.until(lambda: site.states([again]) == {"stopped"})
    site.aws.ec2.start_instances(InstanceIds=[again])
    site.until(lambda: site.states([again]) == {"running"})
    assert stopped(site.advance(30 * MINUTE)) == set()
    assert stopped(site.advance(30 * MINUTE)) == {again}
    site.aws.ec2.terminate_instances(InstanceIds=[again])


def test_a_node_that_idles_is_ended_although_its_worker_beats(site: Site) -> None:
    """15 minutes by the settings, and 25 more for its worker to do it itself."""
    tags = {"Project": "tinyllama", "Env": site.aws.env, "aistratus:key": "node"}
    (node,) = site.run(tags=tags)
    site.beat(node, 31 * MINUTE)
    assert stopped(site.advance(31 * MINUTE)) == set()
    late = {"pk": wire.HEARTBEAT_PK, "instance_id": node, "at_ms": int((time.time() + 61 * MINUTE) * 1000)}
    item = wire.pack({**late, "idle_s": 41 * MINUTE})
    site.aws.dynamodb.put_item(TableName=site.aws.name("jobs"), Item=item)
    lines = site.advance(30 * MINUTE)
    assert stopped(lines) == {node}
    assert any("its worker didn't switch it off after 15" in str(line.get("why")) for line in lines)
    site.aws.ec2.terminate_instances(InstanceIds=[node])


# --- the real-time limit ----------------------------------------------------------------------------------------------


def put(site: Site, pk: str, **values: Any) -> None:
    site.aws.dynamodb.put_item(TableName=site.aws.name("jobs"), Item=wire.pack({"pk": pk, **values}))


def test_within_five_minutes_of_crossing_the_line_everything_is_stopped_while_aws_budgets_is_silent(
    make_env: Callable[..., Site],
) -> None:
    """A machine at $240 an hour crosses the $24.68 after six minutes and ten seconds."""
    site = make_env("real_time_limit_permission", "killer_permission", "killer_function")
    put(site, wire.STANDS_PK, hours={"t3.micro": "240"}, standings=[{"since_ms": 0, "address_hour": "0", "lines": {}}])
    (mine,) = site.run()
    assert stopped(site.advance(4 * MINUTE)) == set()
    assert (site.states([mine]), site.mark()) == ({"running"}, {})
    lines = site.advance(4 * MINUTE)
    assert stopped(lines) == {mine}
    (metered,) = [line for line in lines if line["event"] == "metered"]
    assert 24.68 <= metered["month_usd"] <= 24.68 + 240 * 5 / 60
    assert [line["SpendUSD"] for line in lines if line["event"] == "spend"] == [round(metered["month_usd"], 4)]
    site.until(lambda: site.states([mine]) == {"stopped"})
    assert site.mark()["limit_usd"] == 24.68
    items = [wire.unpack(item) for item in site.aws.dynamodb.scan(TableName=site.aws.name("jobs"))["Items"]]
    verbs = {name.partition("_")[0] for item in items for name in item if name.endswith(tuple("0123456789"))}
    assert {wire.SEEN, wire.STOP} <= verbs

    put(site, wire.RESUMED_PK, limit_usd=1e6, expires_at=9_999_999_999, by="ann")
    site.aws.ec2.start_instances(InstanceIds=[mine])
    site.until(lambda: site.states([mine]) == {"running"})
    assert stopped(site.advance(4 * MINUTE)) == set()
    assert [line["event"] for line in site.kill()] == ["ignored"]
    assert site.states([mine]) == {"running"}
    put(site, wire.METER_PK, at_ms=int(time.time() * 1000) - 16 * MINUTE * 1000)  # a guard that looks no more
    assert stopped(site.kill()) == {mine}
    site.aws.ec2.terminate_instances(InstanceIds=[mine])


def test_that_a_month_cannot_be_counted_is_told_once_and_then_the_budget_stops_it_whoever_has_resumed(
    make_env: Callable[..., Site],
) -> None:
    site = make_env("real_time_limit_permission", "alerts", "killer_permission", "killer_function")
    put(site, wire.STANDS_PK, hours={}, standings=[{"since_ms": 0, "address_hour": "0", "lines": {}}])
    (mine,) = site.run()
    looks = [site.advance(4 * MINUTE) for _ in range(2)]
    assert [[line["unknown"] for line in lines if line["event"] == "metered"] for lines in looks] == [
        [["machine t3.micro"]], [["machine t3.micro"]]
    ]  # fmt: skip
    assert site.states([mine]) == {"running"}
    published = [line for lines in looks for line in lines if line["event"] in ("told", "not_told")]
    assert [line["event"] for line in published] == ["told"]
    put(site, wire.RESUMED_PK, limit_usd=1e6, expires_at=9_999_999_999, by="ann")
    assert stopped(site.kill()) == {mine}
    site.aws.ec2.terminate_instances(InstanceIds=[mine])


# --- a change of type that the API began ----------------------------------------------------------------------------


def test_a_change_that_the_api_began_is_seen_to_its_end_though_nobody_looks_or_called_off_in_time(
    make_env: Callable[..., Site],
) -> None:
    site = make_env("real_time_limit_permission", "router_live")
    put(site, wire.STANDS_PK, hours={}, standings=[{"since_ms": 0, "address_hour": "0", "lines": {}}])
    (node,) = site.run(tags={"Project": "tinyllama", "Env": site.aws.env, "aistratus:key": "node"})
    record = {"Name": f"/tinyllama/{site.aws.env}/node", "Value": json.dumps({"id": node}), "Type": "String"}
    site.aws.ssm.put_parameter(**record)
    site.aws.ec2.stop_instances(InstanceIds=[node])
    change = {"type": "g4dn.xlarge", "by": "operator ann", "expires_at": int(time.time()) + wire.SHAPE_KEPT_S}

    def look() -> list[dict[str, Any]]:
        """What the guard does when its rule calls it."""
        before, rule = len(site.runs()), site.aws.arn("events", f"rule/{site.aws.name('real-time-limit')}")
        assert (
            site.ask({**TICK, "resources": [rule], "time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"})["stopped"] == []
        )
        known = ("carried_on", "not_carried_on", "called_off")
        return [line for line in site.next_run(before) if line["event"] in known]

    def shape() -> str:
        (found,) = site.aws.ec2.describe_instances(InstanceIds=[node])["Reservations"][0]["Instances"]
        return str(found["InstanceType"])

    site.until(lambda: site.states([node]) == {"stopped"})
    put(site, wire.SHAPE_PK, **change, wake=False)
    assert look() == [], "a command's own"
    put(site, wire.SHAPE_PK, **change, wake=True)
    (line,) = look()
    assert (line["event"], line["node"], line["type"]) == ("carried_on", "starting", "g4dn.xlarge")
    assert shape() == "g4dn.xlarge" and site.states([node]) <= {"pending", "running"}
    assert look() == [], "and is over"

    put(site, wire.SHAPE_PK, **{**change, "type": "t3.small", "expires_at": int(time.time()) - 1}, wake=True)
    (line,) = look()
    assert (line["event"], line["by"], shape()) == ("called_off", "operator ann", "g4dn.xlarge")
    key = wire.pack({"pk": wire.SHAPE_PK})
    told = wire.unpack(site.aws.dynamodb.get_item(TableName=site.aws.name("jobs"), Key=key)["Item"])
    assert (told["type"], told["wake"]) == ("", False)
    site.aws.ec2.terminate_instances(InstanceIds=[node])


# --- anybody else ---------------------------------------------------------------------------------------------------


class Lambda:
    """What Lambda says about a call, and EC2 at once: a clock that each call moves on, and refusals."""

    def __init__(self, refused: Mapping[str, str] | None = None, *, left_s: float = 300, call_s: float = 0) -> None:
        self.refused, self.left_s, self.call_s = refused or {}, left_s, call_s
        self.calls: list[list[str]] = []

    def get_remaining_time_in_millis(self) -> int:
        return int(self.left_s * 1000)

    def stop_instances(self, InstanceIds: list[str]) -> None:
        self.calls.append(InstanceIds)
        self.left_s -= self.call_s
        for code in [self.refused[instance] for instance in InstanceIds if instance in self.refused]:
            raise ClientError({"Error": {"Code": code}}, "StopInstances")


def attempts(ec2: Lambda, count: int) -> dict[str, str | None]:
    env = Environment("dev", "jobs", TOPIC, RULE, "tinyllama-dev-killer", 24.68, LIMIT, TOPIC, 15, 12, "")
    run = stop_build_box.Run(env, ec2, ec2, None, ec2, 0.0)
    return dict(run._attempts([f"i-{number}" for number in range(count)]))


def test_all_batches_go_before_what_a_refused_one_leaves() -> None:
    ec2 = Lambda({"i-3": "UnsupportedOperation"})
    came = attempts(ec2, 120)
    assert [len(call) for call in ec2.calls] == [50, 50, 20, *[1] * 50]
    assert {name: code for name, code in came.items() if code} == {"i-3": "UnsupportedOperation"}


def test_who_runs_out_of_time_says_what_was_not_tried() -> None:
    ec2 = Lambda({"i-0": "RequestLimitExceeded"}, call_s=40)
    came = attempts(ec2, 120)
    assert len(ec2.calls) == 7  # 300 s, and none is begun in the last 60
    assert [name for name, code in came.items() if code is None] == [
        *[f"i-{number}" for number in range(50, 120)], "i-1", "i-2", "i-3"
    ]  # fmt: skip
    assert (came["i-0"], came["i-4"]) == ("RequestLimitExceeded", stop_build_box.NO_TIME)


RULE = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/tinyllama-dev-force-stop-build-runner"
LIMIT = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/tinyllama-dev-real-time-limit"
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:tinyllama-dev-killer"
TICK = {"source": "aws.events", "detail-type": "Scheduled Event", "resources": [RULE], "time": "2026-03-01T12:00:00Z"}


def notice(topic: str = TOPIC, source: str = "aws:sns") -> dict[str, Any]:
    return {"EventSource": source, "Sns": {"TopicArn": topic, "Message": "stop"}}


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        {},
        "stop",
        {"Records": []},
        {"Records": "aws:sns"},
        {"Records": [None]},
        {"Records": [notice(f"{TOPIC}-2")]},
        {"Records": [notice(source="aws:sqs")]},
        {"Records": [notice(), notice(f"{TOPIC}-2")]},
        {"Records": [{"EventSource": "aws:sns", "Sns": TOPIC}]},
        {**TICK, "resources": [f"{RULE}-2"]},
        {**TICK, "resources": [RULE, RULE]},
        {**TICK, "source": "mine"},
        {**TICK, "time": "soon"},
        {**TICK, "time": "2026-03-01T12:00:00"},
        {**TICK, "time": 7},
        {name: value for name, value in TICK.items() if name != "time"},
    ],
)
def test_any_other_event_does_nothing(
    event: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    variables = {"AISTRATUS_ENV": "dev", "JOBS_TABLE": "jobs", "KILL_TOPIC": TOPIC, "GUARD_RULE": RULE}
    variables |= {"LIMIT_RULE": LIMIT, "ALERTS_TOPIC": TOPIC, "IDLE_MINUTES": "15", "MAX_HOURS": "12"}
    variables |= {"KILL_BUDGET": "tinyllama-dev-killer", "KILL_USD": "24.68", "ROUTER": "arn:router:live"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert stop_build_box.handle(event, Lambda()) == {"reason": "unknown", "stopped": []}
    assert json.loads(capsys.readouterr().out)["event"] == "unknown"


def test_the_events_of_topic_and_rule_are_known_for_what_they_are() -> None:
    assert guard_events.notice_of({"Records": [notice(), notice()]}, TOPIC) == "stop\nstop"
    assert guard_events.mentions('AWS Budgets: {"budgetName":"tinyllama-dev-killer"}', "tinyllama-dev-killer")
    assert guard_events.scheduled_time(TICK, RULE) == datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
    assert guard_events.notice_of(TICK, TOPIC) is None
    assert guard_events.scheduled_time({"Records": [notice()]}, RULE) is None


def test_a_month_ends_where_the_budget_begins_anew() -> None:
    assert stop_build_box.next_month(datetime(2026, 12, 31, 23, 59, tzinfo=UTC)) == datetime(2027, 1, 1, tzinfo=UTC)
    assert stop_build_box.next_month(datetime(2026, 1, 31, tzinfo=UTC)) == datetime(2026, 2, 1, tzinfo=UTC)

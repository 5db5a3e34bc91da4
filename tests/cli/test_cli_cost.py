"""`aistratus cost`: a check for cron, figures that add up, and a stop that holds until somebody resumes."""

from __future__ import annotations

import csv
import io
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
from cli_parts import REGION, Person, Said, client, eventually, node_state, program
from conftest import Built
from documents import SPENDING
from PIL import Image, ImageColor

from aistratus import wire
from aistratus.costs import meter
from aistratus.costs.meter import Standing, Tariff
from aistratus.pictures.days import COLOURS, WIDTH
from aistratus.pictures.shapes import SCALE
from aistratus.spending import Records, keep

pytestmark = pytest.mark.xdist_group("cli")

ACCOUNT, CRON = "123456789012", "cron"
SPENT_EUR = 10


def cron(*arguments: str, endpoint: str | None, keys: bool = True, env: str = CRON, data: Path | None = None) -> Said:
    """The command as cron runs it: no variables but these, no home, no terminal, another folder."""
    variables = {"AWS_EC2_METADATA_DISABLED": "true"}
    variables |= {"AWS_ENDPOINT_URL": endpoint} if endpoint else {}
    variables |= {"XDG_DATA_HOME": str(data), "XDG_STATE_HOME": str(data)} if data else {}
    variables |= {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"} if keys else {}
    done = subprocess.run(
        [program(), "--env", env, "--region", REGION, "cost", "--check", *arguments],
        env=variables, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True,
        timeout=240, check=False,
    )  # fmt: skip
    said = Said(done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in said.words and "\x1b" not in said.words
    assert len(said.words.splitlines()) == 1, said.words
    return said


@pytest.fixture(scope="module")
def endpoint(built: Built) -> Iterator[str]:
    """A table in which something is written down that has cost ten euros since the month began."""
    dynamodb, table = client(built.endpoint, "dynamodb"), f"tinyllama-{CRON}-jobs"
    dynamodb.create_table(
        TableName=table,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
    )
    begin_ms = meter.month_of(int(time.time() * 1000))[0]
    hour = Decimal("1.175") * SPENT_EUR * meter.HOUR_MS / (int(time.time() * 1000) - begin_ms)
    stands = {"since_ms": begin_ms, "address_hour": "0", "lines": {"thing": ["0", str(hour)]}}
    dynamodb.put_item(TableName=table, Item=wire.pack({"pk": wire.STANDS_PK, "hours": {}, "standings": [stands]}))
    yield built.endpoint
    dynamodb.delete_table(TableName=table)


@pytest.mark.parametrize(
    "limit, code, state", [("20", 0, "fine"), ("12", 3, "warning line"), ("9.9", 4, "over the limit")]
)
def test_cron_hears_the_state_by_the_exit_code(endpoint: str, limit: str, code: int, state: str) -> None:
    said = cron("--limit", limit, endpoint=endpoint)
    assert (said.code, said.err) == (code, "")
    assert said.out.startswith(f"{CRON}: ") and state in said.out and f"€10.00 of €{float(limit):.2f}" in said.out


def test_cron_is_never_told_that_all_is_well_when_nobody_knows(built: Built, endpoint: str) -> None:
    silent = "http://127.0.0.1:9"
    assert (cron(endpoint=silent).code, cron(endpoint=None, keys=False).code) == (1, 1)
    dynamodb, table = client(endpoint, "dynamodb"), f"tinyllama-{CRON}-jobs"
    item = dynamodb.get_item(TableName=table, Key=wire.pack({"pk": wire.STANDS_PK}))["Item"]
    unpriced = {"since_ms": 0, "address_hour": "0", "lines": {"thing": ["unknown", "0"]}}
    try:
        dynamodb.put_item(TableName=table, Item=wire.pack({"pk": wire.STANDS_PK, "standings": [unpriced]}))
        said = cron(endpoint=endpoint)
        assert said.code == 1 and "thing has no known price" in said.err
        person = built.person.with_variables(
            AWS_ENDPOINT_URL=endpoint, AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AISTRATUS_ENV=CRON
        )
        said = person.run("cost", "resume", "-y", "--up-to", "99")
        assert said.code == 1 and "thing has no known price, so the guard can't count this month" in said.err
        dynamodb.delete_item(TableName=table, Key=wire.pack({"pk": wire.STANDS_PK}))
        said = cron(endpoint=endpoint)
        assert said.code == 1 and "nobody has written down" in said.err
    finally:
        dynamodb.put_item(TableName=table, Item=item)


def test_an_env_that_is_down_costs_nothing_if_it_is_known_here_and_no_machine_of_it_runs(
    endpoint: str, tmp_path: Path, person: Person
) -> None:
    said = cron(endpoint=endpoint, env="nobody")
    assert said.code == 1 and f"nothing is known of env 'nobody' in account {ACCOUNT}, {REGION}" in said.err
    for account, code in (("210987654321", 1), (ACCOUNT, 0)):
        keep(tmp_path / "aistratus/cost" / f"{account}-{REGION}-nobody.json", Records(0))
        said = cron(endpoint=endpoint, env="nobody", data=tmp_path)
        assert (said.code, "it isn't up" in said.out) == (code, code == 0)
    assert cron(endpoint=None, env="local", data=tmp_path).code == 0  # its cloud isn't there
    now_ms = int(time.time() * 1000)
    stood = Standing(now_ms - meter.HOUR_MS, {"thing": meter.Line(hour=Decimal("1.175"))})
    gone = Tariff((stood, Standing(now_ms, {})))
    keep(tmp_path / "aistratus/cost" / f"{ACCOUNT}-{REGION}-local.json", Records(now_ms, gone))
    said = person.with_variables(XDG_DATA_HOME=str(tmp_path)).run("cost", "-o", "json")
    assert (said.code, said.document["running"], said.document["per_hour"]) == (0, [], 0)
    figures = (said.document["metered"]["month"], *(said.document["forecast"][name] for name in ("low", "high")))
    assert figures == pytest.approx((1, 1, 1), abs=0.001) or time.gmtime().tm_mday == 1, "an hour of what stood"
    ec2 = client(endpoint, "ec2")
    tags = [{"Key": "Project", "Value": "tinyllama"}, {"Key": "Env", "Value": "nobody"}]
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    made = ec2.run_instances(
        ImageId=image, InstanceType="t3.micro", MinCount=1, MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )  # fmt: skip
    try:
        said = cron(endpoint=endpoint, env="nobody")
        assert said.code == 1 and "no jobs table" in said.err
    finally:
        ec2.terminate_instances(InstanceIds=[made["Instances"][0]["InstanceId"]])


def test_what_it_shows_adds_up_in_every_form(built: Built, tmp_path: Path) -> None:
    document = built.person.run("cost", "-o", "json").document
    fastjsonschema.validate(SPENDING, document)
    assert document["metered"]["unknown"] == []
    assert document["running"] and document["per_hour"] > 0
    by_resource = sum(line["amount"] for line in document["resources"])
    assert by_resource == pytest.approx(sum(day["amount"] for day in document["days"]), abs=1e-4)
    assert document["forecast"]["low"] <= document["forecast"]["amount"] <= document["forecast"]["high"]
    rows = list(csv.DictReader(io.StringIO(built.person.run("cost", "-o", "csv", "--currency", "USD").out)))
    assert {row["currency"] for row in rows} == {"USD"} and {"stack", "machine t3.small"} <= {
        row["what"] for row in rows
    }
    apis = client(built.endpoint, "apigatewayv2").get_apis()["Items"]
    (api,) = (one["ApiId"] for one in apis if one["Name"].startswith("tinyllama-local-"))
    before = datetime.now(UTC) - timedelta(seconds=2)  # CloudWatch is asked up to the whole second
    of = [{"Name": "ApiId", "Value": api}]
    sent = {"MetricName": "DataProcessed", "Dimensions": of, "Value": 2e9, "Timestamp": before}
    client(built.endpoint, "cloudwatch").put_metric_data(Namespace="AWS/ApiGateway", MetricData=[sent])
    flows = {one["what"]: one for one in built.person.run("cost", "--usage", "-o", "json").document["usage"]}
    told = flows["data out by the API, GB"]
    assert (told["count"], told["amount"]) == pytest.approx((2, 2 * 0.09 / 1.175), abs=1e-5)
    assert flows["data out of the node, GB"]["amount"] == 0, "it talks to services of its region"
    assert built.person.run("chat", "hello").code == 0
    file = tmp_path / "days.PNG"
    said = built.person.run("cost", "--plot", str(file), "--by", "conversation")
    assert [word for word in ("metered", "forecast", "1,000 tokens") if word not in said.out] == []
    with Image.open(file) as image:
        assert image.width == WIDTH * SCALE and ImageColor.getrgb(COLOURS[0]) in {
            colour for _, colour in image.convert("RGB").getcolors(1 << 16) or ()
        }


def test_estimates_need_no_account_and_refuse_what_they_do_not_know(built: Built) -> None:
    idle = built.person.run("cost", "--idle", "-o", "json").document
    assert sum(line["amount"] for line in idle["lines"]) == pytest.approx(idle["idle_month"], abs=1e-4)
    assert 0 < idle["left"] <= 3
    assert "€5.6" in built.person.run("cost", "--what-if", "hours=10,type=g4dn.xlarge").out
    unknown = built.person.run("cost", "--what-if", "hours=10,type=x9.huge")
    assert (unknown.code, "there is no price for ec2 x9.huge" in unknown.err) == (1, True)
    for wrong in (
        ["--limit", "5"],
        ["--check", "--limit", "nan"],
        ["resume", "--up-to", "inf"],
        ["--what-if", "days=1"],
        ["--what-if", "hours=nan"],
        ["--plot", "days.gif"],
        ["--plot", "days.png", "--idle"],
        ["--check", "--since", "2026-11-01"],
        ["--since", "2999-01-01"],
    ):
        assert built.person.run("cost", *wrong).code == 2, wrong
    assert built.person.run("status", "-o", "csv").code == 2


def test_over_the_limit_it_stops_what_runs_and_prompts_wait_for_somebody_to_resume(built: Built) -> None:
    try:
        killed = built.person.run("cost", "--check", "--kill", "--limit", "0.000001")
        assert killed.code == 4 and "stopped: i-" in killed.out
        assert node_state(built.endpoint, "local") == "stopped"
        refused = built.person.run("chat", "Are you there?")
        assert refused.code != 0 and "aistratus cost resume" in refused.err
        resumed = built.person.run("cost", "resume", "-o", "json").document
        assert resumed["was_held"] and resumed["by"].startswith("arn:")
        assert built.person.run("cost", "resume", "--up-to", "1").code == 2
        started = built.person.run("node", "start")
        assert started.code == 0, started.words
        again = built.person.run("cost", "--check", "--kill", "--limit", "0.000001")
        who = resumed["by"].rpartition("/")[2]
        assert again.code == 4 and f"resumed up to €{resumed['limit_eur']:.2f} by {who}" in again.out
        assert "stopped" not in again.out and node_state(built.endpoint, "local") == "running"
        assert built.person.run("cost", "-o", "json").document["running"]
    finally:
        table: dict[str, Any] = {"TableName": "tinyllama-local-jobs"}
        for pk in (wire.BUDGET_PK, wire.RESUMED_PK):
            client(built.endpoint, "dynamodb").delete_item(**table, Key=wire.pack({"pk": pk}))
        built.person.run("node", "start")
    ready = eventually(
        lambda: built.person.run("node", "status", "-o", "json").document["node"]["state"], "ready".__eq__
    )
    assert ready == "ready"

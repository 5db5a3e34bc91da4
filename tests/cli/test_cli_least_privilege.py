"""The printed policies and those of our roles allow what is really called, and no statement too many.

One life of an env on a strict cloud: planned, built, looked at, asked, changed from outside, put right, taken down. The
cloud writes down every call with its caller: each command signs with a key of its own, functions sign with their role's
credentials, a node with its instance's id. What IAM would check for each call comes from `aistratus.permissions`.
"""

from __future__ import annotations

import json
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli_parts import REGION, Person, client, eventually, node_state
from policy_judges import (
    Case,
    by_ourselves,
    by_the_simulator,
    context_of,
    simulator_is_there,
    unknown_to_the_simulator,
)

from aistratus.cli.app import app
from aistratus.local import process
from aistratus.permissions import Need, needs
from aistratus.policies import Document, Names
from aistratus.settings import Settings

ENV = "least"
NAMES = Names("aws", "123456789012", REGION, ENV)
COMMANDS = tuple(
    command
    for command in ("plan", "up", "status", "chat", "queue", "secret", "logs", "doctor", "down")
    if command in {one.name for one in (*app.registered_commands, *app.registered_groups)}
)
A_DAY_S = 86_400

EVERYTHING_ON = {
    "network": {"AISTRATUS_NETWORK__ENABLE_NAT_GW": "true"},
    "router": {"AISTRATUS_ROUTER__PROVISIONED_CONCURRENCY": "1", "AISTRATUS_ROUTER__WARM_MINUTES": "5"},
    "delivery": {"AISTRATUS_DELIVERY__REPOSITORY": "ann/llm"},
    "auth": {"AISTRATUS_AUTH__OPERATOR_EMAIL": "ann@example.com"},
}
"""What is off by default, by the settings' table."""

Judge = Callable[[Sequence[Document], Sequence[Case]], list[bool]]


@dataclass(frozen=True)
class Life:
    """What was called, and what was allowed."""

    calls: Mapping[str, list[dict[str, Any]]]
    """By caller: a command, a role's name, `node`."""
    policies: Mapping[str, Document]
    """By caller as well."""
    tags: Mapping[str, Mapping[str, str]]
    """Of resources that AWS names itself, by id."""
    platform: Mapping[str, list[Need]]
    """What AWS itself does with a role's credentials, by role: no call of ours that could be recorded."""


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    state_dir, home = tmp_path_factory.mktemp("cloud"), tmp_path_factory.mktemp("home")
    endpoint = process.ensure(state_dir=state_dir, strict=True).endpoint
    try:
        yield _live(endpoint, Person(home, {"AWS_ENDPOINT_URL": endpoint, "AWS_SECRET_ACCESS_KEY": "x"}))
    finally:
        process.stop(state_dir)


def _live(endpoint: str, person: Person) -> Life:
    def run(command: str, *arguments: str, code: int = 0, typed: str = "", by: Person | None = None) -> str:
        who = (by or person).with_variables(AWS_ACCESS_KEY_ID=command, AISTRATUS_ENV=ENV)
        said = who.run(command, *arguments, typed=typed)
        assert said.code == code, said.words
        return said.out

    def printed(command: str) -> Document:
        as_anybody = person.with_variables(AWS_ACCESS_KEY_ID="x", AISTRATUS_ENV=ENV)
        return as_anybody.run("iam", "policy", "--command", command).document

    there = [EVERYTHING_ON[table] for table in EVERYTHING_ON if table in Settings.model_fields]
    switched_on = {name: value for table in there for name, value in table.items()}
    person = person.with_variables(**switched_on, AISTRATUS_MODEL__PATH=str(_demo()))
    _log(endpoint, {"record": True})
    run("plan", code=2)
    run("up", "-y", "--wait")
    run("up", "-y")
    run("plan")
    # Ready, although nobody clicks the link in the mail to the operator.
    api = json.loads(run("status", "-o", "json"))["api_url"]
    run("chat", "How do I stop the GPU?")
    run("logs", "router")
    _deep_health(person, api)
    run("doctor")
    if "secret" in COMMANDS:
        run("secret", "set", "openai", typed="sk-1")
        run("secret", "status")
    tags = _tags(endpoint)
    _asleep(endpoint)
    elsewhere = Person(person.home / "elsewhere", person.variables)  # where there is no token yet
    elsewhere.home.mkdir()
    if "queue" in COMMANDS:
        _send_again(endpoint, "jobs")
        run("queue", "health", by=elsewhere)
        _send_again(endpoint, "jobs-dlq")
        run("queue", "redrive", "-y", by=elsewhere)
    run("chat", "Are you awake?")
    _change(endpoint, tags)
    run("up", "-y")
    _functions(endpoint)
    roles, platform = _role_policies(endpoint), _platform(endpoint)
    policies = {command: printed(command) for command in COMMANDS} | roles
    run("down", "-y")
    calls: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for call in _log(endpoint)["calls"]:
        calls[_who(call["caller"])].append(call)
    return Life(calls, policies, tags, platform)


def _demo() -> Path:
    from aistratus.models import demo_model

    return demo_model()


def _log(endpoint: str, order: dict[str, Any] | None = None) -> dict[str, Any]:
    return _order(endpoint, "calls", order)


def _order(endpoint: str, what: str, order: dict[str, Any] | None) -> dict[str, Any]:
    data = json.dumps(order).encode() if order else None
    with urllib.request.urlopen(urllib.request.Request(f"{endpoint}/_aistratus/{what}", data=data)) as answer:
        told: dict[str, Any] = json.load(answer)
    return told


def _who(caller: str) -> str:
    if caller.startswith("i-"):
        return "node_role"
    return caller.rpartition("/")[2].removeprefix(NAMES.prefix)


def _tags(endpoint: str) -> dict[str, dict[str, str]]:
    """As AWS's own policies would see them: of what has no name of ours."""
    tags: dict[str, dict[str, str]] = defaultdict(dict)
    for page in client(endpoint, "ec2").get_paginator("describe_tags").paginate():
        for entry in page["Tags"]:
            tags[entry["ResourceId"]][entry["Key"]] = entry["Value"]
    for key in client(endpoint, "ec2").describe_key_pairs()["KeyPairs"]:
        tags[key["KeyName"]] = {tag["Key"]: tag["Value"] for tag in key["Tags"]}
    cognito = client(endpoint, "cognito-idp")
    for pool in cognito.list_user_pools(MaxResults=60)["UserPools"]:
        tags[pool["Id"]] = cognito.describe_user_pool(UserPoolId=pool["Id"])["UserPool"]["UserPoolTags"]
    return dict(tags)


def _asleep(endpoint: str) -> None:
    """Stops the node, as its idle guard would."""
    ec2 = client(endpoint, "ec2")
    found = ec2.describe_instances(Filters=[{"Name": "tag:Env", "Values": [ENV]}])["Reservations"]
    ec2.stop_instances(InstanceIds=[one["InstanceId"] for entry in found for one in entry["Instances"]])
    assert eventually(lambda: node_state(endpoint, ENV), lambda state: state == "stopped") == "stopped"


def _deep_health(person: Person, api: str) -> None:
    """What an operator may ask the router: how everything behind it is."""
    (kept,) = (person.home / ".local/state/aistratus/tokens").rglob("*.json")
    token = json.loads(kept.read_text())["access"]
    asked = urllib.request.Request(f"{api}/health?deep=1", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(asked) as answer:
        assert answer.status == 200


def _send_again(endpoint: str, queue: str) -> None:
    """The last prompt once more, in this queue."""
    sent = [call["parameters"] for call in _log(endpoint)["calls"] if call["operation"] == "SendMessage"]
    again = {name: sent[-1][name] for name in ("MessageBody", "MessageGroupId")}
    sqs = client(endpoint, "sqs")
    url = sqs.get_queue_url(QueueName=f"{NAMES.prefix}{queue}.fifo")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageDeduplicationId=f"again-{queue}", **again)


def _functions(endpoint: str) -> None:
    """What calls the small functions: the killer's topic, and the clock."""

    def called(operation: str) -> bool:
        """Has a function made this call?"""
        calls = [call for call in _log(endpoint)["calls"] if call["caller"].startswith("arn:")]
        return any(call["operation"] == operation for call in calls)

    sns = client(endpoint, "sns")
    killers = [one["TopicArn"] for one in sns.list_topics()["Topics"] if one["TopicArn"].endswith("-killer")]
    for killer in killers:
        sns.publish(TopicArn=killer, Message=f"Budget Name: {killer.rpartition(':')[2]}")
        assert eventually(lambda: called("StopInstances"))
        _order(endpoint, "strict", {"advance_s": A_DAY_S})
        assert eventually(lambda: called("DescribeBudget") and called("Publish"))


def _change(endpoint: str, tags: Mapping[str, Mapping[str, str]]) -> None:
    """One thing of each service that `up` has to put right."""
    (vpc,) = (identity for identity in tags if identity.startswith("vpc-"))
    client(endpoint, "ec2").delete_tags(Resources=[vpc], Tags=[{"Key": "ManagedBy"}])
    if "delivery" in Settings.model_fields:
        connections = client(endpoint, "codeconnections")
        for connection in connections.list_connections()["Connections"]:
            connections.untag_resource(ResourceArn=connection["ConnectionArn"], TagKeys=["ManagedBy"])
    client(endpoint, "logs").put_retention_policy(logGroupName=f"/tinyllama/{ENV}/node", retentionInDays=1)
    sqs = client(endpoint, "sqs")
    url = sqs.get_queue_url(QueueName=f"{NAMES.prefix}jobs.fifo")["QueueUrl"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "7"})


def _role_policies(endpoint: str) -> dict[str, Document]:
    """The inline policies of every role of ours, in one document each."""
    iam = client(endpoint, "iam")
    documents: dict[str, Document] = {}
    for role in iam.list_roles()["Roles"]:
        if role["RoleName"].startswith(NAMES.prefix):
            names = iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"]
            found = [iam.get_role_policy(RoleName=role["RoleName"], PolicyName=name) for name in names]
            statements = [one for policy in found for one in policy["PolicyDocument"]["Statement"]]
            documents[_who(role["Arn"])] = {"Version": "2012-10-17", "Statement": statements}
    return documents


def _logs(group: str) -> list[Need]:
    stream = NAMES.arn("logs", f"log-group:{group}:log-stream:1")
    return [Need(f"logs:{verb}", stream) for verb in ("CreateLogStream", "PutLogEvents")]


def _delivery(project: str, connection: str) -> dict[str, list[Need]]:
    """What builds and workflows do: nothing here runs them. See `buildspec.yml`, `deploy.yml` and the API reference."""
    router = NAMES.arn("lambda", f"function:{NAMES.prefix}router")
    pull_and_push = NAMES.arn("ecr", f"repository/{NAMES.prefix}builder")
    return {
        "deploy_role": [
            *_logs(f"/aws/codebuild/{project}"),
            Need("codeconnections:GetConnectionToken", connection),
            Need("lambda:UpdateFunctionCode", router),
        ],
        "build_runner_role": [
            *_logs(f"/tinyllama/{ENV}/build-runner"),
            Need("ecr:GetAuthorizationToken", "*"),
            Need("ecr:PutImage", pull_and_push),
            Need("ssm:UpdateInstanceInformation", "*"),
        ],
        "github_role": [
            Need("ssm:GetParameters", NAMES.parameter("api")),
            Need("codebuild:StartBuild", NAMES.arn("codebuild", f"project/{project}")),
        ],
    }


def _platform(endpoint: str) -> dict[str, list[Need]]:
    """Lambda writes its functions' logs, Scheduler calls its targets, agents on the node report and ship its log."""
    found: dict[str, list[Need]] = {}
    for function in client(endpoint, "lambda").list_functions()["Functions"]:
        found[_who(function["Role"])] = _logs(function["LoggingConfig"]["LogGroup"])
    scheduler = client(endpoint, "scheduler")
    for row in scheduler.list_schedules()["Schedules"]:
        target = scheduler.get_schedule(GroupName=row["GroupName"], Name=row["Name"])["Target"]
        found[_who(target["RoleArn"])] = [Need("lambda:InvokeFunction", target["Arn"])]
    # `bootstrap.sh` keeps a model in the bucket that it had to fetch from its public address.
    kept = Need("s3:PutObject", f"arn:aws:s3:::{NAMES.prefix}data-{NAMES.account}-{REGION}/models/1.gguf")
    agent = [Need("ssm:UpdateInstanceInformation", "*"), Need("ssmmessages:OpenControlChannel", "*")]
    for project in client(endpoint, "codebuild").list_projects()["projects"]:
        (connection,) = client(endpoint, "codeconnections").list_connections()["Connections"]
        found |= _delivery(project, connection["ConnectionArn"])
    return {**found, "node_role": [*_logs(f"/tinyllama/{ENV}/node"), kept, *agent]}


# --- judging ----------------------------------------------------------------------------------------------------------


def checks(life: Life, caller: str) -> list[tuple[Need, tuple[tuple[str, str], ...]]]:
    """Everything that IAM would decide for this caller, once each."""
    found = [
        need
        for call in life.calls.get(caller, [])
        for need in needs(
            NAMES,
            call["service"],
            call["operation"],
            call["parameters"],
            by="program" if caller.endswith("_role") else "operator",
        )
    ]
    found += life.platform.get(caller, [])
    own = {"Project": "tinyllama", "Env": ENV}  # of what isn't named in the call, or is gone when we look
    decided = {
        (need.action, need.resource, context_of(need, life.tags.get(need.resource.rpartition("/")[2], own))): need
        for need in found
    }
    return [(need, context) for (_, _, context), need in decided.items()]


JUDGES = [
    pytest.param(by_ourselves, id="ours"),
    pytest.param(
        by_the_simulator,
        id="iam-simulate",
        marks=pytest.mark.skipif(not simulator_is_there(), reason="iam-simulate isn't installed"),
    ),
]


def known(judge: Judge, needed: list[tuple[Need, tuple[tuple[str, str], ...]]]) -> list[tuple[Need, Any]]:
    if judge is by_ourselves:
        return needed
    return [(need, context) for need, context in needed if not unknown_to_the_simulator(need)]


def _only_ours_to_judge(life: Life, caller: str, statement: Document) -> bool:
    asked = [need for need, _ in checks(life, caller) if need.action in statement["Action"]]
    return any(unknown_to_the_simulator(need) for need in asked)


@pytest.mark.parametrize("judge", JUDGES)
def test_every_call_is_allowed_and_every_statement_is_needed(life: Life, judge: Judge) -> None:
    told: list[str] = []
    for caller, policy in life.policies.items():
        needed = known(judge, checks(life, caller))
        assert needed, f"{caller} made no call"
        statements = [{**policy, "Statement": [one]} for one in policy["Statement"]]
        cases = [
            Case((index,), need, context)
            for need, context in needed
            for index, one in enumerate(policy["Statement"])
            if need.action in one["Action"]
        ]
        allowing: dict[int, set[int]] = defaultdict(set)
        keys = {id(need): number for number, (need, _) in enumerate(needed)}
        for case, allowed in zip(cases, judge(statements, cases), strict=True):
            if allowed:
                allowing[keys[id(case.need)]].add(case.documents[0])
        told += [
            f"{caller}: {need.action} on {need.resource} is denied ({dict(context)})"
            for number, (need, context) in enumerate(needed)
            if not allowing[number]
        ]
        alone = {next(iter(indexes)) for indexes in allowing.values() if len(indexes) == 1}
        told += [
            f"{caller}: nothing needs {json.dumps(one)}"
            for index, one in enumerate(policy["Statement"])
            if index not in alone and not (judge is by_the_simulator and _only_ours_to_judge(life, caller, one))
        ]
    assert told == []


def test_every_caller_has_a_policy(life: Life) -> None:
    ours = set(life.calls) - {"x", "witness"}
    assert ours - set(life.policies) - {""} == set()

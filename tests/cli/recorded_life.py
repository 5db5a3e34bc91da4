"""A whole life of an env on a strict cloud, with every call recorded by its caller.

The env is planned, built, used, changed from outside, repaired and taken down. Each command signs with a key of its
own, functions with their role's credentials, a node with its instance's id. What AWS itself does with a role's
credentials is added from its documentation.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import sys
import time
import urllib.request
import zipfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli_parts import REGION, Person, client, eventually, node_state, session_plugin

from aistratus import wire
from aistratus.local import sshd
from aistratus.permissions import Need
from aistratus.policies import Document, Names

ENV = "least"

NAMES = Names("aws", "123456789012", REGION, ENV)

COMMANDS = (
    "plan", "up", "status", "chat", "login", "whoami", "logout", "user", "queue", "secret", "node", "model", "cost",
    "logs", "doctor", "down",
)  # fmt: skip

A_DAY_S = 86_400

EVERYTHING_ON = {
    "AISTRATUS_NETWORK__ENABLE_NAT_GW": "true",
    "AISTRATUS_ROUTER__PROVISIONED_CONCURRENCY": "1",
    "AISTRATUS_ROUTER__WARM_MINUTES": "5",
    "AISTRATUS_DELIVERY__REPOSITORY": "ann/llm",
    "AISTRATUS_AUTH__OPERATOR_EMAIL": "ann@example.com",
    "AISTRATUS_NODE__ANSWER_ON_CPU": "true",
}
"""What is off by default."""


@dataclass(frozen=True)
class Life:
    """What was called, and what was allowed."""

    calls: Mapping[str, list[dict[str, Any]]]
    """By caller: a command or a role's name."""
    policies: Mapping[str, Document]
    """By caller as well."""
    tags: Mapping[str, Mapping[str, str]]
    """Of resources that AWS names itself, by id."""
    platform: Mapping[str, list[Need]]
    """What AWS itself does with a role's credentials, by role: no call of ours that could be recorded."""


def live(endpoint: str, person: Person) -> Life:
    def run(command: str, *arguments: str, code: int = 0, typed: str = "", by: Person | None = None) -> str:
        who = (by or person).with_variables(AWS_ACCESS_KEY_ID=command, AISTRATUS_ENV=ENV)
        said = who.run(command, *arguments, typed=typed)
        assert said.code == code, said.words
        return said.out

    def printed(command: str) -> Document:
        as_anybody = person.with_variables(AWS_ACCESS_KEY_ID="x", AISTRATUS_ENV=ENV)
        return as_anybody.run("iam", "policy", "--command", command).document

    person = person.with_variables(**EVERYTHING_ON, AISTRATUS_MODEL__PATH=str(_demo()))
    _log(endpoint, {"record": True})
    run("plan", code=2)
    run("up", "-y", "--wait")
    run("up", "-y")
    run("plan")
    # Ready, although nobody clicks the link in the mail to the operator.
    api = json.loads(run("status", "-o", "json"))["api_url"]
    request = json.loads(run("chat", "How do I stop the GPU?", "-o", "json"))["request_id"]
    run("logs", "--request", request)  # looks through all of them
    _deep_health(person, api)
    run("doctor")
    run("secret", "set", "openai", typed="sk-1")
    run("secret", "status")
    for verb in ("status", "stop", "start", "launch", "logs"):
        run("node", verb)
    run("node", "ssh", "--", "seq", "20000")
    if sshd.program() is not None:
        _by_ssh(person, run)
    run("user", "add", "bob", "--no-mail", "--operator", typed="Correct-horse-6\n")
    run("user", "add", "bob", "--no-mail", "--again", typed="Correct-horse-7\n")
    run("login", "--username", "bob", typed="Correct-horse-7\nCorrect-horse-8\n")
    run("logout")
    run("user", "remove", "bob")
    run("whoami")
    run("node", "resize", "g4dn.xlarge")
    run("node", "idle", "60")
    run("model", "add", str(_demo()), "--name", "again")
    run("model", "list")
    run("model", "use", "again")
    run("model", "remove", "again")
    run("cost", "--billed", "--usage", "--by", "conversation")
    run("cost", "prices", "--refresh")
    run("cost", "--check", "--kill", "--limit", "0.000001", code=4)
    run("cost", "resume", "-y", "--up-to", "99")
    tags = _tags(endpoint)
    run("node", "start")
    _asleep(endpoint, person, api)
    _reshape_later(endpoint)
    elsewhere = Person(person.home / "elsewhere", person.variables)  # where there is no token yet
    elsewhere.home.mkdir()
    _send_again(endpoint, "jobs")
    run("queue", "health", by=elsewhere)
    _send_again(endpoint, "jobs-dlq")
    run("queue", "redrive", "-y", by=elsewhere)
    run("chat", "Are you awake?")
    _change(endpoint, tags)
    run("up", "-y")
    _functions(endpoint)
    _deliver(endpoint, person)
    run("node", "build", code=1)  # to the point where Docker is needed, and back
    roles, platform = _role_policies(endpoint), _platform(endpoint)
    policies = {command: printed(command) for command in COMMANDS} | roles
    run("down", "-y")
    calls: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for call in _log(endpoint)["calls"]:
        calls[_who(call["caller"])].append(call)
    return Life(calls, policies, tags, platform)


def _by_ssh(person: Person, run: Callable[..., str]) -> None:
    """Through a session: the node has no public address in this life."""
    path = f"{session_plugin(person.home / 'plugin')}:{os.environ['PATH']}"
    settings = {"AISTRATUS_NODE__SSH_USER": sshd.user(), "AISTRATUS_NODE__SSH_PORT": str(sshd.PORT), "PATH": path}
    run("node", "ssh", "--transport", "ssh", "true", by=person.with_variables(**settings))


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


def _asleep(endpoint: str, person: Person, api: str) -> None:
    """Stops the node by the API, as an operator does."""
    with urllib.request.urlopen(_as_operator(person, f"{api}/stop", method="POST")) as answer:
        assert answer.status == 202
    assert eventually(lambda: node_state(endpoint, ENV), lambda state: state == "stopped") == "stopped"


def _as_operator(person: Person, url: str, **options: Any) -> urllib.request.Request:
    (kept,) = (person.home / ".local/state/aistratus/tokens").rglob("*.json")
    token = json.loads(kept.read_text())["access"]
    return urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"}, **options)


def _reshape_later(endpoint: str) -> None:
    """A change of shape whose command has died: the next prompt carries it out."""
    wanted = {"pk": wire.SHAPE_PK, "type": "t3.small", "expires_at": int(time.time()) + wire.SHAPE_KEPT_S}
    client(endpoint, "dynamodb").put_item(TableName=f"{NAMES.prefix}jobs", Item=wire.pack(wanted))


def _deep_health(person: Person, api: str) -> None:
    """What an operator may ask the router: how everything behind it is."""
    with urllib.request.urlopen(_as_operator(person, f"{api}/health?deep=1")) as answer:
        assert answer.status == 200


def _send_again(endpoint: str, queue: str) -> None:
    """The last prompt once more, in this queue."""
    sent = [call["parameters"] for call in _log(endpoint)["calls"] if call["operation"] == "SendMessage"]
    again = {name: sent[-1][name] for name in ("MessageBody", "MessageGroupId")}
    sqs = client(endpoint, "sqs")
    url = sqs.get_queue_url(QueueName=f"{NAMES.prefix}{queue}.fifo")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageDeduplicationId=f"again-{queue}", **again)


def _functions(endpoint: str) -> None:
    """What calls the small functions: the clock, past the month's limit, and the killer's topic."""

    def called(operation: str, role: str = "") -> bool:
        """Has a function made this call?"""
        calls = [call for call in _log(endpoint)["calls"] if call["caller"].startswith("arn:")]
        return any(call["operation"] == operation and call["caller"].endswith(role) for call in calls)

    dynamodb, table = client(endpoint, "dynamodb"), f"{NAMES.prefix}jobs"
    dynamodb.delete_item(TableName=table, Key=wire.pack({"pk": wire.RESUMED_PK}))
    dear = {"hours": {"t3.small": "1000000"}, "standings": [{"since_ms": 0, "address_hour": "0", "lines": {}}]}
    dynamodb.put_item(TableName=table, Item=wire.pack({"pk": wire.STANDS_PK, **dear}))
    _order(endpoint, "strict", {"advance_s": 300})
    assert eventually(lambda: called("Publish", "stop_build_box_role"))
    sns = client(endpoint, "sns")
    killers = [one["TopicArn"] for one in sns.list_topics()["Topics"] if one["TopicArn"].endswith("-killer")]
    for killer in killers:
        sns.publish(TopicArn=killer, Message=f"Budget Name: {killer.rpartition(':')[2]}")
        assert eventually(lambda: called("StopInstances"))
        _order(endpoint, "strict", {"advance_s": A_DAY_S})
        assert eventually(lambda: called("DescribeBudget") and called("Publish", "daily_summary_role"))


def _deliver(endpoint: str, person: Person) -> None:
    """What runs in a build and in a workflow, each with a key that is named like its role."""
    other = io.BytesIO()
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("handler.py", "def handler(event, context): ...")
    function = f"{NAMES.prefix}router"  # so that the build has something to publish
    client(endpoint, "lambda").update_function_code(FunctionName=function, ZipFile=other.getvalue())
    variables = {"AISTRATUS_ENV": ENV, "AWS_DEFAULT_REGION": REGION}
    build = person.with_variables(AWS_ACCESS_KEY_ID="deploy_role", **variables)
    said = build.shell(f"{shlex.quote(sys.executable)} -m aistratus.deploy")
    assert said.code == 0, said.words
    workflow = person.with_variables(AWS_ACCESS_KEY_ID="github_role", **variables)
    said = workflow.run("env", "export", "--format", "github")
    assert said.code == 0, said.words


def _change(endpoint: str, tags: Mapping[str, Mapping[str, str]]) -> None:
    """One thing of each service that `up` has to put right."""
    (vpc,) = (identity for identity in tags if identity.startswith("vpc-"))
    client(endpoint, "ec2").delete_tags(Resources=[vpc], Tags=[{"Key": "ManagedBy"}])
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


PUSHING = (
    "BatchCheckLayerAvailability", "CompleteLayerUpload", "InitiateLayerUpload", "PutImage", "UploadLayerPart",
)  # fmt: skip

PULLING = ("BatchGetImage", "GetDownloadUrlForLayer")

AGENT = tuple(
    Need(f"{service}:{verb}", "*")
    for service, verbs in (
        ("ssm", "UpdateInstanceInformation"),
        ("ssmmessages", "CreateControlChannel CreateDataChannel OpenControlChannel OpenDataChannel"),
        ("ec2messages", "AcknowledgeMessage DeleteMessage FailMessage GetEndpoint GetMessages SendReply"),
    )
    for verb in verbs.split()
)
"""The SSM agent's protocol: Systems Manager user guide, "ec2messages, ssmmessages, and other API operations"."""


def _delivery(project: str, connection: str) -> dict[str, list[Need]]:
    """What AWS and foreign programs do with the roles of delivery, after their documentation: nothing here runs them.

    That is CodeBuild itself (its log, the source), the AWS command line in `deploy.yml`, Docker and the agent on the
    machine that builds images. What is ours, `python -m aistratus.deploy` and `env export`, is recorded in `_deliver`.
    A build leaves no artifact, report or cache, fetches no image of the account's, and runs in no VPC, so that nothing
    else of what CodeBuild's service role may need is needed here; its log group is there already.

    Sources: CodeBuild user guide, "Allow CodeBuild to interact with other AWS services" and "GitHub App connections";
    aws-cdk issue 38504 and pull request 37522 (UseConnection), pull request 12213 (a project with a log group of its
    own is granted CreateLogStream and PutLogEvents); ECR user guide, "IAM permissions for pushing an image" and
    "Private registry authentication", and for layers and bases that are pulled, "Example 2: Pull".
    """
    pull_and_push = NAMES.arn("ecr", f"repository/{NAMES.prefix}builder")
    output = f"arn:aws:s3:::{NAMES.prefix}data-{NAMES.account}-{REGION}/run-command/1/stdout"
    return {
        "deploy_role": [
            *_logs(f"/aws/codebuild/{project}"),
            *(
                Need(f"codeconnections:{verb}", connection)
                for verb in ("GetConnection", "GetConnectionToken", "UseConnection")
            ),
        ],
        "build_runner_role": [
            *_logs(f"/tinyllama/{ENV}/build-runner"),
            Need("ecr:GetAuthorizationToken", "*"),
            *(Need(f"ecr:{verb}", pull_and_push) for verb in (*PUSHING, *PULLING)),
            Need("s3:PutObject", output),
            *AGENT,
        ],
        "github_role": [
            Need("codebuild:StartBuild", NAMES.arn("codebuild", f"project/{project}")),
            Need("codebuild:BatchGetBuilds", NAMES.arn("codebuild", f"project/{project}")),
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
    for project in client(endpoint, "codebuild").list_projects()["projects"]:
        (connection,) = client(endpoint, "codeconnections").list_connections()["Connections"]
        found |= _delivery(project, connection["ConnectionArn"])
    return {**found, "node_role": [*_logs(f"/tinyllama/{ENV}/node"), kept, *AGENT]}

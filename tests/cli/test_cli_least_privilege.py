"""The printed policies and those of our roles allow what is really called, and nothing that isn't argued here besides.

One life of an env on a strict cloud: planned, built, looked at, asked, changed from outside, put right, taken down. The
cloud writes down every call with its caller: each command signs with a key of its own, functions sign with their role's
credentials, a node with its instance's id. What IAM would check for each call comes from `aistratus.permissions`.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cli_parts import REGION, Person, client, eventually, node_state, session_plugin
from policy_judges import (
    Case,
    by_ourselves,
    by_the_simulator,
    context_of,
    simulator_is_there,
    unknown_to_the_simulator,
)

from aistratus import wire
from aistratus.cli.app import app
from aistratus.local import process, sshd
from aistratus.permissions import Need, needs
from aistratus.policies import Document, Names
from aistratus.settings import Settings

ENV = "least"
NAMES = Names("aws", "123456789012", REGION, ENV)
COMMANDS = tuple(
    command
    for command in (
        "plan",
        "up",
        "status",
        "chat",
        "login",
        "whoami",
        "logout",
        "user",
        "queue",
        "secret",
        "node",
        "model",
        "cost",
        "logs",
        "doctor",
        "down",
    )
    if command in {one.name for one in (*app.registered_commands, *app.registered_groups)}
)
A_DAY_S = 86_400

EVERYTHING_ON = {
    "network": {"AISTRATUS_NETWORK__ENABLE_NAT_GW": "true"},
    "router": {"AISTRATUS_ROUTER__PROVISIONED_CONCURRENCY": "1", "AISTRATUS_ROUTER__WARM_MINUTES": "5"},
    "delivery": {"AISTRATUS_DELIVERY__REPOSITORY": "ann/llm"},
    "auth": {"AISTRATUS_AUTH__OPERATOR_EMAIL": "ann@example.com"},
    "node": {"AISTRATUS_NODE__ANSWER_ON_CPU": "true"},
}
"""What is off by default, by the settings' table."""

Judge = Callable[[Sequence[Document], Sequence[Case]], list[bool]]


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
    request = json.loads(run("chat", "How do I stop the GPU?", "-o", "json"))["request_id"]
    run("logs", "--request", request)  # looks through all of them
    _deep_health(person, api)
    run("doctor")
    if "secret" in COMMANDS:
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
    if "queue" in COMMANDS:
        _send_again(endpoint, "jobs")
        run("queue", "health", by=elsewhere)
        _send_again(endpoint, "jobs-dlq")
        run("queue", "redrive", "-y", by=elsewhere)
    run("chat", "Are you awake?")
    _change(endpoint, tags)
    run("up", "-y")
    _functions(endpoint)
    if "delivery" in Settings.model_fields:
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


@dataclass(frozen=True)
class Piece:
    """One statement of a policy, for one of its resources."""

    statement: int
    resource: str


def _pieces(policy: Document) -> list[Piece]:
    return [
        Piece(index, resource)
        for index, one in enumerate(policy["Statement"])
        for resource in ([one["Resource"]] if isinstance(one["Resource"], str) else one["Resource"])
    ]


def _allowing(judge: Judge, policy: Document, needed: list[tuple[Need, Any]]) -> list[set[Piece]]:
    """For each need, the pieces of the policy that allow it."""
    pieces = _pieces(policy)
    alone = [
        {**policy, "Statement": [{**policy["Statement"][piece.statement], "Resource": [piece.resource]}]}
        for piece in pieces
    ]
    numbered = [
        (number, Case((index,), need, context))
        for number, (need, context) in enumerate(needed)
        for index, piece in enumerate(pieces)
        if need.action in policy["Statement"][piece.statement]["Action"]
    ]
    allowing: list[set[Piece]] = [set() for _ in needed]
    for (number, case), yes in zip(numbered, judge(alone, [case for _, case in numbered]), strict=True):
        if yes:
            allowing[number].add(pieces[case.documents[0]])
    return allowing


def _unneeded(policy: Document, needed: list[tuple[Need, Any]], allowing: list[set[Piece]]) -> Iterator[str]:
    """What can go without any need being denied: actions, and `ACTIONS on RESOURCE` where the statement can't go."""
    resources: set[Piece] = set()
    actions: set[tuple[int, str]] = set()
    for (need, _), pieces in zip(needed, allowing, strict=True):
        resources |= pieces if len(pieces) == 1 else set()
        used = {piece.statement for piece in pieces}
        actions |= {(index, need.action) for index in used} if len(used) == 1 else set()
    for index, one in enumerate(policy["Statement"]):
        yield from (action for action in one["Action"] if (index, action) not in actions)
    kept = {index for index, _ in actions}
    for piece in _pieces(policy):
        if piece.statement in kept and piece not in resources:
            yield f"{' '.join(policy['Statement'][piece.statement]['Action'])} on {piece.resource}"


def _named(service: str, verbs: str) -> set[str]:
    return {f"{service}:{verb}" for verb in verbs.split()}


REPAIRS = {
    *_named("codebuild", "UpdateProject"),
    *_named("cognito-idp", "AdminDisableUser AdminEnableUser AdminRemoveUserFromGroup AdminUpdateUserAttributes "
            " SetUserPoolMfaConfig TagResource UpdateGroup UpdateUserPool UpdateUserPoolClient"),
    *_named("dynamodb", "UpdateTable"),
    *_named("ec2", "AssociateIamInstanceProfile AuthorizeSecurityGroupEgress AuthorizeSecurityGroupIngress "
            "DeleteNetworkInterface DeleteRoute DeleteVolume DescribeIamInstanceProfileAssociations "
            "DisassociateAddress DisassociateIamInstanceProfile ModifyInstanceMetadataOptions ModifyVolume "
            "ModifyVpcEndpoint "
            "ReplaceIamInstanceProfileAssociation ReplaceRoute ReplaceRouteTableAssociation RevokeSecurityGroupEgress "
            "RevokeSecurityGroupIngress StartInstances StopInstances UpdateSecurityGroupRuleDescriptionsEgress "
            "UpdateSecurityGroupRuleDescriptionsIngress"),
    *_named("ecr", "PutImageScanningConfiguration PutImageTagMutability"),
    *_named("iam", "AddClientIDToOpenIDConnectProvider DetachRolePolicy RemoveClientIDFromOpenIDConnectProvider "
            "UntagOpenIDConnectProvider UpdateAssumeRolePolicy UpdateRole"),
    *_named("lambda", "UpdateFunctionCode UpdateFunctionConfiguration"),
    *_named("s3", "AbortMultipartUpload DeleteObject PutBucketTagging"),
    *_named("scheduler", "UpdateSchedule"),
    *_named("secretsmanager", "RestoreSecret UpdateSecret"),
    # A project is given its connection with the first `up` after a person has completed that.
    *_named("codeconnections", "PassConnection"),
}  # fmt: skip
"""What `up` and `down` do only to what has been changed from outside, by settings or by a crash.

This life has one change a service. Each field is changed in `tests/converge/`, without policies. That the policy has no
action which the code doesn't make, and none on resources that its own checks don't name, is tested in
`tests/unit/test_permissions.py`.
"""

NOT_SEEN: Mapping[str, set[str]] = {
    "up": REPAIRS,
    "down": REPAIRS,
    # A token is there, or the operator's password is known, by the time that they are run here.
    "chat": _named("cognito-idp", "AdminGetUser"),
    "whoami": _named("cognito-idp", "AdminGetUser AdminSetUserPassword")
    | _named("ssm", "AddTagsToResource PutParameter"),
    # Nothing was given up in this life, so that nothing is put back.
    "queue": _named("cognito-idp", "AdminGetUser AdminSetUserPassword")
    | _named("ssm", "AddTagsToResource PutParameter")
    | _named("sqs", "SendMessage"),
    # Nothing was interrupted, and a token was there.
    "node": _named("ssm", "CancelCommand AddTagsToResource PutParameter")
    | _named("cognito-idp", "AdminGetUser AdminInitiateAuth AdminSetUserPassword")
    | (set() if sshd.program() else {"ec2:GetConsoleOutput", "ssm:StartSession"}),
    # A large model is sent in parts; what was sent of one that breaks off is taken back.
    "model": _named("s3", "AbortMultipartUpload"),
    # The caller is a user here, not a role.
    "doctor": _named("iam", "GetRole"),
    # What a node does after a failure.
    "node_role": _named("sqs", "ChangeMessageVisibility GetQueueAttributes") | _named("dynamodb", "GetItem"),
    # No change of type is left to it in this life; `tests/converge/test_stop_build_box.py` has one.
    "stop_build_box_role": _named("lambda", "InvokeFunction"),
    # A prompt that can't be queued is taken back.
    "router_role": _named("dynamodb", "DeleteItem"),
}  # fmt: skip
"""Actions that no call of this caller needs here, each with the reason."""

RESOURCES_NOT_SEEN = (
    ("up", "ec2:CreateTags on ", "tags are put back on one resource here, but any may have lost one"),
    (
        "down",
        "ssm:GetParametersByPath on ",
        "IAM's examples name the path and what is under it, a slash at its end or not",
    ),
    ("doctor", "iam:SimulatePrincipalPolicy on ", "the caller is a user here, not a role"),
    ("deploy_role", "lambda:", "whether a call with a qualifier is checked for the function or for its version"),
)
"""Resources that no call of this caller needs here: what is told of them begins so, and why."""


def _argued(life: Life, caller: str, what: str) -> bool:
    """Is there a reason for what isn't needed here? Commands that look share the reconcilers' reads with `down`."""
    if any(caller == who and what.startswith(begin) for who, begin, _ in RESOURCES_NOT_SEEN):
        return True
    if what in NOT_SEEN.get(caller, set()):
        return True
    shared = {"plan": ("up", "down"), "status": ("up", "down"), "up": ("down",), "down": ("up",)}.get(caller, ())
    return any(what == need.action for other in shared for need, _ in checks(life, other))


@pytest.mark.parametrize("judge", JUDGES)
def test_every_call_is_allowed_and_nothing_is_superfluous(life: Life, judge: Judge) -> None:
    told: list[str] = []
    for caller, policy in life.policies.items():
        all_needed = checks(life, caller)
        needed = known(judge, all_needed)
        assert needed, f"{caller} made no call"
        allowing = _allowing(judge, policy, needed)
        told += [
            f"{caller}: {need.action} on {need.resource} is denied ({dict(context)})"
            for (need, context), pieces in zip(needed, allowing, strict=True)
            if not pieces
        ]
        only_ours = {need.action for need, context in all_needed if (need, context) not in needed}
        told += [
            f"{caller}: nothing needs {what}"
            for what in _unneeded(policy, needed, allowing)
            if not _argued(life, caller, what) and not only_ours & set(what.split())
        ]
    assert told == []


def test_each_repair_is_one_that_up_may_do_and_has_not_done(life: Life) -> None:
    allowed = {action for one in life.policies["up"]["Statement"] for action in one["Action"]}
    done = {need.action for caller in ("up", "down") for need, _ in checks(life, caller)}
    assert REPAIRS - allowed == set()
    assert REPAIRS & done == set()


def test_every_caller_has_a_policy(life: Life) -> None:
    ours = set(life.calls) - {"x", "witness"}
    assert ours - set(life.policies) - {""} == set()

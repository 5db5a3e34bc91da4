"""The least policy of the operator, for one command or for all.

It is computed from the operations that the command's code makes and from what IAM checks for each (`operations.py`).
`tests/cli/test_cli_least_privilege.py` records every call of every command and has policy evaluators judge that none is
denied, and that no statement, action or resource can be removed, except those that are justified there one by one.
`tests/cli/test_cli_policy_limits.py` has them judge that resources of other envs and of others can't be changed.

Actions share a statement only if their checks name exactly the same resources under the same condition. IAM would
otherwise allow each of them on the other's resources, for example `iam:PutRolePolicy` on every role because
`iam:SimulatePrincipalPolicy` needs that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final

from aistratus.core.graph import Stack
from aistratus.core.resource import kinds as known_kinds
from aistratus.permissions import resource_types as t
from aistratus.permissions.check import Check
from aistratus.permissions.operations import OPERATIONS
from aistratus.policies import Document, Names, allow, document
from aistratus.trace import READS

MANAGED_POLICY_CHARACTERS: Final = 6_144
"""Size limit of a managed policy, without white space. Source: IAM user guide, "IAM and AWS STS quotas"."""

REMOVES = re.compile(r"^(Admin)?(Delete|Remove|Detach|Disassociate|Terminate|Release|Revoke|Abort|Unsubscribe)")
"""Operations that remove something, by the verb in their name."""

LEDGER: Final = frozenset({"ssm:GetParameters"})
"""All commands but `logs` and `doctor` read the env's ledger."""
RECORD: Final = frozenset({"dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"})
"""`up` records standing costs; `down` reads the cost record before it is deleted."""
LOCK: Final = frozenset({"ssm:GetParameters", "ssm:PutParameter", "ssm:DeleteParameters", "ssm:GetParametersByPath"})
"""`up` and `down` hold the env's lock and keep its ledger."""

SIGN_IN: Final = frozenset(
    {"ssm:GetParameters", "ssm:PutParameter", "cognito-idp:AdminInitiateAuth", "cognito-idp:AdminSetUserPassword",
     "cognito-idp:AdminGetUser"}
)  # fmt: skip
"""The operator's sign-in at the API."""

ONLY: Final[Mapping[str, frozenset[str]]] = {
    "chat": SIGN_IN,
    "queue": SIGN_IN
    | {"sqs:GetQueueAttributes", "sqs:ReceiveMessage", "sqs:ChangeMessageVisibilityBatch", "sqs:SendMessage",
       "sqs:DeleteMessage", "dynamodb:GetItem", "dynamodb:UpdateItem"},
    "secret": frozenset(
        {"secretsmanager:DescribeSecret", "secretsmanager:ListSecretVersionIds", "secretsmanager:PutSecretValue"}
    ),
    "node": SIGN_IN
    | {"ec2:DescribeInstances", "ec2:StartInstances", "ec2:StopInstances", "dynamodb:GetItem", "dynamodb:UpdateItem",
       # how it is reached: commands and their output, sessions for SSH, the host key on the console
       "ssm:DescribeInstanceInformation", "ssm:SendCommand", "ssm:ListCommands", "ssm:GetCommandInvocation",
       "ssm:CancelCommand", "ssm:StartSession", "ec2:GetConsoleOutput", "s3:GetObject",
       # its shape and its limits
       "ec2:ModifyInstanceAttribute", "ec2:DescribeInstanceTypeOfferings", "service-quotas:GetServiceQuota",
       "sqs:GetQueueAttributes"},
    "model": frozenset(
        {"ssm:GetParameters", "ec2:DescribeInstances", "ec2:DescribeInstanceTypes", "ec2:DescribeVolumes",
         "s3:ListObjectsV2", "s3:HeadObject", "s3:GetObject", "s3:PutObject", "s3:CreateMultipartUpload",
         "s3:UploadPart", "s3:CompleteMultipartUpload",
         "s3:AbortMultipartUpload", "s3:ListObjectVersions", "s3:DeleteObjects", "dynamodb:GetItem",
         "dynamodb:UpdateItem"}
    ),
    "cost": frozenset(
        {"ssm:GetParameters", "ec2:DescribeInstances", "ec2:StopInstances", "dynamodb:BatchGetItem",
         "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem", "budgets:DescribeBudget",
         "ce:GetCostAndUsage", "cloudwatch:GetMetricStatistics", "pricing:GetProducts"}
    ),
    "login": LEDGER,
    "whoami": SIGN_IN,
    "logout": LEDGER,
    "user": LEDGER
    | {"cognito-idp:ListUsers", "cognito-idp:ListUsersInGroup", "cognito-idp:AdminCreateUser",
       "cognito-idp:AdminAddUserToGroup", "cognito-idp:AdminDeleteUser", "cognito-idp:AdminSetUserPassword"},
    "logs": frozenset({"logs:FilterLogEvents"}),
    "doctor": frozenset(
        {"iam:ListAccountAliases", "iam:GetRole", "iam:SimulatePrincipalPolicy", "service-quotas:GetServiceQuota",
         "ec2:DescribeVpcs", "ec2:DescribeAddresses", "budgets:DescribeBudget", "ce:ListCostAllocationTags"}
    ),
}  # fmt: skip
"""Operations of the commands that don't look at the whole stack."""

NEVER: Final[Mapping[str, frozenset[tuple[str, t.ResourceType]]]] = {
    "node": frozenset({("ec2:ModifyInstanceAttribute", t.SECURITY_GROUP), ("ec2:RunInstances", t.KEY_PAIR)}),
    "model": frozenset({("s3:DeleteObject", t.OBJECT)}),
}
"""Checks that a command's own calls never need: `node` changes a machine's type, not its security groups, and starts a
builder without a key pair; `model` deletes all versions of a model, each by its id."""

BUILDING: Final = frozenset(
    {"ec2:RunInstances", "ec2:TerminateInstances", "ec2:DescribeImages", "ec2:DescribeInstanceAttribute",
     "ssm:GetParameter"}
)  # fmt: skip
"""`node build` starts a machine and terminates it, where the env builds images."""

STATUS: Final = frozenset({"sqs:GetQueueAttributes", "dynamodb:GetItem"})
"""`status` reads the queues' lengths and the worker's heartbeat; `up --wait` waits for the heartbeat."""

PROGRAMS: Final = frozenset(
    {"dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem", "dynamodb:Query", "sqs:SendMessage",
     "sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:ChangeMessageVisibilityBatch",
     "logs:CreateLogStream", "logs:PutLogEvents", "lambda:Invoke", "secretsmanager:GetSecretValue", "sns:Publish",
     "cloudwatch:GetMetricStatistics", "budgets:DescribeBudget", "dynamodb:BatchGetItem"}
)  # fmt: skip
"""Operations of the router, the functions and the worker only, whose roles `policies.py` defines."""

DECLARED: Final[Mapping[str, str]] = {
    "iam:AttachRolePolicy": "Role.managed",
    "iam:PutRolePermissionsBoundary": "Role.permissions_boundary",
    "lambda:PutProvisionedConcurrencyConfig": "Alias.provisioned",
    "lambda:PutFunctionConcurrency": "Function.reserved_concurrency",
    "dynamodb:DescribeContinuousBackups": "Table.point_in_time_recovery",
    "dynamodb:UpdateContinuousBackups": "Table.point_in_time_recovery",
}
"""Operations that are made only where the stack declares this field."""

KINDS: Final[Mapping[str, str]] = {
    r"ec2:.*NatGateway": "NatGateway",
    r"ec2:(Allocate|Release|Disassociate)Address": "ElasticIp",
    r"secretsmanager:": "Secret",
    r"sns:": "Topic",
    r"cloudwatch:.*Alarm": "Alarm",
    r"cloudwatch:.*Dashboard": "Dashboard",
    r"cloudwatch:": "Alarm",
    r"logs:.*MetricFilter": "MetricFilter",
    r"budgets:": "Budget",
    r"events:": "EventRule",
    r"scheduler:.*Schedule$": "Schedule",
    r"scheduler:": "ScheduleGroup",
    r"codebuild:": "BuildProject",
    r"ecr:": "Repository",
    r"codeconnections:": "Connection",
    r"iam:.*OpenIDConnectProvider": "OidcProvider",
}
"""Kinds that not every env declares, by their operations.

Creating one is granted only where the stack declares it. Finding and removing it are always granted, because it may
have been declared before.
"""


def declared(stack: Stack) -> frozenset[str]:
    """The kinds of a stack and their fields that are set, be it to false: `Role`, `Role.inline`, …"""
    kinds = {resource.kind for resource in stack.resources}
    fields = {
        f"{one.kind}.{name}" for one in stack.resources for name, value in one.wanted() if value or value is False
    }
    return frozenset(kinds | fields)


def operations(command: str, features: frozenset[str]) -> frozenset[str]:
    """The operations of a command on a stack that declares this (see `declared`)."""
    if command in ONLY:
        return ONLY[command] | (BUILDING if command == "node" and "Repository" in features else frozenset())
    single = frozenset[str]().union(*ONLY.values()) - ALSO_PROVISIONING
    shared = {name for name in OPERATIONS if _possible(name, features)} - PROGRAMS - single - LOCK - STATUS
    reads = {name for name in shared if READS.match(_verb(name))} | {"sqs:GetQueueAttributes"}
    if command == "plan":
        return frozenset(reads - BEFORE_WRITING - BEFORE_REMOVING | LEDGER)
    if command == "status":
        return frozenset(reads - BEFORE_WRITING - BEFORE_REMOVING | LEDGER | STATUS)
    if command == "down":
        removing = {name for name in shared if REMOVES.match(_verb(name))}
        return frozenset(reads - BEFORE_WRITING | removing | LOCK | {"dynamodb:BatchGetItem"})
    return frozenset(shared | LOCK | STATUS | RECORD)


def _possible(operation: str, features: frozenset[str]) -> bool:
    """Whether this operation is made on a stack that declares these features."""
    if operation in DECLARED:
        return DECLARED[operation] in features
    kind = kind_of(operation)
    if kind is None or kind in features:
        return True
    looks = READS.match(_verb(operation)) or REMOVES.match(_verb(operation))
    return bool(looks) and kind in {known.__name__ for known in known_kinds()}


def kind_of(operation: str) -> str | None:
    """The kind for which alone an operation is made; `None` for those that every env needs."""
    return next((kind for pattern, kind in KINDS.items() if re.match(pattern, operation)), None)


ALSO_PROVISIONING: Final = frozenset(
    {"ec2:DescribeVpcs", "ec2:DescribeAddresses", "ec2:DescribeInstances", "ec2:DescribeVolumes", "ec2:StartInstances",
     "ec2:StopInstances", "ec2:ModifyInstanceAttribute", "s3:HeadObject", "s3:GetObject", "s3:PutObject",
     "s3:AbortMultipartUpload", "s3:ListObjectVersions", "s3:DeleteObjects",
     "cognito-idp:AdminGetUser", "cognito-idp:AdminCreateUser",
     "cognito-idp:AdminAddUserToGroup", "cognito-idp:AdminDeleteUser", "secretsmanager:DescribeSecret"}
)  # fmt: skip
"""Operations of single commands that reconcilers also make."""

BEFORE_REMOVING: Final = frozenset(
    {"iam:ListAttachedRolePolicies", "iam:ListRolePolicies", "iam:ListInstanceProfilesForRole"}
)
"""Read only before something is removed."""

BEFORE_WRITING: Final = frozenset(
    {"ssm:GetParameter", "ec2:DescribeImages", "ec2:DescribeIamInstanceProfileAssociations"}
)
"""Read only before something is created or changed."""

COMMANDS: Final = (
    "up", "down", "plan", "status", "chat", "login", "whoami", "logout", "user", "queue", "secret", "node", "model",
    "cost", "logs", "doctor",
)  # fmt: skip


def _verb(operation: str) -> str:
    return operation.partition(":")[2]


# --- statements -----------------------------------------------------------------------------------------------------

Condition = tuple[tuple[str, tuple[str, ...]], ...]
"""Condition keys, each with the values that it may have; in order, so that equal ones are equal."""


@dataclass
class _Grant:
    """The resources on which one action is allowed, and the condition values under which it is."""

    resources: set[str] = field(default_factory=set)
    condition: dict[str, set[str]] = field(default_factory=dict)

    def terms(self) -> tuple[tuple[str, ...], Condition]:
        """Actions that share a statement have this in common."""
        condition = tuple((key, tuple(sorted(values))) for key, values in sorted(self.condition.items()))
        return tuple(sorted(_uncovered(self.resources))), condition


def _uncovered(patterns: set[str]) -> Iterator[str]:
    """The patterns that no other of them covers."""
    for pattern in patterns:
        if not any(fnmatchcase(pattern, other) for other in patterns - {pattern}):
            yield pattern


def operator(names: Names, stack: Stack, *, command: str | None = None) -> Document:
    """The policy for a command on this stack, or for all commands."""
    grants: dict[tuple[str, ...], _Grant] = {}
    for check in checks(stack, COMMANDS if command is None else (command,)):
        resources = reach(names, stack, check)
        if not resources:
            continue
        wanted = list(_condition(names, check))
        grant = grants.setdefault((check.action, *(key for key, _ in wanted)), _Grant())
        grant.resources.update(resources)
        for key, value in wanted:
            grant.condition.setdefault(key, set()).add(value)
    shared: dict[tuple[tuple[str, ...], Condition], set[str]] = {}
    for (action, *_), grant in grants.items():
        shared.setdefault(grant.terms(), set()).add(action)
    return document(*(_statement(actions, *terms) for terms, actions in sorted(shared.items())))


def checks(stack: Stack, commands: Iterable[str]) -> Iterator[Check]:
    """Everything that IAM checks for any call of these commands on this stack."""
    features = declared(stack)
    made = {one: operations(one, features) for one in commands}
    for operation in sorted(frozenset[str]().union(*made.values())):
        for check in OPERATIONS[operation]:
            part = (check.action, check.resource)
            if check.by != "program" and any(operation in made[one] and part not in NEVER.get(one, ()) for one in made):
                yield check


def reach(names: Names, stack: Stack, check: Check) -> tuple[str, ...]:
    """The resources that a check is about, as patterns of ARNs; none where this stack never comes to it.

    A connection that the settings name is the only one that is handed to builds. Its ARN tells which of the service's
    two names AWS checks for.
    """
    service, _, verb = check.action.partition(":")
    if verb != "PassConnection":
        return tuple(check.resource.of_env(names))
    given = [connection for connection in _connections(stack) if isinstance(connection, str)]
    if not given:
        return tuple(check.resource.of_env(names)) if service == "codeconnections" else ()
    return tuple(arn for arn in given if arn.split(":")[2] == service)


def _connections(stack: Stack) -> Iterator[object]:
    """The connection by which builds read the repository: an ARN from the settings, or the env's own connection."""
    return (dict(one.wanted()).get("connection") for one in stack.resources if one.kind == "BuildProject")


def _condition(names: Names, check: Check) -> Iterator[tuple[str, str]]:
    """The condition keys and values of a check."""
    made = check.state == "made"
    if check.resource.tagged or (check.resource is t.EVERYTHING and made):
        where = "aws:RequestTag" if made else "aws:ResourceTag"
        yield f"{where}/Project", "tinyllama"
        yield f"{where}/Env", names.env
    yield from check.context


def _statement(actions: Iterable[str], resources: Iterable[str], condition: Condition) -> Document:
    equals = {key: values[0] if len(values) == 1 else list(values) for key, values in condition}
    return allow(sorted(actions), *resources, **({"StringEquals": equals} if equals else {}))


# --- size -------------------------------------------------------------------------------------------------------------


def size(policy: Document) -> int:
    """The policy's length as IAM counts it: white space is free."""
    return len(re.sub(r"\s", "", json.dumps(policy, separators=(",", ":"))))


def parts(policy: Document, *, limit: int = MANAGED_POLICY_CHARACTERS) -> list[Document]:
    """The policy in as few documents as needed, so that each fits a managed policy; together they allow the same.

    Raises:
        ValueError: one statement alone is too long.
    """
    made: list[list[Document]] = [[]]
    for statement in sorted(policy["Statement"], key=lambda one: -len(json.dumps(one))):
        if size(document(statement)) > limit:
            raise ValueError(f"a statement of {size(document(statement))} characters fits no policy")
        fitting = next((part for part in made if size(document(*part, statement)) <= limit), None)
        if fitting is None:
            made.append(fitting := [])
        fitting.append(statement)
    return [document(*part) for part in made]


# --- questions for IAM's simulator ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """Actions that one simulation asks for: on these resources, in this context."""

    actions: tuple[str, ...]
    resources: tuple[str, ...]
    context: Mapping[str, str]


def asked(names: Names, stack: Stack) -> Iterator[Asked]:
    """What a caller must be allowed to do, as questions: on examples of the env's resources, tagged as ours."""
    grouped: dict[tuple[tuple[str, ...], tuple[tuple[str, str], ...]], set[str]] = {}
    for check in checks(stack, COMMANDS):
        examples = tuple(
            pattern if pattern == "*" else pattern.replace("*", "example") for pattern in reach(names, stack, check)
        )
        if examples:
            context = tuple(sorted(dict(_condition(names, check)).items()))
            grouped.setdefault((examples, context), set()).add(check.action)
    for (resources, context), actions in sorted(grouped.items()):
        yield Asked(tuple(sorted(actions)), resources, dict(context))

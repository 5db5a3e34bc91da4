"""The printed policies and our roles' policies allow every recorded call, and nothing else without a reason given here.

The calls are those of one whole life of an env (`recorded_life.py`). What IAM checks for each call comes from
`aistratus.permissions`; two policy evaluators judge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from cli_parts import Person
from policy_judges import (
    Case,
    by_ourselves,
    by_the_simulator,
    context_of,
    simulator_is_there,
    unknown_to_the_simulator,
)
from recorded_life import ENV, NAMES, Life, live

from aistratus.local import process, sshd
from aistratus.permissions import Need, needs
from aistratus.policies import Document

Judge = Callable[[Sequence[Document], Sequence[Case]], list[bool]]


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    state_dir, home = tmp_path_factory.mktemp("cloud"), tmp_path_factory.mktemp("home")
    endpoint = process.ensure(state_dir=state_dir, strict=True).endpoint
    try:
        yield live(endpoint, Person(home, {"AWS_ENDPOINT_URL": endpoint, "AWS_SECRET_ACCESS_KEY": "x"}))
    finally:
        process.stop(state_dir)


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

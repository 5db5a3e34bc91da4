"""Checks for what would stop `up`: one finding for each obstacle, with what to do about it.

Nothing is changed, and a check that isn't permitted becomes a finding of its own and doesn't end the others. `up` runs
only the checks that make no call (`preflight`): a permission that can't be checked may be granted all the same.
"""

from __future__ import annotations

import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal

from aistratus.cloud import Cloud
from aistratus.core.errors import Failure, error_message
from aistratus.core.graph import Stack
from aistratus.costs import tags
from aistratus.explain import explain
from aistratus.node.resize import gpu_quota, quota_page
from aistratus.node.room import require_volume
from aistratus.permissions import Asked, asked
from aistratus.policies import Names
from aistratus.resources import budgets
from aistratus.resources.calls import unless_gone
from aistratus.settings import REGION_ELSEWHERE, Settings

SKEW_TOLERATED_S: Final = 60
SKEW_REFUSED_S: Final = 300
"""Seconds by which a request's time may be off. Source: IAM user guide, "Signature Version 4", five minutes."""

PARTITIONS: Final = frozenset({"aws", "aws-us-gov"})
"""Partitions whose endpoints are under amazonaws.com, as the router's calls and token issuers assume."""

GPU_VCPUS: Final = 4
"""vCPUs of the smallest GPU node, g4dn.xlarge. Source: EC2's list of instance types."""

REACHED_WITHIN_S: Final = 10
SIMULATIONS_AT_ONCE: Final = 4
"""IAM throttles the simulator early."""
ACTIONS_AT_ONCE: Final = 100

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """The result of one check, and what to do about it."""

    check: str
    state: State
    what: str
    todo: str = ""


Look = Callable[[], Finding]


@dataclass(frozen=True)
class Patient:
    """What is checked: an env's settings and cloud, and the caller's identity."""

    settings: Settings
    cloud: Cloud
    stack: Callable[[], Stack]
    """Built lazily, because invalid settings may be what is wrong."""
    names: Names
    caller: Mapping[str, Any]


# --- without a call ---------------------------------------------------------------------------------------------------


def preflight(region: str, caller: Mapping[str, Any]) -> None:
    """The checks of `up` before its first change.

    Raises:
        Failure: the region can't be one, or this machine's clock is so wrong that AWS will refuse what is signed by it.
    """
    for finding in (check_region(region), check_clock(caller)):
        if finding.state == "fail":
            raise Failure(finding.what, todo=finding.todo)


def check_region(region: str) -> Finding:
    """Checks that the SDK knows this region, and that the stack can be built there."""
    import botocore.session
    from botocore.exceptions import UnknownRegionError

    session = botocore.session.get_session()
    try:
        partition = session.get_partition_for_region(region)
    except UnknownRegionError:
        return Finding("region", "fail", f"there is no AWS region {region!r}", "set `region`, for example eu-central-1")
    if partition not in PARTITIONS:
        what = f"{region} can't be used: {REGION_ELSEWHERE}"
        return Finding("region", "fail", what, "choose another `region`, for example eu-central-1")
    if region not in session.get_available_regions("ec2", partition):
        todo = "check its name; a new one needs a newer boto3"
        return Finding("region", "warn", f"{region}: this boto3 doesn't know it", todo)
    return Finding("region", "ok", region)


def check_clock(caller: Mapping[str, Any]) -> Finding:
    """Checks this machine's clock against AWS's."""
    told = caller.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    if not told:
        return Finding("clock", "warn", "not compared: AWS's answer had no time")
    skew = abs((datetime.now(UTC) - parsedate_to_datetime(told)).total_seconds())
    if skew >= SKEW_REFUSED_S:
        return Finding(
            "clock", "fail", f"this machine's clock is {skew:.0f} s off: AWS refuses requests", "set the clock"
        )
    if skew >= SKEW_TOLERATED_S:
        return Finding("clock", "warn", f"this machine's clock is {skew:.0f} s off", "set the clock")
    return Finding("clock", "ok", f"right to {max(1, round(skew))} s")


def check_versions() -> Finding:
    """The versions of the programs that run here."""
    import boto3

    from aistratus import __version__

    python = ".".join(str(part) for part in sys.version_info[:3])
    return Finding("versions", "ok", f"aistratus {__version__}, Python {python}, boto3 {boto3.__version__}")


def check_session_plugin() -> Finding:
    """Checks for the plugin that the AWS command line needs for a shell on the node."""
    if shutil.which("session-manager-plugin"):
        return Finding("ssm plugin", "ok", "session-manager-plugin is there")
    return Finding(
        "ssm plugin",
        "warn",
        "session-manager-plugin isn't installed: no shell on the node by way of SSM",
        "install it if you want one; everything else works without",
    )


def check_model(settings: Settings) -> Finding:
    """Checks that the model is where the settings say."""
    model = settings.model
    if model.path is not None:
        if model.path.is_file():
            return _model_with_room(f"{model.path.name} is there", settings, model.path.stat().st_size)
        return Finding("model", "fail", f"{model.path} isn't there", "set model.path, or take it away to use model.url")
    request = urllib.request.Request(model.url, method="HEAD")  # noqa: S310 - settings take https only
    try:
        with urllib.request.urlopen(request, timeout=REACHED_WITHIN_S) as answer:  # noqa: S310 - https only # nosec B310
            return _model_with_room(f"{model.url} answers", settings, int(answer.headers.get("Content-Length") or 0))
    except urllib.error.HTTPError as error:
        return Finding("model", "fail", f"{model.url} answers {error.code}", "set model.url and model.sha256")
    except OSError as error:
        why = getattr(error, "reason", error)
        todo = "the node fetches it, not this machine: only the node's own way out counts"
        return Finding("model", "warn", f"{model.url} can't be reached from here: {why}", todo)


def _model_with_room(what: str, settings: Settings, size: int) -> Finding:
    """It is there; does it fit on the node's volume?"""
    try:
        require_volume("of the settings", size, settings.node.volume_gib)
    except Failure as failure:
        return Finding("model", "fail", failure.what, failure.todo)
    return Finding("model", "ok", what)


# --- identity ---------------------------------------------------------------------------------------------------------


def check_identity(patient: Patient) -> Finding:
    """The caller's identity."""
    identity = patient.cloud.identity
    who = identity.arn.rpartition(":")[2]
    if who == "root":
        todo = "use a role or a user instead: nobody can limit what this one may do"
        return Finding("identity", "warn", f"root of account {identity.account}", todo)
    return Finding("identity", "ok", f"{who} in account {identity.account}")


def check_alias(patient: Patient) -> Finding:
    """The account's alias."""
    aliases = patient.cloud.iam.list_account_aliases()["AccountAliases"]
    return Finding("account", "ok", aliases[0] if aliases else f"{patient.cloud.account} (no alias)")


# --- permissions ------------------------------------------------------------------------------------------------------


def check_permissions(patient: Patient) -> Finding:
    """Checks the caller's permissions for all commands, with IAM's policy simulator."""
    principal = _principal(patient.cloud)
    if principal is None:
        return Finding("permissions", "ok", "the root user may do everything")
    questions = list(asked(patient.names, patient.stack()))
    with ThreadPoolExecutor(max_workers=SIMULATIONS_AT_ONCE, thread_name_prefix="simulate") as pool:
        denied = sorted(
            {one for found in pool.map(lambda q: _denied(patient.cloud, principal, q), questions) for one in found}
        )
    if not denied:
        return Finding("permissions", "ok", f"{sum(len(q.actions) for q in questions)} actions are allowed")
    named = ", ".join(denied[:5]) + (f" and {len(denied) - 5} more" if len(denied) > 5 else "")
    todo = "`aistratus iam policy` prints what is needed; each denial names its statement"
    return Finding("permissions", "fail", f"{len(denied)} aren't allowed: {named}", todo)


def _principal(aws: Cloud) -> str | None:
    """The ARN of the caller's user or role; `None` for the root user, whom no policy limits."""
    arn = aws.identity.arn
    kind, _, name = arn.split(":", 5)[5].partition("/")
    if kind == "root":
        return None
    if kind != "assumed-role":
        return arn.replace(":sts:", ":iam:")
    role = name.partition("/")[0]
    # A session's ARN leaves out the role's path, and roles of IAM Identity Center have one.
    found: str = aws.iam.get_role(RoleName=role)["Role"]["Arn"]
    return found


def _denied(aws: Cloud, principal: str, question: Asked) -> Iterator[str]:
    """The denied actions of one simulation."""
    context = [
        {"ContextKeyName": name, "ContextKeyValues": [value], "ContextKeyType": "string"}
        for name, value in question.context.items()
    ]
    for start in range(0, len(question.actions), ACTIONS_AT_ONCE):
        pages = aws.iam.get_paginator("simulate_principal_policy").paginate(
            PolicySourceArn=principal,
            ActionNames=list(question.actions[start : start + ACTIONS_AT_ONCE]),
            ResourceArns=list(question.resources),
            ContextEntries=context,
        )
        for page in pages:
            for result in page["EvaluationResults"]:
                if result["EvalDecision"] != "allowed":
                    yield str(result["EvalActionName"])


# --- quotas -----------------------------------------------------------------------------------------------------------


def check_gpu_quota(patient: Patient) -> Finding:
    """Checks the quota for a GPU node."""
    vcpus = gpu_quota(patient.cloud)
    if vcpus >= GPU_VCPUS:
        return Finding("gpu quota", "ok", f"{vcpus:.0f} vCPUs of G and VT instances")
    return Finding(
        "gpu quota",
        "warn",
        f"{vcpus:.0f} vCPUs of G and VT instances, a GPU node needs {GPU_VCPUS}",
        f"ask for more: {quota_page(patient.cloud.region)}; a node on CPU needs none",
    )


def check_vpc_quota(patient: Patient) -> Finding:
    """Checks the quota for the env's VPC."""
    limit = _quota(patient.cloud, "vpc", "L-F678F1CE")
    vpcs = [vpc for page in patient.cloud.ec2.get_paginator("describe_vpcs").paginate() for vpc in page["Vpcs"]]
    return _room(patient, "vpc quota", "VPCs", [vpc.get("Tags", []) for vpc in vpcs], limit, "L-F678F1CE", "fail")


def check_address_quota(patient: Patient) -> Finding:
    """Checks the quota for a NAT gateway's address."""
    limit = _quota(patient.cloud, "ec2", "L-0263D0A3")
    held = [address.get("Tags", []) for address in patient.cloud.ec2.describe_addresses()["Addresses"]]
    return _room(patient, "address quota", "Elastic IP addresses", held, limit, "L-0263D0A3", "warn")


def _room(
    patient: Patient, check: str, what: str, held: Sequence[list[dict[str, str]]], limit: float, quota: str, full: State
) -> Finding:
    told = f"{len(held)} of {limit:.0f} {what} in {patient.cloud.region}"
    ours = any(patient.cloud.owns({tag["Key"]: tag["Value"] for tag in tags}) for tags in held)
    if len(held) < limit or ours:
        return Finding(check, "ok", told)
    todo = f"remove one, or ask for more (quota {quota})"
    return Finding(check, full, f"{told}: there is no room for ours", todo)


def _quota(aws: Cloud, service: str, code: str) -> float:
    value: float = aws.service_quotas.get_service_quota(ServiceCode=service, QuotaCode=code)["Quota"]["Value"]
    return value


# --- money ------------------------------------------------------------------------------------------------------------


def check_cost_tags(patient: Patient) -> Finding:
    """Checks that AWS attributes costs to the env.

    Its budget tells for nothing if it ever counted something. Only where it hasn't, Cost Explorer is asked, which
    may cost a cent: AWS bills each of its requests. Source: "AWS Cost Explorer pricing".
    """
    from botocore.exceptions import ClientError

    aws, check = patient.cloud, "cost tags"
    named = {"AccountId": aws.account, "BudgetName": aws.name("monthly")}
    budget = unless_gone(budgets.GONE, aws.budgets.describe_budget, **named)
    if budget is None:
        return Finding(check, "ok", "there is no budget yet that would count by them")
    if (usd := budgets.counted_usd(budget["Budget"])) > 0:
        return Finding(check, "ok", f"AWS counts by them: ${usd:.2f} this month")
    try:
        answer = aws.ce.list_cost_allocation_tags(TagKeys=list(tags.TAGS), Type="UserDefined")
    except ClientError as error:
        if (refused := tags.refusal(error_message(error))) is None:
            raise
        return Finding(check, "warn", refused.what, refused.todo)
    found = tags.standing(answer["CostAllocationTags"])
    return Finding(check, "warn" if found.todo else "ok", found.what, found.todo)


# --- all of it --------------------------------------------------------------------------------------------------------

OF_ACCOUNT: Final[Mapping[str, Callable[[Patient], Finding]]] = {
    "identity": check_identity,
    "account": check_alias,
    "permissions": check_permissions,
    "gpu quota": check_gpu_quota,
    "vpc quota": check_vpc_quota,
    "address quota": check_address_quota,
    "cost tags": check_cost_tags,
}


def examine(patient: Patient) -> list[Finding]:
    """All checks of an account that can be reached."""
    looks: dict[str, Look] = {
        "region": lambda: check_region(patient.cloud.region),
        "clock": lambda: check_clock(patient.caller),
        "model": lambda: check_model(patient.settings),
        **{name: lambda look=look: look(patient) for name, look in OF_ACCOUNT.items()},  # type: ignore[misc]
    }
    with ThreadPoolExecutor(max_workers=len(looks), thread_name_prefix="doctor") as pool:
        return list(pool.map(lambda name: _seen(name, looks[name]), looks))


def examine_machine() -> list[Finding]:
    """The checks that need no account."""
    return [check_versions(), check_session_plugin()]


def _seen(name: str, look: Look) -> Finding:
    """The result of a check; one that fails is a finding too: it isn't permitted, or doesn't work here."""
    try:
        return look()
    except Exception as error:  # noqa: BLE001 - told as a finding, with the reason
        failure = explain(error)
        return Finding(name, "warn", f"can't be checked: {failure.what}", failure.todo)

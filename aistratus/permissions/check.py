"""A permission that IAM checks for a call, and short ways to declare many of them.

For most operations IAM checks the action of the same name on the resource that one parameter names. Operations are
named by boto3's service and AWS's operation: `lambda:Invoke`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aistratus.permissions import resource_types as t
from aistratus.permissions.resource_types import ResourceType

Params = Mapping[str, Any]
Ids = str | Callable[[Params], list[str]]
State = Literal["there", "made", "any"]


@dataclass(frozen=True)
class Check:
    """A permission that IAM checks for a call.

    ids: the resources: a JMESPath into the parameters, or a function of them; `*` where the call doesn't name any.
    when: a JMESPath; the check applies if it finds something in the parameters.
    state: whether the resource is `there` before the call or `made` by it (then the request's tags count), or `any`.
    context: further condition keys, each with the one value that it has.
    by: `program` for what only programs with a role of ours need, `operator` for what only the command line does.
    """

    action: str
    resource: ResourceType
    ids: Ids = "'*'"
    when: str = ""
    state: State = "there"
    context: tuple[tuple[str, str], ...] = ()
    by: Literal["all", "program", "operator"] = "all"


Table = dict[str, tuple[Check, ...]]


def same(service: str, resource: ResourceType, ids: Ids, operations: str, *, prefix: str = "") -> Table:
    """Operations for which IAM checks the action of the same name on one resource."""
    prefix = prefix or service
    return {f"{service}:{name}": (Check(f"{prefix}:{name}", resource, ids),) for name in operations.split()}


def listing(service: str, operations: str, *, prefix: str = "") -> Table:
    """Operations without resource-level permissions."""
    return same(service, t.EVERYTHING, "'*'", operations, prefix=prefix)


def tagging(action: str, resource: ResourceType, ids: Ids, when: str) -> Check:
    """The additional check of a create call that sets tags."""
    return Check(action, resource, ids, when, "made")


def pass_role(ids: Ids, service: str, when: str = "") -> Check:
    """The check for passing a role to a service."""
    return Check("iam:PassRole", t.ROLE, ids, when, "there", (("iam:PassedToService", service),))

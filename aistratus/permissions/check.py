"""One thing that IAM looks at for a call, and short ways to write many of them down.

Most operations are checked for the action of their own name on the resource that one parameter names. Names are boto3's
service and AWS's operation: `lambda:Invoke`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aistratus.permissions import things as t
from aistratus.permissions.things import Thing

Params = Mapping[str, Any]
Ids = str | Callable[[Params], list[str]]
State = Literal["there", "made", "any"]


@dataclass(frozen=True)
class Check:
    """One thing that IAM looks at for a call.

    ids: which resources: a JMESPath into the parameters, or a function of them; `*` where the call doesn't say.
    when: a JMESPath; the check is made if it finds something.
    state: `there` before the call, `made` by it (then the request's tags count), or no matter.
    context: further condition keys that have just this value.
    by: `program` for what only programs with a role of ours need, `operator` for what only the command line does.
    """

    action: str
    thing: Thing
    ids: Ids = "'*'"
    when: str = ""
    state: State = "there"
    context: tuple[tuple[str, str], ...] = ()
    by: Literal["all", "program", "operator"] = "all"


Table = dict[str, tuple[Check, ...]]


def same(service: str, thing: Thing, ids: Ids, operations: str, *, prefix: str = "") -> Table:
    """Operations that are checked for the action of their own name on one resource."""
    prefix = prefix or service
    return {f"{service}:{name}": (Check(f"{prefix}:{name}", thing, ids),) for name in operations.split()}


def listing(service: str, operations: str, *, prefix: str = "") -> Table:
    """Operations that AWS gives no resource level."""
    return same(service, t.EVERYTHING, "'*'", operations, prefix=prefix)


def tagging(action: str, thing: Thing, ids: Ids, when: str) -> Check:
    """A create call that tags is checked for tagging as well."""
    return Check(action, thing, ids, when, "made")


def pass_role(ids: Ids, service: str, when: str = "") -> Check:
    """Handing a role to a service, which then acts with it."""
    return Check("iam:PassRole", t.ROLE, ids, when, "there", (("iam:PassedToService", service),))

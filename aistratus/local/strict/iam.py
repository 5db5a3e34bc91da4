"""IAM: a role can't go while something hangs on it, and its policies have a size."""

from __future__ import annotations

import re
from typing import Any, Final

from moto.iam.exceptions import DeleteConflictException, LimitExceededException
from moto.iam.models import IAMBackend

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import wrap
from aistratus.local.strict.rule import Book, Delays, Rule

_DELETE_ROLE: Final = "https://docs.aws.amazon.com/IAM/latest/APIReference/API_DeleteRole.html"
_QUOTAS: Final = "https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"
INLINE_CHARACTERS: Final = 10_240
MANAGED_POLICIES: Final = 10

book = Book()


@book.rule("role-in-use", code="DeleteConflict", source=_DELETE_ROLE)
def role_in_use(cloud: Cloud, delays: Delays) -> None:
    @wrap(IAMBackend, "delete_role")
    def delete_role(original: Any, backend: Any, role_name: str) -> Any:
        role = backend.get_role(role_name)
        if any(role_name in [one.name for one in profile.roles] for profile in backend.instance_profiles.values()):
            raise DeleteConflictException("Cannot delete entity, must remove roles from instance profile first.")
        if role.managed_policies:
            raise DeleteConflictException("Cannot delete entity, must detach all policies first.")
        if role.policies:
            raise DeleteConflictException("Cannot delete entity, must delete policies first.")
        return original(backend, role_name)


@book.rule(
    "profile-in-use",
    code="DeleteConflict",
    source="https://docs.aws.amazon.com/IAM/latest/APIReference/API_DeleteInstanceProfile.html",
)
def profile_in_use(cloud: Cloud, delays: Delays) -> None:
    """A profile goes after its role was taken off it."""

    @wrap(IAMBackend, "delete_instance_profile")
    def delete_instance_profile(original: Any, backend: Any, name: str) -> Any:
        if backend.get_instance_profile(name).roles:
            raise DeleteConflictException("Cannot delete entity, must remove roles from instance profile first.")
        return original(backend, name)


@book.rule("inline-policy-size", code="LimitExceeded", source=_QUOTAS)
def inline_policy_size(cloud: Cloud, delays: Delays) -> None:
    @wrap(IAMBackend, "put_role_policy")
    def put_role_policy(original: Any, backend: Any, role_name: str, policy_name: str, policy_json: str) -> Any:
        others = {name: text for name, text in backend.get_role(role_name).policies.items() if name != policy_name}
        size = sum(len(re.sub(r"\s", "", text)) for text in (*others.values(), policy_json))  # AWS counts no blanks
        if size > INLINE_CHARACTERS:
            raise LimitExceededException(
                f"Maximum policy size of {INLINE_CHARACTERS} bytes exceeded for role {role_name}"
            )
        return original(backend, role_name, policy_name, policy_json)


@book.rule("managed-policies-per-role", code="LimitExceeded", source=_QUOTAS)
def managed_policies_per_role(cloud: Cloud, delays: Delays) -> None:
    @wrap(IAMBackend, "attach_role_policy")
    def attach_role_policy(original: Any, backend: Any, policy_arn: str, role_name: str) -> Any:
        held = backend.get_role(role_name).managed_policies
        if policy_arn not in held and len(held) >= MANAGED_POLICIES:
            raise LimitExceededException(f"Cannot exceed quota for PoliciesPerRole: {MANAGED_POLICIES}")
        return original(backend, policy_arn, role_name)


RULES: Final[tuple[Rule, ...]] = tuple(book.rules)

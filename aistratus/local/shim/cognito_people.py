"""Users that an administrator adds: a first password that meets the policy, in a mail, and invitations sent again.

moto sends nothing, doesn't say what a password lacks, takes any first one, and makes another user where an invitation
is to be sent again. The mail lies in `mail.jsonl`, in the words that Cognito uses unless the pool has others.
https://docs.aws.amazon.com/cognito-user-identity-pools/latest/APIReference/API_AdminCreateUser.html
"""

from __future__ import annotations

import re
import secrets
from typing import Any, Final

from moto.cognitoidp.exceptions import InvalidParameterException, InvalidPasswordException
from moto.cognitoidp.models import CognitoIdpBackend, CognitoIdpUser, UserStatus
from moto.core.exceptions import JsonRESTError

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import wrap
from aistratus.local.shim.sns import deliver_mail

SUBJECT: Final = "Your temporary password"
TEXT: Final = "Your username is {username} and temporary password is {####}."


ADDRESS: Final = r"[^@\s]+@[^@\s]+\.[^@\s.]+"
"""What Cognito takes for an address, or nearly: it doesn't tell more."""


class UnsupportedUserState(JsonRESTError):
    """400: who has signed in needs no invitation."""

    def __init__(self, status: str) -> None:
        super().__init__("UnsupportedUserStateException", f"Resend not possible. {status} status is not supported.")


class PasswordDoesNotConform(InvalidPasswordException):
    """400: Cognito names the first thing that lacks."""

    def __init__(self, lacks: str) -> None:
        JsonRESTError.__init__(self, "InvalidPasswordException", f"Password did not conform with policy: {lacks}")


def _lacks(policy: dict[str, Any], password: str) -> str:
    """What a password that was refused lacks, in Cognito's words."""
    if len(password) < policy.get("MinimumLength", 8):
        return "Password not long enough"
    for need, there, word in (
        ("RequireLowercase", "[a-z]", "lowercase"),
        ("RequireUppercase", "[A-Z]", "uppercase"),
        ("RequireNumbers", "[0-9]", "numeric"),
    ):
        if policy.get(need) and not re.search(there, password):
            return f"Password must have {word} characters"
    return "Password must have symbol characters"


def patch(cloud: Cloud) -> None:
    @wrap(CognitoIdpBackend, "_validate_password")
    def validate_password(original: Any, backend: CognitoIdpBackend, user_pool_id: str, password: str) -> None:
        try:
            original(backend, user_pool_id, password)
        except InvalidPasswordException:
            policies = backend.describe_user_pool(user_pool_id).extended_config.get("Policies") or {}
            raise PasswordDoesNotConform(_lacks(policies.get("PasswordPolicy") or {}, password)) from None

    @wrap(CognitoIdpBackend, "admin_create_user")
    def admin_create_user(
        original: Any,
        backend: CognitoIdpBackend,
        user_pool_id: str,
        username: str,
        message_action: str,
        temporary_password: str,
        attributes: list[dict[str, str]],
    ) -> CognitoIdpUser:
        if temporary_password:
            backend._validate_password(user_pool_id, temporary_password)
        # The suffix meets any password policy.
        password = temporary_password or secrets.token_urlsafe(9) + "-aA1"
        if message_action == "RESEND":
            user: CognitoIdpUser = backend.admin_get_user(user_pool_id, username)
            if user.status is not UserStatus.FORCE_CHANGE_PASSWORD:
                raise UnsupportedUserState(UserStatus(user.status).value)
            user.password = password
        else:
            address = {entry["Name"]: entry["Value"] for entry in attributes or []}.get("email")
            if address and not re.fullmatch(ADDRESS, address):
                raise InvalidParameterException("Invalid email address format.")
            aliases = backend.describe_user_pool(user_pool_id).extended_config.get("UsernameAttributes")
            if message_action != "SUPPRESS" and not address and not aliases:
                raise InvalidParameterException("User does not have an email address or a phone number to deliver to.")
            user = original(backend, user_pool_id, username, message_action, password, attributes)
        if message_action != "SUPPRESS":
            _invite(backend, user, password)
        return user

    def _invite(backend: CognitoIdpBackend, user: CognitoIdpUser, password: str) -> None:
        config = backend.describe_user_pool(user.user_pool_id).extended_config.get("AdminCreateUserConfig") or {}
        template = config.get("InviteMessageTemplate") or {}
        text = template.get("EmailMessage") or TEXT
        told = text.replace("{username}", str(user.username)).replace("{####}", password)
        deliver_mail(cloud, user.attribute_lookup["email"], template.get("EmailSubject") or SUBJECT, told)

"""Manages the users of an env's pool, for its operator.

The stack declares one user, the operator; all others are created here and aren't part of the plan. A user is identified
by the name that they type at sign-in. One group decides what they may do: its members may stop and resize the node.

A temporary password is generated and mailed by Cognito, or typed by the operator; it is valid for seven days and one
sign-in, which sets another. It is never shown here.
Source: https://docs.aws.amazon.com/cognito/latest/developerguide/how-to-create-user-accounts.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import ClientError

from aistratus.client.signin import STRENGTH
from aistratus.cloud import Cloud
from aistratus.core.errors import Absent, Failure, UsageError, error_code, error_message

OPERATORS: Final = "operators"
STATES: Final = {
    "FORCE_CHANGE_PASSWORD": "invited",
    "CONFIRMED": "active",
    "RESET_REQUIRED": "must reset the password",
    "UNCONFIRMED": "not confirmed",
}
"""Cognito's words for how a user is, and ours. Source: Cognito API reference, UserType.UserStatus."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """A user of the env."""

    name: str
    email: str
    state: str
    operator: bool
    since: str
    """Day and time of their making, ISO 8601."""


def members(aws: Cloud, pool: str) -> list[Member]:
    """All users, by name."""
    operators = {user["Username"] for user in _pages(aws, "list_users_in_group", pool, GroupName=OPERATORS)}
    users = [_member(user, operators) for user in _pages(aws, "list_users", pool)]
    return sorted(users, key=lambda one: one.name)


def invite(aws: Cloud, pool: str, name: str, email: str | None, password: str | None) -> None:
    """Makes a user; Cognito mails the invitation unless a first password is given.

    Raises:
        UsageError: name, address or password isn't one that Cognito takes.
        Failure: there is a user of this name, or no mail can be sent.
    """
    attributes = [{"Name": "email", "Value": email}, {"Name": "email_verified", "Value": "true"}] if email else []
    how: dict[str, Any] = (
        {"DesiredDeliveryMediums": ["EMAIL"]}
        if password is None
        else {"MessageAction": "SUPPRESS", "TemporaryPassword": password}
    )
    with _refusals(name):
        aws.cognito_idp.admin_create_user(UserPoolId=pool, Username=name, UserAttributes=attributes, **how)


def invite_again(aws: Cloud, pool: str, name: str) -> None:
    """Has the invitation mailed once more, with another first password.

    Raises:
        Absent: there is no such user.
        Failure: the user has signed in already, or no mail can be sent.
    """
    with _refusals(name):
        aws.cognito_idp.admin_create_user(UserPoolId=pool, Username=name, MessageAction="RESEND")


def give_first_password(aws: Cloud, pool: str, name: str, password: str) -> None:
    """Gives a user another first password, in whatever state they are.

    Raises:
        UsageError: the password isn't one that Cognito takes.
        Absent: there is no such user.
    """
    with _refusals(name):
        aws.cognito_idp.admin_set_user_password(UserPoolId=pool, Username=name, Password=password, Permanent=False)


def promote(aws: Cloud, pool: str, name: str) -> None:
    """Makes a user an operator; one who is stays it.

    Raises:
        Absent: there is no such user.
    """
    with _refusals(name):
        aws.cognito_idp.admin_add_user_to_group(UserPoolId=pool, Username=name, GroupName=OPERATORS)


def remove(aws: Cloud, pool: str, name: str) -> None:
    """Takes a user away.

    Raises:
        Absent: there is no such user.
    """
    with _refusals(name):
        aws.cognito_idp.admin_delete_user(UserPoolId=pool, Username=name)


def find(there: list[Member], name: str) -> Member:
    """Names ignore case, as in the pool.

    Raises:
        Absent: there is no such user.
    """
    found = next((one for one in there if one.name.lower() == name.lower()), None)
    if found is None:
        raise _absent(name)
    return found


def _pages(aws: Cloud, operation: str, pool: str, **more: Any) -> Iterator[Mapping[str, Any]]:
    for page in aws.cognito_idp.get_paginator(operation).paginate(UserPoolId=pool, **more):
        yield from page["Users"]


def _member(user: Mapping[str, Any], operators: set[str]) -> Member:
    attributes = {entry["Name"]: entry["Value"] for entry in user.get("Attributes", [])}
    state = STATES.get(user["UserStatus"], str(user["UserStatus"]).lower())
    return Member(
        name=user["Username"],
        email=attributes.get("email", ""),
        state=state if user.get("Enabled", True) else "disabled",
        operator=user["Username"] in operators,
        since=user["UserCreateDate"].isoformat(timespec="seconds"),
    )


def _absent(name: str) -> Absent:
    return Absent(f"there is no user {name!r}", todo="`aistratus user list` shows those that there are")


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    """Turns Cognito's refusals into sentences; an error that isn't about this user is raised as it is."""
    try:
        yield
    except ClientError as error:
        failure = _sentence(error, name)
        if failure is None:
            raise
        raise failure from error


def _sentence(error: ClientError, name: str) -> Failure | None:
    """Cognito's refusal as a sentence; `None` for what isn't about this user."""
    match error_code(error):
        case "UserNotFoundException":
            return _absent(name)
        case "UsernameExistsException":
            return Failure(f"there is a user {name!r} already", todo="--again gives them another first password")
        case "UnsupportedUserStateException":
            return Failure(f"{name} has signed in already, so that no invitation is needed")
        case "CodeDeliveryFailureException" | "LimitExceededException":
            return Failure(
                f"Cognito can't mail the invitation to {name}: {error_message(error).rstrip('.')}",
                todo="--no-mail takes a first password from you instead",
            )
        case "InvalidPasswordException":
            return UsageError(f"the first password of {name} needs {STRENGTH}", todo="choose another one")
        case "InvalidParameterException":
            return UsageError(f"Cognito doesn't take this for {name}: {error_message(error).rstrip('.')}")
    return None

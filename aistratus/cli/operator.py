"""The operator's access to the API: ids from the ledger, and a sign-in without a prompt.

Somebody with AWS credentials for the account already has more rights than any user of the API. So the command line
signs in as the user `operator`, with a generated password that is kept encrypted in the ledger and never shown.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import platformdirs

from aistratus.client.errors import SignInError
from aistratus.client.keychain import keychain
from aistratus.client.place import Place
from aistratus.client.signin import AdminSignIn, claims
from aistratus.client.signin import Session as SignedIn
from aistratus.client.tokens import Tokens, TokenStore
from aistratus.core.errors import Absent, error_code

if TYPE_CHECKING:
    from aistratus.cli.session import Session
    from aistratus.cloud import Cloud

KEYS = ("api", "user_pool", "user_client", "operator")
GONE = frozenset({"UserNotFoundException", "ResourceNotFoundException"})
"""Of the user; of the pool and of its client."""
PASSWORD = "operator_password"  # noqa: S105 - the name under which it is kept


@dataclass(frozen=True)
class Door:
    """Where the API is and who may knock."""

    env: str
    url: str
    signed_in: SignedIn
    pool: str
    cognito: Any
    operator: str = ""
    """Whose name the AWS credentials stand for, where there are any."""

    @property
    def username(self) -> str:
        """The user of the API: the one who signed in with `login`, else the operator."""
        tokens = self.signed_in.kept()
        return str(claims(tokens.access).get("username", "")) if tokens else self.operator

    @property
    def place(self) -> Place:
        """What a user without AWS credentials needs to know."""
        return Place(
            env=self.env,
            api=self.url,
            cognito=self.cognito.meta.endpoint_url,
            pool=self.pool,
            client=self.signed_in.client_id,
        )


def token_store(client: str) -> TokenStore:
    """By client id: a rebuilt env has another one, for which old tokens are invalid."""
    return TokenStore(platformdirs.user_state_path("aistratus") / "tokens" / client, keychain())


class Cognito:
    """The client of the user pools, made when it is first asked: a kept token needs none."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cloud.cognito_idp, name)


def open_door(session: Session) -> Door:
    """The env's API and a session that keeps itself signed in.

    Raises:
        Absent: the stack isn't up.
    """
    ids = ids_of(session, KEYS)
    pool, client, username = ids["user_pool"]["id"], ids["user_client"]["id"], ids["operator"]["id"]
    cognito = Cognito(session.cloud)

    def password() -> str:
        return _password(session, cognito, pool, username)

    way_in = OperatorSignIn(session, AdminSignIn(cognito, pool, client, username, password))
    signed_in = SignedIn(session.settings.env, token_store(client), cognito, client, way_in)
    return Door(session.settings.env, ids["api"]["endpoint"], signed_in, pool, cognito, username)


def ids_of(session: Session, keys: Collection[str]) -> dict[str, dict[str, str]]:
    """From the ledger; from the account itself where the ledger has lost them.

    Raises:
        Absent: the stack isn't up.
    """
    ids = session.ledger.read(keys)
    if missing := [key for key in keys if key not in ids]:
        from aistratus.core.plan import survey

        found = survey(session.stack.only(missing), session.cloud).found
        ids |= {key: dict(found[key].ids) for key in missing if key in found}
    if missing := [key for key in keys if key not in ids]:
        raise _isnt_up(session, f"{', '.join(missing)} not found")
    return ids


def _isnt_up(session: Session, why: str) -> Absent:
    return Absent(f"env {session.settings.env!r} isn't up: {why}", todo="`aistratus up` builds it")


def _password(session: Session, cognito: Any, pool: str, username: str) -> str:
    """The operator's password; set at Cognito when it has just been made."""
    made: list[str] = []

    def make() -> str:
        # The suffix meets any password policy; the strength is in front of it.
        made.append(secrets.token_urlsafe(24) + "-aA1")
        return made[0]

    password = session.ledger.secret(PASSWORD, make)
    if made:
        _set_password(cognito, pool, username, password)
    return password


def _set_password(cognito: Any, pool: str, username: str, password: str) -> None:
    cognito.admin_set_user_password(UserPoolId=pool, Username=username, Password=password, Permanent=True)


@dataclass(frozen=True)
class OperatorSignIn:
    """Signs in; sets the recorded password first if Cognito doesn't have it yet (a command died between the two).

    Raises:
        Absent: pool, client or user are gone, though the ledger still has their ids (a `down` was interrupted).
    """

    session: Session
    way_in: AdminSignIn

    def sign_in(self) -> Tokens:
        try:
            return self._sign_in()
        except Exception as error:  # a sign-in wraps AWS's error or lets it through; all but "gone" go on
            cause = error.__cause__ if isinstance(error, SignInError) else error
            if cause is None or error_code(cause) not in GONE:
                raise
            raise _isnt_up(self.session, "its users are gone") from error

    def _sign_in(self) -> Tokens:
        try:
            return self.way_in.sign_in()
        except SignInError:
            cognito, pool, username = self.way_in.cognito, self.way_in.pool_id, self.way_in.username
            status = cognito.admin_get_user(UserPoolId=pool, Username=username)["UserStatus"]
            if status != "FORCE_CHANGE_PASSWORD":
                raise
            _set_password(cognito, pool, username, self.way_in.password())
            return self.way_in.sign_in()

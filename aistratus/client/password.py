"""Signing in with name and password from a terminal, and answering Cognito's further challenges.

The password isn't sent (`srp.py`), unless a new one has to be set. Each further challenge has a session of three
minutes: a new password in place of a temporary one, or a code from a message or an authenticator app.
Source: https://docs.aws.amazon.com/cognito-user-identity-pools/latest/APIReference/API_RespondToAuthChallenge.html
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from aistratus.client.errors import SignInError
from aistratus.client.signin import asked, tokens_of
from aistratus.client.srp import Cheating, Proof
from aistratus.client.tokens import Tokens

PASSWORD: Final = "password"  # noqa: S105 - a way to sign in
CODES: Final = {
    "SMS_MFA": "the text message",
    "SOFTWARE_TOKEN_MFA": "your authenticator app",
    "EMAIL_OTP": "the e-mail",
}
"""Challenges that are answered with a code, and where the code comes from."""
TRIES: Final = 3
"""How often a wrong code or an unsuitable new password may be entered."""


class Asks(Protocol):
    """Asks the user for answers."""

    def password(self) -> str: ...

    def new_password(self) -> str: ...

    def code(self, source: str) -> str:
        """From a message or an app, as `source` says."""
        ...

    def remark(self, text: str) -> None:
        """Tells the user why an answer is asked for again."""
        ...


@dataclass(frozen=True)
class PasswordSignIn:
    """Name and password through SRP.

    Args:
        cognito: boto3's `cognito-idp` client; no credentials are needed.
    """

    cognito: Any
    pool_id: str
    client_id: str
    username: str
    asks: Asks
    now: Callable[[], float] = time.time

    def sign_in(self) -> Tokens:
        """New tokens.

        Raises:
            SignInError: wrong password or code, or something that only the sign-in page can do.
        """
        password, proof = self.asks.password(), Proof()
        answer = self._asked(
            self.cognito.initiate_auth,
            AuthFlow="USER_SRP_AUTH",
            AuthParameters={"USERNAME": self.username, "SRP_A": proof.public},
        )
        if answer.get("ChallengeName") == "PASSWORD_VERIFIER":
            answer = self._proved(proof, password, answer)
        while "ChallengeName" in answer and not answer.get("AuthenticationResult"):
            answer = self._answered(answer)
        return replace(tokens_of(answer, refresh="", now=self.now(), who=self.username), way=PASSWORD)

    def _proved(self, proof: Proof, password: str, asked_for: Mapping[str, Any]) -> Mapping[str, Any]:
        at = datetime.fromtimestamp(self.now(), UTC)
        try:
            responses = proof.responses(self.pool_id, password, asked_for["ChallengeParameters"], at)
        except (Cheating, KeyError, ValueError):
            raise SignInError(f"{self.username} can't be signed in: Cognito's answer makes no sense.") from None
        return self._respond("PASSWORD_VERIFIER", asked_for, responses)

    def _answered(self, asked_for: Mapping[str, Any]) -> Mapping[str, Any]:
        """Answers one challenge, repeatedly while another answer can help."""
        name = str(asked_for["ChallengeName"])
        parameters = asked_for.get("ChallengeParameters") or {}
        for left in reversed(range(TRIES)):
            responses = {"USERNAME": parameters.get("USER_ID_FOR_SRP") or self.username, **self._from_person(name)}
            try:
                return self._respond(name, asked_for, responses)
            except SignInError as error:
                from aistratus.core.errors import error_code

                if not left or error.__cause__ is None or error_code(error.__cause__) not in AGAIN:
                    raise
                self.asks.remark(str(error))
        raise AssertionError("the last try returns or raises")

    def _from_person(self, name: str) -> dict[str, str]:
        if name == "NEW_PASSWORD_REQUIRED":
            return {"NEW_PASSWORD": self.asks.new_password()}
        if name in CODES:
            return {f"{name}_CODE": self.asks.code(CODES[name])}
        raise SignInError(
            f"Cognito asks {self.username} for {name}, which only a browser can do; use `aistratus login`."
        )

    def _respond(self, name: str, asked_for: Mapping[str, Any], responses: Mapping[str, str]) -> Mapping[str, Any]:
        session = {"Session": asked_for["Session"]} if asked_for.get("Session") else {}
        return self._asked(
            self.cognito.respond_to_auth_challenge, ChallengeName=name, ChallengeResponses=dict(responses), **session
        )

    def _asked(self, call: Callable[..., Mapping[str, Any]], **params: Any) -> Mapping[str, Any]:
        return asked(lambda: call(ClientId=self.client_id, **params), f"{self.username} can't be signed in")


AGAIN: Final = frozenset({"CodeMismatchException", "InvalidPasswordException"})
"""Errors after which another answer to the same challenge is possible; the session stays valid."""

"""Finds the API and its tokens: by an invitation that `login` has stored, else by AWS credentials.

The former needs no AWS account and makes no call; the latter reads the ids from the ledger and signs in as the operator
unless a user has signed in with `login`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import platformdirs

from aistratus.cli.operator import Door, open_door, token_store
from aistratus.cli.options import Options
from aistratus.client.place import Place, Places
from aistratus.client.signin import Session as SignedIn
from aistratus.core.errors import LoginExpired

INVITED = "without an AWS account, have an operator send you what `aistratus user invitation` prints"


def places() -> Places:
    """Where invitations that were taken are kept."""
    return Places(platformdirs.user_state_path("aistratus") / "places")


def knock(options: Options) -> Door:
    """The env's API, and a session that keeps itself signed in.

    Raises:
        Absent: the env isn't up.
        LoginExpired: there is neither an invitation nor an AWS account.
    """
    place = places().load(options.load().env)
    if place is not None:
        return door_at(place)
    from aistratus.cli.session import open_session

    try:
        return open_door(open_session(options))
    except Exception as error:  # every way in which no AWS credentials can be had; `explain` tells them apart
        from aistratus.explain import explain

        failure = explain(error, profile=options.profile)
        if not isinstance(failure, LoginExpired):
            raise
        raise LoginExpired(failure.what, todo=f"{failure.todo}; {INVITED}") from error


def door_at(place: Place) -> Door:
    """For those who have nothing but the place."""
    cognito = WithoutCredentials(place)
    signed_in = SignedIn(place.env, token_store(place.client), cognito, place.client, None)
    return Door(place.env, place.api, signed_in, place.pool, cognito)


class WithoutCredentials:
    """Cognito's client for calls that need no signature, made when it is first asked."""

    def __init__(self, place: Place) -> None:
        self._place = place

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config

        config = Config(
            signature_version=UNSIGNED,
            retries={"mode": "standard", "total_max_attempts": 4},
            connect_timeout=10,
            read_timeout=30,
            user_agent_extra="aistratus",
        )
        place = self._place
        return boto3.client("cognito-idp", region_name=place.region, endpoint_url=place.cognito, config=config)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

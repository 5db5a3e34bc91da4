"""The operator's way in where a `down` that was interrupted has left only ids."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from aistratus.cli.operator import OperatorSignIn
from aistratus.client.errors import SignInError
from aistratus.client.signin import AdminSignIn
from aistratus.core.errors import Absent


@pytest.mark.parametrize(
    ("signing_in", "asking", "error"),
    [
        ("UserNotFoundException", "UserNotFoundException", Absent),
        ("ResourceNotFoundException", "ResourceNotFoundException", Absent),
        ("ResourceNotFoundException", None, Absent),  # the client alone is gone
        ("NotAuthorizedException", None, SignInError),
    ],
)
def test_users_that_are_gone_mean_that_the_env_is_not_up(signing_in: str, asking: str | None, error: Any) -> None:
    cognito = boto3.client("cognito-idp", "eu-central-1", aws_access_key_id="x", aws_secret_access_key="x")
    session: Any = SimpleNamespace(settings=SimpleNamespace(env="dev"))
    way_in = OperatorSignIn(session, AdminSignIn(cognito, "pool", "client", "operator", lambda: "password"))
    with Stubber(cognito) as stubber:
        stubber.add_client_error("admin_initiate_auth", signing_in)
        if asking:
            stubber.add_client_error("admin_get_user", asking)
        else:
            stubber.add_response("admin_get_user", {"Username": "operator", "UserStatus": "CONFIRMED"})
        with pytest.raises(error) as raised:
            way_in.sign_in()
    if error is Absent:
        assert str(raised.value) == "env 'dev' isn't up: its users are gone; `aistratus up` builds it"

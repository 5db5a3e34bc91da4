"""Our signature is botocore's, byte for byte."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given
from hypothesis import strategies as st

from aistratus.router.aws import Credentials, sign


class At(SigV4Auth):
    """botocore's signer at a fixed time."""

    def __init__(self, credentials: BotoCredentials, service: str, region: str, moment: datetime) -> None:
        super().__init__(credentials, service, region)
        self.moment = moment

    def add_auth(self, request: AWSRequest) -> None:
        request.context["timestamp"] = self.moment.strftime("%Y%m%dT%H%M%SZ")
        self._modify_request_before_signing(request)
        canonical = self.canonical_request(request)
        signature = self.signature(self.string_to_sign(request, canonical), request)
        self._inject_signature_to_request(request, signature)


@pytest.mark.parametrize("token", [None, "session/token+=="])
@pytest.mark.parametrize("service", ["dynamodb", "sqs", "ssm"])
@given(text=st.text(), now=st.integers(0, 4_000_000_000))
def test_a_signature_equals_botocores(service: str, token: str | None, text: str, now: int) -> None:
    body = json.dumps({"text": text}).encode()
    headers = {"content-type": "application/x-amz-json-1.0", "host": "127.0.0.1:4566", "x-amz-target": "X.Y"}
    ours = sign(headers, body, service, "eu-central-1", Credentials("AKIA", "secret/key", token), now)

    moment = datetime.fromtimestamp(now, UTC)
    request = AWSRequest("POST", "http://127.0.0.1:4566/", headers=headers, data=body)
    At(BotoCredentials("AKIA", "secret/key", token), service, "eu-central-1", moment).add_auth(request)
    assert ours["authorization"] == request.headers["Authorization"]


def test_credentials_do_not_show_in_a_repr() -> None:
    assert "secret" not in repr(Credentials("AKIA", "secret-key", "secret-token"))

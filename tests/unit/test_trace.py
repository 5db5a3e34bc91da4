"""A refused call says what it was, to whoever has to explain it, and gives no secret away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError

from aistratus.core.errors import Denied, Failure
from aistratus.explain import explain
from aistratus.policies import Names
from aistratus.trace import CALL, Meter

NAMES = Names("aws", "123456789012", "eu-central-1", "dev")


class Refusing(AWSResponse):
    """What S3 answers to those who may not."""

    def __init__(self) -> None:
        super().__init__("http://s3", 403, {"content-type": "application/xml"}, None)
        self._content = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


def refused(meter: Meter) -> Any:
    """A client of S3 to which nothing is allowed."""
    meter.names = NAMES
    session = boto3.Session(aws_access_key_id="x", aws_secret_access_key="x", region_name="eu-central-1")
    meter.attach(session.events)
    s3 = session.client("s3", config=Config(retries={"total_max_attempts": 1}))
    s3.meta.events.register("before-send.s3", lambda **_: Refusing())
    return s3


def test_a_trace_without_room_is_named_and_a_device_stays_everybodys() -> None:
    mode = Path("/dev/full").stat().st_mode
    with pytest.raises(Failure, match="--trace /dev/full can't be written any more: No space left on device"):
        refused(Meter(Path("/dev/full"))).list_buckets()
    assert Path("/dev/full").stat().st_mode == mode


def test_a_refused_call_is_known_by_its_parameters_and_not_by_its_content() -> None:
    s3 = refused(Meter())
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket="b", Key="k", Body=b"very secret")
    call = caught.value.response["ResponseMetadata"][CALL]
    assert call["operation"] == "PutObject" and call["params"]["Key"] == "k"
    assert "very secret" not in repr(caught.value.response)
    failure = explain(caught.value)
    assert isinstance(failure, Denied)
    assert "s3:PutObject on arn:aws:s3:::b/k" in str(failure)

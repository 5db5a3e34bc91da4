"""Which services AWS has where: told by names and by the SDK's list, without a call."""

from __future__ import annotations

import boto3
import pytest

from aistratus.resources.calls import offered


@pytest.mark.parametrize(
    ("service", "region", "expected"),
    [
        ("codebuild", "eu-central-1", True),  # listed, whether this machine can look names up or not
        ("codeconnections", "eu-central-1", True),  # listed under its earlier name
        ("codebuild", "xx-nowhere-9", False),
        ("codeconnections", "xx-nowhere-9", False),
    ],
)
def test_a_service_is_offered_where_it_has_a_name_or_is_listed(service: str, region: str, expected: bool) -> None:
    client = boto3.client(service, region_name=region, aws_access_key_id="x", aws_secret_access_key="x")
    assert offered(client, "codestar-connections") is expected


def test_an_address_of_ones_own_counts_as_offered() -> None:
    client = boto3.client("codebuild", region_name="xx-nowhere-9", endpoint_url="http://127.0.0.1:9",
                          aws_access_key_id="x", aws_secret_access_key="x")  # fmt: skip
    assert offered(client)

"""How the endpoint speaks HTTP: connections are kept, and what is missing is said in the service's own protocol."""

from __future__ import annotations

import http.client
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError
from embedded_cloud_parts import Connect, unique

from aistratus.local.process import Running

MISSING = [
    ("ec2", "describe_fpga_images", {}),  # ec2
    ("iam", "generate_organizations_access_report", {"EntityPath": "o-1234567890/r-1234"}),  # query
    ("ssm", "list_nodes", {}),  # json 1.1
    ("lambda", "list_code_signing_configs", {}),  # rest-json, no path in moto
    (
        "ce",
        "get_cost_forecast",
        {
            "TimePeriod": {"Start": "2026-01-01", "End": "2026-01-02"},
            "Metric": "UNBLENDED_COST",
            "Granularity": "DAILY",
        },
    ),
]


@pytest.mark.parametrize(("service", "operation", "parameters"), MISSING, ids=[entry[0] for entry in MISSING])
def test_a_missing_operation_is_an_error_of_its_service(
    connect: Connect, service: str, operation: str, parameters: dict[str, Any]
) -> None:
    with pytest.raises(ClientError) as caught:
        getattr(connect(service), operation)(**parameters)
    answer = caught.value.response
    assert answer["Error"]["Code"] == "NotImplemented"
    assert service in answer["Error"]["Message"]
    # botocore repeats 500, 502, 503 and 504 for seconds; this it takes for an answer.
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 501


def test_a_connection_serves_many_requests(embedded_cloud: Running) -> None:
    parts = urlsplit(embedded_cloud.endpoint)
    assert parts.hostname and parts.port
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    sockets = set()
    for _ in range(3):
        connection.request(
            "POST",
            "/",
            body=b"Action=GetCallerIdentity&Version=2011-06-15",
            headers={
                "Content-Type": "application/x-www-form-urlencoded",
                "Authorization": "AWS4-HMAC-SHA256 Credential=AKIA/20260101/eu-central-1/sts/aws4_request, Signature=x",
            },
        )
        response = connection.getresponse()
        assert response.status == 200
        response.read()
        assert connection.sock is not None
        sockets.add(connection.sock.getsockname())
    assert len(sockets) == 1


def test_a_chunked_body_does_not_spill_into_the_next_request(embedded_cloud: Running) -> None:
    parts = urlsplit(embedded_cloud.endpoint)
    assert parts.hostname and parts.port
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    headers = {"Authorization": "AWS4-HMAC-SHA256 Credential=AKIA/20260101/us-east-1/s3/aws4_request, Signature=x"}
    bucket = unique("bucket")
    statuses = []
    for method, path, body in (
        ("PUT", f"/{bucket}", None),
        ("PUT", f"/{bucket}/key", iter([b"one", b"two"])),
        ("GET", f"/{bucket}/key", None),
    ):
        connection.request(method, path, body=body, headers=headers, encode_chunked=body is not None)
        response = connection.getresponse()
        content = response.read()
        statuses.append(response.status)
    assert statuses == [200, 200, 200]
    assert content == b"onetwo"


def test_many_clients_at_once_lose_nothing(connect: Connect) -> None:
    prefix, ssm = f"/{unique('many')}", connect("ssm")
    ready = threading.Barrier(16)

    def put(number: int) -> None:
        if number < 16:
            ready.wait(20)
        ssm.put_parameter(Name=f"{prefix}/{number}", Value=str(number), Type="String")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(put, range(64)))
    pages = ssm.get_paginator("get_parameters_by_path").paginate(Path=prefix)
    assert {entry["Value"] for page in pages for entry in page["Parameters"]} == {str(number) for number in range(64)}

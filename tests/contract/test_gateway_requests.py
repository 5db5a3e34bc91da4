"""The way of a plain request: addresses, routes, stages, the event that the function gets, and its answer."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from gateway_cloud import ACCOUNT, REGION, Api, Workshop

ANSWER_AS_TOLD = """
import base64, json
def handle(event, context):
    body = event["body"]
    if event["isBase64Encoded"]:
        body = base64.b64decode(body).decode()
    return json.loads(body)
"""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    made = Workshop(tmp_path_factory.mktemp("state"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def echo(workshop: Workshop) -> Api:
    return workshop.api().serve()


@pytest.fixture(scope="module")
def told(workshop: Workshop) -> Api:
    """An API whose function answers with the request's body."""
    return workshop.api().serve(ANSWER_AS_TOLD)


# --- routes ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def routed(workshop: Workshop) -> Api:
    api = workshop.api().stage().stage("dev", StageVariables={"colour": "green"})
    integration = api.integration(workshop.cloud.function())
    for key in (
        "GET /pets/dog/1",
        "GET /pets/dog/{id}",
        "ANY /pets/dog/{other}",
        "GET /pets/{proxy+}",
        "ANY /{proxy+}",
        "POST /jobs",
        "GET /",
        "GET /jobs/{id}/parts/{part}",
    ):
        api.route(key, integration)
    return api


@pytest.mark.parametrize(
    ("method", "path", "key", "parameters"),
    [
        ("GET", "/pets/dog/1", "GET /pets/dog/1", None),
        ("GET", "/pets/dog/2", "GET /pets/dog/{id}", {"id": "2"}),
        ("POST", "/pets/dog/1", "ANY /pets/dog/{other}", {"other": "1"}),
        ("GET", "/pets/cat/1", "GET /pets/{proxy+}", {"proxy": "cat/1"}),
        ("POST", "/pets/5", "ANY /{proxy+}", {"proxy": "pets/5"}),
        ("POST", "/jobs", "POST /jobs", None),
        ("GET", "/jobs", "ANY /{proxy+}", {"proxy": "jobs"}),
        ("GET", "/jobs/", "ANY /{proxy+}", {"proxy": "jobs/"}),
        ("GET", "/", "GET /", None),
        ("GET", "", "GET /", None),
        ("GET", "/jobs/a/parts/b", "GET /jobs/{id}/parts/{part}", {"id": "a", "part": "b"}),
        ("GET", "/pets/dog/%C3%A4%20%3F", "GET /pets/dog/{id}", {"id": "ä ?"}),
    ],
)
def test_the_most_specific_route_wins(
    routed: Api, method: str, path: str, key: str, parameters: dict[str, str] | None
) -> None:
    event = routed.request(method, path).json()
    assert event["routeKey"] == event["requestContext"]["routeKey"] == key
    assert event.get("pathParameters") == parameters


def test_no_route_is_404(workshop: Workshop) -> None:
    api = workshop.api().serve(key="GET /only")
    for method, path in (("GET", "/other"), ("POST", "/only"), ("GET", "/only/"), ("GET", "/only/more"), ("GET", "/")):
        answer = api.request(method, path)
        assert (answer.status_code, answer.json()) == (404, {"message": "Not Found"})
        assert answer.headers["apigw-requestid"]


def test_a_method_that_aws_does_not_know_reaches_no_route(routed: Api) -> None:
    assert routed.request("PROPFIND", "/pets").status_code == 404


def test_an_unknown_api_is_404(workshop: Workshop, echo: Api, told: Api) -> None:
    answer = httpx.get(f"{workshop.gateway.url}/nosuchapi/x", trust_env=False)
    assert (answer.status_code, answer.json()) == (404, {"message": "Not Found"})


def test_a_named_stage_is_part_of_the_path(routed: Api) -> None:
    event = routed.get("/dev/jobs/a/parts/b").json()
    assert event["rawPath"] == event["requestContext"]["http"]["path"] == "/dev/jobs/a/parts/b"
    assert event["requestContext"]["stage"] == "dev"
    assert event["pathParameters"] == {"id": "a", "part": "b"}
    assert event["stageVariables"] == {"colour": "green"}


def test_without_a_default_stage_only_named_ones_answer(workshop: Workshop) -> None:
    api = workshop.api().stage("v1")
    api.route("$default", api.integration(workshop.cloud.function()))
    assert api.get("/x").status_code == 404
    assert api.get("/v1/x").json()["requestContext"]["stage"] == "v1"


@pytest.mark.parametrize("path", ["/ping", "/sping"])
def test_health_checks_are_answered_by_aws_itself(routed: Api, path: str) -> None:
    answer = routed.get(path)
    assert answer.status_code == 200
    assert "routeKey" not in answer.text


# --- addresses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["{id}.execute-api.eu-central-1.amazonaws.com", "{id}.localhost", "{ID}.localhost:80"])
def test_a_host_name_addresses_an_api(workshop: Workshop, echo: Api, told: Api, host: str) -> None:
    name = host.format(id=echo.id, ID=echo.id.upper())
    answer = httpx.get(f"{workshop.gateway.url}/some/path", headers={"host": name}, trust_env=False)
    assert answer.json()["rawPath"] == "/some/path"
    assert answer.json()["headers"]["host"] == name


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "nosuchapi.execute-api.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "",
    ],
)
def test_foreign_host_names_are_refused(echo: Api, host: str) -> None:
    answer = echo.get("/x", headers={"host": host})
    assert (answer.status_code, answer.json()) == (403, {"message": "Forbidden"})


def test_ipv6_loopback_and_localhost_are_not_foreign(echo: Api) -> None:
    assert echo.get("/x", headers={"host": "[::1]:8080"}).status_code == 200
    assert echo.get("/x", headers={"host": "localhost"}).status_code == 200


# --- the event ------------------------------------------------------------------------------------------------


def test_the_event_is_payload_format_2(echo: Api) -> None:
    answer = echo.request(
        "POST",
        "/a%20b/c?x=1&y=%C3%A4&x=2&empty=",
        headers=[
            ("X-Twice", "one"),
            ("x-twice", "two"),
            ("Cookie", "a=1; b=2"),
            ("User-Agent", "tester"),
            ("Content-Type", "application/json"),
        ],
        content=b'{"text":"\xc3\xa4"}',
    )
    event = answer.json()
    context = event["requestContext"]
    assert event["version"] == "2.0"
    assert event["routeKey"] == "$default"
    assert event["rawPath"] == "/a b/c"
    assert event["rawQueryString"] == "x=1&y=%C3%A4&x=2&empty="
    assert event["queryStringParameters"] == {"x": "1,2", "y": "ä", "empty": ""}
    assert event["cookies"] == ["a=1", "b=2"]
    assert event["headers"]["x-twice"] == "one,two"
    assert "cookie" not in event["headers"]
    assert event["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert event["headers"]["x-amzn-trace-id"].startswith("Root=1-")
    assert event["body"] == '{"text":"ä"}'
    assert event["isBase64Encoded"] is False
    assert context["accountId"] == ACCOUNT
    assert context["apiId"] == echo.id
    assert context["domainName"] == f"{echo.id}.execute-api.{REGION}.amazonaws.com"
    assert context["http"] == {
        "method": "POST",
        "path": "/a b/c",
        "protocol": "HTTP/1.1",
        "sourceIp": "127.0.0.1",
        "userAgent": "tester",
    }
    assert context["requestId"] == answer.headers["apigw-requestid"]
    assert context["stage"] == "$default"
    assert isinstance(context["timeEpoch"], int)
    assert "authorizer" not in context


def test_what_is_absent_is_not_in_the_event(echo: Api) -> None:
    event = echo.get("/x").json()
    assert not {"body", "cookies", "queryStringParameters", "pathParameters", "stageVariables"} & event.keys()
    assert event["rawQueryString"] == ""
    assert event["isBase64Encoded"] is False


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/json; charset=utf-8", "application/problem+json", "application/xml"]
)
def test_text_bodies_travel_as_text(echo: Api, kind: str) -> None:
    event = echo.request("POST", "/", content=b"words", headers={"content-type": kind}).json()
    assert (event["body"], event["isBase64Encoded"]) == ("words", False)


@pytest.mark.parametrize("kind", ["application/octet-stream", "image/png", "application/x-www-form-urlencoded"])
def test_other_bodies_travel_as_base64(echo: Api, kind: str) -> None:
    event = echo.request("POST", "/", content=b"\x00\xff", headers={"content-type": kind}).json()
    assert (base64.b64decode(event["body"]), event["isBase64Encoded"]) == (b"\x00\xff", True)


def test_text_that_is_not_utf8_travels_as_base64(echo: Api) -> None:
    event = echo.request("POST", "/", content=b"\xff\xfe", headers={"content-type": "text/plain"}).json()
    assert (base64.b64decode(event["body"]), event["isBase64Encoded"]) == (b"\xff\xfe", True)


def test_a_chunked_body_arrives_whole(echo: Api) -> None:
    event = echo.request("POST", "/", content=iter([b"one ", b"two"]), headers={"content-type": "text/plain"}).json()
    assert event["body"] == "one two"
    assert event["headers"]["content-length"] == "7"


# --- the answer -----------------------------------------------------------------------------------------------


def answer_to(api: Api, told: Any) -> httpx.Response:
    return api.request("POST", "/", content=json.dumps(told), headers={"content-type": "application/json"})


def test_status_headers_cookies_and_body_are_the_functions(told: Api) -> None:
    answer = answer_to(
        told,
        {
            "statusCode": 201,
            "headers": {"X-One": "1", "Content-Type": "text/html"},
            "cookies": ["a=1; Secure", "b=2"],
            "body": "<p>ä</p>",
        },
    )
    assert answer.status_code == 201
    assert answer.headers["x-one"] == "1"
    assert answer.headers["content-type"] == "text/html"
    assert answer.headers.get_list("set-cookie") == ["a=1; Secure", "b=2"]
    assert answer.text == "<p>ä</p>"


def test_a_base64_answer_is_decoded(told: Api) -> None:
    answer = answer_to(
        told, {"statusCode": 200, "isBase64Encoded": True, "body": "AP8=", "headers": {"content-type": "image/png"}}
    )
    assert answer.content == b"\x00\xff"


@pytest.mark.parametrize(
    ("given", "body"),
    [
        ({"hello": "wörld"}, '{"hello":"wörld"}'),
        ("plain words", "plain words"),
        (7, "7"),
        ([1, 2], "[1,2]"),
        (None, "null"),
    ],
)
def test_without_a_status_code_all_of_it_is_the_body(told: Api, given: Any, body: str) -> None:
    answer = answer_to(told, given)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.text == body


@pytest.mark.parametrize(
    "given",
    [
        {"statusCode": "abc"},
        {"statusCode": 99},
        {"statusCode": True},
        {"statusCode": None},
        {"statusCode": 600},
        {"statusCode": 200, "body": {"not": "text"}},
        {"statusCode": 200, "headers": []},
        {"statusCode": 200, "headers": {"x": ["a"]}},
        {"statusCode": 200, "headers": {"x": "a\r\nset-cookie: b=1"}},
        {"statusCode": 200, "headers": {"bad name": "a"}},
        {"statusCode": 200, "headers": {"x": "\u20ac"}},
        {"statusCode": 200, "isBase64Encoded": True, "body": "***"},
        {"statusCode": 200, "cookies": "a=1"},
    ],
)
def test_a_malformed_answer_is_500(told: Api, given: Any) -> None:
    answer = answer_to(told, given)
    assert (answer.status_code, answer.json()) == (500, {"message": "Internal Server Error"})
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_content_have_none(told: Api, status: int) -> None:
    answer = answer_to(told, {"statusCode": status, "body": "words"})
    assert (answer.status_code, answer.content) == (status, b"")


def test_head_has_the_headers_of_get_and_no_body(echo: Api) -> None:
    answer = echo.request("HEAD", "/x")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 0


def test_a_function_that_raises_is_500_without_its_words(workshop: Workshop) -> None:
    api = workshop.api().serve("def handle(event, context):\n    raise ValueError('a secret')\n")
    answer = api.get("/")
    assert (answer.status_code, answer.json()) == (500, {"message": "Internal Server Error"})

"""The gateway's own duties: throttles, CORS, the function's permission, time-outs, limits, logs, hostile clients."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from gateway_cloud import ACCOUNT, ECHO, REGION, Api, Workshop, zipped

LOG_FORMAT = json.dumps(
    {
        "requestId": "$context.requestId",
        "ip": "$context.identity.sourceIp",
        "time": "$context.requestTime",
        "method": "$context.httpMethod",
        "route": "$context.routeKey",
        "status": "$context.status",
        "protocol": "$context.protocol",
        "length": "$context.responseLength",
        "agent": "$context.identity.userAgent",
        "integrationError": "$context.integrationErrorMessage",
        "authorizerError": "$context.authorizer.error",
        "sub": "$context.authorizer.claims.sub",
        "latency": "$context.responseLatency",
        "integrationLatency": "$context.integrationLatency",
        "error": "$context.error.message",
        "path": "$context.path",
        "unknown": "$context.noSuchThing",
    }
)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    made = Workshop(tmp_path_factory.mktemp("state"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def echo(workshop: Workshop) -> Api:
    return workshop.api().serve()


# --- throttles ----------------------------------------------------------------------------------------------------


def test_a_routes_own_throttle_lets_the_burst_through_and_then_the_rate(workshop: Workshop) -> None:
    api = workshop.api()
    integration = api.integration(workshop.cloud.function())
    api.route("GET /tight", integration).route("GET /wide", integration)
    api.stage(
        DefaultRouteSettings={"ThrottlingBurstLimit": 50, "ThrottlingRateLimit": 10},
        RouteSettings={"GET /tight": {"ThrottlingBurstLimit": 2, "ThrottlingRateLimit": 0.5}},
    )
    assert [api.get("/tight").status_code for _ in range(4)] == [200, 200, 429, 429]
    assert api.get("/tight").json() == {"message": "Too Many Requests"}
    assert api.get("/wide").status_code == 200
    workshop.clock.seconds += 2
    assert [api.get("/tight").status_code for _ in range(2)] == [200, 429]
    workshop.clock.seconds += 1000
    assert [api.get("/tight").status_code for _ in range(3)] == [200, 200, 429]


def test_the_stages_default_throttles_each_route_by_itself(workshop: Workshop) -> None:
    api = workshop.api().stage(DefaultRouteSettings={"ThrottlingBurstLimit": 1, "ThrottlingRateLimit": 1})
    integration = api.integration(workshop.cloud.function())
    api.route("GET /one", integration).route("GET /two", integration)
    assert [api.get(path).status_code for path in ("/one", "/two", "/one", "/two")] == [200, 200, 429, 429]


def test_a_route_with_only_a_rate_takes_its_burst_from_the_stage(workshop: Workshop) -> None:
    api = workshop.api().serve(key="GET /x")
    api.stage(
        DefaultRouteSettings={"ThrottlingBurstLimit": 1, "ThrottlingRateLimit": 100},
        RouteSettings={"GET /x": {"ThrottlingRateLimit": 0.1}},
    )
    assert [api.get("/x").status_code for _ in range(2)] == [200, 429]
    workshop.clock.seconds += 1
    assert api.get("/x").status_code == 429


def test_a_new_setting_counts_from_the_next_request_on(workshop: Workshop) -> None:
    api = workshop.api().serve()
    api.stage(DefaultRouteSettings={"ThrottlingBurstLimit": 0, "ThrottlingRateLimit": 0})
    assert api.get("/").status_code == 429
    api.stage()
    workshop.clock.seconds += 1
    assert api.get("/").status_code == 200


# --- CORS ---------------------------------------------------------------------------------------------------------

CORS = {
    "AllowOrigins": ["https://app.example", "http://*"],
    "AllowMethods": ["GET", "POST"],
    "AllowHeaders": ["authorization", "content-type"],
    "ExposeHeaders": ["x-one"],
    "MaxAge": 600,
    "AllowCredentials": True,
}
SETS_CORS = """
def handle(event, context):
    return {"statusCode": 200, "headers": {"access-control-allow-origin": "https://mine.example"}, "body": "x"}
"""


@pytest.fixture(scope="module")
def shared(workshop: Workshop) -> Api:
    return workshop.api(CorsConfiguration=CORS).serve(SETS_CORS, key="GET /x")


def preflight(api: Api, origin: str) -> httpx.Response:
    return api.request("OPTIONS", "/x", headers={"origin": origin, "access-control-request-method": "POST"})


def test_a_preflight_is_answered_by_the_gateway(shared: Api) -> None:
    answer = preflight(shared, "https://app.example")
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert answer.headers["access-control-allow-methods"] == "GET,POST"
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
    assert answer.headers["access-control-max-age"] == "600"
    assert answer.headers["access-control-allow-credentials"] == "true"


def test_the_functions_own_cors_headers_are_replaced(shared: Api) -> None:
    answer = shared.get("/x", headers={"origin": "http://any.example"})
    assert answer.headers["access-control-allow-origin"] == "http://any.example"
    assert answer.headers["access-control-expose-headers"] == "x-one"
    assert "access-control-allow-methods" not in answer.headers


@pytest.mark.parametrize("origin", ["https://evil.example", "https://app.example.evil", "null"])
def test_a_foreign_origin_gets_no_cors_headers(shared: Api, origin: str) -> None:
    for answer in (preflight(shared, origin), shared.get("/x", headers={"origin": origin})):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_errors_of_the_gateway_have_cors_headers_too(shared: Api) -> None:
    answer = shared.get("/nowhere", headers={"origin": "https://app.example"})
    assert answer.status_code == 404
    assert answer.headers["access-control-allow-origin"] == "https://app.example"


def test_any_origin_is_a_star(workshop: Workshop) -> None:
    api = workshop.api(CorsConfiguration={"AllowOrigins": ["*"]}).serve()
    answer = api.get("/x", headers={"origin": "https://somebody.example"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "vary" not in answer.headers


def test_without_cors_configuration_the_function_decides(workshop: Workshop) -> None:
    api = workshop.api().serve(SETS_CORS)
    assert api.get("/x").headers["access-control-allow-origin"] == "https://mine.example"
    answer = preflight(api, "https://app.example")
    assert (answer.status_code, answer.text) == (200, "x")


# --- the integration ----------------------------------------------------------------------------------------------


def is_broken(answer: httpx.Response) -> bool:
    return (answer.status_code, answer.json()) == (500, {"message": "Internal Server Error"})


def test_a_function_that_does_not_allow_this_api_is_not_invoked(workshop: Workshop) -> None:
    api, other = workshop.api().stage(), workshop.api()
    function = workshop.cloud.function()
    api.route("GET /jobs/{id}", api.integration(function, allow=False))
    assert is_broken(api.get("/jobs/1"))
    other.allow(function)
    assert is_broken(api.get("/jobs/1"))
    api.allow(function, route="*/POST/jobs/*")
    assert is_broken(api.get("/jobs/1"))
    api.allow(function, route="*/GET/jobs/*")
    assert api.get("/jobs/1").status_code == 200


@pytest.mark.parametrize(
    "statement",
    [
        {"Principal": "events.amazonaws.com"},
        {"Action": "lambda:GetFunction"},
        {"SourceAccount": "210987654321"},
        {"Principal": "210987654321"},
    ],
)
def test_a_permission_for_something_else_does_not_count(workshop: Workshop, statement: dict[str, Any]) -> None:
    api = workshop.api().stage()
    function = workshop.cloud.function()
    api.route("$default", api.integration(function, allow=False))
    workshop.cloud.client("lambda").add_permission(
        **{
            "FunctionName": function,
            "StatementId": "s",
            "Action": "lambda:InvokeFunction",
            "Principal": "apigateway.amazonaws.com",
            "SourceArn": f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{api.id}/*",
            **statement,
        }
    )
    assert is_broken(api.get("/"))


def test_an_alias_needs_its_own_permission_and_leads_to_its_version(workshop: Workshop) -> None:
    client = workshop.cloud.client("lambda")
    function = workshop.cloud.function("def handle(event, context): return 'old'")
    version = client.publish_version(FunctionName=function)["Version"]
    client.create_alias(FunctionName=function, Name="live", FunctionVersion=version)
    client.update_function_code(
        FunctionName=function, ZipFile=zipped(app="def handle(event, context): return context.invoked_function_arn")
    )
    api = workshop.api().stage()
    integration = api.integration(function, qualifier="live", allow=False)
    api.route("$default", integration)
    api.allow(function)
    assert is_broken(api.get("/"))
    api.allow(function, qualifier="live")
    assert api.get("/").text == "old"
    version = client.publish_version(FunctionName=function)["Version"]
    client.update_alias(FunctionName=function, Name="live", FunctionVersion=version)
    assert api.get("/").text == f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}:live"


def test_the_long_form_of_the_integration_uri_and_stage_variables_work(workshop: Workshop) -> None:
    function = workshop.cloud.function()
    api = workshop.api().stage(StageVariables={"target": function})
    api.allow(function)
    uri = (
        f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/"
        f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:${{stageVariables.target}}/invocations"
    )
    api.route("$default", api.integration(function, allow=False, IntegrationUri=uri))
    assert api.get("/x").json()["rawPath"] == "/x"


def test_a_missing_function_is_500(workshop: Workshop) -> None:
    api = workshop.api().stage()
    api.route("$default", api.integration("no-such-function", allow=False))
    assert is_broken(api.get("/"))


def test_a_route_without_integration_or_with_another_kind_is_500(workshop: Workshop) -> None:
    api = workshop.api().stage().route("GET /a", "nosuch")
    function = workshop.cloud.function()
    api.route("GET /b", api.integration(function, PayloadFormatVersion="1.0"))
    assert is_broken(api.get("/a"))
    assert is_broken(api.get("/b"))


def test_a_function_that_times_out_is_500(workshop: Workshop) -> None:
    api = workshop.api().serve("import time\ndef handle(event, context): time.sleep(60)", Timeout=1)
    assert is_broken(api.get("/"))


def test_an_integration_that_takes_too_long_is_503_and_logged_once(workshop: Workshop) -> None:
    group = make_group(workshop)
    api = workshop.api()
    source = "import time\ndef handle(event, context): time.sleep(1.5)"
    function = workshop.cloud.function(source, Timeout=3)
    api.route("$default", api.integration(function, TimeoutInMillis=300))
    api.stage(AccessLogSettings={"DestinationArn": group_arn(group), "Format": LOG_FORMAT})
    answer = api.get("/")
    assert (answer.status_code, answer.json()) == (503, {"message": "Service Unavailable"})
    # The function runs on; wait for its end by asking it again with time enough.
    api.control.update_integration(
        ApiId=api.id,
        IntegrationId=api.control.get_integrations(ApiId=api.id)["Items"][0]["IntegrationId"],
        TimeoutInMillis=20000,
    )
    assert api.get("/").status_code == 200
    assert [json.loads(line)["status"] for line in workshop.cloud.log_lines(group)] == ["503", "200"]


# --- the access log -----------------------------------------------------------------------------------------------


def make_group(workshop: Workshop) -> str:
    group = f"/aws/vendedlogs/{id(object())}-{threading.get_ident()}-{len(GROUPS)}"
    GROUPS.append(group)
    workshop.cloud.client("logs").create_log_group(logGroupName=group)
    return group


GROUPS: list[str] = []


def group_arn(group: str) -> str:
    return f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}"


def test_every_request_is_one_line_in_the_stages_format(workshop: Workshop) -> None:
    group = make_group(workshop)
    api = workshop.api().serve(key="GET /jobs/{id}")
    api.stage(AccessLogSettings={"DestinationArn": group_arn(group) + ":*", "Format": LOG_FORMAT})
    good = api.get("/jobs/1", headers={"user-agent": 'nasty" agent\t{"status": "999"}'})
    bad = api.get("/nowhere")
    first, second = (json.loads(line) for line in workshop.cloud.log_lines(group))
    assert first["requestId"] == good.headers["apigw-requestid"]
    assert (first["ip"], first["method"], first["route"]) == ("127.0.0.1", "GET", "GET /jobs/{id}")
    assert (first["status"], first["protocol"], first["path"]) == ("200", "HTTP/1.1", "/jobs/1")
    assert first["length"] == str(len(good.content))
    assert first["agent"] == 'nasty" agent\t{"status": "999"}'
    assert (first["integrationError"], first["sub"], first["unknown"]) == ("-", "-", "-")
    assert int(first["latency"]) >= int(first["integrationLatency"]) >= 0
    assert (second["requestId"], second["status"]) == (bad.headers["apigw-requestid"], "404")
    assert (second["route"], second["error"]) == ("-", "Not Found")


def test_failures_are_told_in_the_log_without_the_functions_words(workshop: Workshop) -> None:
    group = make_group(workshop)
    api = workshop.api().serve("def handle(event, context): raise ValueError('a secret')")
    api.stage(AccessLogSettings={"DestinationArn": group_arn(group), "Format": LOG_FORMAT})
    assert is_broken(api.get("/"))
    (line,) = workshop.cloud.log_lines(group)
    assert "ValueError" in json.loads(line)["integrationError"]
    assert "secret" not in line


def test_a_missing_log_group_disturbs_nothing(workshop: Workshop) -> None:
    api = workshop.api().serve()
    api.stage(AccessLogSettings={"DestinationArn": group_arn("no-such-group"), "Format": LOG_FORMAT})
    assert api.get("/").status_code == 200


# --- limits and hostile clients -----------------------------------------------------------------------------------


def test_a_body_over_10_megabytes_is_413(echo: Api) -> None:
    large = b"x" * (10 * 1024 * 1024 + 1)
    answer = echo.request("POST", "/", content=large)
    assert (answer.status_code, answer.json()) == (413, {"message": "Request Entity Too Large"})
    chunks = iter([large[:6_000_000], large[6_000_000:]])
    assert echo.request("POST", "/", content=chunks).status_code == 413


def test_a_body_that_lambda_does_not_take_is_413(echo: Api) -> None:
    answer = echo.request("POST", "/", content=b"x" * 7_000_000, headers={"content-type": "text/plain"})
    assert answer.status_code == 413


def test_headers_over_10_kilobytes_are_431(echo: Api) -> None:
    assert echo.get("/", headers={"x-large": "x" * 11_000}).status_code == 431
    assert echo.get("/" + "x" * 11_000).status_code == 431
    assert echo.get("/", headers={"x-large": "x" * 9_000}).status_code == 200


def test_an_answer_over_6_megabytes_is_500(workshop: Workshop) -> None:
    api = workshop.api().serve("def handle(event, context): return 'x' * 7_000_000 if event['rawPath'] == '/l' else 1")
    assert is_broken(api.get("/l"))
    assert api.get("/s").status_code == 200


def raw(api: Api, head: bytes, body: bytes = b"") -> bytes:
    """What comes back for these very bytes."""
    with socket.create_connection(("127.0.0.1", api.gateway.port), timeout=10) as connection:
        connection.sendall(head.replace(b"{id}", api.id.encode()) + body)
        answer = b""
        while data := connection.recv(65536):
            answer += data
        return answer


@pytest.mark.parametrize(
    ("target", "statuses"),
    [
        (b"/{id}/%zz", {b"400"}),
        (b"/{id}/%", {b"400"}),
        (b"/{id}/%ff%fe", {b"400"}),
        (b"/{id}/%00", {b"400"}),
        (b"/{id}/%c0%af", {b"400"}),
        (b"/{id}/%ed%a0%80", {b"400"}),
        (b"*", {b"400"}),
        (b"http://evil.example/{id}/x", {b"400"}),
        (b"/{id}/x?%ff=%fe&%zz=1&=&&a", {b"200"}),
        (b"/{id}/%0d%0aset-cookie:%20a=1", {b"200"}),
        (b"/{id}/..%2f..%2fetc", {b"200"}),
        (b"//{id}//", {b"200"}),
        (b"/{id}/%0a", {b"200"}),
        (b"/{id}/\xff", {b"400"}),
    ],
)
def test_hostile_targets_get_an_answer_but_never_5xx(echo: Api, target: bytes, statuses: set[bytes]) -> None:
    answer = raw(echo, b"GET " + target + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    status = answer.split(b" ", 2)[1]
    assert status in statuses | ({b"404"} if target.startswith(b"//") else set()), answer
    assert b"\r\nset-cookie" not in answer.lower()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /{id}/x HTTP/1.1\r\n\r\n",
        b"G\x00T /{id}/x HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"GET /{id}/x HTTP/9.9\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
        b"GET /{id}/x HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        b"POST /{id}/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: -5\r\nConnection: close\r\n\r\n",
        b"POST /{id}/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\nConnection: close\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /{id}/x HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: gzip\r\nConnection: close\r\n\r\n",
    ],
)
def test_broken_requests_get_4xx(echo: Api, head: bytes) -> None:
    answer = raw(echo, head)
    assert answer.split(b" ", 2)[1].startswith(b"4"), answer[:300]


def test_a_head_without_end_is_cut_off_and_hurts_nobody_else(echo: Api) -> None:
    head = b"GET /{id}/x HTTP/1.1\r\nHost: 127.0.0.1\r\nx: " + b"a" * 400_000
    with contextlib.suppress(ConnectionError):  # the server may close while we still write
        assert raw(echo, head).startswith(b"HTTP/1.1 4")
    assert echo.get("/x").status_code == 200


def test_a_websocket_is_turned_away(echo: Api) -> None:
    answer = raw(
        echo,
        b"GET /{id}/x HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    )
    assert b"101 Switching" not in answer


# --- many at once -------------------------------------------------------------------------------------------------


def test_thirty_clients_at_once_each_get_their_own_answer(workshop: Workshop) -> None:
    api = workshop.api().serve(ECHO, key="GET /jobs/{id}")

    def ask(number: int) -> bool:
        return bool(api.get(f"/jobs/{number}").json()["pathParameters"] == {"id": str(number)})

    with ThreadPoolExecutor(30) as pool:
        assert all(pool.map(ask, range(120)))


def test_with_one_api_its_id_may_be_left_out(tmp_path_factory: pytest.TempPathFactory) -> None:
    alone = Workshop(tmp_path_factory.mktemp("alone"))
    try:
        api = alone.api().serve()
        others = [item["ApiId"] for item in api.control.get_apis()["Items"] if item["ApiId"] != api.id]
        for other in others:
            api.control.delete_api(ApiId=other)
        for path in ("/some/path", f"/{api.id}/some/path"):
            assert httpx.get(alone.gateway.url + path, trust_env=False).json()["rawPath"] == "/some/path"
    finally:
        alone.close()

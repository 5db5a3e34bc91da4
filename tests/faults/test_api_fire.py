"""The API under fire: a stack that was really brought up, against requests, events and tokens of bad intent.

The full run is `scripts/bench/api_fire.py`; this is a sample of it, the same every time.
"""

from __future__ import annotations

import base64
import hmac
import itertools
import json
import socket
import stat
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fire_requests as fire
import httpx
import pytest
from fire_stack import CANARY, Person, Stack, up
from joserfc import jws
from joserfc.jwk import RSAKey
from openapi_spec_validator import validate

from aistratus import wire

pytestmark = pytest.mark.xdist_group("api-fire")  # one stack for all of them

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with up(tmp_path_factory.mktemp("home")) as built:
        yield built


@pytest.fixture(scope="module")
def ada(stack: Stack) -> Person:
    return stack.new_person("ada")


@pytest.fixture(scope="module")
def bob(stack: Stack) -> Person:
    return stack.new_person("bob")


@pytest.fixture
def judge(stack: Stack) -> fire.Judge:
    return fire.Judge(httpx.get(f"{stack.api}/openapi.json").json())


def ask(stack: Stack, person: Person, method: str, path: str, **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {person.token}", **more.pop("headers", {})}
    return httpx.request(method, stack.api + path, headers=headers, timeout=30, **more)


# --- the contract -----------------------------------------------------------------------------------------------------


def test_the_contract_is_generated_valid_and_served_to_everybody(stack: Stack) -> None:
    script = ROOT / "scripts" / "generate_openapi.py"
    assert subprocess.run([sys.executable, script, "--check"]).returncode == 0, "run scripts/generate_openapi.py"
    served = httpx.get(f"{stack.api}/openapi.json")
    assert (served.status_code, served.headers["content-type"]) == (200, "application/json")
    assert served.json() == json.loads((ROOT / "aistratus" / "router" / "openapi.json").read_text("utf-8"))
    validate(served.json())


def test_the_contract_has_each_route_of_the_api_and_no_other(stack: Stack, judge: fire.Judge) -> None:
    routes = stack.client("apigatewayv2").get_routes(ApiId=stack.ids["api"]["id"])["Items"]
    declared = {
        f"{method.upper()} {path}": bool(operation["security"]) and {} not in operation["security"]
        for path, methods in judge.contract["paths"].items()
        for method, operation in methods.items()
        if method != "parameters"
    }
    assert {route["RouteKey"]: route["AuthorizationType"] == "JWT" for route in routes} == declared


# --- requests and events ----------------------------------------------------------------------------------------------


def test_whatever_is_sent_the_answer_is_what_the_contract_says(stack: Stack, judge: fire.Judge, ada: Person) -> None:
    fire.fire_raw(stack, judge, ada, fire.campaign(150))
    fire.fire_bodies(stack, judge, ada, fire.campaign(120))
    accepted = judge.counts["POST /infer 202"]
    assert accepted and judge.counts["POST /infer 400"] and judge.counts["early 431"], judge.counts


def test_cases_made_from_the_contract_are_accepted_or_refused_as_it_says(
    stack: Stack, judge: fire.Judge, ada: Person
) -> None:
    fire.fire_contract(stack, judge, ada, 120, fire.campaign)
    assert judge.counts["POST /infer 202"] and judge.counts["POST /infer 400"], judge.counts


def test_no_event_makes_the_function_fail(stack: Stack, judge: fire.Judge, ada: Person) -> None:
    fire.fire_invokes(stack, judge, ada, fire.campaign(150))
    assert judge.counts["POST /infer 202"] and judge.counts["outside 404"], judge.counts


# --- other people's jobs ----------------------------------------------------------------------------------------------


def without_id(answer: httpx.Response) -> tuple[int, dict[str, Any]]:
    return answer.status_code, {name: value for name, value in answer.json().items() if name != "request_id"}


def test_nobody_can_read_cancel_or_notice_another_users_job(stack: Stack, ada: Person, bob: Person) -> None:
    key = uuid.uuid4().hex
    body = {"prompt": f"{CANARY} How do I stop the GPU?", "max_tokens": 8}
    taken = ask(stack, ada, "POST", "/infer", json=body, headers={"Idempotency-Key": key})
    assert (taken.status_code, taken.json()["job_id"]) == (202, key)
    for method in ("GET", "DELETE"):
        never_was = without_id(ask(stack, bob, method, f"/jobs/{uuid.uuid4().hex}"))
        assert never_was[0] == 404
        tricks = [key, f"..%2f{key}", f"{ada.sub}%23{key}", f"job%23{ada.sub}%23{key}", f"{key}%00", f"{key}%0a",
                  f"{key}/", f"%2e%2e/jobs/{key}", f"{key}?sub={ada.sub}", f"{key};owner={ada.sub}"]  # fmt: skip
        for trick in tricks:
            answer = ask(stack, bob, method, f"/jobs/{trick}")
            assert answer.status_code in (400, 404), trick
            assert key not in answer.text and CANARY not in answer.text
        assert without_id(ask(stack, bob, method, f"/jobs/{key}")) == never_was, "not even that it exists"
    for name in ("x-forwarded-user", "x-amzn-oidc-identity", "x-sub", "cookie"):
        assert ask(stack, bob, "GET", f"/jobs/{key}", headers={name: ada.sub}).status_code == 404
    event = {
        "routeKey": "GET /jobs/{id}",
        "headers": {"authorization": bob.token},
        "pathParameters": {"id": key, "owner": ada.sub},
        "requestContext": {"authorizer": {"jwt": {"claims": {"sub": ada.sub}}}},
    }
    assert fire.invoke(stack, event)[1].status == 404
    # The same key of somebody else is another job, and says nothing of the first.
    other = ask(stack, bob, "POST", "/infer", json={"prompt": "mine"}, headers={"Idempotency-Key": key})
    assert other.status_code == 202
    mine = ask(stack, ada, "GET", f"/jobs/{key}").json()
    assert mine["job_id"] == key and mine["status"] != wire.CANCELLED
    assert mine["conversation"] == taken.json()["conversation"] != other.json()["conversation"]


def test_job_ids_that_the_router_draws_cannot_be_guessed(stack: Stack, ada: Person) -> None:
    ids = [ask(stack, ada, "POST", "/infer", json={"prompt": "x", "max_tokens": 1}).json()["job_id"] for _ in range(8)]
    assert len(set(ids)) == 8
    numbers = [int(job_id, 16) for job_id in ids]
    assert all(len(job_id) == 32 for job_id in ids), "128 bits"
    assert all(abs(a - b) > 2**64 for a, b in itertools.pairwise(numbers)), "no counter, no clock"


# --- tokens -----------------------------------------------------------------------------------------------------------


def part(data: object) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decoded(segment: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    return found


def shared_secret(header: dict[str, Any], payload: str, secret: bytes) -> str:
    signing = f"{part(header)}.{payload}"
    return f"{signing}.{part(hmac.digest(secret, signing.encode(), 'sha256'))}"


def signed(header: dict[str, Any], claims: dict[str, Any], key: RSAKey) -> str:
    registry = jws.JWSRegistry(algorithms=["RS256"], strict_check_header=False)
    return jws.serialize_compact(header, json.dumps(claims).encode(), key, registry=registry)


def forgeries(stack: Stack, ada: Person, listener: str) -> Iterator[tuple[str, str]]:
    """Tokens by what is wrong with them, made from a genuine one and what everybody can know."""
    pool = stack.ids["user_pool"]["id"]
    public = httpx.get(f"{stack.endpoint}/{pool}/.well-known/jwks.json").json()["keys"][0]
    head, payload, signature = ada.token.split(".")
    header, claims, kid = decoded(head), decoded(payload), public["kid"]
    for alg in ("none", "None", "nOnE", ""):
        yield f"alg {alg!r}", f"{part({'alg': alg, 'kid': kid})}.{payload}."
        yield f"alg {alg!r} with a signature", f"{part({'alg': alg, 'kid': kid})}.{payload}.{signature}"
    pem = RSAKey.import_key(public).as_pem(private=False)
    secrets = {
        "PEM": pem, "PEM without its last line break": pem.strip(), "JWK": json.dumps(public).encode(),
        "sorted JWK": json.dumps(public, sort_keys=True, separators=(",", ":")).encode(), "n": public["n"].encode(),
        "nothing": b"",
    }  # fmt: skip
    for name, secret in secrets.items():
        yield f"HS256 with {name}", shared_secret({"alg": "HS256", "kid": kid, "typ": "JWT"}, payload, secret)
        yield f"RS256 in name, HS256 with {name}", shared_secret(header, payload, secret)
    stranger = RSAKey.generate_key(2048)
    for name in ("../../../../dev/null", "/etc/passwd", listener, "\0", "' OR '1'='1", "a" * 4_000, kid + " ", ""):
        yield f"kid {name[:20]!r}", signed({"alg": "RS256", "kid": name}, claims, stranger)
    yield "no kid", signed({"alg": "RS256"}, claims, stranger)
    yield "another's key under our kid", signed({"alg": "RS256", "kid": kid}, claims, stranger)
    brought = {"jwk": stranger.as_dict(private=False), "jku": listener, "x5u": listener}
    for name, value in brought.items():
        yield f"brings {name}", signed({"alg": "RS256", "kid": kid, name: value}, claims, stranger)
    for change in ({"sub": "admin"}, {"exp": claims["exp"] + 1}, {"cognito:groups": ["operators"]}):
        yield f"claims with {list(change)}", f"{head}.{part({**claims, **change})}.{signature}"
    twice = json.dumps(claims)[:-1] + ',"sub":"admin"}'
    yield "a claim twice", f"{head}.{part(twice.encode())}.{signature}"
    yield "no signature", f"{head}.{payload}."
    yield "two parts", f"{head}.{payload}"
    yield "four parts", f"{ada.token}.{signature}"
    yield "a space inside", f"{head}.{payload} .{signature}"
    yield "a tab inside", f"{head}\t.{payload}.{signature}"
    yield "padding", f"{head}=.{payload}==.{signature}="
    yield "a large token", f"{head}.{part({**claims, 'x': 'y' * 3_000})}.{signature}"
    yield "deep JSON", f"{part(b'[' * 3_000)}.{payload}.{signature}"
    yield "two tokens", f"{ada.token},{ada.token}"
    yield "two schemes", f"Bearer Bearer {ada.token}"


def direct(stack: Stack, token: str) -> int:
    event = {"routeKey": "GET /jobs/{id}", "headers": {"authorization": token}, "pathParameters": {"id": "x"}}
    return fire.invoke(stack, event)[1].status


def at_gateway(stack: Stack, token: str) -> int:
    headers = [(b"Authorization", f"Bearer {token}".encode())]
    return fire.send(stack, "GET", "/jobs/x", headers).status


def test_no_forged_token_opens_the_gateway_or_the_function(stack: Stack, ada: Person) -> None:
    assert at_gateway(stack, ada.token) == direct(stack, ada.token) == 404, "the genuine one opens both"
    with socket.create_server(("127.0.0.1", 0)) as listening:
        called = threading.Event()
        threading.Thread(target=lambda: (listening.accept(), called.set()), daemon=True).start()
        listener = f"http://127.0.0.1:{listening.getsockname()[1]}/keys.json"
        for name, token in forgeries(stack, ada, listener):
            assert at_gateway(stack, token) in (400, 401) if "\0" in token else at_gateway(stack, token) == 401, name
            assert direct(stack, token) == 401, name
        assert not called.is_set(), "nobody fetches a key from where a token says"


def test_only_an_operator_hears_how_everything_behind_the_router_is(stack: Stack, ada: Person) -> None:
    assert httpx.get(f"{stack.api}/health?deep=1").status_code == 401
    assert ask(stack, ada, "GET", "/health?deep=1").status_code == 403
    pool, client = stack.ids["user_pool"]["id"], stack.ids["user_client"]["id"]
    olga = stack.new_person("olga")
    stack.client("cognito-idp").admin_add_user_to_group(UserPoolId=pool, Username="olga", GroupName="operators")
    assert ask(stack, olga, "GET", "/health?deep=1").status_code == 403, "her token is from before"
    answer = ask(stack, stack.sign_in("olga", olga.sub, pool, client), "GET", "/health?deep=1")
    found = answer.json()
    assert (answer.status_code, found["status"]) == (200, "ok"), found
    states = {name: check["state"] for name, check in found["checks"].items()}
    assert states == {"secret": "unset", "queue": "reachable", "table": "writable", "node": "ready"}


def test_huge_tokens_are_refused_before_they_cost_anything(stack: Stack, ada: Person) -> None:
    for size in (9_000, 100_000, 1_000_000):
        assert direct(stack, "A" * size + ".B.C") == direct(stack, ada.token + "A" * size) == 401
    assert at_gateway(stack, "A" * 9_000 + ".B.C") == 401
    assert at_gateway(stack, "A" * 11_000 + ".B.C") == 431


def test_genuine_tokens_of_another_kind_pool_or_client_are_refused(stack: Stack, ada: Person) -> None:
    cognito = stack.client("cognito-idp")
    flows = {"ExplicitAuthFlows": ["ALLOW_ADMIN_USER_PASSWORD_AUTH", "ALLOW_REFRESH_TOKEN_AUTH"]}
    pool = cognito.create_user_pool(PoolName=f"stranger-{uuid.uuid4().hex[:6]}")["UserPool"]["Id"]
    theirs = cognito.create_user_pool_client(UserPoolId=pool, ClientName="app", **flows)["UserPoolClient"]["ClientId"]
    ours = stack.ids["user_pool"]["id"]
    second = cognito.create_user_pool_client(UserPoolId=ours, ClientName="app", **flows)["UserPoolClient"]["ClientId"]
    try:
        stranger = stack.new_person("ada", pool=pool, client=theirs)
        elsewhere = stack.sign_in("ada", ada.sub, ours, second)
        for token in (stranger.token, stranger.id_token, elsewhere.token, elsewhere.id_token):
            assert at_gateway(stack, token) == direct(stack, token) == 401
        # API Gateway takes an ID token whose audience fits; the router doesn't.
        assert at_gateway(stack, ada.id_token) == direct(stack, ada.id_token) == 401
    finally:
        cognito.delete_user_pool_client(UserPoolId=ours, ClientId=second)
        cognito.delete_user_pool(UserPoolId=pool)


# --- what is left behind ----------------------------------------------------------------------------------------------


def test_logs_hold_one_json_line_for_each_event_and_nothing_that_was_sent(stack: Stack, ada: Person) -> None:
    ask(stack, ada, "POST", "/infer", json={"prompt": f"{CANARY}\n\x1b[31mred", "system": CANARY, "max_tokens": 4})
    ask(stack, ada, "POST", "/infer", json={"prompt": CANARY, CANARY: 1, "temperature": CANARY})
    for value in (b'a"}\n{"level":"error","event":"forged"}', b"\x1b[2J", b"a\r\nX-Injected: 1", CANARY.encode()):
        for name in (b"Idempotency-Key", b"User-Agent", b"X-Forwarded-For", b"Authorization"):
            fire.send(stack, "POST", "/infer", [(b"Authorization", ada.token.encode()), (name, value)], b"{}")
        fire.send(stack, "GET", f"/jobs/{CANARY}{fire.quoted(value)}", [(b"Authorization", ada.token.encode())])
        event = {"routeKey": value.decode(), "requestContext": {"requestId": value.decode()}, "headers": {}}
        fire.invoke(stack, event)
    stack.run("chat", "-o", "json", f"{CANARY} How do I stop the GPU?")
    lines = stack.log_lines()
    router, api = stack.ids["router"]["name"], stack.ids["api_log"]["name"]
    assert len(lines[api]) >= 8 and len(lines[f"/aws/lambda/{router}"]) >= 8 and lines[stack.ids["node_log"]["name"]]
    for group, messages in lines.items():
        for line in messages:
            told = line.rstrip("\n")
            assert "\n" not in told and "\r" not in told and "\x1b" not in told, (group, line)
            assert CANARY not in line and "forged" not in line and ada.token not in line, (group, line)
            platform = told.startswith(("START ", "END ", "REPORT ", "INIT_START ", "the worker ended with status "))
            if not platform:
                assert isinstance(json.loads(told), dict), (group, line)
    for path in stack.files():
        if path.suffix in (".log", ".trace"):
            text = path.read_text(errors="replace")
            assert CANARY not in text and "\x1b" not in text, path


def test_no_secret_is_where_others_can_read_it(stack: Stack, ada: Person) -> None:
    home = stack.home
    stack.run("chat", "-o", "json", "--trace", str(home / "chat.trace"), "hello")
    ssm = stack.client("ssm")
    pages = ssm.get_paginator("get_parameters_by_path").paginate(
        Path="/tinyllama/local", Recursive=True, WithDecryption=True
    )
    parameters = [parameter for page in pages for parameter in page["Parameters"]]
    password = next(entry["Value"] for entry in parameters if entry["Name"].endswith("/operator_password"))
    tokens = json.loads(next((home / ".local/state/aistratus/tokens").rglob("local.json")).read_text())
    secrets = [password, *(tokens[name] for name in ("access", "refresh", "id"))]
    assert all(len(secret) > 20 for secret in secrets)
    for parameter in parameters:
        if parameter["Type"] != "SecureString":
            assert not any(secret in parameter["Value"] for secret in secrets), parameter["Name"]
    commands = "\n".join(stack.watch.seen)
    assert "aistratus.worker" in commands and "chat" in commands, "the watch has seen them"
    assert not any(secret in commands for secret in secrets) and "PRIVATE KEY" not in commands
    for lines in stack.log_lines().values():
        assert not any(secret in line for line in lines for secret in secrets)
    holders = {path for path in stack.files() if any(secret.encode() in path.read_bytes() for secret in secrets)}
    assert {path.parent.parent.name for path in holders} == {"tokens"}, holders
    keys = {path for path in stack.files() if b"BEGIN OPENSSH PRIVATE KEY" in path.read_bytes()[:64]}
    for path in holders | keys:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700, path.parent
    for path in (home / ".local").rglob("*"):
        closed = [p for p in (path, *path.parents) if p != home and home in p.parents and not p.stat().st_mode & 0o077]
        assert path.is_symlink() or closed, f"{path} can be read by others"


def test_endpoint_and_gateway_refuse_foreign_host_headers(stack: Stack) -> None:
    for address in (stack.endpoint, stack.api, stack.gateway):
        path = "/health" if address == stack.api else "/"
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "169.254.169.254", "evil:80"):
            assert httpx.get(address + path, headers={"host": host}).status_code == 403, (address, host)
    assert httpx.get(f"{stack.endpoint}/", headers={"origin": "http://evil.example"}).status_code == 403
    assert httpx.get(f"{stack.api}/health").status_code == 200

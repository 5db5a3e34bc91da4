"""The hosted sign-in pages of the embedded cloud answer as Cognito's do, wrong requests above all."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from embedded_cloud_parts import Connect, unique
from test_embedded_cloud_signin import PASSWORD, Pool, make_pool

from aistratus.local.process import Running

BACK = "http://localhost:17380/callback"
VERIFIER = "v" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()


@dataclass(frozen=True)
class Pages:
    """The pages of one pool and a browser that nobody has used; `query` is a request that is right."""

    pool: Pool
    http: httpx.Client
    document: dict[str, Any]

    @property
    def query(self) -> dict[str, str]:
        return {
            "response_type": "code",
            "client_id": self.pool.client,
            "redirect_uri": BACK,
            "scope": "openid email",
            "state": "s",
            "nonce": "n",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }

    def authorize(self, without: str = "", **changed: str) -> httpx.Response:
        query = {name: value for name, value in (self.query | changed).items() if name != without}
        return self.http.get(self.document["authorization_endpoint"], params=query)

    def post(self, password: str = PASSWORD, **form: str) -> httpx.Response:
        self.http.cookies.clear()
        answer = self.authorize()
        page = answer.url.join(answer.headers["location"])
        return self.http.post(page, data=form or {"username": self.pool.user, "password": password})

    def code(self) -> str:
        return back(self.post())["code"]

    def token(self, without: str = "", **changed: str) -> tuple[int, dict[str, Any]]:
        form = {
            "grant_type": "authorization_code",
            "client_id": self.pool.client,
            "redirect_uri": BACK,
            "code_verifier": VERIFIER,
        } | changed
        answer = self.http.post(self.document["token_endpoint"], data={k: v for k, v in form.items() if k != without})
        return answer.status_code, answer.json()


def back(answer: httpx.Response) -> dict[str, str]:
    """What the client is told, by an address of its own."""
    assert answer.status_code == 302
    assert answer.headers["location"].startswith(f"{BACK}?")
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}


@pytest.fixture
def pages(connect: Connect, embedded_cloud: Running) -> Iterator[Pages]:
    pool = make_pool(
        connect,
        embedded_cloud,
        CallbackURLs=[BACK],
        LogoutURLs=["http://localhost/bye"],
        AllowedOAuthFlows=["code"],
        AllowedOAuthScopes=["openid", "email"],
        AllowedOAuthFlowsUserPoolClient=True,
    )
    pool.cognito.create_user_pool_domain(UserPoolId=pool.id, Domain=unique())
    with httpx.Client(trust_env=False, timeout=30) as http:
        document = http.get(f"{pool.endpoint}/{pool.id}/.well-known/openid-configuration").json()
        yield Pages(pool, http, document)


def test_a_code_and_its_verifier_give_tokens_once(pages: Pages) -> None:
    told = back(pages.post())
    assert told["state"] == "s"
    status, tokens = pages.token(code=told["code"])
    assert status == 200
    identity, access = pages.pool.claims(tokens["id_token"]), pages.pool.claims(tokens["access_token"])
    assert (identity["nonce"], identity["aud"], identity["email"]) == ("n", pages.pool.client, pages.pool.user)
    assert (access["scope"], access["cognito:groups"], tokens["expires_in"]) == ("openid email", ["operators"], 600)
    assert pages.token(code=told["code"]) == (400, {"error": "invalid_grant"})
    assert pages.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"])[0] == 200
    revoked = pages.http.post(
        pages.document["revocation_endpoint"], data={"token": tokens["refresh_token"], "client_id": pages.pool.client}
    )
    assert (revoked.status_code, revoked.content) == (200, b"")
    again = pages.token(grant_type="refresh_token", refresh_token=tokens["refresh_token"])
    assert again == (400, {"error": "invalid_grant"})


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"without": "response_type"}, "invalid_request"),
        ({"without": "code_challenge_method"}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"response_type": "token"}, "unauthorized_client"),
        ({"scope": "openid phone"}, "invalid_scope"),
    ],
)
def test_a_wrong_request_is_told_to_the_client(pages: Pages, change: dict[str, str], error: str) -> None:
    assert back(pages.authorize(**change)) == {"error": error, "state": "s"}


@pytest.mark.parametrize("uri", [f"{BACK}/", BACK.replace("17380", "17381"), "https://elsewhere.example/"])
def test_nobody_is_led_to_an_address_that_the_client_has_not_named(pages: Pages, uri: str) -> None:
    answer = pages.authorize(redirect_uri=uri)
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    assert (answer.status_code, query["error"]) == (302, ["redirect_mismatch"])
    assert urlsplit(answer.headers["location"]).netloc == ""


def test_a_wrong_exchange_is_refused_in_the_words_of_oauth(pages: Pages) -> None:
    assert pages.token(without="grant_type", code="x") == (400, {"error": "invalid_request"})
    assert pages.token() == (400, {"error": "invalid_request"})
    assert pages.token(code="x") == (400, {"error": "invalid_grant"})
    assert pages.token(code="x", client_id="another") == (400, {"error": "invalid_client"})
    assert pages.token(grant_type="password") == (400, {"error": "unsupported_grant_type"})
    for wrong in ({"code_verifier": "w" * 64}, {"without": "code_verifier"}, {"redirect_uri": f"{BACK}/"}):
        code = pages.code()
        assert pages.token(code=code, **wrong) == (400, {"error": "invalid_grant"})
        assert pages.token(code=code) == (400, {"error": "invalid_grant"}), "a code is good for one try"


def test_the_page_checks_passwords_and_remembers_the_browser_until_it_logs_out(pages: Pages) -> None:
    wrong = pages.post(password="<b>")
    assert (wrong.status_code, "Incorrect username or password." in wrong.text) == (400, True)
    assert pages.authorize().headers["location"].startswith("/_hosted/")
    pages.post()
    assert "code" in back(pages.authorize()), "signed in already"
    query = {"client_id": pages.pool.client, "logout_uri": "http://localhost/bye"}
    out = pages.http.get(pages.document["end_session_endpoint"], params=query)
    assert (out.status_code, out.headers["location"]) == (302, "http://localhost/bye")
    assert pages.authorize().headers["location"].startswith("/_hosted/")
    elsewhere = pages.http.get(
        pages.document["end_session_endpoint"], params={**query, "logout_uri": "https://elsewhere.example/"}
    )
    assert elsewhere.status_code == 400


def test_a_first_password_leads_to_a_new_one(pages: Pages) -> None:
    pool = pages.pool
    pool.cognito.admin_set_user_password(UserPoolId=pool.id, Username=pool.user, Password=PASSWORD, Permanent=False)
    form = pages.post()
    session = form.text.partition('name="session" value="')[2].partition('"')[0]
    assert "policy" in pages.post(session=session, new_password="short").text
    assert "code" in back(pages.post(session=session, new_password="Another-horse-8"))
    assert pool.sign_in("Another-horse-8")["AccessToken"]

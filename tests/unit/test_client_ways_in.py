"""What needs no cloud in signing in: SRP's arithmetic, what a page gives back, invitations, and the keyring."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import keyring
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring

from aistratus.client.errors import SignInError
from aistratus.client.hosted import HostedSignIn, Pages, discover, returned
from aistratus.client.keychain import Keychain, keychain
from aistratus.client.place import NotAnInvitation, Place, Places, invited
from aistratus.client.srp import Cheating, N, Proof, told
from aistratus.client.tokens import Tokens, TokenStore
from aistratus.local.hosted.grants import Remembered, proves

# --- a password --------------------------------------------------------------------------------------------------

SECRET = int.from_bytes(hashlib.sha512(b"aistratus").digest() * 4, "big")
CHALLENGE = {
    "USER_ID_FOR_SRP": "alice",
    "SALT": hashlib.sha256(b"salt").hexdigest()[:32],
    "SRP_B": f"{pow(2, int.from_bytes(hashlib.sha512(b'b').digest() * 4, 'big'), N):x}",
    "SECRET_BLOCK": base64.b64encode(b"block" * 30).decode(),
}
AT = datetime(2026, 11, 6, 7, 5, 9, tzinfo=UTC)


def test_srp_gives_what_pycognito_gives() -> None:
    """Its release 2024.5.1 was given the same numbers."""
    answer = Proof(SECRET).responses("eu-central-1_AbCdEf", "Correct-horse-7", CHALLENGE, AT)
    assert answer["TIMESTAMP"] == told(AT) == "Fri Nov 6 07:05:09 UTC 2026"
    assert answer["PASSWORD_CLAIM_SIGNATURE"] == "sEkAcC5Dp4sE4rOGh26dFq9g/hnZd8QQ7NdwDvpveN0="


@pytest.mark.parametrize("number", ["0", f"{N:x}", f"{2 * N:x}"])
def test_srp_stops_at_a_number_that_gives_the_secret_away(number: str) -> None:
    with pytest.raises(Cheating):
        Proof(SECRET).responses("eu-central-1_AbCdEf", "x", {**CHALLENGE, "SRP_B": number}, AT)


# --- a page ------------------------------------------------------------------------------------------------------

PAGES = Pages(authorize="https://a.example/oauth2/authorize", token="https://a.example/oauth2/token")


class Answers:
    """A browser that comes back with this, and a token endpoint that answers that."""

    redirect_uri = "http://localhost:1/callback"

    def __init__(self, by_hand: bool = False, **back: str) -> None:
        self.back = back
        self.by_hand = by_hand

    def __call__(self, address: str) -> Mapping[str, str]:
        return self.back


def jwt(**said: Any) -> str:
    return f"x.{base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b'=').decode()}.x"


def tried(visit: Answers, status: int = 200, **token: Any) -> Tokens:
    sign_in: HostedSignIn

    def answer(request: httpx.Request) -> httpx.Response:
        identity = {"nonce": sign_in.nonce, "aud": "client"} | token.get("id", {})
        made = {
            "access_token": jwt(client_id=token.get("client", "client")),
            "id_token": jwt(**identity),
            "refresh_token": "r",
            "expires_in": 3600,
        }
        return httpx.Response(status, json=made if status == 200 else token)

    with httpx.Client(transport=httpx.MockTransport(answer)) as http:
        sign_in = HostedSignIn(http, PAGES, "client", visit, now=lambda: 0.0, state="ours")
        return sign_in.sign_in()


def test_a_code_with_our_state_gives_tokens() -> None:
    tokens = tried(Answers(code="c", state="ours"))
    assert (tokens.refresh, tokens.expires_at, tokens.way) == ("r", 3600.0, "browser")
    assert tried(Answers(by_hand=True, code="c")).refresh == "r"


@pytest.mark.parametrize(
    ("back", "more", "sentence"),
    [
        (Answers(code="c", state="theirs"), {}, "state"),
        (Answers(code="c"), {}, "state"),
        (Answers(by_hand=True, code="c", state="theirs"), {}, "state"),
        (Answers(error="access_denied", state="ours"), {}, "you declined it"),
        (Answers(error="access_denied"), {}, "state"),
        (Answers(error="odd", error_description="a\nb", state="ours"), {}, "failed: a b."),
        (Answers(code="c", state="ours"), {"status": 400, "error": "invalid_grant"}, "used before"),
        (Answers(code="c", state="ours"), {"status": 502}, "HTTP 502"),
        (Answers(code="c", state="ours"), {"id": {"nonce": "another"}}, "another sign-in"),
        (Answers(code="c", state="ours"), {"id": {"aud": "another"}}, "another sign-in"),
        (Answers(code="c", state="ours"), {"client": "another"}, "another sign-in"),
    ],
)
def test_everything_else_is_refused_with_a_sentence(back: Answers, more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SignInError, match=sentence) as raised:
        tried(back, **more)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("address", ["http://elsewhere.example/token", "", "ftp://x/token"])
def test_pages_on_which_others_could_read_along_are_none(address: str) -> None:
    document = {"authorization_endpoint": "https://a.example/x", "token_endpoint": address}
    with (
        httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=document))) as http,
        pytest.raises(SignInError, match="no sign-in page"),
    ):
        discover(http, "https://cognito-idp.eu-central-1.amazonaws.com", "eu-central-1_x")


@pytest.mark.parametrize(
    ("pasted", "found"),
    [
        (" abc-123 \n", {"code": "abc-123"}),
        ("http://localhost:17380/callback?code=a&state=b", {"code": "a", "state": "b"}),
        ("'localhost:17380/callback?code=a&state=b'", {"code": "a", "state": "b"}),
        ("code=a&state=b", {"code": "a", "state": "b"}),
        ("https://elsewhere.example/", {}),
    ],
)
def test_what_is_pasted_is_an_address_or_a_code(pasted: str, found: dict[str, str]) -> None:
    assert returned(pasted) == found


def test_the_embedded_clouds_codes_are_good_once_and_for_a_while() -> None:
    now = [0.0]
    codes: Remembered[str] = Remembered(300, now=lambda: now[0])
    first, second = codes.add("a"), codes.add("b")
    assert (codes.take(first), codes.take(first), codes.take("unknown")) == ("a", None, None)
    now[0] = 301
    assert codes.take(second) is None
    challenge = base64.urlsafe_b64encode(hashlib.sha256(b"v" * 43).digest()).rstrip(b"=").decode()
    assert (proves("v" * 43, challenge), proves("w" * 43, challenge), proves("", challenge)) == (True, False, False)


# --- an invitation -------------------------------------------------------------------------------------------------

PLACE = Place(
    env="dev",
    api="https://abc.execute-api.eu-central-1.amazonaws.com",
    cognito="https://cognito-idp.eu-central-1.amazonaws.com",
    pool="eu-central-1_AbCdEf",
    client="1example23456789",
)


def test_an_invitation_is_read_back(tmp_path: Path) -> None:
    assert invited(f" {PLACE.invitation}\n") == PLACE
    places = Places(tmp_path / "places")
    places.save(PLACE)
    assert (places.load("dev"), places.load("prod")) == (PLACE, None)
    places.forget("dev")
    assert places.load("dev") is None


@pytest.mark.parametrize(
    "changed",
    [
        {"cognito": "https://cognito-idp.eu-central-1.amazonaws.com.elsewhere.example"},
        {"cognito": "https://user@elsewhere.example/cognito-idp.eu-central-1.amazonaws.com"},
        {"cognito": "http://cognito-idp.eu-central-1.amazonaws.com"},
        {"api": "http://elsewhere.example"},
        {"pool": "../x"},
        {"client": "a/b"},
        {"env": "../../x"},
        {"env": 1},
    ],
)
def test_an_invitation_that_leads_elsewhere_is_refused(changed: dict[str, Any]) -> None:
    word = Place(**{**vars(PLACE), **changed}).invitation
    with pytest.raises(NotAnInvitation):
        invited(word)


@given(st.text(max_size=80))
@settings(max_examples=20)
def test_any_other_word_is_no_invitation(word: str) -> None:
    with pytest.raises(NotAnInvitation):
        invited(word)


# --- the keyring ---------------------------------------------------------------------------------------------------

TOKENS = Tokens("access-text", "refresh-text", "id-text", 1.0, "browser")


class InMemory(KeyringBackend):
    """A keyring that works, or breaks."""

    priority = 1  # type: ignore[assignment]

    def __init__(self, broken: bool = False) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}
        self.broken = broken

    def get_password(self, service: str, username: str) -> str | None:
        if self.broken:
            raise OSError("the collection is locked")
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password


@pytest.fixture
def system() -> Iterator[None]:
    before = keyring.get_keyring()
    yield
    keyring.set_keyring(before)


def test_with_a_keyring_the_file_alone_is_worth_nothing(tmp_path: Path, system: None) -> None:
    keyring.set_keyring(one := InMemory())
    TokenStore(tmp_path, Keychain()).save("dev", TOKENS)
    assert "text" not in (tmp_path / "dev.json").read_text()
    assert TokenStore(tmp_path, Keychain()).load("dev") == TOKENS
    assert all(len(secret) < 1_280 for secret in one.kept.values()), "Windows takes no more"
    assert TokenStore(tmp_path).load("dev") is None
    keyring.set_keyring(InMemory())
    assert TokenStore(tmp_path, Keychain()).load("dev") is None, "another keyring has another key"
    TokenStore(tmp_path, Keychain()).save("dev", TOKENS)
    assert TokenStore(tmp_path, Keychain()).load("dev") == TOKENS


@pytest.mark.parametrize("backend", [InMemory(broken=True), NoKeyring()], ids=["broken", "none"])
def test_without_a_keyring_that_works_the_file_is_plain(tmp_path: Path, system: None, backend: KeyringBackend) -> None:
    keyring.set_keyring(backend)
    TokenStore(tmp_path, Keychain()).save("dev", TOKENS)
    assert json.loads((tmp_path / "dev.json").read_text())["refresh"] == "refresh-text"
    assert TokenStore(tmp_path, Keychain()).load("dev") == TOKENS


def test_where_there_can_be_no_keyring_it_is_not_even_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    assert keychain() is None
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "somebodys.Keyring")
    assert keychain() is not None

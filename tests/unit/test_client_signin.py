"""Tokens on disk, and a session that renews them, against moto's Cognito."""

from __future__ import annotations

import base64
import json
import os
import stat
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from aistratus.client.errors import SignInError
from aistratus.client.signin import RENEW_BEFORE_S, AdminSignIn, Session
from aistratus.client.tokens import Tokens, TokenStore

PASSWORD = "Correct-Horse-9"
TOKENS = Tokens("access", "refresh", "id", 123.5)


@dataclass
class Pool:
    """A user pool with one user, and how often a password was asked for."""

    cognito: Any
    id: str
    client_id: str
    asked: int = 0

    def password(self) -> str:
        self.asked += 1
        return PASSWORD

    def way_in(self, **changed: Any) -> AdminSignIn:
        wanted: dict[str, Any] = {"username": "alice", "password": self.password} | changed
        return AdminSignIn(self.cognito, self.id, self.client_id, **wanted)

    def session(self, folder: Path, **changed: Any) -> Session:
        wanted: dict[str, Any] = {"way_in": self.way_in(), "cognito": self.cognito} | changed
        return Session("dev", TokenStore(folder), client_id=self.client_id, **wanted)


@pytest.fixture(scope="module")
def cognito() -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield boto3.client(
        "cognito-idp",
        endpoint_url=f"http://{host}:{port}",
        region_name="eu-central-1",
        aws_access_key_id="AKIAEXAMPLE",
        aws_secret_access_key="secret-example",
    )
    server.stop()


@pytest.fixture
def pool(cognito: Any) -> Pool:
    pool_id = cognito.create_user_pool(PoolName=uuid.uuid4().hex)["UserPool"]["Id"]
    client_id = cognito.create_user_pool_client(UserPoolId=pool_id, ClientName="cli")["UserPoolClient"]["ClientId"]
    cognito.admin_create_user(UserPoolId=pool_id, Username="alice", MessageAction="SUPPRESS")
    cognito.admin_set_user_password(UserPoolId=pool_id, Username="alice", Password=PASSWORD, Permanent=True)
    return Pool(cognito, pool_id, client_id)


def claims(token: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))


def test_a_session_signs_in_once_and_keeps_its_tokens(pool: Pool, tmp_path: Path) -> None:
    token = pool.session(tmp_path).access_token()
    assert claims(token)["token_use"] == "access"
    assert pool.session(tmp_path).access_token() == token
    assert pool.asked == 1


def test_a_token_is_renewed_in_silence_before_it_expires(pool: Pool, tmp_path: Path) -> None:
    session = pool.session(tmp_path)
    old = session.sign_in()
    later = pool.session(tmp_path, now=lambda: old.expires_at - RENEW_BEFORE_S + 1)
    renewed = later.access_token()
    assert renewed != old.access
    assert pool.asked == 1
    kept = TokenStore(tmp_path).load("dev")
    assert kept is not None
    assert (kept.access, kept.refresh) == (renewed, old.refresh)


def test_a_refresh_token_that_is_not_taken_any_more_leads_back_to_the_password(pool: Pool, tmp_path: Path) -> None:
    old = pool.session(tmp_path).sign_in()
    pool.cognito.admin_user_global_sign_out(UserPoolId=pool.id, Username="alice")
    token = pool.session(tmp_path, now=lambda: old.expires_at + 1).access_token()
    assert claims(token)["client_id"] == pool.client_id
    assert pool.asked == 2


def test_tokens_of_a_pool_that_is_gone_are_not_used(pool: Pool, tmp_path: Path) -> None:
    pool.session(tmp_path).sign_in()
    other = pool.cognito.create_user_pool_client(UserPoolId=pool.id, ClientName="new")["UserPoolClient"]["ClientId"]
    session = Session(
        "dev",
        TokenStore(tmp_path),
        pool.cognito,
        other,
        AdminSignIn(pool.cognito, pool.id, other, "alice", pool.password),
    )
    assert claims(session.access_token())["client_id"] == other


def test_without_a_way_in_the_sentence_says_what_to_type(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(SignInError, match="aistratus login -e dev"):
        pool.session(tmp_path, way_in=None).access_token()


def test_a_wrong_password_is_a_sentence_without_it(pool: Pool, tmp_path: Path) -> None:
    way_in = pool.way_in(password=lambda: "Wrong-Horse-9")
    with pytest.raises(SignInError, match="alice can't be signed in") as caught:
        pool.session(tmp_path, way_in=way_in).access_token()
    assert "Wrong-Horse-9" not in str(caught.value)
    assert TokenStore(tmp_path).load("dev") is None


def test_a_user_who_must_choose_a_password_first_is_told(pool: Pool) -> None:
    pool.cognito.admin_create_user(
        UserPoolId=pool.id, Username="new", TemporaryPassword=PASSWORD, MessageAction="SUPPRESS"
    )
    with pytest.raises(SignInError, match="NEW_PASSWORD_REQUIRED"):
        pool.way_in(username="new").sign_in()


def test_signing_out_forgets_the_tokens_even_if_they_cannot_be_revoked(pool: Pool, tmp_path: Path) -> None:
    session = pool.session(tmp_path)
    session.sign_in()
    with pytest.raises(SignInError, match="forgotten here, but it can't be revoked"):
        session.sign_out()  # moto by itself has no RevokeToken
    assert list(tmp_path.glob("*.json")) == []
    session.sign_out()


def test_whoever_signed_in_by_themselves_is_asked_again_and_never_becomes_the_operator(
    pool: Pool, tmp_path: Path
) -> None:
    session = pool.session(tmp_path)
    old = replace(pool.way_in().sign_in(), way="browser")
    session.replace(old)
    later = pool.session(tmp_path, now=lambda: old.expires_at + 1)
    renewed = later.tokens()
    assert (renewed.way, pool.asked) == ("browser", 1)
    pool.cognito.admin_user_global_sign_out(UserPoolId=pool.id, Username="alice")
    with pytest.raises(SignInError, match="expired; type `aistratus login -e dev`"):
        pool.session(tmp_path, now=lambda: renewed.expires_at + 4_000).access_token()
    assert pool.asked == 1


def test_a_token_that_the_api_does_not_take_is_replaced_though_it_looks_valid(pool: Pool, tmp_path: Path) -> None:
    session = pool.session(tmp_path)
    old = session.access_token()
    other = session.instead_of(old)
    assert other != old
    assert session.instead_of(old) == other == session()


def test_two_processes_at_once_renew_once(pool: Pool, tmp_path: Path) -> None:
    old = pool.session(tmp_path).sign_in()
    sessions = [pool.session(tmp_path, now=lambda: old.expires_at - 1) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        got = set(threads.map(lambda session: session.instead_of(old.access), sessions))
    assert len(got) == 1


def test_without_a_network_a_token_is_used_to_its_end(tmp_path: Path, pool: Pool) -> None:
    old = pool.session(tmp_path).sign_in()
    nowhere = boto3.client(
        "cognito-idp", "eu-central-1", endpoint_url="http://127.0.0.1:9", aws_access_key_id="x",
        aws_secret_access_key="x", config=Config(retries={"total_max_attempts": 1}),
    )  # fmt: skip
    session = pool.session(tmp_path, cognito=nowhere, now=lambda: old.expires_at - 1)
    assert session.access_token() == old.access
    with pytest.raises(SignInError, match="can't be renewed"):
        session.instead_of(old.access)


# --- the store ------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_tokens_are_for_their_user_only_whatever_the_umask(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "tokens"
    before = os.umask(0)
    try:
        TokenStore(folder).save("dev", TOKENS)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "dev.json").stat().st_mode) == 0o600
    (folder / "dev.json").chmod(0o644)
    assert TokenStore(folder).load("dev") == TOKENS
    assert stat.S_IMODE((folder / "dev.json").stat().st_mode) == 0o600


def test_tokens_of_one_env_are_not_those_of_another(tmp_path: Path) -> None:
    store = TokenStore(tmp_path)
    store.save("dev", TOKENS)
    assert (store.load("dev"), store.load("prod")) == (TOKENS, None)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"access": "a"}',
        '{"access": 1, "refresh": "", "id": "", "expires_at": 1}',
        "\xff",
        '"x"',
    ],
)
def test_a_damaged_file_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "dev.json").write_bytes(content.encode("latin-1"))
    assert TokenStore(tmp_path).load("dev") is None


@pytest.mark.parametrize("env", ["", "../dev", "a/b", ".hidden", "a b", "x" * 65])
def test_an_env_cannot_lead_out_of_the_folder(tmp_path: Path, env: str) -> None:
    with pytest.raises(ValueError, match="env's name"):
        TokenStore(tmp_path).save(env, TOKENS)


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    store = TokenStore(tmp_path)
    store.save("dev", TOKENS)
    many = [Tokens("a" * n, "r", "i", float(n)) for n in (10, 5_000, 100_000)] * 20
    writer = threading.Thread(target=lambda: [store.save("dev", tokens) for tokens in many])
    writer.start()
    seen = []
    while writer.is_alive():
        seen.append(store.load("dev"))
    writer.join()
    assert None not in seen
    assert [path.name for path in tmp_path.iterdir()] == ["dev.json"]


def test_tokens_do_not_show_in_a_repr() -> None:
    assert "access'" not in repr(TOKENS)
    assert "refresh'" not in repr(TOKENS)

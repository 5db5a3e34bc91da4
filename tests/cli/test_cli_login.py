"""Signing in: in a browser (a real one, and one made of plain HTTP), by a pasted address, and with a password."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import fastjsonschema
import httpx
import pytest
from chromium import chromium, missing
from cli_parts import Person, client, ended, eventually
from conftest import Built
from documents import WHOAMI

from aistratus.client.place import invited

pytestmark = pytest.mark.xdist_group("cli")

NAME, FIRST, PASSWORD = "ann@example.com", "Correct-horse-7", "Correct-horse-9"


@pytest.fixture(scope="module")
def ann(built: Built) -> Iterator[Built]:
    """A user who has a password of her own; whoever is signed in afterwards is the operator again."""
    person = built.person
    assert person.run("user", "add", NAME, "--no-mail", typed=f"{FIRST}\n").code == 0
    cognito = client(built.endpoint, "cognito-idp")
    cognito.admin_set_user_password(UserPoolId=_pool(built), Username=NAME, Password=PASSWORD, Permanent=True)
    yield built
    person.run("logout")
    assert person.run("user", "remove", NAME).code == 0


def _pool(built: Built) -> str:
    return invited(built.person.run("user", "invitation", "-o", "json").document["invitation"]).pool


@dataclass
class Login:
    """`aistratus login`, waiting for somebody to sign in at `address`."""

    process: subprocess.Popen[str]
    address: str


@contextmanager
def waiting(person: Person, tmp_path: Path) -> Iterator[Login]:
    """Its browser is a script that writes down where it was sent."""
    sent, browser = tmp_path / "address", tmp_path / "browser"
    browser.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\npathlib.Path({str(sent)!r}).write_text(sys.argv[1])\n"
    )
    browser.chmod(0o700)
    process = person.with_variables(BROWSER=f"{browser} %s").start("login", "-o", "json")
    try:
        yield Login(process, eventually(lambda: sent.read_text() if sent.exists() else ""))
    finally:
        process.kill()
        process.communicate()


def browser() -> httpx.Client:
    """Of plain HTTP; what it is sent to it doesn't open by itself."""
    return httpx.Client(trust_env=False, timeout=30)


def sign_in_page(http: httpx.Client, address: str) -> httpx.URL:
    answer = http.get(address)
    assert answer.status_code == 302
    return answer.url.join(answer.headers["location"])


def come_back(http: httpx.Client, address: str) -> str:
    """Signs in; the address that the browser is sent to in the end."""
    answer = http.post(sign_in_page(http, address), data={"username": NAME, "password": PASSWORD})
    assert answer.status_code == 302
    return str(answer.headers["location"])


def with_query(address: str, **changed: str) -> str:
    parts = urlsplit(address)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()} | changed
    return parts._replace(query=urlencode(query)).geturl()


# --- a browser on this machine -----------------------------------------------------------------------------------


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_chromium_signs_in_and_is_sent_back_to_the_terminal(ann: Built, tmp_path: Path) -> None:
    with waiting(ann.person, tmp_path) as login, chromium() as window:
        window.open(login.address)
        window.type("#username", NAME)
        window.type("#password", "wrong")
        window.click("button")
        assert window.shows("Incorrect username or password.")
        window.type("#username", NAME)
        window.type("#password", PASSWORD)
        window.click("button")
        assert window.shows("the terminal goes on")
        said = ended(login.process)
    assert (said.code, said.document["user"], said.document["way"]) == (0, NAME, "browser")


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_chromium_declines_and_the_terminal_says_so(ann: Built, tmp_path: Path) -> None:
    with waiting(ann.person, tmp_path) as login, chromium() as window:
        window.open(login.address)
        window.click("#decline")
        assert window.shows("Not signed in")
        said = ended(login.process)
    assert said.code == 1
    assert "aistratus: Signing in failed: you declined it\n" in said.err


def test_the_same_by_plain_http(ann: Built, tmp_path: Path) -> None:
    person = ann.person
    with waiting(person, tmp_path) as login, browser() as http:
        back = come_back(http, login.address)
        assert http.get(back.replace("localhost", "127.0.0.1").replace("/callback", "/other")).status_code == 404
        assert "the terminal goes on" in http.get(back).text
        said = ended(login.process)
        # The page's own session: whoever signs in again within the hour isn't asked.
        again = http.get(login.address).headers["location"]
    assert said.code == 0
    assert again.startswith("http://localhost:")
    me = person.run("whoami", "-o", "json")
    fastjsonschema.validate(WHOAMI, me.document)
    assert (me.document["user"], me.document["groups"], me.document["way"]) == (NAME, [], "browser")
    assert person.run("queue", "health").code == 0
    assert NAME in person.run("user", "remove", NAME).err, "this is who you are"


def test_an_answer_with_another_state_is_refused(ann: Built, tmp_path: Path) -> None:
    with waiting(ann.person, tmp_path) as login, browser() as http:
        http.get(with_query(come_back(http, login.address), state="another"))
        said = ended(login.process)
    assert said.code == 1
    assert "the answer belongs to another sign-in (its `state` is not ours)" in said.err
    assert said.document["error"]["kind"] == "login"


def test_declined_consent_is_told(ann: Built, tmp_path: Path) -> None:
    with waiting(ann.person, tmp_path) as login, browser() as http:
        page = http.get(sign_in_page(http, login.address)).text
        found = re.search(r'id="decline" href="([^"]+)"', page)
        assert found
        http.get(html.unescape(found[1]))
        said = ended(login.process)
    assert (said.code, "Signing in failed: you declined it" in said.err) == (1, True)


def test_a_port_that_is_taken_is_passed_over(ann: Built, tmp_path: Path) -> None:
    (first := tmp_path / "1").mkdir()
    (second := tmp_path / "2").mkdir()
    with waiting(ann.person, first) as one, waiting(ann.person, second) as two:
        ports = [parse_qs(urlsplit(login.address).query)["redirect_uri"][0] for login in (one, two)]
    assert len(set(ports)) == 2


# --- a browser elsewhere -----------------------------------------------------------------------------------------


@contextmanager
def pasting(person: Person) -> Iterator[Login]:
    process = person.start("login", "--no-browser", "-o", "json", stdin=subprocess.PIPE)
    assert process.stderr
    try:
        yield Login(process, next(line for line in process.stderr if line.startswith("http")).strip())
    finally:
        process.kill()


def paste(login: Login, text: str) -> tuple[int, str, str]:
    out, err = login.process.communicate(f"{text}\n", timeout=60)
    return login.process.returncode, out, err


@pytest.mark.parametrize("just_the_code", [False, True])
def test_what_the_browser_shows_in_the_end_is_pasted(ann: Built, just_the_code: bool) -> None:
    with pasting(ann.person) as login, browser() as http:
        back = come_back(http, login.address)
        code, out, err = paste(login, parse_qs(urlsplit(back).query)["code"][0] if just_the_code else back)
    assert (code, json.loads(out)["user"]) == (0, NAME), err


def test_a_code_is_good_for_one_time_and_for_whoever_asked_for_it(ann: Built) -> None:
    with pasting(ann.person) as login, browser() as http:
        back = come_back(http, login.address)
        query = parse_qs(urlsplit(login.address).query)
        form = {
            "grant_type": "authorization_code",
            "code": parse_qs(urlsplit(back).query)["code"][0],
            "client_id": query["client_id"][0],
            "redirect_uri": query["redirect_uri"][0],
            "code_verifier": "a" * 64,  # of somebody who has seen the code, but never the verifier
        }
        stolen = http.post(login.address.partition("authorize?")[0] + "token", data=form)
        assert (stolen.status_code, stolen.json()) == (400, {"error": "invalid_grant"})
        code, _, err = paste(login, back)
    assert (code, "the code was used before, has expired or belongs to another sign-in" in err) == (1, True)


# --- a password --------------------------------------------------------------------------------------------------


def test_a_first_password_is_replaced_at_the_first_sign_in(ann: Built) -> None:
    person = ann.person
    assert person.run("user", "add", "bob", "--no-mail", typed=f"{FIRST}\n").code == 0
    said = person.run("login", "--username", "bob", typed=f"{FIRST}\nweak\n{PASSWORD}\n")
    assert (said.code, said.out) == (0, "signed in to local as bob\n")
    assert "the new password needs 12 characters" in said.err
    assert person.run("whoami", "-o", "json").document["way"] == "password"
    wrong = person.run("login", "--username", "bob", typed=f"{FIRST}\n")
    assert (wrong.code, "bob can't be signed in: the name, password or session is not valid" in wrong.err) == (1, True)
    assert person.run("whoami", "-o", "json").document["user"] == "bob", "a failed sign-in ends no session"
    assert person.run("user", "remove", "bob", "--yes").code == 0


def test_a_second_factor_is_asked_for(ann: Built) -> None:
    cognito, pool = client(ann.endpoint, "cognito-idp"), _pool(ann)
    who = {"UserPoolId": pool, "Username": NAME}
    cognito.admin_set_user_mfa_preference(**who, SMSMfaSettings={"Enabled": True, "PreferredMfa": True})
    try:
        said = ann.person.run("login", "--username", NAME, typed=f"{PASSWORD}\n123456\n")
        missing_code = ann.person.run("login", "--username", NAME, typed=f"{PASSWORD}\n")
    finally:
        cognito.admin_set_user_mfa_preference(**who, SMSMfaSettings={"Enabled": False})
    assert said.code == 0, said.words
    assert "Code from the text message is needed" in missing_code.err


# --- without an AWS account --------------------------------------------------------------------------------------


def test_an_invitation_is_all_that_somebody_without_an_aws_account_needs(ann: Built, tmp_path: Path) -> None:
    word = ann.person.run("user", "invitation", "-o", "json").document["invitation"]
    friend = Person(tmp_path)
    assert friend.run("whoami").code == 6
    nothing = friend.run("login", "-e", "dev")
    assert (
        nothing.code,
        "have an operator send you what `aistratus --env dev user invitation` prints" in nothing.err,
    ) == (
        1,
        True,
    )
    said = friend.run("login", "--invitation", word, "--username", NAME, typed=f"{PASSWORD}\n")
    assert said.code == 0, said.words
    me = friend.run("whoami", "-o", "json").document
    assert (me["user"], me["way"]) == (NAME, "password")
    assert friend.run("queue", "health", "-o", "json").document["env"] == "local"
    assert "aistratus node stop" in friend.run("chat", "How do I stop the GPU?").out
    out = friend.run("logout")
    assert (out.code, out.out) == (0, "signed out of local\n")
    gone = friend.run("whoami")
    assert (gone.code, "You are not signed in to local; type `aistratus login -e local`" in gone.err) == (1, True)
    assert friend.run("logout", "--forget").code == 0
    assert friend.run("whoami").code == 6


def test_tokens_are_printed_where_only_this_machine_believes_them(ann: Built) -> None:
    token = ann.person.run("token").out.strip()
    api = ann.person.run("whoami", "-o", "json").document["api_url"]
    answer = httpx.get(f"{api}/queue-health", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    elsewhere = ann.person.with_variables(
        AWS_ENDPOINT_URL=ann.endpoint, AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AISTRATUS_ENV="dev"
    )
    refused = elsewhere.run("token")
    assert (refused.code, "no token is printed: env 'dev' lives in an AWS account" in refused.err) == (2, True)

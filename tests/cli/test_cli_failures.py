"""What goes wrong around the command line ends in one sentence: what failed, why, and what to do next."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cli_parts import Person

from aistratus.local.front import signed_service
from aistratus.local.wire_errors import error_answer

DEV = ("--env", "dev")


def on(person: Person, endpoint: str) -> Person:
    return person.with_variables(AWS_ENDPOINT_URL=endpoint, AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x")


def sentence(err: str) -> str:
    """The one line on standard error."""
    assert err.count("\n") == 1, err
    assert err.startswith("aistratus: ")
    return err


@pytest.mark.parametrize("command", [("plan",), ("up",), ("status",), ("down",), ("chat", "hi"), ("env", "list")])
def test_an_address_where_nobody_is_ends_in_a_sentence(person: Person, command: tuple[str, ...]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # taken, and nobody listens
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        said = on(person, address).run(*DEV, *command)
    assert said.code == 1
    assert f'AWS can\'t be reached: Could not connect to the endpoint URL: "{address}/"' in sentence(said.err)
    assert "nothing answers there on this machine" in said.err


def test_a_wrong_address_is_told(person: Person) -> None:
    assert "AWS_ENDPOINT_URL needs an address" in sentence(on(person, "nonsense").run(*DEV, "plan").err)


def test_no_credentials_are_told_with_the_way_to_get_them(person: Person) -> None:
    said = person.run(*DEV, "plan")
    assert "there are no AWS credentials; sign in with `aws sso login`" in sentence(said.err)


def test_an_endpoint_on_this_machine_takes_any_keys(person: Person) -> None:
    said = person.with_variables(AWS_ENDPOINT_URL="http://127.0.0.1:9").run(*DEV, "plan")
    assert "export AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x" in sentence(said.err)
    assert "sso login" not in said.err


@pytest.mark.parametrize("command", [("status", "-o", "json"), ("doctor",), ("--help",), ("--version",)])
def test_output_that_can_not_be_written_is_told(person: Person, command: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        running = person.start(*command, stdout=full)
    err = running.communicate()[1]
    assert running.returncode == 1
    assert "No space left on device" in err and "Traceback" not in err


def test_settings_that_can_not_be_written_whole_are_left_as_they_are(person: Person) -> None:
    (person.home / "aistratus.toml").write_text("# mine\n")
    # No file may be larger than 1 KiB, as on a full disk; Python would leave its own half-written modules behind.
    said = person.with_variables(PYTHONDONTWRITEBYTECODE="1").shell("ulimit -f 1; aistratus init --force")
    assert said.code == 1
    assert "aistratus.toml can't be written: File too large" in sentence(said.err)
    assert (person.home / "aistratus.toml").read_text() == "# mine\n"
    assert [file.name for file in person.home.iterdir() if "toml" in file.name] == ["aistratus.toml"]


def test_closed_streams_are_no_failure(person: Person) -> None:
    for line in ("aistratus env list >&-", "aistratus --version >&- 2>&- <&-", "aistratus chat search x >&-"):
        said = person.shell(line)
        assert (said.code, said.words) == (0, "")


def test_a_locale_without_our_signs_gets_others(person: Person) -> None:
    ascii_only = person.with_variables(PYTHONIOENCODING="ascii")
    said = ascii_only.run("cost", "--idle")
    assert (said.code, said.err) == (0, "")
    assert "EUR 2.55" in said.out and "-EUR 2.55" in said.out
    assert sentence(ascii_only.run("cost", "--what-if", "你€=1").err).startswith("aistratus: --what-if \\u4f60EUR =1: ")


def test_a_look_back_before_all_time_is_a_usage_error(person: Person) -> None:
    said = person.run("logs", "router", "--minutes", "9" * 20)
    assert (said.code, "--minutes" in sentence(said.err)) == (2, True)


def test_bytes_that_are_no_text_are_told(person: Person) -> None:
    said = person.shell("aistratus chat search $'\\xff'")
    assert said.code == 2
    assert sentence(said.err) == "aistratus: '\\udcff' isn't text in UTF-8; type it again, or convert it with iconv\n"


@pytest.mark.parametrize(
    "command", [("status", "-o", "json"), ("doctor",), ("--help",), ("--version",), ("chat", "--help"), ("init",)]
)
def test_a_reader_who_has_seen_enough_is_no_failure(person: Person, command: tuple[str, ...]) -> None:
    read, write = os.pipe()
    os.close(read)
    running = person.start(*command, stdout=write)
    os.close(write)
    err = running.communicate()[1]
    assert (running.returncode, "aistratus: " in err, "Traceback" in err) == (0, False, False)


def test_a_command_that_does_not_exist_is_answered_with_one_that_does(person: Person) -> None:
    said = person.run("local", "status")
    assert sentence(said.err) == (
        "aistratus: No such command 'status'; did you mean 'start'? --help tells what there is\n"
    )


def test_a_trace_that_can_not_be_written_is_a_usage_error(person: Person) -> None:
    said = person.run("status", "--trace", "missing/trace")
    assert said.code == 2
    assert "--trace missing/trace can't be written: No such file or directory; name a file" in sentence(said.err)


def test_an_unknown_profile_is_told(person: Person) -> None:
    assert "config profile (nobody) could not be found" in sentence(person.run(*DEV, "plan", "--profile", "nobody").err)


def test_a_home_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    person = Person(tmp_path).with_variables(HOME=str(tmp_path / "home"))
    said = person.run("up")
    assert said.code == 1
    assert "Not a directory; check who may write there" in sentence(said.err)
    assert person.run("status").code == 6
    assert "0 resources left" in person.run("down").out


def test_a_taken_port_is_told(person: Person) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = person.run("local", "start", "--port", str(taken.getsockname()[1]))
    assert said.code == 1
    assert "can't be used" in sentence(said.err)


def test_a_model_that_is_none_is_refused(person: Person) -> None:
    (person.home / "aistratus.toml").write_text('[model]\npath = "notes.txt"\n')
    (person.home / "notes.txt").write_text("no model")
    try:
        said = person.run("up")
        assert said.code == 2
        assert "notes.txt isn't a GGUF file" in said.err
        (person.home / "notes.txt").unlink()
        assert "notes.txt isn't there; name a GGUF file that exists" in sentence(person.run("plan").err)
    finally:
        person.run("local", "stop")


class Refusing(BaseHTTPRequestHandler):
    """An account whose caller may do nothing but ask who they are."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if b"Action=GetCallerIdentity" in body:
            return self.answer(200, [("Content-Type", "text/xml")], IDENTITY)
        environ: dict[str, Any] = {
            "HTTP_AUTHORIZATION": self.headers.get("Authorization", ""),
            "QUERY_STRING": urlsplit(self.path).query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
        }
        service = signed_service(environ)
        code = "UnauthorizedOperation" if service == "ec2" else "AccessDenied"
        told = (
            f"User: {CALLER} is not authorized to perform: {service}:Something on resource: * because nobody allows it"
        )
        status, headers, content = error_answer(environ, service, 403, code, told)
        return self.answer(int(str(status).split()[0]), list(headers), content)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST

    def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


CALLER = "arn:aws:iam::123456789012:user/ann"
IDENTITY = f"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>{CALLER}</Arn><UserId>ANN</UserId><Account>123456789012</Account></GetCallerIdentityResult>
<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></GetCallerIdentityResponse>""".encode()


@pytest.fixture
def refusing() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("command", ["plan", "up", "status", "down"])
def test_missing_permissions_are_named_with_the_statement_to_add(person: Person, refusing: str, command: str) -> None:
    said = on(person, refusing).run(*DEV, command)
    assert said.code == (5 if command == "status" else 1)
    assert '{"Effect":"Allow","Action":"' in said.words
    assert "isn't allowed" in said.words


def test_what_only_shows_a_plan_ends_with_what_could_not_be_looked_at(person: Person, refusing: str) -> None:
    ends = [on(person, refusing).run(*DEV, *command) for command in (("plan",), ("up", "--plan"), ("down", "--plan"))]
    for said in ends:
        assert said.code == 1
        assert said.err.splitlines()[-1].startswith("aistratus: not everything could be looked at: ")

"""A secret is typed unseen or piped in, is said to be set, and is told nowhere."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fastjsonschema
import pexpect
import pytest
from cli_parts import client, program
from conftest import Built
from documents import ERROR, SECRET

pytestmark = pytest.mark.xdist_group("cli")

NAME = "tinyllama/local/openai-api-key"
PIPED = "sk-piped \"and\" 'quoted' $HOME"
TYPED = "sk-typed-unseen"


@pytest.fixture
def empty(built: Built) -> Built:
    """As `up` leaves it: a place without a value."""
    secrets = client(built.endpoint, "secretsmanager")
    secrets.delete_secret(SecretId=NAME, ForceDeleteWithoutRecovery=True)
    assert built.person.run("up", "-q", "--only", "openai_api_key").code == 0
    return built


def value(built: Built) -> str:
    return str(client(built.endpoint, "secretsmanager").get_secret_value(SecretId=NAME)["SecretString"])


def test_a_piped_value_is_set_and_kept_by_up_and_told_nowhere(empty: Built, tmp_path: Path) -> None:
    person, trace = empty.person, tmp_path / "trace"
    before = person.run("secret", "status", "-o", "json")
    fastjsonschema.validate(SECRET, before.document)
    assert (before.code, before.document["state"], before.document["set_at"]) == (0, "unset", None)
    assert "unset; `aistratus secret set openai` sets it" in person.run("secret", "status").out

    said = person.run("secret", "set", "openai", "--verbose", "--trace", str(trace), typed=f"{PIPED}\n")
    assert (said.code, value(empty)) == (0, PIPED)
    after = person.run("secret", "status", "openai", "-o", "json")
    fastjsonschema.validate(SECRET, after.document)
    age = datetime.now(UTC) - datetime.fromisoformat(after.document["set_at"])
    assert (after.document["state"], after.document["secret"]) == ("set", NAME)
    assert timedelta(seconds=-2) < age < timedelta(minutes=5)
    assert person.run("secret", "status").out.startswith("openai is set since ")

    assert person.run("up", "-q").code == 0
    assert person.run("plan").code == 0
    assert value(empty) == PIPED
    operations = [json.loads(line)["operation"] for line in trace.read_text().splitlines()]
    assert operations[-1] == "PutSecretValue"
    told = [said.words, after.words, trace.read_text()]
    files = [file for file in person.home.rglob("*") if file.is_file()]
    assert not [text for text in told if "sk-piped" in text]
    assert not [file for file in files if b"sk-piped" in file.read_bytes()]


def test_a_typed_value_is_not_shown(empty: Built) -> None:
    child = pexpect.spawn(
        program(), ["secret", "set", "openai"], env=empty.person.environment, cwd=str(empty.person.home), timeout=60,
        encoding="utf-8",
    )  # fmt: skip
    child.expect("Value of openai")
    child.waitnoecho()
    child.sendline(TYPED)
    child.expect(pexpect.EOF)
    child.close()
    assert (child.exitstatus, value(empty)) == (0, TYPED)
    assert "openai is set" in str(child.before)
    assert TYPED not in str(child.before)


@pytest.mark.parametrize(
    ("arguments", "typed", "told"),
    [
        (("openai",), "", "the value is empty"),
        (("openai",), " \n", "the value is empty"),
        (("openai",), "x" * 65_537, "longer than 65536 bytes"),
        (("openai", "sk-shown"), "", "isn't taken from the command line"),
        (("openai", "--value=sk-shown"), "", "isn't taken from the command line"),
        (("openai", "--value", "sk-shown"), "sk-shown", "isn't taken from the command line"),
        (("sk-shown",), "", "there is no secret of this name"),
    ],
)
def test_a_value_that_is_none_or_was_shown_is_refused_without_repeating_it(
    built: Built, arguments: tuple[str, ...], typed: str, told: str
) -> None:
    said = built.person.run("secret", "set", *arguments, "-o", "json", typed=typed)
    fastjsonschema.validate(ERROR, said.document)
    assert (said.code, said.document["error"]["kind"]) == (2, "usage")
    assert told in said.document["error"]["what"]
    assert "sk-shown" not in said.words


def test_one_that_somebody_deleted_is_told_and_restored_with_its_value(empty: Built) -> None:
    secrets = client(empty.endpoint, "secretsmanager")
    empty.person.run("secret", "set", "openai", typed=TYPED)
    secrets.delete_secret(SecretId=NAME, RecoveryWindowInDays=7)
    for command in ("set", "status"):
        said = empty.person.run("secret", command, "openai", typed="sk-other")
        assert (said.code, "is scheduled for deletion; `aistratus up` restores it" in said.err) == (1, True)
    assert empty.person.run("up", "-q").code == 0
    assert value(empty) == TYPED
    secrets.delete_secret(SecretId=NAME, ForceDeleteWithoutRecovery=True)
    gone = empty.person.run("secret", "status")
    assert (gone.code, "`aistratus up` makes it" in gone.err) == (6, True)
    assert empty.person.run("up", "-q").code == 0

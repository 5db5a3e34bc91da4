"""Users as an operator adds, promotes and removes them, and who one is oneself."""

from __future__ import annotations

import json
from pathlib import Path

import fastjsonschema
import pytest
from cli_parts import Person
from conftest import Built
from documents import USERS, WHOAMI

pytestmark = pytest.mark.xdist_group("cli")

FIRST = "Correct-horse-7"


def mails(person: Person, to: str) -> list[str]:
    lines = (person.home / ".local/state/aistratus/local/mail.jsonl").read_text(encoding="utf-8").splitlines()
    return [mail["text"] for mail in map(json.loads, lines) if mail["to"] == to]


def test_a_user_is_invited_promoted_and_removed_and_no_password_is_shown(built: Built, tmp_path: Path) -> None:
    person, trace = built.person, tmp_path / "trace"
    added = person.run("user", "add", "ann@example.com", "--trace", str(trace))
    (mail,) = mails(person, "ann@example.com")
    password = mail.rpartition("password is ")[2].rstrip(".")
    assert added.code == 0
    assert "in a mail to ann@example.com that isn't sent but lies in " in added.out and "mail.jsonl" in added.out

    again = person.run("user", "add", "ann@example.com")
    assert (again.code, "there is a user 'ann@example.com' already" in again.err) == (1, True)
    assert person.run("user", "add", "ann@example.com", "--again").code == 0
    assert mails(person, "ann@example.com")[1] != mail

    assert "is an operator" in person.run("user", "promote", "ANN@example.com").out
    listed = person.run("user", "list", "-o", "json").document
    fastjsonschema.validate(USERS, listed)
    ann = next(one for one in listed["users"] if one["name"] == "ann@example.com")
    assert (ann["operator"], ann["state"], ann["email"]) == (True, "invited", "ann@example.com")
    assert "was an operator already" in person.run("user", "promote", "ann@example.com").out

    assert person.run("user", "remove", "ann@example.com", "-o", "json").document["removed"] == "ann@example.com"
    gone = person.run("user", "remove", "ann@example.com")
    assert (gone.code, "there is no user 'ann@example.com'" in gone.err) == (6, True)
    assert password not in added.words + again.words + trace.read_text()


def test_a_first_password_that_is_piped_in_is_told_nowhere(built: Built) -> None:
    refused = built.person.run("user", "add", "bob", "--no-mail", typed="short-1A\n")
    assert (refused.code, "short-1A" in refused.words) == (2, False)
    assert "the first password of bob needs 12 characters, with upper and lower case, digits and signs" in refused.err
    added = built.person.run("user", "add", "bob", "--no-mail", "--operator", typed=f"{FIRST}\n")
    assert (added.code, FIRST in added.words) == (0, False)
    again = built.person.run("user", "add", "bob", "--no-mail", "--again", typed=f"{FIRST}8\n")
    assert (again.code, FIRST in again.words, mails(built.person, "bob")) == (0, False, [])
    assert built.person.run("user", "remove", "bob").code == 0
    nothing = built.person.run("user", "add", "carl", "--no-mail")
    assert (nothing.code, "First password of carl is needed" in nothing.err) == (2, True)
    assert "needs an address" in built.person.run("user", "add", "carl").err


def test_nobody_removes_themselves_or_the_last_operator_by_accident(built: Built) -> None:
    said = built.person.run("user", "remove", "operator")
    assert (said.code, "this is who you are; --yes" in said.err) == (2, True)
    assert [one["name"] for one in built.person.run("user", "list", "-o", "json").document["users"]] == ["operator"]


def test_whoami_is_the_operator_and_logout_revokes_what_it_forgets(built: Built) -> None:
    me = built.person.run("whoami", "-o", "json")
    fastjsonschema.validate(WHOAMI, me.document)
    assert (me.document["user"], me.document["groups"], me.document["way"]) == (
        "operator",
        ["operators"],
        "credentials",
    )
    assert built.person.run("logout", "-o", "json").document["signed_out"] is True
    out = built.person.run("logout")
    assert (out.code, "nobody was signed in" in out.out) == (0, True)
    assert "operator in local" in built.person.run("whoami").out


def test_what_is_piped_in_and_is_no_text_is_told_without_being_quoted(built: Built) -> None:
    said = built.person.shell(r"printf 'se\xffcret\n' | aistratus user add dan --no-mail")
    assert (said.code, "First password of dan isn't UTF-8 text" in said.err, "cret" in said.words) == (2, True, False)

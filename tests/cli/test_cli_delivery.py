"""What only a person can do is told where people look: by `up`, by `status`, and in their documents."""

from __future__ import annotations

from cli_parts import Person

CONSOLE = "https://eu-central-1.console.aws.amazon.com/codesuite/settings/connections?region=eu-central-1"


def test_a_connection_that_waits_for_a_click_says_so(person: Person) -> None:
    person = person.with_variables(AISTRATUS_DELIVERY__REPOSITORY="owner/name")
    up = person.run("up", "--only", "github_connection")
    told = f"github_connection is pending: open {CONSOLE}, choose tinyllama-local-git"
    assert (up.code, told in up.out) == (0, True), up.words
    again = person.run("up", "--only", "github_connection", "-o", "json")
    assert [entry["todo"].startswith(f"open {CONSOLE}") for entry in again.document["resources"]] == [True]
    status = person.run("status")
    assert f"github_connection (Connection): pending; open {CONSOLE}" in status.out
    document = person.run("status", "-o", "json").document
    todos = {entry["key"]: entry["todo"] for entry in document["resources"] if "todo" in entry}
    assert list(todos) == ["github_connection"]

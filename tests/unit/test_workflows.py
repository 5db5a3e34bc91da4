"""The repository's own workflows: what they run, what they may do, and that nobody else decides what runs in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = {path.stem: path for path in sorted((ROOT / ".github/workflows").glob("*.yml"))}


def workflow(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(WORKFLOWS[name].read_text(encoding="utf-8"))
    return content


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in workflow(name)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_action_is_pinned_to_a_commit_and_says_which_release_it_is(name: str) -> None:
    used = re.findall(r"uses: (.+)", WORKFLOWS[name].read_text(encoding="utf-8"))
    assert used
    assert [line for line in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", line)] == []


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_checkout_leaves_no_credentials_behind(name: str) -> None:
    checkouts = [step for step in steps(name) if "checkout" in step.get("uses", "")]
    assert checkouts
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_input_is_pasted_into_a_script(name: str) -> None:
    assert [step["run"] for step in steps(name) if "${{" in step.get("run", "") and "matrix." not in step["run"]] == []


def test_ci_runs_what_a_laptop_runs_and_may_only_read() -> None:
    assert workflow("ci")["permissions"] == {"contents": "read"}
    assert all("permissions" not in job for job in workflow("ci")["jobs"].values())
    assert ".ci/run" in [step.get("run") for step in workflow("ci")["jobs"]["test"]["steps"]]


def test_ci_has_the_policies_judged_by_two_linters_and_their_word_counts() -> None:
    job = workflow("ci")["jobs"]["policies"]
    assert "scripts/lint_policies" in [step.get("run") for step in job["steps"]] and "continue-on-error" not in job


def test_deploy_may_ask_for_a_token_and_nothing_else() -> None:
    assert workflow("deploy")["permissions"] == {}
    permissions = workflow("deploy")["jobs"]["deploy"]["permissions"]
    assert permissions == {"contents": "read", "id-token": "write"}

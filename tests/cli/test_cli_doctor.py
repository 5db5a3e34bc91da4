"""What `doctor` finds, and that it knows the permissions which `iam policy` prints to be enough."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cli_parts import Person, Said, client
from documents import DOCTOR, POLICY_FILES

from aistratus.local import process


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    state_dir = tmp_path_factory.mktemp("cloud")
    yield process.ensure(state_dir=state_dir, strict=True).endpoint
    process.stop(state_dir)


@pytest.fixture
def somebody(endpoint: str, tmp_path: Path) -> Person:
    """Somebody whose account is the strict cloud; the model is a file that is there."""
    model = tmp_path / "m.gguf"
    model.write_bytes(b"GGUF")
    return Person(
        tmp_path,
        {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AISTRATUS_ENV": "dev",
         "AISTRATUS_MODEL__PATH": str(model)},
    )  # fmt: skip


def findings(said: Said) -> dict[str, dict[str, Any]]:
    jsonschema.validate(said.document, DOCTOR)
    return {finding["check"]: finding for finding in said.document["findings"]}


def user(endpoint: str, name: str, *policies: dict[str, Any]) -> dict[str, str]:
    """A user of the account with these policies, and the variables of its key."""
    iam = client(endpoint, "iam")
    iam.create_user(UserName=name)
    for number, policy in enumerate(policies):
        iam.put_user_policy(UserName=name, PolicyName=str(number), PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


def test_everything_is_in_order_on_the_embedded_cloud(somebody: Person) -> None:
    said = somebody.run("doctor", "-o", "json")
    found = findings(said)
    assert said.code == 0 and said.document["ok"]
    assert {check for check, one in found.items() if one["state"] != "ok"} <= {"ssm plugin"}
    assert {"versions", "settings", "region", "clock", "model", "identity", "account", "permissions", "gpu quota",
            "vpc quota", "address quota", "cost tags"} <= found.keys()  # fmt: skip


def test_whoever_may_nothing_is_told_what_is_missing(endpoint: str, somebody: Person) -> None:
    said = somebody.with_variables(**user(endpoint, "ann")).run("doctor", "-o", "json")
    found = findings(said)["permissions"]
    assert (said.code, found["state"]) == (1, "fail")
    assert re.match(r"\d+ aren't allowed: \w+", found["what"])
    assert "`aistratus iam policy`" in found["todo"]


def test_the_printed_policy_is_all_that_is_missing(endpoint: str, somebody: Person) -> None:
    policy = somebody.run("iam", "policy").document
    said = somebody.with_variables(**user(endpoint, "bea", policy)).run("doctor", "-o", "json")
    assert findings(said)["permissions"]["state"] == "ok", said.out
    less = {**policy, "Statement": policy["Statement"][1:]}
    said = somebody.with_variables(**user(endpoint, "cem", less)).run("doctor", "-o", "json")
    assert findings(said)["permissions"]["state"] == "fail"


def test_the_policy_comes_in_files_that_iam_takes(endpoint: str, somebody: Person) -> None:
    said = somebody.run("iam", "policy", "--into", "policies", "-o", "json")
    jsonschema.validate(said.document, POLICY_FILES)
    files = [somebody.home / name for name in said.document["files"]]
    assert len(files) > 1
    whole = somebody.run("iam", "policy").document["Statement"]
    written = [json.loads(file.read_text()) for file in files]
    assert sorted(map(json.dumps, whole)) == sorted(
        json.dumps(one) for policy in written for one in policy["Statement"]
    )
    iam = client(endpoint, "iam")
    for file in files:
        iam.create_policy(PolicyName=file.stem, PolicyDocument=file.read_text())
    shown = somebody.run("iam", "policy", "--into", "policies").out
    assert shown.count("aws iam create-policy --policy-name tinyllama-dev-operator-") == len(files)
    # One command needs one file.
    alone = somebody.run("iam", "policy", "--command", "plan", "--into", "policies", "-o", "json").document["files"]
    assert [Path(name).name for name in alone] == ["tinyllama-dev-plan.json"]


def test_a_full_account_has_no_room(endpoint: str, somebody: Person) -> None:
    ec2 = client(endpoint, "ec2")
    made = [ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"] for _ in range(4)]  # beside the default one
    try:
        said = somebody.run("doctor", "-o", "json")
        found = findings(said)["vpc quota"]
        assert (said.code, found["state"]) == (1, "fail")
        assert "5 of 5 VPCs" in found["what"] and "L-F678F1CE" in found["todo"]
    finally:
        for vpc in made:
            ec2.delete_vpc(VpcId=vpc)


def test_what_is_wrong_with_settings_login_and_model_is_found(somebody: Person) -> None:
    missing = somebody.with_variables(AISTRATUS_MODEL__PATH="/nowhere/m.gguf").run("doctor")
    assert missing.code == 1 and re.search(r"^fail model +/nowhere/m.gguf isn't there", missing.out, re.M)
    (somebody.home / "aistratus.toml").write_text("[node]\nvolume_gib = 1\n")
    wrong = somebody.run("doctor", "-o", "json")
    assert wrong.code == 1 and findings(wrong)["settings"]["state"] == "fail"
    assert "node.volume_gib" in findings(wrong)["settings"]["what"]
    (somebody.home / "aistratus.toml").unlink()
    nobody = Person(somebody.home, {"AISTRATUS_ENV": "dev"}).run("doctor", "-o", "json")
    assert nobody.code == 1 and "no AWS credentials" in findings(nobody)["identity"]["what"]


def test_an_env_without_a_cloud_is_healthy(person: Person) -> None:
    said = person.run("doctor", "-o", "json")
    assert said.code == 0 and "isn't up" in findings(said)["identity"]["what"]

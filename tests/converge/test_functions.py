"""Functions, what of them is published, and who may invoke it: made, repaired, removed, told apart from strangers'."""

from __future__ import annotations

import base64
import hashlib
import json
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from converge_engine import Engine
from perturb_functions import PERTURB, package

from aistratus.cloud import Cloud
from aistratus.core.errors import Failure, Stranger
from aistratus.core.resource import Ref, Resource
from aistratus.policies import trust
from aistratus.resources.functions import ROLE_ID, Alias, Function, InvokePermission
from aistratus.resources.httpapi import HttpApi
from aistratus.resources.iam import Role
from aistratus.resources.lambda_code import owned_functions

KEYS = {Function: "router", Alias: "router_live", InvokePermission: "router_permission"}
ALSO = {"code_sha256": {"router": {"code_sha256"}}, "architecture": {"router": {"architecture", "code_sha256"}}}
"""What of the function differs too when its alias was moved to other code; see the perturbations."""


def digest(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def stack(text: str = "hello", *, more: dict[str, str] | None = None) -> list[Resource]:
    content = package(text)
    role = Role(key="router_role", trust=trust("lambda.amazonaws.com"))
    api = HttpApi(key="api")
    environment: dict[str, str | Ref] = {"API": Ref(api), "ROLE": Ref(role, "arn"), **(more or {})}
    router = Function(
        key="router",
        code=lambda: content,
        code_sha256=digest(content),
        handler="app.handle",
        role=Ref(role, "arn"),
        environment=environment,
        log_group="/aws/lambda/router",
        tracing="PassThrough",
        reserved_concurrency=5,
    )
    live = Alias(
        key="router_live",
        function=Ref(router),
        code_sha256=router.code_sha256,
        handler=router.handler,
        role=router.role,
        runtime=router.runtime,
        architecture=router.architecture,
        memory_mb=router.memory_mb,
        timeout_s=router.timeout_s,
        environment=environment,
        log_group=router.log_group,
    )
    permission = InvokePermission(
        key="router_permission", function=Ref(live, "function"), alias=Ref(live, "arn"), api=Ref(api)
    )
    return [permission, live, router, api, role]


@pytest.fixture
def judge(endpoint: str) -> Iterator[Callable[..., None]]:
    """Asks the strict cloud for a rule about time; what was asked for ends with the test."""

    def order(**wanted: Any) -> None:
        request = urllib.request.Request(f"{endpoint}/_aistratus/strict", json.dumps(wanted).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 200

    yield order
    order(reset=True)


def versions(aws: Cloud) -> list[str]:
    pages = aws.lambda_.get_paginator("list_versions_by_function").paginate(FunctionName=aws.name("router"))
    return [entry["Version"] for page in pages for entry in page["Versions"]]


def test_up_makes_them_as_described_and_up_again_changes_nothing(aws: Cloud, engine: Engine) -> None:
    outcome = engine.up(*stack())
    ids = {change.key: change.found.ids for change in outcome.changes if change.found}
    answer = aws.lambda_.get_function(FunctionName=f"tinyllama-{aws.env}-router")
    config = answer["Configuration"]
    assert answer["Tags"] == aws.tags("router")
    assert config["CodeSha256"] == digest(package("hello"))
    assert (config["Architectures"], config["MemorySize"], config["Timeout"]) == (["arm64"], 256, 10)
    assert config["Environment"]["Variables"] == {"API": ids["api"]["id"], "ROLE": ids["router_role"]["arn"]}
    alias = aws.lambda_.get_alias(FunctionName=config["FunctionName"], Name="live")
    assert (alias["FunctionVersion"], ids["router_live"]["arn"]) == ("1", alias["AliasArn"])
    policy = json.loads(aws.lambda_.get_policy(FunctionName=config["FunctionName"], Qualifier="live")["Policy"])
    (statement,) = policy["Statement"]
    assert statement["Resource"] == alias["AliasArn"]
    assert statement["Principal"] == {"Service": "apigateway.amazonaws.com"}
    assert list(statement["Condition"]["ArnLike"].values()) == [
        f"arn:aws:execute-api:eu-central-1:123456789012:{ids['api']['id']}/*/*"
    ]
    again = engine.up(*stack())
    assert {change.action for change in again.changes} == {"unchanged"}
    assert versions(aws) == ["$LATEST", "1"]


@pytest.mark.parametrize(("kind", "field"), PERTURB, ids=lambda value: getattr(value, "__name__", value))
def test_a_change_from_outside_is_shown_and_repaired(standing: Engine, kind: type, field: str) -> None:
    standing.up(*stack())
    key = KEYS[kind]
    PERTURB[kind, field](standing.aws, standing.plan(*stack()).survey.found[key])
    differences = standing.differences(*stack())
    if kind is Alias and field in ALSO:
        assert differences.pop("router") == ALSO[field]["router"]
        assert field in differences.pop("router_live")
        assert differences == {}
    else:
        assert differences == {key: {field}}
    standing.up(*stack())
    assert standing.plan(*stack()).empty


def test_new_code_is_published_and_live_moves_to_it(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack("old"))
    assert engine.differences(*stack("new")) == {"router": {"code_sha256"}, "router_live": {"code_sha256"}}
    engine.up(*stack("new"))
    live = aws.lambda_.get_function_configuration(FunctionName=aws.name("router"), Qualifier="live")
    assert (live["CodeSha256"], live["Version"]) == (digest(package("new")), "2")
    answer = aws.lambda_.invoke(FunctionName=aws.name("router"), Qualifier="live")
    assert json.loads(answer["Payload"].read()) == "new"


def test_a_new_variable_reaches_what_is_live(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    engine.up(*stack(more={"RATE": "7"}))
    live = aws.lambda_.get_function_configuration(FunctionName=aws.name("router"), Qualifier="live")
    assert live["Environment"]["Variables"]["RATE"] == "7"


def test_a_role_that_was_deleted_and_is_made_again_may_read_the_variables(aws: Cloud, engine: Engine) -> None:
    """Lambda grants that to the role itself, not to its name: the function has another one for a moment."""

    def wanted() -> list[Resource]:
        resources, other = stack(), Role(key="other_role", trust=trust("lambda.amazonaws.com"))
        role = next(one for one in resources if isinstance(one, Role))
        known = {ROLE_ID: Ref(role, "unique")}
        made = [replace(one, environment={**one.environment, **known}) if isinstance(one, Function) else one
                for one in resources]  # fmt: skip
        router = next(one for one in made if isinstance(one, Function))
        made = [replace(one, function=Ref(router), environment=router.environment) if isinstance(one, Alias) else one
                for one in made if not isinstance(one, InvokePermission)]  # fmt: skip
        return [*made, other]

    engine.up(*wanted())
    which = {"FunctionName": aws.name("router"), "Qualifier": "live"}
    aws.iam.delete_role(RoleName=aws.name("router_role"))
    engine.up(*wanted())
    assert json.loads(aws.lambda_.invoke(**which)["Payload"].read()) == "hello"
    assert aws.lambda_.get_function_configuration(**which)["Role"].endswith(aws.name("router_role"))
    assert engine.plan(*wanted()).empty


def test_publishing_that_died_before_the_alias_moved_goes_on_without_another_version(
    aws: Cloud, engine: Engine
) -> None:
    engine.up(*stack("old"))
    new = stack("new")
    engine.up(*[resource for resource in new if resource.key in ("router", "router_role", "api")])
    aws.lambda_.publish_version(FunctionName=aws.name("router"))
    engine.up(*new)
    assert versions(aws) == ["$LATEST", "1", "2"]
    assert engine.plan(*new).empty


def test_an_alias_moved_back_by_hand_comes_forward_again_without_a_new_version(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack("old"))
    engine.up(*stack("new"))
    aws.lambda_.update_alias(FunctionName=aws.name("router"), Name="live", FunctionVersion="1")
    assert engine.differences(*stack("new")) == {"router_live": {"code_sha256"}}
    engine.up(*stack("new"))
    assert aws.lambda_.get_alias(FunctionName=aws.name("router"), Name="live")["FunctionVersion"] == "2"
    assert versions(aws) == ["$LATEST", "1", "2"]


def test_three_versions_stay_and_those_that_another_alias_needs(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack("1"))
    aws.lambda_.create_alias(FunctionName=aws.name("router"), Name="mine", FunctionVersion="1")
    for text in ("2", "3", "4", "5"):
        engine.up(*stack(text))
    assert versions(aws) == ["$LATEST", "1", "3", "4", "5"]


def test_code_that_changed_since_the_plan_is_not_uploaded(aws: Cloud, engine: Engine) -> None:
    role = Role(key="router_role", trust=trust("lambda.amazonaws.com"))
    changed = Function(
        key="router",
        code=lambda: package("other"),
        code_sha256=digest(package("planned")),
        handler="app.handle",
        role=Ref(role, "arn"),
    )
    (failed,) = engine.try_up(role, changed).failures
    assert isinstance(failed.error, Failure)
    assert "changed while" in str(failed.error)
    assert owned_functions(aws.fresh()) == []


def test_down_removes_them_and_up_makes_them_again(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    assert engine.down(*stack()).ok
    assert owned_functions(aws.fresh()) == []
    assert engine.down(*stack()).ok
    engine.up(*stack())
    assert engine.plan(*stack()).empty


def test_each_alone_can_be_removed_and_comes_back(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    for key in ("router_permission", "router_live"):
        engine.remove(next(resource for resource in stack() if resource.key == key))
        engine.up(*stack())
        assert engine.plan(*stack()).empty


def test_a_permission_of_an_api_that_was_made_anew_moves_to_the_new_one(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    engine.remove(next(resource for resource in stack() if resource.key == "api"))
    outcome = engine.up(*stack())
    api = next(change.found.ids["id"] for change in outcome.changes if change.key == "api" and change.found)
    policy = json.loads(aws.lambda_.get_policy(FunctionName=aws.name("router"), Qualifier="live")["Policy"])
    (statement,) = policy["Statement"]
    assert f":{api}/" in json.dumps(statement["Condition"])
    assert engine.plan(*stack()).empty


def test_a_function_with_our_name_without_our_tags_is_refused_and_left_alone(
    aws: Cloud, engine: Engine, another_env: Callable[[str], Cloud]
) -> None:
    role = Role(key="router_role", trust=trust("lambda.amazonaws.com"))
    arn = next(change.found.ids["arn"] for change in engine.up(role).changes if change.found)
    content = package("somebody's")
    aws.lambda_.create_function(
        FunctionName=aws.name("router"),
        Runtime="python3.12",
        Handler="app.handle",
        Role=arn,
        Code={"ZipFile": content},
        Tags={**aws.tags("router"), "Env": "another"},
    )
    failures = engine.try_up(*stack()).failures
    assert Stranger in {type(change.error) for change in failures}
    engine.down(*stack())
    config = aws.lambda_.get_function_configuration(FunctionName=aws.name("router"))
    assert config["CodeSha256"] == digest(content)


def test_provisioned_environments_are_waited_for_told_when_they_fail_and_taken_away(
    aws: Cloud, engine: Engine, judge: Callable[..., None]
) -> None:
    def live(number: int, text: str = "hello") -> list[Resource]:
        return [replace(one, provisioned=number) if isinstance(one, Alias) else one for one in stack(text)]

    def kept_ready() -> tuple[int, str] | None:
        try:
            config = aws.lambda_.get_provisioned_concurrency_config(FunctionName=aws.name("router"), Qualifier="live")
        except aws.lambda_.exceptions.ProvisionedConcurrencyConfigNotFoundException:
            return None
        return config["RequestedProvisionedConcurrentExecutions"], config["Status"]

    judge(rule="provisioned-in-progress", calls=2)
    engine.up(*live(3))
    assert kept_ready() == (3, "READY")
    assert engine.plan(*live(3)).empty
    engine.up(*live(3, "moves"))
    engine.up(*live(2, "moves with another number"))
    assert kept_ready() == (2, "READY")
    assert engine.plan(*live(2, "moves with another number")).empty
    engine.up(*live(3))
    judge(rule="provisioning-fails", calls=1)
    (failed,) = engine.try_up(*live(4)).failures
    assert "FUNCTION_ERROR_INIT_FAILURE" in str(failed.error)
    assert engine.differences(*live(4)) == {"router_live": {"provisioned"}}
    engine.up(*live(4))
    assert kept_ready() == (4, "READY")
    engine.up(*live(0, "cold"))
    assert kept_ready() is None
    assert engine.plan(*live(0, "cold")).empty


def test_a_run_with_nothing_to_do_makes_five_calls_for_a_function_an_alias_and_a_permission(
    aws: Cloud, engine: Engine
) -> None:
    engine.up(*stack())
    others = [resource for resource in stack() if resource.key in ("api", "router_role")]
    base = engine.calls(lambda: engine.plan(*others))
    assert engine.calls(lambda: engine.plan(*stack())) - base <= 5

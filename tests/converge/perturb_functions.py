"""What somebody may do to functions and aliases from outside: one change for each field that `up` repairs."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

from aistratus.cloud import Cloud
from aistratus.core.resource import Found
from aistratus.resources.functions import Alias, Function, InvokePermission

Perturbation = Callable[[Cloud, Found], None]


def package(text: str) -> bytes:
    """A zip whose handler is `app.handle`; the same text gives the same bytes."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr(zipfile.ZipInfo("app.py"), f"def handle(event, context):\n    return {text!r}\n")
    return held.getvalue()


# --- functions --------------------------------------------------------------------------------------------------


def _configuration(**settings: Any) -> Perturbation:
    def change(aws: Cloud, found: Found) -> None:
        aws.lambda_.update_function_configuration(FunctionName=found.ids["name"], **settings)

    return change


def _code(aws: Cloud, found: Found) -> None:
    aws.lambda_.update_function_code(FunctionName=found.ids["name"], ZipFile=package("somebody's"))


def _architecture(aws: Cloud, found: Found) -> None:
    """The same code, for the other processor."""
    assert isinstance(found.state, Function)
    other = "x86_64" if found.state.architecture == "arm64" else "arm64"
    aws.lambda_.update_function_code(FunctionName=found.ids["name"], ZipFile=found.state.code(), Architectures=[other])


def _role(aws: Cloud, found: Found) -> None:
    """Another role that Lambda may assume: AWS refuses one that isn't there."""
    _configuration(Role=_other_role(aws))(aws, found)


def _other_role(aws: Cloud) -> str:
    name = aws.name("somebody")
    trust = ('{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole",'
             '"Principal":{"Service":"lambda.amazonaws.com"}}]}')  # fmt: skip
    try:
        role = aws.iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)["Role"]
    except aws.iam.exceptions.EntityAlreadyExistsException:
        role = aws.iam.get_role(RoleName=name)["Role"]
    return str(role["Arn"])


def _concurrency(aws: Cloud, found: Found) -> None:
    aws.lambda_.put_function_concurrency(FunctionName=found.ids["name"], ReservedConcurrentExecutions=1)


def _tags(aws: Cloud, found: Found) -> None:
    aws.lambda_.tag_resource(Resource=found.ids["arn"], Tags={"ManagedBy": "somebody"})


# --- aliases: another version is published, and `$LATEST` is put back ------------------------------------------------


def _moved(**settings: Any) -> Perturbation:
    """The alias moves to a version with other settings than `$LATEST` has."""

    def change(aws: Cloud, found: Found) -> None:
        name = found.ids["function"]
        config = aws.lambda_.get_function_configuration(FunctionName=name)
        before = {field: config.get(field) for field in settings}
        before = {field: {"Variables": {}} if value is None else value for field, value in before.items()}
        aws.lambda_.update_function_configuration(FunctionName=name, **settings)
        version = aws.lambda_.publish_version(FunctionName=name)["Version"]
        aws.lambda_.update_function_configuration(FunctionName=name, **before)
        _move(aws, found, version)

    return change


def _moved_to_other_role(aws: Cloud, found: Found) -> None:
    _moved(Role=_other_role(aws))(aws, found)


def _moved_to_other_code(aws: Cloud, found: Found) -> None:
    """Here `$LATEST` stays changed: its zip can't be read back everywhere. So the function differs too."""
    name = found.ids["function"]
    aws.lambda_.update_function_code(FunctionName=name, ZipFile=package("somebody's"))
    _move(aws, found, aws.lambda_.publish_version(FunctionName=name)["Version"])


def _moved_to_other_architecture(aws: Cloud, found: Found) -> None:
    """The same again, so the function and its code differ too."""
    name = found.ids["function"]
    assert isinstance(found.state, Alias)
    other = "x86_64" if found.state.architecture == "arm64" else "arm64"
    aws.lambda_.update_function_code(FunctionName=name, ZipFile=package("somebody's"), Architectures=[other])
    _move(aws, found, aws.lambda_.publish_version(FunctionName=name)["Version"])


def _unpublished(aws: Cloud, found: Found) -> None:
    _move(aws, found, "$LATEST")


def _routed(aws: Cloud, found: Found) -> None:
    """A tenth of the requests goes to another version."""
    name = found.ids["function"]
    config = aws.lambda_.get_function_configuration(FunctionName=name)
    aws.lambda_.update_function_configuration(FunctionName=name, Timeout=config["Timeout"] + 1)
    version = aws.lambda_.publish_version(FunctionName=name)["Version"]
    aws.lambda_.update_function_configuration(FunctionName=name, Timeout=config["Timeout"])
    _move(aws, found, found.ids["version"], {version: 0.1})


def _move(aws: Cloud, found: Found, version: str, weights: dict[str, float] | None = None) -> None:
    assert isinstance(found.state, Alias)
    aws.lambda_.update_alias(
        FunctionName=found.ids["function"],
        Name=found.state.name,
        FunctionVersion=version,
        RoutingConfig={"AdditionalVersionWeights": weights or {}},
    )


def _provisioned(aws: Cloud, found: Found) -> None:
    aws.lambda_.put_provisioned_concurrency_config(
        FunctionName=found.ids["function"], Qualifier="live", ProvisionedConcurrentExecutions=7
    )


# --- permissions ------------------------------------------------------------------------------------------------


def _permission(*, api: str = "", path: str = "", principal: str = "", action: str = "") -> Perturbation:
    """Takes the statement away and gives one of the same id that differs in one thing."""

    def change(aws: Cloud, found: Found) -> None:
        state = found.state
        assert isinstance(state, InvokePermission)
        where = {"FunctionName": found.ids["function"], "Qualifier": found.ids["qualifier"]}
        aws.lambda_.remove_permission(StatementId=found.ids["id"], **where)
        aws.lambda_.add_permission(
            StatementId=found.ids["id"],
            Action=action or state.action,
            Principal=principal or state.principal,
            SourceArn=aws.arn("execute-api", f"{api or state.api}/{path or state.path}"),
            **where,
        )

    return change


PERTURB: dict[tuple[type, str], Perturbation] = {
    (Function, "code_sha256"): _code,
    (Function, "handler"): _configuration(Handler="app.elsewhere"),
    (Function, "role"): _role,
    (Function, "runtime"): _configuration(Runtime="python3.12"),
    (Function, "architecture"): _architecture,
    (Function, "description"): _configuration(Description="Somebody's"),
    (Function, "memory_mb"): _configuration(MemorySize=1024),
    (Function, "timeout_s"): _configuration(Timeout=77),
    (Function, "environment"): _configuration(Environment={"Variables": {"SOMEBODY": "was here"}}),
    (Function, "log_group"): _configuration(LoggingConfig={"LogGroup": "/somebody"}),
    (Function, "log_format"): _configuration(LoggingConfig={"LogFormat": "JSON"}),
    (Function, "tracing"): _configuration(TracingConfig={"Mode": "Active"}),
    (Function, "reserved_concurrency"): _concurrency,
    (Function, "tags"): _tags,
    (Alias, "code_sha256"): _moved_to_other_code,
    (Alias, "handler"): _moved(Handler="app.elsewhere"),
    (Alias, "role"): _moved_to_other_role,
    (Alias, "runtime"): _moved(Runtime="python3.12"),
    (Alias, "architecture"): _moved_to_other_architecture,
    (Alias, "memory_mb"): _moved(MemorySize=1024),
    (Alias, "timeout_s"): _moved(Timeout=77),
    (Alias, "environment"): _moved(Environment={"Variables": {"SOMEBODY": "was here"}}),
    (Alias, "log_group"): _moved(LoggingConfig={"LogGroup": "/somebody"}),
    (Alias, "published"): _unpublished,
    (Alias, "routing"): _routed,
    (Alias, "provisioned"): _provisioned,
    (InvokePermission, "api"): _permission(api="0123456789"),
    (InvokePermission, "path"): _permission(path="*/GET/elsewhere"),
    (InvokePermission, "principal"): _permission(principal="events.amazonaws.com"),
    (InvokePermission, "action"): _permission(action="lambda:GetFunction"),
}

"""What somebody may do to what delivers from outside: one change for each field that `up` repairs."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from aistratus.cloud import Cloud
from aistratus.core.resource import Found
from aistratus.resources.codebuild import BuildProject
from aistratus.resources.connections import Connection
from aistratus.resources.ecr import Repository
from aistratus.resources.oidc import OidcProvider

WRONG = {"Key": "ManagedBy", "Value": "somebody"}


def _project(change: Callable[[Cloud, dict[str, Any]], object]) -> Callable[[Cloud, Found], None]:
    """Reads the project, lets `change` work on it, and writes it back."""

    def perturb(aws: Cloud, found: Found) -> None:
        project = aws.codebuild.batch_get_projects(names=[found.ids["name"]])["projects"][0]
        change(aws, project)
        settable = ("description", "source", "sourceVersion", "environment", "serviceRole", "timeoutInMinutes",
                    "queuedTimeoutInMinutes", "tags", "logsConfig")  # fmt: skip
        given = {name: project[name] for name in settable if name in project}
        aws.codebuild.update_project(name=project["name"], **given)

    return perturb


def _set(value: Any, *path: str) -> Callable[[Cloud, Found], None]:
    def change(aws: Cloud, project: dict[str, Any]) -> None:
        place = project
        for part in path[:-1]:
            place = place[part]
        place[path[-1]] = value

    return _project(change)


def _role(aws: Cloud, project: dict[str, Any]) -> None:
    trust = {"Effect": "Allow", "Principal": {"Service": "codebuild.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    project["source"].pop("auth", None)
    name = f"foreign-{aws.env}"
    project["serviceRole"] = aws.iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"]


def _project_tags(aws: Cloud, project: dict[str, Any]) -> None:
    others = [tag for tag in project["tags"] if tag["key"] != "ManagedBy"]
    project["tags"] = [*others, {"key": "ManagedBy", "value": "somebody"}]


def _keep(aws: Cloud, found: Found) -> None:
    aws.ecr.delete_lifecycle_policy(repositoryName=found.id)


def _scanning(aws: Cloud, found: Found) -> None:
    aws.ecr.put_image_scanning_configuration(repositoryName=found.id, imageScanningConfiguration={"scanOnPush": False})


def _mutability(aws: Cloud, found: Found) -> None:
    aws.ecr.put_image_tag_mutability(repositoryName=found.id, imageTagMutability="IMMUTABLE")


def _repository_tags(aws: Cloud, found: Found) -> None:
    aws.ecr.tag_resource(resourceArn=found.ids["arn"], tags=[WRONG])


def _audiences(aws: Cloud, found: Found) -> None:
    """One too much, and ours gone."""
    assert isinstance(found.state, OidcProvider)
    aws.iam.add_client_id_to_open_id_connect_provider(OpenIDConnectProviderArn=found.id, ClientID="foreign")
    for audience in found.state.audiences:
        aws.iam.remove_client_id_from_open_id_connect_provider(OpenIDConnectProviderArn=found.id, ClientID=audience)


def _provider_tags(aws: Cloud, found: Found) -> None:
    aws.iam.tag_open_id_connect_provider(OpenIDConnectProviderArn=found.id, Tags=[WRONG])


def _connection_tags(aws: Cloud, found: Found) -> None:
    aws.codeconnections.tag_resource(ResourceArn=found.ids["arn"], Tags=[WRONG])


PERTURB: dict[tuple[type, str], Callable[[Cloud, Found], None]] = {
    (BuildProject, "description"): _set("somebody's", "description"),
    (BuildProject, "repository"): _set("https://github.com/somebody/else.git", "source", "location"),
    (BuildProject, "branch"): _set("elsewhere", "sourceVersion"),
    (BuildProject, "buildspec"): _set("other.yml", "source", "buildspec"),
    (BuildProject, "machine"): _set("LINUX_CONTAINER", "environment", "type"),
    (BuildProject, "image"): _set("aws/codebuild/standard:7.0", "environment", "image"),
    (BuildProject, "compute"): _set("BUILD_GENERAL1_LARGE", "environment", "computeType"),
    (BuildProject, "privileged"): _set(True, "environment", "privilegedMode"),
    (BuildProject, "environment"): _set([{"name": "FOREIGN", "value": "1"}], "environment", "environmentVariables"),
    (BuildProject, "role"): _project(_role),
    (BuildProject, "log_group"): _set({"status": "DISABLED"}, "logsConfig", "cloudWatchLogs"),
    (BuildProject, "timeout_min"): _set(480, "timeoutInMinutes"),
    (BuildProject, "queued_min"): _set(5, "queuedTimeoutInMinutes"),
    (BuildProject, "tags"): _project(_project_tags),
    (Repository, "keep"): _keep,
    (Repository, "scan_on_push"): _scanning,
    (Repository, "immutable_tags"): _mutability,
    (Repository, "tags"): _repository_tags,
    (Connection, "tags"): _connection_tags,
    (OidcProvider, "audiences"): _audiences,
    (OidcProvider, "tags"): _provider_tags,
}

NOT_FROM_OUTSIDE: dict[tuple[type, str], str] = {
    (BuildProject, "connection"): "the stack's connection waits for a person; see test_delivery.py for a completed one",
}

"""CodeBuild: projects that build from a GitHub repository.

CodeBuild validates a project's role and connection when the project is created or changed, not only when it builds:
the role must be assumable and allowed to use the connection, and the connection must have been completed by a person.
So a project whose connection is still pending is created without it, which isn't drift, and gets it with the first `up`
after the click.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from aistratus.cloud import Cloud, await_match
from aistratus.core.diff import diff
from aistratus.core.errors import Failure
from aistratus.core.resource import Found, Ref, Resource, reconciles
from aistratus.core.settle import Wait, settle
from aistratus.resources.calls import offered, tag_list, tag_mapping, unless_gone
from aistratus.resources.connections import not_yet_usable

GONE = frozenset({"ResourceNotFoundException"})

IMAGE = "aws/codebuild/amazonlinux-aarch64-standard:3.0"
"""Amazon Linux 2023 on Arm. Source: CodeBuild user guide, "Docker images provided by CodeBuild"."""

ROLE_USABLE = Wait(
    what="CodeBuild can assume the project's role and use the connection with it",
    within=120,
    codes=frozenset({"InvalidInputException", "OAuthProviderException"}),
    saying=r"(?i)sts:AssumeRole|(not authorized to|denied to) (access )?connection",
)
"""A role, its trust and its policies are known to CodeBuild some seconds after IAM took them.

The refusal names a "user" who may not access the connection; the role is meant. Source: messages of CreateProject as
told in terraform-provider-aws and aws-cdk (issue 38504); IAM user guide, "Changes that I make are not always
immediately visible".
"""

GITHUB = "https://github.com/"

LOWER = ("key", "value")
"""What CodeBuild calls the halves of a tag."""


@dataclass(frozen=True, kw_only=True)
class BuildProject(Resource):
    """A project named `tinyllama-<env>-<name>` that leaves no artifacts.

    repository: the GitHub repository, `owner/name`.
    branch: what is built when a build names nothing else.
    buildspec: path of the build's description in the repository.
    connection: ARN of the connection to GitHub by which it reads the repository.
    role: ARN of the role that it runs with.
    machine, image, compute: where it runs, as CodeBuild names it.
    privileged: may run Docker.
    environment: its variables, in plain text.
    log_group: name of the group that its output goes to.
    timeout_min, queued_min: minutes that a build may take and may wait, 5 to 480.
    """

    name: str
    description: str = ""
    repository: str
    branch: str = "main"
    buildspec: str
    connection: Ref | str | None
    role: Ref | str
    machine: str = "ARM_CONTAINER"
    image: str = IMAGE
    compute: str = "BUILD_GENERAL1_SMALL"
    privileged: bool = False
    environment: Mapping[str, str | Ref] = field(default_factory=dict)
    log_group: Ref | str
    timeout_min: int = 15
    queued_min: int = 60

    replace_on: ClassVar[frozenset[str]] = frozenset({"name"})


def find_project(aws: Cloud, want: BuildProject) -> Found | None:
    """By name."""
    name = aws.name(want.name)
    if not offered(aws.codebuild):
        return None
    projects = aws.codebuild.batch_get_projects(names=[name])["projects"]
    if not projects:
        return None
    project = projects[0]
    aws.require_ours("build project", name, _tags(project), want.key)
    # What has to wait for a click is as it should be.
    connection = _connection(project) or not_yet_usable(aws, want.connection)
    state = _state(want.key, want.name, project, connection)
    return Found(state=state, ids=_ids(project), tags=_tags(project))


def owned_projects(aws: Cloud) -> list[Found]:
    """By tags, among the projects with our name."""
    if not offered(aws.codebuild):
        return []
    pages = aws.codebuild.get_paginator("list_projects").paginate()
    names = [name for page in pages for name in page.get("projects", []) if name.startswith(aws.prefix)]
    owned = []
    for start in range(0, len(names), 100):  # BatchGetProjects takes a hundred
        for project in aws.codebuild.batch_get_projects(names=names[start : start + 100])["projects"]:
            tags = _tags(project)
            if aws.owns(tags):
                name = project["name"].removeprefix(aws.prefix)
                state = _state(tags["aistratus:key"], name, project, _connection(project))
                owned.append(Found(state=state, ids=_ids(project), tags=tags))
    return owned


def remove_project(aws: Cloud, have: Found) -> None:
    """Removes it with the record of its builds; deleting what isn't there is no error of CodeBuild's."""
    unless_gone(GONE, aws.codebuild.delete_project, name=have.ids["name"])


@reconciles(BuildProject, find=find_project, remove=remove_project, owned=owned_projects)
def ensure_project(aws: Cloud, want: BuildProject, have: Found | None, changes: frozenset[str]) -> Found:
    name = aws.name(want.name)
    if have is None:
        if not offered(aws.codebuild):
            raise Failure(f"AWS doesn't offer CodeBuild in {aws.region}", todo="leave delivery.repository unset")
        have = aws.create_once(
            "codebuild",
            "create_project",
            look=lambda cloud: find_project(cloud, want),
            taken={"ResourceAlreadyExistsException"},
            settling=ROLE_USABLE,
            name=name,
            artifacts={"type": "NO_ARTIFACTS"},
            tags=tag_list(aws.tags(want.key), names=LOWER),
            **_encoded(aws, want, SETTABLE),
        )
        changes = frozenset(change.field for change in diff(want, have, aws.tags(want.key)))
    if changes:
        params = _encoded(aws, want, changes)
        if "tags" in changes:
            # The list that is given replaces the one that is there, others' tags included.
            params["tags"] = tag_list({**(have.tags or {}), **aws.tags(want.key)}, names=LOWER)
        settle(ROLE_USABLE, aws.codebuild.update_project, clock=aws.clock, name=name, **params)
    return await_match(find_project, aws, want)


SOURCE = frozenset({"repository", "buildspec", "connection"})
ENVIRONMENT = frozenset({"machine", "image", "compute", "privileged", "environment"})
SETTABLE = SOURCE | ENVIRONMENT | {"description", "branch", "role", "log_group", "timeout_min", "queued_min"}


def _encoded(aws: Cloud, want: BuildProject, fields: frozenset[str]) -> dict[str, Any]:
    """These fields as CodeBuild takes them; source and environment go as a whole."""
    encoded: dict[str, Any] = {}
    if fields & SOURCE:
        encoded["source"] = _source(aws, want)
    if fields & ENVIRONMENT:
        encoded["environment"] = {
            "type": want.machine,
            "image": want.image,
            "computeType": want.compute,
            "privilegedMode": want.privileged,
            "imagePullCredentialsType": "CODEBUILD",
            "environmentVariables": [
                {"name": name, "value": value, "type": "PLAINTEXT"} for name, value in sorted(want.environment.items())
            ],
        }
    if "log_group" in fields:
        logs = {"status": "ENABLED", "groupName": want.log_group}
        encoded["logsConfig"] = {"cloudWatchLogs": logs, "s3Logs": {"status": "DISABLED"}}
    plain = {
        "description": ("description", want.description),
        "branch": ("sourceVersion", want.branch),
        "role": ("serviceRole", want.role),
        "timeout_min": ("timeoutInMinutes", want.timeout_min),
        "queued_min": ("queuedTimeoutInMinutes", want.queued_min),
    }
    return encoded | dict(plain[name] for name in sorted(fields & plain.keys()))


def _source(aws: Cloud, want: BuildProject) -> dict[str, Any]:
    source: dict[str, Any] = {
        "type": "GITHUB",
        "location": f"{GITHUB}{want.repository}.git",
        "buildspec": want.buildspec,
        "reportBuildStatus": False,  # would need a webhook's rights at GitHub
    }
    if want.connection is not None and not_yet_usable(aws, want.connection) is None:
        source["auth"] = {"type": "CODECONNECTIONS", "resource": want.connection}
    return source


def _state(key: str, name: str, project: Mapping[str, Any], connection: str | None) -> BuildProject:
    source, environment = project["source"], project["environment"]
    logs = project.get("logsConfig", {}).get("cloudWatchLogs", {})
    return BuildProject(
        key=key,
        name=name,
        description=project.get("description", ""),
        repository=re.sub(r"\.git$", "", source.get("location", "").removeprefix(GITHUB)),
        branch=project.get("sourceVersion", ""),
        buildspec=source.get("buildspec", ""),
        connection=connection,
        role=project["serviceRole"],
        machine=environment["type"],
        image=environment["image"],
        compute=environment["computeType"],
        privileged=environment.get("privilegedMode", False),
        environment={entry["name"]: entry["value"] for entry in environment.get("environmentVariables", [])},
        log_group=logs.get("groupName", "") if logs.get("status") == "ENABLED" else "",
        timeout_min=project["timeoutInMinutes"],
        queued_min=project["queuedTimeoutInMinutes"],
    )


def _connection(project: Mapping[str, Any]) -> str | None:
    """The ARN of the connection that the project reads its source with."""
    auth = project["source"].get("auth") or {}
    return auth.get("resource") if auth.get("type") == "CODECONNECTIONS" else None


def _ids(project: Mapping[str, Any]) -> dict[str, str]:
    return {"id": project["name"], "name": project["name"], "arn": project["arn"]}


def _tags(project: Mapping[str, Any]) -> dict[str, str]:
    return tag_mapping(project.get("tags"), names=LOWER)

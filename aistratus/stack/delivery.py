"""Continuous delivery: a push to GitHub starts a build, and the build publishes the router's new code."""

from __future__ import annotations

from collections.abc import Iterable

from aistratus import policies
from aistratus.core.resource import Ref, Resource
from aistratus.policies import Names
from aistratus.resources.codebuild import BuildProject
from aistratus.resources.connections import Connection
from aistratus.resources.ecr import Repository
from aistratus.resources.iam import InstanceProfile, Role
from aistratus.resources.logs import LogGroup
from aistratus.resources.oidc import OidcProvider
from aistratus.settings import Settings
from aistratus.stack.data import Data
from aistratus.stack.group import Group


def declare_delivery(settings: Settings, names: Names, data: Data, *, keys: Iterable[str]) -> Group:
    """Declares delivery, which is switched off until the settings name a repository.

    Args:
        keys: the keys of all other resources, wanted or not.
    """
    repository, days = settings.delivery.repository or "nobody/nothing", settings.api.log_days
    deploy_log = LogGroup(key="deploy_log", name=f"/aws/codebuild/{names.prefix}deploy", retention_days=days)
    own_connection = Connection(key="github_connection", name="git", provider="GitHub")
    connection = settings.delivery.connection_arn or Ref(own_connection, "arn")
    deploy_role = Role(
        key="deploy_role",
        description="A build: publishes the router's new code",
        trust=policies.trust("codebuild.amazonaws.com", account=names.account),
        inline={"deploy": policies.deploy(names, function="router", log_group=deploy_log.name, connection=connection)},
    )
    project = BuildProject(
        key="deploy_project",
        name="deploy",
        description="Publishes the router's code and moves the alias to it",
        repository=repository,
        branch=settings.delivery.branch,
        buildspec="scripts/buildspec.yml",
        connection=connection,
        role=Ref(deploy_role, "arn"),
        environment={"AISTRATUS_ENV": names.env},
        log_group=Ref(deploy_log, "name"),
    )
    images = Repository(key="builder_images", name="builder", keep=settings.delivery.keep_images)
    runner_log = LogGroup(key="build_runner_log", name=f"/tinyllama/{names.env}/build-runner", retention_days=days)
    runner_role = Role(
        key="build_runner_role",
        description="The machine that builds images: pulls and pushes them",
        trust=policies.trust("ec2.amazonaws.com"),
        inline={
            "build-runner": policies.build_runner(
                names,
                repository=f"{names.prefix}{images.name}",
                bucket=data.bucket_full_name,
                log_group=runner_log.name,
            ),
            "managed-node": policies.managed_node(),
        },
    )
    runner_profile = InstanceProfile(key="build_runner_profile", role=Ref(runner_role))
    provider = OidcProvider(key="github_tokens", url=f"https://{policies.GITHUB_TOKENS}", audiences=(policies.STS,))

    everything: tuple[Resource, ...] = (
        deploy_log, own_connection, deploy_role, project, images, runner_log, runner_role, runner_profile, provider,
    )  # fmt: skip
    github_role = Role(
        key="github_role",
        description="Workflows of the repository: read ids, start a build",
        trust=policies.github_trust(names, repository=repository, number=settings.delivery.repository_number),
        inline={
            "github": policies.github(
                names,
                project=f"{names.prefix}{project.name}",
                keys=sorted({*keys, *(entry.key for entry in everything), "github_role"}),
            )
        },
        after=(Ref(provider),),
    )
    everything = (*everything, github_role)
    if settings.delivery.repository is None:
        return Group(wanted=(), unwanted=everything)
    unwanted = (own_connection,) if settings.delivery.connection_arn else ()
    return Group(wanted=tuple(entry for entry in everything if entry not in unwanted), unwanted=unwanted)

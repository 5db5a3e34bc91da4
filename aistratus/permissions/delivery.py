"""Checks of CodeBuild, ECR, connections to GitHub, and the OIDC provider.

Source: their pages of the Service Authorization Reference.
"""

from __future__ import annotations

from aistratus.permissions import resource_types as t
from aistratus.permissions.check import Check, Params, Table, listing, pass_role, same, tagging

_GIVEN = "source.auth.resource"
_CONNECTIONS = {"codeconnections": t.ANY_CONNECTION, "codestar-connections": t.OLD_CONNECTION}
"""The service has had two names, and AWS checks the one that the connection was created under, as its ARN shows.

Source: Developer Tools console user guide, "Connections rename - Summary of changes".
"""


def _project(action: str) -> tuple[Check, ...]:
    """A build project is passed a role, and a connection by which it reads the repository."""
    return (
        Check(action, t.PROJECT, "name"),
        pass_role("serviceRole", "codebuild.amazonaws.com", "serviceRole"),
        *(
            Check(f"{service}:PassConnection", resource, _GIVEN, f"{_GIVEN} && contains({_GIVEN}, ':{service}:')")
            for service, resource in _CONNECTIONS.items()
        ),
    )


def _provider(params: Params) -> list[str]:
    """A provider's ARN ends with its address."""
    return [str(params["Url"]).removeprefix("https://")]


DELIVERY: Table = {
    **listing("codebuild", "ListProjects"),
    **same("codebuild", t.PROJECT, "names", "BatchGetProjects"),
    **same("codebuild", t.PROJECT, "name", "DeleteProject"),
    "codebuild:CreateProject": _project("codebuild:CreateProject"),
    "codebuild:UpdateProject": _project("codebuild:UpdateProject"),
    # The sweep looks through all repositories for ours.
    **same("ecr", t.REPOSITORIES, "repositoryNames", "DescribeRepositories"),
    **same(
        "ecr",
        t.REPOSITORY,
        "repositoryName",
        "GetLifecyclePolicy PutLifecyclePolicy PutImageScanningConfiguration PutImageTagMutability DeleteRepository",
    ),
    **same("ecr", t.REPOSITORY, "resourceArn", "ListTagsForResource TagResource"),
    "ecr:CreateRepository": (
        Check("ecr:CreateRepository", t.REPOSITORY, "repositoryName"),
        tagging("ecr:TagResource", t.REPOSITORY, "repositoryName", "tags"),
    ),
    **listing("codeconnections", "ListConnections"),
    # A connection has no ARN before it is made, and its name isn't in it: tags tell whose it is.
    "codeconnections:CreateConnection": (Check("codeconnections:CreateConnection", t.EVERYTHING, state="made"),),
    **same("codeconnections", t.CONNECTION, "ConnectionArn", "DeleteConnection"),
    # Read to see whose it is, so before that is known.
    **same("codeconnections", t.ANY_CONNECTION, "ResourceArn", "ListTagsForResource"),
    **same("codeconnections", t.CONNECTION, "ResourceArn", "TagResource"),
    **listing("iam", "ListOpenIDConnectProviders"),
    **same("iam", t.OIDC_PROVIDERS, "OpenIDConnectProviderArn", "GetOpenIDConnectProvider"),
    **same(
        "iam",
        t.OIDC_PROVIDER,
        "OpenIDConnectProviderArn",
        "DeleteOpenIDConnectProvider AddClientIDToOpenIDConnectProvider RemoveClientIDFromOpenIDConnectProvider "
        "TagOpenIDConnectProvider UntagOpenIDConnectProvider",
    ),
    "iam:CreateOpenIDConnectProvider": (
        Check("iam:CreateOpenIDConnectProvider", t.OIDC_PROVIDER, _provider),
        tagging("iam:TagOpenIDConnectProvider", t.OIDC_PROVIDER, _provider, "Tags"),
    ),
}

"""CodeBuild looks at a project's role and connection when the project is made or changed, not only when it builds."""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import unquote

from moto.codebuild.exceptions import InvalidInputException
from moto.codebuild.models import CodeBuildBackend
from moto.codebuild.responses import CodeBuildResponse
from moto.core.exceptions import JsonRESTError
from moto.iam.models import IAMBackend, iam_backends

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.codeconnections import connections_backends
from aistratus.local.shim.iam import policies_of
from aistratus.local.shim.patching import wrap
from aistratus.local.shim.policy_evaluation import ALLOWED, Request, decide
from aistratus.local.strict.rule import Book, Delays, Rule

_ROLE: Final = "https://docs.aws.amazon.com/codebuild/latest/userguide/troubleshooting.html#troubleshooting-assume-role"
_CONNECTION: Final = "https://docs.aws.amazon.com/codebuild/latest/userguide/connections-github-app.html"
USES: Final = ("GetConnection", "GetConnectionToken")

book = Book()


class OAuthProviderException(JsonRESTError):
    code = 400

    def __init__(self, message: str) -> None:
        super().__init__("OAuthProviderException", message)


@book.rule("build-role-not-assumable", code="InvalidInputException", asked="calls", source=_ROLE)
def build_role_not_assumable(cloud: Cloud, delays: Delays) -> None:
    """A role that isn't there or doesn't trust CodeBuild is refused always, a new one for a while."""
    name = "build-role-not-assumable"

    for operation in ("create_role", "update_assume_role_policy"):

        @wrap(IAMBackend, operation)
        def change(original: Any, backend: Any, role_name: str, *args: Any, **wanted: Any) -> Any:
            answer = original(backend, role_name, *args, **wanted)
            delays.born(name, role_name)
            return answer

    def check(account: str, arn: str | None) -> None:
        if arn is None:
            return
        role = iam_backends[account]["aws"].get_role(arn.rsplit("/", 1)[-1])
        if delays.take(name, role.name) or "codebuild.amazonaws.com" not in unquote(role.assume_role_policy_document):
            raise InvalidInputException(
                "CodeBuild is not authorized to perform: sts:AssumeRole on service role. Please verify that: 1) The "
                "provided service role exists, 2) The role name is case-sensitive and matches exactly, and 3) The role "
                "has the necessary trust policy configured."
            )

    @wrap(CodeBuildBackend, "create_project")
    def create_project(original: Any, backend: Any, project_name: str, **wanted: Any) -> Any:
        check(backend.account_id, wanted["service_role"])
        return original(backend, project_name=project_name, **wanted)

    @wrap(CodeBuildResponse, "update_project")
    def update_project(original: Any, self: Any) -> Any:
        check(self.current_account, self._get_param("serviceRole"))
        return original(self)


@book.rule("build-connection-refused", code="OAuthProviderException", source=_CONNECTION)
def build_connection_refused(cloud: Cloud, delays: Delays) -> None:
    """The connection must have been completed, and the role must be allowed to use it."""

    def check(account: str, region: str, source: dict[str, Any], role: str) -> None:
        auth = source.get("auth") or {}
        if auth.get("type") != "CODECONNECTIONS":
            return
        arn = auth["resource"]
        row = connections_backends[account][region].connections.get(arn, {})
        policies = json.loads(json.dumps(list(policies_of(iam_backends[account]["aws"], role))))
        allowed = all(
            decide(policies, Request(action=f"{arn.split(':')[2]}:{use}", resource=arn)) == ALLOWED for use in USES
        )
        if row.get("ConnectionStatus") != "AVAILABLE" or not allowed:
            raise OAuthProviderException(f"User is not authorized to access connection {arn}")

    @wrap(CodeBuildBackend, "create_project")
    def create_project(original: Any, backend: Any, project_name: str, **wanted: Any) -> Any:
        check(backend.account_id, backend.region_name, wanted["project_source"], wanted["service_role"])
        return original(backend, project_name=project_name, **wanted)

    @wrap(CodeBuildResponse, "update_project")
    def update_project(original: Any, self: Any) -> Any:
        project = self.codebuild_backend.codebuild_projects.get(self._get_param("name"))
        if project is not None:
            source = self._get_param("source") or project.project_metadata["source"]
            check(self.current_account, self.region, source, self._get_param("serviceRole") or project.service_role)
        return original(self)


RULES: Final[tuple[Rule, ...]] = tuple(book.rules)

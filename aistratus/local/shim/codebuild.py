"""CodeBuild: UpdateProject, which moto lacks, and names and tags as AWS takes them."""

from __future__ import annotations

import re
from typing import Any, Final

from moto.codebuild.exceptions import InvalidInputException, ResourceNotFoundException
from moto.codebuild.models import CodeBuildBackend
from moto.codebuild.responses import CodeBuildResponse
from moto.core.responses import ActionResult
from moto.core.utils import unix_time

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import add, wrap

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{1,149}")
"""Source: CodeBuild API reference, CreateProject, `name`."""

_CHANGED_AS_A_WHOLE: Final = (
    "description", "source", "sourceVersion", "artifacts", "cache", "environment", "serviceRole", "timeoutInMinutes",
    "queuedTimeoutInMinutes", "tags", "vpcConfig", "logsConfig",
)  # fmt: skip


def patch(cloud: Cloud) -> None:
    @wrap(CodeBuildBackend, "create_project")
    def create_project(original: Any, backend: Any, project_name: str, **wanted: Any) -> Any:
        if not _NAME.fullmatch(project_name):
            raise InvalidInputException(f"Invalid project name: {project_name}")
        wanted["timeout"] = wanted.get("timeout") or 60  # AWS's defaults; moto says 0
        wanted["queued_timeout"] = wanted.get("queued_timeout") or 480
        return original(backend, project_name=project_name, **wanted)

    @add(CodeBuildResponse)
    def update_project(self: Any) -> ActionResult:
        """Fields that are given replace what is there, each as a whole."""
        name = self._get_param("name")
        project = self.codebuild_backend.codebuild_projects.get(name)
        if project is None:
            raise ResourceNotFoundException(f"Project cannot be found: {name}")
        given = {field: self._get_param(field) for field in _CHANGED_AS_A_WHOLE}
        project.project_metadata.update({field: value for field, value in given.items() if value is not None})
        project.project_metadata["lastModifiedDate"] = unix_time()
        project.service_role = project.project_metadata["serviceRole"]
        return ActionResult({"project": project.project_metadata})

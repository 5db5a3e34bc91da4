"""CodeConnections, which moto doesn't have: connections to GitHub and the like, pending until a person completes them.

The person's part has no API on AWS: the console calls `UpdateConnectionInstallation`, which is an IAM action but no
operation of any SDK. It is here under that name, so that a test can be the person.
"""

from __future__ import annotations

import re
import sys
from types import ModuleType, SimpleNamespace
from typing import Any, Final, cast
from uuid import uuid4

from moto import backend_index
from moto.core.base_backend import BackendDict, BaseBackend
from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult, BaseResponse, EmptyResult
from moto.utilities.tagging_service import TaggingService

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import MotoChanged

SERVICE: Final = "codeconnections"
PAGE: Final = 50
_BASE: Final = r"https?://codeconnections\.(.+)\.amazonaws\.com"


class Refused(JsonRESTError):
    """One of the service's own errors."""

    code = 400


class ConnectionsBackend(BaseBackend):
    """The connections of one region, by ARN, in the order in which they were made."""

    @property
    def _url_module(self) -> Any:
        """moto looks for a module `urls` beside the class."""
        return SimpleNamespace(url_bases=[_BASE], url_paths={"{0}/$": ConnectionsResponse.dispatch})

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self.connections: dict[str, dict[str, Any]] = {}
        self.tagger = TaggingService()

    def create(self, name: str, provider: str | None, tags: list[dict[str, str]]) -> str:
        if not 1 <= len(name) <= 32:
            raise Refused("ValidationException", "connectionName must have 1 to 32 characters")
        arn = f"arn:aws:{SERVICE}:{self.region_name}:{self.account_id}:connection/{uuid4()}"
        self.connections[arn] = {
            "ConnectionName": name,
            "ConnectionArn": arn,
            "ProviderType": provider or "GitHub",
            "OwnerAccountId": self.account_id,
            "ConnectionStatus": "PENDING",
        }
        self.tagger.tag_resource(arn, tags)
        return arn

    def get(self, arn: str) -> dict[str, Any]:
        if arn not in self.connections:
            raise Refused("ResourceNotFoundException", f"Connection not found: {arn}")
        return self.connections[arn]

    def delete(self, arn: str) -> None:
        self.get(arn)
        del self.connections[arn]
        self.tagger.delete_all_tags_for_resource(arn)


class ConnectionsResponse(BaseResponse):
    """The operations, as the API names them."""

    def __init__(self) -> None:
        super().__init__(service_name=SERVICE)

    @property
    def connections(self) -> ConnectionsBackend:
        return connections_backends[self.current_account][self.region]

    def create_connection(self) -> ActionResult:
        tags = self._get_param("Tags", [])
        arn = self.connections.create(self._get_param("ConnectionName"), self._get_param("ProviderType"), tags)
        return ActionResult({"ConnectionArn": arn, "Tags": tags})

    def get_connection(self) -> ActionResult:
        return ActionResult({"Connection": self.connections.get(self._get_param("ConnectionArn"))})

    def list_connections(self) -> ActionResult:
        provider = self._get_param("ProviderTypeFilter")
        rows = [row for row in self.connections.connections.values() if not provider or row["ProviderType"] == provider]
        start = int(self._get_param("NextToken") or 0)
        end = start + (self._get_param("MaxResults") or PAGE)
        more = {"NextToken": str(end)} if end < len(rows) else {}
        return ActionResult({"Connections": rows[start:end], **more})

    def delete_connection(self) -> EmptyResult:
        self.connections.delete(self._get_param("ConnectionArn"))
        return EmptyResult()

    def tag_resource(self) -> EmptyResult:
        arn = self._get_param("ResourceArn")
        self.connections.get(arn)
        self.connections.tagger.tag_resource(arn, self._get_param("Tags"))
        return EmptyResult()

    def untag_resource(self) -> EmptyResult:
        arn = self._get_param("ResourceArn")
        self.connections.get(arn)
        self.connections.tagger.untag_resource_using_names(arn, self._get_param("TagKeys"))
        return EmptyResult()

    def list_tags_for_resource(self) -> ActionResult:
        arn = self._get_param("ResourceArn")
        self.connections.get(arn)
        return ActionResult(self.connections.tagger.list_tags_for_resource(arn))

    def update_connection_installation(self) -> tuple[int, dict[str, Any], str]:
        """What a person does in the console."""
        self.connections.get(self._get_param("ConnectionArn"))["ConnectionStatus"] = "AVAILABLE"
        return 200, {}, "{}"


connections_backends: BackendDict[ConnectionsBackend] = BackendDict(ConnectionsBackend, "codebuild")
"""By account and region; in the regions of CodeBuild, as the SDK knows none of its own."""


def patch(cloud: Cloud) -> None:
    """Gives moto the service: the module that it looks for, and the addresses at which it answers."""
    if any(name == SERVICE for name, _ in backend_index.backend_url_patterns):
        raise MotoChanged(f"moto has {SERVICE} by now")
    module = cast(Any, ModuleType(f"moto.{SERVICE}"))
    module.codeconnections_backends = connections_backends
    sys.modules[module.__name__] = module
    backend_index.backend_url_patterns.append((SERVICE, re.compile(_BASE)))

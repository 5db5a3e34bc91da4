"""Secrets Manager: when a version was made, and what is asked of a secret that isn't there."""

from __future__ import annotations

import json
from typing import Any

from moto.secretsmanager.exceptions import SecretNotFoundException
from moto.secretsmanager.models import SecretsManagerBackend

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import wrap


def patch(cloud: Cloud) -> None:
    @wrap(SecretsManagerBackend, "list_secret_version_ids")
    def list_secret_version_ids(original: Any, backend: Any, secret_id: str) -> str:
        """moto says of every version that it was made just now, and fails for a secret that isn't there."""
        if secret_id not in backend.secrets:
            raise SecretNotFoundException()
        secret = backend.secrets[secret_id]
        answer = json.loads(original(backend, secret_id))
        for version in answer["Versions"]:
            version["CreatedDate"] = secret.versions[version["VersionId"]]["createdate"]
            del version["LastAccessedDate"]  # known by the day only, and here by nobody
        return json.dumps({**answer, "ARN": secret.arn})

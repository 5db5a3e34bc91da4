"""Secrets Manager: what a deleted secret still keeps, and for how long."""

from __future__ import annotations

import copy
import time
from typing import Any, Final

from moto.secretsmanager.exceptions import InvalidRequestException
from moto.secretsmanager.models import SecretsManagerBackend

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import wrap
from aistratus.local.strict.rule import Book, Delays, Rule

book = Book()

_TAKEN: Final = "You can't create this secret because a secret with this name is already scheduled for deletion."
_MARKED: Final = "You can't perform this operation on the secret because it was marked for deletion."


@book.rule(
    "secret-scheduled",
    code="InvalidRequestException",
    source="https://docs.aws.amazon.com/secretsmanager/latest/userguide/manage_delete-secret.html",
)
def secret_scheduled(cloud: Cloud, delays: Delays) -> None:
    """A deleted secret keeps its name until its recovery window is over, and can only be restored until then.

    moto says "exists already" to the first, and lets values and tags be set.
    """

    @wrap(SecretsManagerBackend, "create_secret")
    def create(original: Any, backend: Any, name: str, *args: Any, **wanted: Any) -> Any:
        if name in backend.secrets and backend.secrets[name].is_deleted():
            raise InvalidRequestException(_TAKEN)
        return original(backend, name, *args, **wanted)

    def refuse_marked(backend: Any, identity: str) -> None:
        if identity in backend.secrets and backend.secrets[identity].is_deleted():
            raise InvalidRequestException(_MARKED)

    @wrap(SecretsManagerBackend, "put_secret_value")
    def put_secret_value(original: Any, backend: Any, secret_id: str, **wanted: Any) -> Any:
        refuse_marked(backend, secret_id)
        return original(backend, secret_id, **wanted)

    @wrap(SecretsManagerBackend, "tag_resource")
    def tag_resource(original: Any, backend: Any, arn: str, tags: Any) -> Any:
        refuse_marked(backend, arn)
        return original(backend, arn, tags)


@book.rule(
    "secret-lingers",
    code="InvalidRequestException",
    asked="calls",
    source="https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_DeleteSecret.html",
)
def secret_lingers(cloud: Cloud, delays: Delays) -> None:
    """A secret deleted without recovery is described as deleted for a while, and its name refused after that."""
    ghosts: dict[tuple[str, str, str], Any] = {}

    def ghost(backend: Any, identity: str) -> Any:
        found = [
            secret
            for (account, region, _), secret in ghosts.items()
            if (account, region) == (backend.account_id, backend.region_name) and identity in (secret.name, secret.arn)
        ]
        return found[0] if found and identity not in backend.secrets else None

    @wrap(SecretsManagerBackend, "delete_secret")
    def delete_secret(original: Any, backend: Any, secret_id: str, **how: Any) -> Any:
        there = copy.copy(backend.secrets[secret_id]) if secret_id in backend.secrets else None
        answer = original(backend, secret_id, **how)
        if there is not None and how.get("force_delete_without_recovery"):
            there.delete(time.time())
            ghosts[backend.account_id, backend.region_name, there.name] = there
            delays.born("secret-lingers", f"described {there.arn}")
            delays.born("secret-lingers", f"named {there.arn}")
        return answer

    @wrap(SecretsManagerBackend, "describe_secret")
    def describe_secret(original: Any, backend: Any, secret_id: str) -> Any:
        gone = ghost(backend, secret_id)
        if gone is not None and delays.take("secret-lingers", f"described {gone.arn}"):
            return gone
        return original(backend, secret_id)

    @wrap(SecretsManagerBackend, "create_secret")
    def create_secret(original: Any, backend: Any, name: str, *args: Any, **wanted: Any) -> Any:
        gone = ghost(backend, name)
        if gone is not None and delays.take("secret-lingers", f"named {gone.arn}"):
            raise InvalidRequestException(_TAKEN)
        return original(backend, name, *args, **wanted)


RULES: Final[tuple[Rule, ...]] = tuple(book.rules)

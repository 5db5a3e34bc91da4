"""User pools: tags by ARN, which moto lacks, and two settings that an update of moto's misplaces."""

from __future__ import annotations

from typing import Any

from moto.cognitoidp.exceptions import ResourceNotFoundError
from moto.cognitoidp.models import CognitoIdpBackend, CognitoIdpUserPool
from moto.cognitoidp.responses import CognitoIdpResponse
from moto.core.responses import ActionResult

from aistratus.local.shim.patching import add, wrap


def patch() -> None:
    _tags()
    _updates()


def _tags() -> None:
    """They are the pool's own `UserPoolTags`."""

    def tags_of(self: CognitoIdpResponse) -> dict[str, str]:
        arn: str = self._get_param("ResourceArn")
        pool = self.backend.user_pools.get(arn.rpartition("/")[2])
        if pool is None:
            raise ResourceNotFoundError(f"User pool {arn.rpartition('/')[2]} does not exist.")
        # A copy of its own: moto hands the caller's mapping on.
        tags: dict[str, str] = dict(pool.extended_config.get("UserPoolTags") or {})
        pool.extended_config["UserPoolTags"] = tags
        return tags

    @add(CognitoIdpResponse)
    def tag_resource(self: CognitoIdpResponse) -> ActionResult:
        tags_of(self).update(self._get_param("Tags") or {})
        return ActionResult({})

    @add(CognitoIdpResponse)
    def untag_resource(self: CognitoIdpResponse) -> ActionResult:
        tags = tags_of(self)
        for key in self._get_param("TagKeys") or []:
            tags.pop(key, None)
        return ActionResult({})

    @add(CognitoIdpResponse)
    def list_tags_for_resource(self: CognitoIdpResponse) -> ActionResult:
        return ActionResult({"Tags": tags_of(self)})


def _updates() -> None:
    """Name and MFA are attributes of the pool; kept among its settings they would hide what is set later."""

    @wrap(CognitoIdpBackend, "update_user_pool")
    def update_user_pool(
        original: Any, backend: CognitoIdpBackend, user_pool_id: str, extended_config: dict[str, Any]
    ) -> None:
        settings = dict(extended_config)
        name, mfa = settings.pop("PoolName", None), settings.pop("MfaConfiguration", "OFF")
        pool: CognitoIdpUserPool = backend.describe_user_pool(user_pool_id)
        # Set for good when it was made, and not part of an update.
        fixed = ("UsernameConfiguration", "UsernameAttributes", "AliasAttributes")
        made_with: dict[str, Any] = {
            field: pool.extended_config[field] for field in fixed if field in pool.extended_config
        }
        original(backend, user_pool_id, {**settings, **made_with})
        pool.name, pool.mfa_config = name or pool.name, mfa

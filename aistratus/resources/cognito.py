"""Cognito: re-exports the kinds of user pools, clients, domains, groups and users."""

from __future__ import annotations

from aistratus.resources.people import User, UserPoolGroup
from aistratus.resources.pool_clients import UserPoolClient
from aistratus.resources.pool_domains import UserPoolDomain
from aistratus.resources.pools import UserPool

__all__ = ["User", "UserPool", "UserPoolClient", "UserPoolDomain", "UserPoolGroup"]

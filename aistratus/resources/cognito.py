"""Cognito: user pools with their clients, domain, groups and users. Four rooms with one door."""

from __future__ import annotations

from aistratus.resources.people import User, UserPoolGroup
from aistratus.resources.pool_clients import UserPoolClient
from aistratus.resources.pool_domains import UserPoolDomain
from aistratus.resources.pools import UserPool

__all__ = ["User", "UserPool", "UserPoolClient", "UserPoolDomain", "UserPoolGroup"]

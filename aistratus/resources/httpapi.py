"""API Gateway's HTTP APIs: re-exports the kinds of APIs, routes, integrations, authorizers, stages and limits."""

from __future__ import annotations

from aistratus.resources.api_routes import JwtAuthorizer, LambdaIntegration, Route
from aistratus.resources.api_stages import Stage, Throttle
from aistratus.resources.http_apis import Cors, HttpApi

__all__ = ["Cors", "HttpApi", "JwtAuthorizer", "LambdaIntegration", "Route", "Stage", "Throttle"]

"""API Gateway's HTTP APIs: the API, its routes with what stands behind and before them, its stage and limits.

Three rooms with one door.
"""

from __future__ import annotations

from aistratus.resources.api_routes import JwtAuthorizer, LambdaIntegration, Route
from aistratus.resources.api_stages import Stage, Throttle
from aistratus.resources.http_apis import Cors, HttpApi

__all__ = ["Cors", "HttpApi", "JwtAuthorizer", "LambdaIntegration", "Route", "Stage", "Throttle"]

"""The embedded cloud's API Gateway: HTTP APIs executed as they are configured in moto at that moment.

`app` processes a request; `routes`, `throttle`, `cors`, `permission`, `payload` and `access_log` are its steps, each
a few rules of AWS with their source.
"""

from __future__ import annotations

from aistratus.local.gateway.app import build_gateway

__all__ = ["build_gateway"]

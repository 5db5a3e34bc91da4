"""Cognito's hosted sign-in pages and its OAuth endpoints, which moto lacks."""

from __future__ import annotations

from aistratus.local.hosted.app import PREFIX, HostedPages

__all__ = ["PREFIX", "HostedPages"]

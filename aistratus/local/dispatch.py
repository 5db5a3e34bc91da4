"""Caches moto's choice of a backend for a request: moto reads the folder of its services for each request, under a lock
that all requests wait for."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

HOSTS = 512
"""Remembered at most: a request names its region, and may name any."""


class Dispatcher(DomainDispatcherApplication):
    """The WSGI application that hands each request to the service that it is signed for."""

    def __init__(self) -> None:
        super().__init__(create_backend_app)
        self._backends = lru_cache(HOSTS)(super().get_backend_for_host)

    def get_backend_for_host(self, host: str | None) -> Any:
        return self._backends(host)

"""Token buckets, as API Gateway throttles: a burst that may come at once, and a rate at which it refills.

Each route of a stage has its own bucket, with the route's own settings or else the stage's defaults; all of them
together share the account's bucket.
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-throttling.html
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

ACCOUNT_RATE: Final = 10_000.0
"""Requests a second of an account and region (API Gateway quotas)."""
ACCOUNT_BURST: Final = 5_000.0


@dataclass
class _Bucket:
    tokens: float
    filled_at: float


class Throttle:
    """`clock` gives seconds; it may start anywhere but not run backwards."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[tuple[str, ...], _Bucket] = {}

    def admits(self, *, account: str, region: str, api_id: str, stage: Any, route_key: str) -> bool:
        """Whether this request may pass; if so, it is counted."""
        own = (stage.route_settings or {}).get(route_key) or {}
        default = stage.default_route_settings or {}
        rate = _setting("throttlingRateLimit", own, default, ACCOUNT_RATE)
        burst = _setting("throttlingBurstLimit", own, default, ACCOUNT_BURST)
        with self._lock:
            return self._take((api_id, stage.name, route_key), rate, burst) and self._take(
                (account, region), ACCOUNT_RATE, ACCOUNT_BURST
            )

    def _take(self, key: tuple[str, ...], rate: float, burst: float) -> bool:
        now = self._clock()
        bucket = self._buckets.setdefault(key, _Bucket(burst, now))
        bucket.tokens = min(burst, bucket.tokens + (now - bucket.filled_at) * rate)
        bucket.filled_at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


def _setting(name: str, own: dict[str, Any], default: dict[str, Any], account: float) -> float:
    for settings in (own, default):
        if settings.get(name) is not None:
            return float(settings[name])
    return account

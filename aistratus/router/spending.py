"""The env's cost for display beside a conversation: the guard's last metering, extrapolated to now.

The guard meters every few minutes; its result is extrapolated by the cost per hour. Where it hasn't run for a while, or
a new month has begun since, no cost is given.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

STALE_MS: Final = 900_000
"""Three looks of the guard."""
HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000


def cost(
    metered: Mapping[str, Any] | None, now_ms: int, usd_per_eur: float, limit_eur: float
) -> dict[str, float] | None:
    """`{today_eur, month_eur, eur_per_hour, limit_eur}`, days and months in UTC; `None` where it isn't known.

    Args:
        metered: the item `wire.METER_PK`; `None` if there is none.
    """
    if metered is None or metered.get("unknown"):
        return None
    at_ms, hour = int(metered.get("at_ms", 0)), float(metered.get("usd_per_hour", 0))
    month = time.strftime("%Y-%m", time.gmtime(now_ms / 1000))
    if not 0 <= now_ms - at_ms <= STALE_MS or metered.get("month") != month:
        return None
    since = hour * (now_ms - at_ms) / HOUR_MS
    today = hour * (now_ms % DAY_MS) / HOUR_MS
    if at_ms // DAY_MS == now_ms // DAY_MS:
        today = float(metered["day_usd"]) + since
    return {
        "today_eur": round(today / usd_per_eur, 4),
        "month_eur": round((float(metered["month_usd"]) + since) / usd_per_eur, 4),
        "eur_per_hour": round(hour / usd_per_eur, 4),
        "limit_eur": limit_eur,
    }

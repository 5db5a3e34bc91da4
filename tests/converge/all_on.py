"""Everything that is off by default, switched on: for tests that promise something of the whole stack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ALL_ON: Mapping[str, Mapping[str, Any]] = {
    "network": {"enable_nat_gw": True},
    "router": {"provisioned_concurrency": 1, "warm_minutes": 5},
    "auth": {"operator_email": "operator@example.com"},
    "delivery": {"repository": "owner/name"},
}
"""By the settings' table."""

ALL_ON_VARIABLES: Mapping[str, str] = {
    f"AISTRATUS_{table.upper()}__{name.upper()}": str(value).lower()
    for table, values in ALL_ON.items()
    for name, value in values.items()
}
"""The same for a command's environment."""

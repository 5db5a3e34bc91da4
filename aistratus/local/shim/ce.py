"""Cost Explorer: moto answers with costs that a test has preset, and knows nothing of cost allocation tags.

Nothing costs anything here, and so nothing has to be activated: the tags that this project counts by are active.
"""

from __future__ import annotations

import json
from typing import Any, Final

from moto.ce.responses import CostExplorerResponse

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import add

TAGS: Final = ("Project", "Env")


def patch(cloud: Cloud) -> None:
    @add(CostExplorerResponse)
    def list_cost_allocation_tags(self: Any) -> str:
        wanted = json.loads(self.body)
        named, status = wanted.get("TagKeys", TAGS), wanted.get("Status", "Active")
        listed = [{"TagKey": tag, "Type": "UserDefined", "Status": "Active"} for tag in TAGS if tag in named]
        return json.dumps({"CostAllocationTags": listed if status == "Active" else []})

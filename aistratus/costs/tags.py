"""The tags by which AWS counts what an env costs, and whether somebody has activated them as cost allocation tags.

AWS's budgets and Cost Explorer count by a tag only after that, once for an account and not for the time before. A tag
can be activated up to a day after it was first used, and it takes up to another day until AWS counts by it. In an
organisation only the management account sees and activates tags; any other is refused.

Sources: Billing user guide, "Activating user-defined cost allocation tags"; Cost Explorer API reference,
ListCostAllocationTags; the refusal as it is told in terraform-provider-aws issue 37636.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

TAGS: Final = ("Project", "Env")

ACTIVATE: Final = "aws ce update-cost-allocation-tags-status --cost-allocation-tags-status " + " ".join(
    f"TagKey={tag},Status=Active" for tag in TAGS
)
IN_THE_CONSOLE: Final = "AWS console, Billing, Cost allocation tags"


@dataclass(frozen=True)
class Standing:
    """Whether AWS counts, in words, and what to do where it doesn't (empty where it does)."""

    what: str
    todo: str = ""


def standing(rows: Iterable[Mapping[str, Any]]) -> Standing:
    """From the tags as ListCostAllocationTags tells them."""
    status = {str(row["TagKey"]): str(row["Status"]) for row in rows}
    unknown = [tag for tag in TAGS if tag not in status]
    if unknown:
        return Standing(
            f"AWS doesn't offer {_tags(unknown)} for activation yet; until then its budgets count nothing",
            f"up to a day after the first `aistratus up` it does; then run: {ACTIVATE}",
        )
    if off := [tag for tag in TAGS if status[tag] != "Active"]:
        return Standing(f"not activated: {_tags(off)}; AWS's budgets count nothing", f"run: {ACTIVATE}")
    return Standing("active; AWS begins to count up to a day after that")


def refusal(message: str) -> Standing | None:
    """What a refusal of Cost Explorer's means that has nothing to do with permissions; `None` for any other.

    Sources: terraform-provider-aws issue 37636; Cost Management user guide, "Creating a budget", by which AWS enables
    Cost Explorer with an account's first budget.
    """
    if "Linked account" in message:
        return Standing(
            "nothing counted this month, and only the organisation's management account knows whether it could be",
            f"have the management account activate {_tags(TAGS)} ({IN_THE_CONSOLE})",
        )
    if "not enabled for cost explorer" in message.lower():
        return Standing(
            "nothing counted this month: Cost Explorer isn't enabled in this account yet",
            "AWS enables it within a day of the first budget; opening it once in the console does so, too",
        )
    return None


def _tags(names: Iterable[str]) -> str:
    return " and ".join(names)


BEHIND_USD: Final = 1.0
"""So much metered before today would be on AWS's bill by now, at least in part, if it counted this env."""


def behind(metered: Mapping[str, Any], month: str) -> str:
    """What to say where AWS has counted nothing, of what was metered this month before today; empty if that is little.

    Args:
        metered: what the guard found when it counted last (`wire.METER_PK`); empty where it never did.
        month: this month, as `2026-11`.
    """
    if metered.get("month") != month:
        return ""
    before = float(metered.get("month_usd", 0)) - float(metered.get("day_usd", 0))
    if before < BEHIND_USD:
        return ""
    return f"AWS has counted nothing of ${before:.2f} that were metered before today; `aistratus doctor` says why"

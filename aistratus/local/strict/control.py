"""The control interface of strict mode for tests: `/_aistratus/strict` on the endpoint, in JSON.

`GET` lists the rules, and how often each has refused a call since it was activated. `POST` takes one order:

- `{"rule": name, "calls": n}` delays: the first n calls on each new thing meet the rule;
- `{"rule": name, "every": n}` throttles: every n-th call meets it; a number of 0 ends either;
- `{"pause": true}` lets calls pass until `{"pause": false}`, `{"reset": true}` ends all that was asked for;
- `{"advance_s": seconds}` moves the clock that cool-downs go by;
- `{"budget": name, "actual_usd": x, "forecast_usd": y}` says what was spent, and sends the notices that this calls for.
"""

from __future__ import annotations

import json
from typing import Any, Final

from aistratus.local.shim.budgets import spend
from aistratus.local.strict import RULES, describe
from aistratus.local.strict.rule import Delays

PATH: Final = "/_aistratus/strict"


def answer(delays: Delays, method: str, body: bytes) -> tuple[int, dict[str, Any]]:
    """Status and JSON body of a control request."""
    if method == "GET":
        return 200, {"rules": [{**rule, "met": delays.met(str(rule["name"]))} for rule in describe()]}
    try:
        return 200, _apply(delays, json.loads(body or b"{}"))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return 400, {"message": f"can't be done: {error}"}


def _apply(delays: Delays, wanted: dict[str, Any]) -> dict[str, Any]:
    if "pause" in wanted:
        delays.pause(bool(wanted["pause"]))
        return {"paused": bool(wanted["pause"])}
    if "advance_s" in wanted:
        delays.advance(float(wanted["advance_s"]))
        return {"advanced_s": float(wanted["advance_s"])}
    if "budget" in wanted:
        amounts = float(wanted["actual_usd"]), float(wanted["forecast_usd"])
        return {"told": spend(str(wanted["budget"]), *amounts)}
    if wanted.get("reset"):
        for rule in RULES:
            delays.ask(rule.name, 0)
        delays.pause(False)
        return {"reset": True}
    rules = {rule.name: rule for rule in RULES if rule.asked}
    if wanted["rule"] not in rules:
        raise ValueError(f"no rule about time is called {wanted['rule']!r}; there are {', '.join(sorted(rules))}")
    how = rules[wanted["rule"]].asked
    if how not in wanted:
        raise ValueError(f"the rule {wanted['rule']!r} is asked for with {how!r}")
    number = int(wanted[how])
    if number < 0:
        raise ValueError(f"{how} must be 0 or more, not {number}")
    delays.ask(wanted["rule"], number)
    return {"rule": wanted["rule"], how: number}

"""Strict mode: the rules of the real AWS that moto forgives, each a small wrapper beside its source.

`local/README.md` has the table: rule, source, test. Rules that hold at once and cost no time (duplicate names,
references that must exist) are patched in `shim/` in both modes; order, state, limits and delays are here.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from aistratus.local.shim.cloud import Cloud
from aistratus.local.strict import (
    api,
    at_once,
    delivery,
    ec2,
    events,
    grants,
    iam,
    instances,
    lambda_,
    money,
    queues,
    secrets,
    storage,
    throttling,
    visibility,
    watch,
)
from aistratus.local.strict.rule import Delays, Rule

__all__ = ["RULES", "Delays", "Rule", "describe", "install_rules"]

RULES: Final[tuple[Rule, ...]] = tuple(
    rule
    for service in (
        ec2,
        instances,
        visibility,
        iam,
        lambda_,
        queues,
        secrets,
        storage,
        api,
        delivery,
        money,
        events,
        throttling,
        watch,
        at_once,
        grants,
    )
    for rule in service.RULES
)


def install_rules(cloud: Cloud) -> Delays:
    """Puts every rule in force; gives back what drives those about time."""
    delays = Delays()
    for rule in RULES:
        rule.install(cloud, delays)
    return delays


def describe() -> list[dict[str, object]]:
    """The rules as plain data, for `GET /_aistratus/strict`."""
    return [
        {field.name: getattr(rule, field.name) for field in dataclasses.fields(rule) if field.name != "install"}
        for rule in RULES
    ]

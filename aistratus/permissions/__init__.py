"""Computes the least IAM policy of a command: from commands to AWS calls, and from calls to actions and resources.

`resource_types.py` describes the resources, `operations.py` what IAM checks for each call, and `operator.py` which
calls a command makes, and so its least policy. Pure: nothing here calls AWS.
"""

from __future__ import annotations

from aistratus.permissions.operations import Need, needs
from aistratus.permissions.operator import (
    COMMANDS,
    MANAGED_POLICY_CHARACTERS,
    Asked,
    asked,
    operator,
    parts,
    size,
)

__all__ = ["COMMANDS", "MANAGED_POLICY_CHARACTERS", "Asked", "Need", "asked", "needs", "operator", "parts", "size"]

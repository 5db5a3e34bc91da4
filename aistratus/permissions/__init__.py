"""What IAM has to allow: from AWS calls to actions and resources, and from commands to the policy they need.

`things.py` knows the resources, `operations.py` what each call is checked for, `operator.py` which calls a command
makes and so the smallest policy for whoever runs it. Pure: nothing here calls AWS.
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

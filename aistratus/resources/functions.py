"""Lambda: functions, what of them is published, and who may invoke it. Two rooms with one door."""

from __future__ import annotations

from aistratus.resources.lambda_aliases import Alias, InvokePermission
from aistratus.resources.lambda_code import RUNTIME, Function

__all__ = ["RUNTIME", "Alias", "Function", "InvokePermission"]

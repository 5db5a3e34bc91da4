"""Lambda: functions, what of them is published, and who may invoke it. Three rooms with one door."""

from __future__ import annotations

from aistratus.resources.lambda_aliases import Alias
from aistratus.resources.lambda_code import RUNTIME, Function
from aistratus.resources.lambda_permissions import InvokePermission, ServicePermission

__all__ = ["RUNTIME", "Alias", "Function", "InvokePermission", "ServicePermission"]

"""Lambda: functions, what of them is published, and who may invoke it. Three rooms with one door."""

from __future__ import annotations

from aistratus.resources.lambda_aliases import Alias
from aistratus.resources.lambda_code import ROLE_ID, RUNTIME, Function
from aistratus.resources.lambda_permissions import InvokePermission, ServicePermission

__all__ = ["ROLE_ID", "RUNTIME", "Alias", "Function", "InvokePermission", "ServicePermission"]

"""Lambda: re-exports the kinds of functions, aliases, and permissions to invoke them."""

from __future__ import annotations

from aistratus.resources.lambda_aliases import Alias
from aistratus.resources.lambda_code import ROLE_ID, RUNTIME, Function
from aistratus.resources.lambda_permissions import InvokePermission, ServicePermission

__all__ = ["ROLE_ID", "RUNTIME", "Alias", "Function", "InvokePermission", "ServicePermission"]

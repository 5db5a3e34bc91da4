"""Patches for what moto lacks or gets wrong, applied in its own process, one file for each AWS service.

Each patch is a small function with its reason. Reconcilers, router and worker never distinguish moto from AWS: where
moto differs, it is patched here. `README.md` in the folder above has the table.
"""

from __future__ import annotations

from aistratus.local.shim import (
    apigatewayv2,
    budgets,
    ce,
    cloudwatch,
    codebuild,
    codeconnections,
    cognito,
    dynamodb,
    ec2,
    iam,
    lambda_,
    logs,
    pricing,
    quotas,
    s3,
    scheduler,
    secretsmanager,
    sns,
    sqs,
    ssm,
    tagging,
)
from aistratus.local.shim.cloud import Cloud

__all__ = ["Cloud", "install"]


def install(cloud: Cloud) -> None:
    """Patches moto. Called once in a process, before the first request."""
    _remember_method_names()
    for service in (
        apigatewayv2, budgets, ce, cloudwatch, codebuild, codeconnections, cognito, dynamodb, ec2, iam, lambda_, logs,
        pricing, quotas, s3, scheduler, secretsmanager, sns, sqs, ssm, tagging,
    ):  # fmt: skip
        service.patch(cloud)


def _remember_method_names() -> None:
    """moto inspects a response class anew for each request, which takes longer than most requests do."""
    from functools import cache

    from moto.core import responses

    method_names = cache(responses.method_names_from_class)  # type: ignore[attr-defined]
    setattr(responses, "method_names_from_class", method_names)  # noqa: B010 - moto does not export the name

"""What somebody may do to log groups from outside: one change for each field that `up` repairs."""

from __future__ import annotations

from collections.abc import Callable

from aistratus.cloud import Cloud
from aistratus.core.resource import Found
from aistratus.resources.logs import LogGroup


def _retention(aws: Cloud, found: Found) -> None:
    """Without a policy its lines are kept, and paid for, for ever."""
    aws.logs.delete_retention_policy(logGroupName=found.id)


def _tags(aws: Cloud, found: Found) -> None:
    aws.logs.tag_resource(resourceArn=found.ids["arn"], tags={"ManagedBy": "somebody"})


PERTURB: dict[tuple[type, str], Callable[[Cloud, Found], None]] = {
    (LogGroup, "retention_days"): _retention,
    (LogGroup, "tags"): _tags,
}

"""What somebody may do to secrets from outside: one change for each field that `up` repairs."""

from __future__ import annotations

from collections.abc import Callable

from aistratus.cloud import Cloud
from aistratus.core.resource import Found
from aistratus.resources.secrets import Secret


def _update(**settings: str) -> Callable[[Cloud, Found], None]:
    def change(aws: Cloud, found: Found) -> None:
        aws.secretsmanager.update_secret(SecretId=found.ids["arn"], **settings)

    return change


def _scheduled(aws: Cloud, found: Found) -> None:
    """Deleted as the console does it: it can be restored for a week."""
    aws.secretsmanager.delete_secret(SecretId=found.ids["arn"], RecoveryWindowInDays=7)


def _tags(aws: Cloud, found: Found) -> None:
    aws.secretsmanager.tag_resource(SecretId=found.ids["arn"], Tags=[{"Key": "ManagedBy", "Value": "somebody"}])


PERTURB: dict[tuple[type, str], Callable[[Cloud, Found], None]] = {
    (Secret, "description"): _update(Description="mine"),
    (Secret, "kms_key"): _update(KmsKeyId="alias/another"),
    (Secret, "scheduled_for_deletion"): _scheduled,
    (Secret, "tags"): _tags,
}

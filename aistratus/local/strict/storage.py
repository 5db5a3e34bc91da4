"""S3, Parameter Store, CloudWatch Logs and DynamoDB: things that must be empty, names that cool down, sizes."""

from __future__ import annotations

import time
from typing import Any, Final

from moto.logs.exceptions import InvalidParameterException as LogsInvalidParameter
from moto.logs.models import LogsBackend
from moto.s3.exceptions import BucketNotEmpty, S3ClientError
from moto.s3.models import S3Backend
from moto.ssm.exceptions import ValidationException
from moto.ssm.models import SimpleSystemManagerBackend

from aistratus.local.shim import dynamodb as ttl
from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import wrap
from aistratus.local.strict.rule import Book, Delays, Rule

PARAMETER_BYTES: Final = 4_096
TTL_WITHIN_S: Final = 2 * 86_400.0
"""What AWS promises: "within a few days"."""
RETENTION_DAYS: Final = frozenset(
    {1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}
)

book = Book()


class OperationAborted(S3ClientError):
    """The bucket's name is between two owners."""

    def __init__(self) -> None:
        super().__init__(
            "OperationAborted",
            "A conflicting conditional operation is currently in progress against this resource. Please try again.",
        )


@book.rule(
    "bucket-not-empty",
    code="BucketNotEmpty",
    source="https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucket.html",
)
def bucket_not_empty(cloud: Cloud, delays: Delays) -> None:
    """Old versions and delete markers count."""

    @wrap(S3Backend, "delete_bucket")
    def delete_bucket(original: Any, backend: Any, bucket_name: str) -> Any:
        bucket = backend.get_bucket(bucket_name)
        if any(versions for _, versions in bucket.keys.lists()):
            raise BucketNotEmpty(bucket_name=bucket_name)
        return original(backend, bucket_name)


@book.rule(
    "bucket-name-busy",
    code="OperationAborted",
    asked="calls",
    source="https://docs.aws.amazon.com/AmazonS3/latest/userguide/delete-bucket.html",
)
def bucket_name_busy(cloud: Cloud, delays: Delays) -> None:
    """A deleted bucket's name can't be used again at once."""

    @wrap(S3Backend, "delete_bucket")
    def delete_bucket(original: Any, backend: Any, bucket_name: str) -> Any:
        answer = original(backend, bucket_name)
        delays.born("bucket-name-busy", bucket_name)
        return answer

    @wrap(S3Backend, "create_bucket")
    def create_bucket(original: Any, backend: Any, bucket_name: str, *args: Any, **wanted: Any) -> Any:
        if delays.take("bucket-name-busy", bucket_name):
            raise OperationAborted()
        return original(backend, bucket_name, *args, **wanted)


@book.rule(
    "parameter-size",
    code="ValidationException",
    source="https://docs.aws.amazon.com/systems-manager/latest/userguide/parameter-store-advanced-parameters.html",
)
def parameter_size(cloud: Cloud, delays: Delays) -> None:
    @wrap(SimpleSystemManagerBackend, "put_parameter")
    def put_parameter(
        original: Any, backend: Any, name: str, description: Any, value: str, *args: Any, **wanted: Any
    ) -> Any:
        tier = wanted.get("tier") or "Standard"
        if tier == "Standard" and len(value.encode()) > PARAMETER_BYTES:
            raise ValidationException(
                "Standard tier parameters support a maximum parameter value of 4096 characters. "
                "To create a larger parameter value, upgrade the parameter to use the "
                "advanced-parameter tier."
            )
        return original(backend, name, description, value, *args, **wanted)


@book.rule(
    "retention-values",
    code="InvalidParameterException",
    source="https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html",
)
def retention_values(cloud: Cloud, delays: Delays) -> None:
    @wrap(LogsBackend, "put_retention_policy")
    def put_retention_policy(original: Any, backend: Any, log_group_name: str, retention_in_days: Any) -> Any:
        if int(retention_in_days) not in RETENTION_DAYS:
            raise LogsInvalidParameter(
                f"1 validation error detected: Value '{retention_in_days}' at 'retentionInDays' "
                "failed to satisfy constraint"
            )
        return original(backend, log_group_name, retention_in_days)


@book.rule("ttl-takes-days", source="https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html")
def ttl_takes_days(cloud: Cloud, delays: Delays) -> None:
    """An expired item stays readable for two days of the clock that a test can move."""

    @wrap(ttl, "sweep")
    def sweep(original: Any, now: float) -> Any:
        return original(now + delays.ahead() - TTL_WITHIN_S)

    def look() -> None:
        with cloud.locks.of("dynamodb"):
            ttl.sweep(time.time())

    delays.on_advance(look)


RULES: Final[tuple[Rule, ...]] = tuple(book.rules)

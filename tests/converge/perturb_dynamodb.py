"""What somebody may do to tables from outside: one change for each field that `up` repairs."""

from __future__ import annotations

from collections.abc import Callable

from aistratus.cloud import Cloud
from aistratus.core.resource import Found
from aistratus.resources.dynamodb import Table


def _billing(aws: Cloud, found: Found) -> None:
    aws.dynamodb.update_table(
        TableName=found.id,
        BillingMode="PROVISIONED",
        ProvisionedThroughput={"ReadCapacityUnits": 1, "WriteCapacityUnits": 1},
    )


def _ttl(aws: Cloud, found: Found) -> None:
    assert isinstance(found.state, Table)
    specification = {"Enabled": False, "AttributeName": found.state.ttl_attribute}
    aws.dynamodb.update_time_to_live(TableName=found.id, TimeToLiveSpecification=specification)


def _recovery(aws: Cloud, found: Found) -> None:
    assert isinstance(found.state, Table)
    specification = {"PointInTimeRecoveryEnabled": not found.state.point_in_time_recovery}
    aws.dynamodb.update_continuous_backups(TableName=found.id, PointInTimeRecoverySpecification=specification)


def _protection(aws: Cloud, found: Found) -> None:
    assert isinstance(found.state, Table)
    aws.dynamodb.update_table(TableName=found.id, DeletionProtectionEnabled=not found.state.deletion_protection)


def _tags(aws: Cloud, found: Found) -> None:
    aws.dynamodb.tag_resource(ResourceArn=found.ids["arn"], Tags=[{"Key": "ManagedBy", "Value": "somebody"}])


PERTURB: dict[tuple[type, str], Callable[[Cloud, Found], None]] = {
    (Table, "billing"): _billing,
    (Table, "ttl_attribute"): _ttl,
    (Table, "point_in_time_recovery"): _recovery,
    (Table, "deletion_protection"): _protection,
    (Table, "tags"): _tags,
}

"""What somebody may do to the bucket and its objects from outside: one change for each field that `up` repairs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from aistratus.cloud import Cloud
from aistratus.core.resource import Found
from aistratus.resources.storage import Artifact, Bucket, JsonObject


def _versioning(aws: Cloud, found: Found) -> None:
    aws.s3.put_bucket_versioning(Bucket=found.id, VersioningConfiguration={"Status": "Suspended"})


def _encryption(aws: Cloud, found: Found) -> None:
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}
    aws.s3.put_bucket_encryption(Bucket=found.id, ServerSideEncryptionConfiguration={"Rules": [rule]})


def _public_access(aws: Cloud, found: Found) -> None:
    """One of the four switches is enough."""
    block = {
        "BlockPublicAcls": True,
        "IgnorePublicAcls": True,
        "BlockPublicPolicy": False,
        "RestrictPublicBuckets": True,
    }
    aws.s3.put_public_access_block(Bucket=found.id, PublicAccessBlockConfiguration=block)


def _lifecycle(aws: Cloud, found: Found) -> None:
    rule = {"ID": "foreign", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
    aws.s3.put_bucket_lifecycle_configuration(Bucket=found.id, LifecycleConfiguration={"Rules": [rule]})


def _policy(aws: Cloud, found: Found) -> None:
    statement = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:PutBucketWebsite",
        "Resource": found.ids["arn"],
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    aws.s3.put_bucket_policy(Bucket=found.id, Policy=json.dumps(policy))


def _bucket_tags(aws: Cloud, found: Found) -> None:
    tags = {**(found.tags or {}), "ManagedBy": "somebody"}
    tag_set = [{"Key": name, "Value": value} for name, value in tags.items()]
    aws.s3.put_bucket_tagging(Bucket=found.id, Tagging={"TagSet": tag_set})


def _put(aws: Cloud, found: Found, content: bytes, content_type: str) -> None:
    bucket, path = found.ids["bucket"], found.ids["path"]
    aws.s3.put_object(Bucket=bucket, Key=path, Body=content, ContentType=content_type, ChecksumAlgorithm="SHA256")


def _content(aws: Cloud, found: Found) -> None:
    assert isinstance(found.state, Artifact)
    content = hashlib.sha256(b"somebody's").digest()
    _put(aws, found, content, found.state.content_type)


def _content_type(aws: Cloud, found: Found) -> None:
    assert isinstance(found.state, Artifact)
    _put(aws, found, found.state.content(), "text/somebody")


def _body(aws: Cloud, found: Found) -> None:
    _put(aws, found, json.dumps({"somebody's": 1}).encode(), "application/json")


PERTURB: dict[tuple[type, str], Callable[[Cloud, Found], None]] = {
    (Bucket, "versioning"): _versioning,
    (Bucket, "encryption"): _encryption,
    (Bucket, "public_access_blocked"): _public_access,
    (Bucket, "lifecycle"): _lifecycle,
    (Bucket, "policy"): _policy,
    (Bucket, "tags"): _bucket_tags,
    (Artifact, "sha256"): _content,
    (Artifact, "content_type"): _content_type,
    (JsonObject, "body"): _body,
}

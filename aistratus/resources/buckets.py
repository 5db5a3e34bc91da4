"""Buckets.

Bucket names are global, so ours carry account and region: `tinyllama-<env>-<key>-<account>-<region>`. A bucket gets
its tags in the create call, so a bucket with our name and without our tags is never a half-created one of ours but
somebody else's, and isn't touched. That another account has the name shows only when creating the bucket: one that
isn't in our own account's listing counts as absent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from botocore.exceptions import ClientError

from aistratus.cloud import Cloud, await_match
from aistratus.core.diff import diff
from aistratus.core.errors import Failure, Stranger, UsageError, error_code
from aistratus.core.resource import Found, Resource, policy_document, reconciles
from aistratus.core.settle import Wait, settle, until
from aistratus.resources.calls import at_once, tag_list, tag_mapping, unless_gone

NO_BUCKET = frozenset({"NoSuchBucket"})
NOT_SET = frozenset({
    "NoSuchTagSet", "NoSuchLifecycleConfiguration", "NoSuchBucketPolicy", "NoSuchPublicAccessBlockConfiguration",
    "ServerSideEncryptionConfigurationNotFoundError",
})  # fmt: skip
"""The bucket is there, this setting of it isn't."""

BUCKET_NAME_FREE = Wait(
    what="S3 gives the deleted bucket's name out again", within=150, codes=frozenset({"OperationAborted"}), longest=10.0
)
"""A bucket's deletion takes a while to be known everywhere. Source: S3 user guide, "Deleting a bucket"."""

BUCKET_SETTLES = Wait(
    what="S3 ends another change of the bucket", within=60, codes=frozenset({"OperationAborted", "NoSuchBucket"})
)
"""Two changes at once are refused, and a new bucket isn't known everywhere at once. Source: S3's error codes."""

BUCKET_EMPTY = Wait(
    what="S3 sees that the bucket is empty", within=60, codes=frozenset({"BucketNotEmpty", "OperationAborted"})
)
"""A writer that was still at work may have put something after we emptied it; each round empties it again."""

LONGEST_NAME = 63
"""Characters. Source: S3 user guide, "General purpose bucket naming rules"."""


class Place(Protocol):
    """What a bucket's name is made of: `Cloud` and `policies.Names` both know it."""

    @property
    def prefix(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def region(self) -> str: ...


def bucket_name(place: Place, key: str) -> str:
    """The bucket's full name.

    Raises:
        UsageError: it would be longer than S3 allows.
    """
    name = f"{place.prefix}{key.replace('_', '-')}-{place.account}-{place.region}"
    if len(name) > LONGEST_NAME:
        raise UsageError(
            f"the bucket's name {name!r} has {len(name)} characters, S3 allows {LONGEST_NAME}",
            todo="use a shorter env name",
        )
    return name


# --- buckets ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LifecycleRule:
    """What S3 removes by itself from the objects whose names start with `prefix`. Days; `None` = never.

    expire_days: current versions become old ones.
    noncurrent_days: old versions are deleted.
    abort_multipart_days: unfinished uploads are dropped.
    """

    id: str
    prefix: str = ""
    expire_days: int | None = None
    noncurrent_days: int | None = None
    abort_multipart_days: int | None = None
    foreign: str = field(default="", repr=False)
    """What a found rule holds beside these, as JSON: never empty for a rule that isn't ours."""


@dataclass(frozen=True, kw_only=True)
class Bucket(Resource):
    """A private bucket. `lifecycle` and `policy` hold all its rules and statements; others are removed."""

    versioning: bool = True
    encryption: str = "AES256"
    public_access_blocked: bool = True
    lifecycle: tuple[LifecycleRule, ...] | None = None
    policy: Mapping[str, Any] | None = policy_document(default=None)

    holds_data: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.lifecycle is not None:
            object.__setattr__(self, "lifecycle", tuple(sorted(self.lifecycle, key=lambda rule: rule.id)))


def find_bucket(aws: Cloud, want: Bucket) -> Found | None:
    """By name, in our own account's listing or the ledger; then all its settings at once."""
    name = bucket_name(aws, want.key)
    recorded = aws.recorded(want.key).get("id") == name
    if not recorded and name not in buckets(aws):
        return None
    try:
        tags, versioning, encryption, block, lifecycle, policy = at_once(
            lambda: _tags(aws, name),
            lambda: _read(aws, "get_bucket_versioning", name),
            lambda: _read(aws, "get_bucket_encryption", name),
            lambda: _read(aws, "get_public_access_block", name),
            lambda: _read(aws, "get_bucket_lifecycle_configuration", name),
            lambda: _read(aws, "get_bucket_policy", name),
        )
    except ClientError as error:
        # The listing shows deleted buckets for a while, and what the ledger names may be somebody else's by now.
        if error_code(error) in NO_BUCKET or (recorded and name not in buckets(aws)):
            return None
        raise
    aws.require_ours("bucket", name, tags, want.key)
    rules = encryption.get("ServerSideEncryptionConfiguration", {}).get("Rules", [{}])
    blocked = block.get("PublicAccessBlockConfiguration", {})
    state = Bucket(
        key=want.key,
        versioning=versioning.get("Status") == "Enabled",
        encryption=rules[0].get("ApplyServerSideEncryptionByDefault", {}).get("SSEAlgorithm", ""),
        public_access_blocked=all(blocked.get(name) for name in ALL_PUBLIC_ACCESS),
        lifecycle=tuple(_decoded(rule) for rule in lifecycle.get("Rules", [])),
        policy=json.loads(policy["Policy"]) if "Policy" in policy else None,
    )
    return Found(state=state, ids=_bucket_ids(aws, name), tags=tags)


def owned_buckets(aws: Cloud) -> list[Found]:
    """By tags, among the buckets with our name."""
    owned = []
    for name in sorted(buckets(aws)):
        tags = unless_gone(NO_BUCKET, _tags, aws=aws, name=name)
        if tags is not None and aws.owns(tags):
            owned.append(Found(state=Bucket(key=tags["aistratus:key"]), ids=_bucket_ids(aws, name), tags=tags))
    return owned


def remove_bucket(aws: Cloud, have: Found) -> None:
    """Empties the bucket, old versions and unfinished uploads too, then removes it."""
    name = have.ids["name"]

    def empty_and_remove() -> bool:
        delete_versions(aws, name)
        _abort_uploads(aws, name)
        aws.s3.delete_bucket(Bucket=name, ExpectedBucketOwner=aws.account)
        return True

    unless_gone(NO_BUCKET, until, wait=BUCKET_EMPTY, probe=empty_and_remove, clock=aws.clock)


@reconciles(Bucket, find=find_bucket, remove=remove_bucket, owned=owned_buckets)
def ensure_bucket(aws: Cloud, want: Bucket, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        have = _create_bucket(aws, want)
        changes = frozenset(change.field for change in diff(want, have, aws.tags(want.key)))
    name = have.ids["name"]
    if "tags" in changes:
        # This call replaces all tags: those that others added stay, those of AWS itself can't be written.
        kept = {key: value for key, value in (have.tags or {}).items() if not key.startswith("aws:")}
        _write(aws, "put_bucket_tagging", name, Tagging={"TagSet": tag_list({**kept, **aws.tags(want.key)})})
    if "public_access_blocked" in changes:
        block = dict.fromkeys(ALL_PUBLIC_ACCESS, want.public_access_blocked)
        _write(aws, "put_public_access_block", name, PublicAccessBlockConfiguration=block)
    if "encryption" in changes:
        rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": want.encryption}}
        _write(aws, "put_bucket_encryption", name, ServerSideEncryptionConfiguration={"Rules": [rule]})
    if "versioning" in changes:
        status = "Enabled" if want.versioning else "Suspended"
        _write(aws, "put_bucket_versioning", name, VersioningConfiguration={"Status": status})
    if "lifecycle" in changes:
        _repair_lifecycle(aws, name, want.lifecycle or ())
    if "policy" in changes:
        _write(aws, "put_bucket_policy", name, Policy=json.dumps(want.policy, separators=(",", ":")))
    return await_match(find_bucket, aws, want)


def _create_bucket(aws: Cloud, want: Bucket) -> Found:
    name = bucket_name(aws, want.key)
    # us-east-1 is the only region that has to be left out.
    place = {} if aws.region == "us-east-1" else {"LocationConstraint": aws.region}
    try:
        return aws.create_once(
            "s3",
            "create_bucket",
            look=lambda cloud: find_bucket(cloud, want),
            taken={"BucketAlreadyOwnedByYou"},
            settling=BUCKET_NAME_FREE,
            Bucket=name,
            CreateBucketConfiguration={**place, "Tags": tag_list(aws.tags(want.key))},
        )
    except ClientError as error:
        if error_code(error) != "BucketAlreadyExists":
            raise
        raise Stranger(
            f"the bucket name {name!r} is taken by another AWS account", todo="use another env name or region"
        ) from error


def _repair_lifecycle(aws: Cloud, name: str, rules: tuple[LifecycleRule, ...]) -> None:
    if not rules:
        return _write(aws, "delete_bucket_lifecycle", name)
    configuration = {"Rules": [_encoded(rule) for rule in rules]}
    return _write(aws, "put_bucket_lifecycle_configuration", name, LifecycleConfiguration=configuration)


ALL_PUBLIC_ACCESS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


def _encoded(rule: LifecycleRule) -> dict[str, Any]:
    """A rule as S3 writes it."""
    encoded: dict[str, Any] = {"ID": rule.id, "Status": "Enabled", "Filter": {"Prefix": rule.prefix}}
    if rule.expire_days is not None:
        encoded["Expiration"] = {"Days": rule.expire_days}
    if rule.noncurrent_days is not None:
        encoded["NoncurrentVersionExpiration"] = {"NoncurrentDays": rule.noncurrent_days}
    if rule.abort_multipart_days is not None:
        encoded["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": rule.abort_multipart_days}
    return encoded


def _decoded(rule: Mapping[str, Any]) -> LifecycleRule:
    """A rule as we write it; what we have no field for is kept in `foreign`, so that it shows as a difference."""
    plain = LifecycleRule(
        id=rule.get("ID", ""),
        prefix=rule.get("Filter", {}).get("Prefix", rule.get("Prefix", "")),
        expire_days=rule.get("Expiration", {}).get("Days"),
        noncurrent_days=rule.get("NoncurrentVersionExpiration", {}).get("NoncurrentDays"),
        abort_multipart_days=rule.get("AbortIncompleteMultipartUpload", {}).get("DaysAfterInitiation"),
    )
    ours = _encoded(plain)
    # S3 answers a filter for everything as an empty one, older rules have `Prefix` in its place.
    written = {**rule, "Filter": {"Prefix": plain.prefix, **rule.get("Filter", {})}}
    written.pop("Prefix", None)
    others = {name: value for name, value in written.items() if value != ours.get(name)}
    return LifecycleRule(**{**vars(plain), "foreign": json.dumps(others, default=str) if others else ""})


def buckets(aws: Cloud) -> frozenset[str]:
    """The names of this account's buckets that are made like ours.

    The listing tells of all regions: a bucket of the same env in another one isn't this stack's to remove.
    """

    def read() -> frozenset[str]:
        pages = aws.s3.get_paginator("list_buckets").paginate(Prefix=aws.prefix, PaginationConfig={"PageSize": 1000})
        names = (str(bucket["Name"]) for page in pages for bucket in page.get("Buckets", []))
        return frozenset(name for name in names if name.endswith(f"-{aws.account}-{aws.region}"))

    return aws.shared("s3.buckets", read)


def _bucket_ids(aws: Cloud, name: str) -> dict[str, str]:
    return {"id": name, "arn": aws.arn("s3", name, region="", account=""), "name": name}


def _read(aws: Cloud, operation: str, bucket: str) -> Mapping[str, Any]:
    """One setting of a bucket; empty if it isn't set."""
    call = getattr(aws.s3, operation)
    return unless_gone(NOT_SET, call, Bucket=bucket, ExpectedBucketOwner=aws.account) or {}


def _tags(aws: Cloud, name: str) -> dict[str, str]:
    return tag_mapping(_read(aws, "get_bucket_tagging", name).get("TagSet"))


def _write(aws: Cloud, operation: str, bucket: str, **params: Any) -> None:
    call = getattr(aws.s3, operation)
    settle(BUCKET_SETTLES, call, clock=aws.clock, Bucket=bucket, ExpectedBucketOwner=aws.account, **params)


def delete_versions(aws: Cloud, bucket: str, key: str | None = None) -> int:
    """Deletes every version and delete marker of the bucket, or of one object in it; gives the bytes that they had."""
    freed = 0
    pages = aws.s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key or "")
    for page in pages:
        versions = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        doomed = [
            {"Key": version["Key"], "VersionId": version["VersionId"]}
            for version in versions
            if key is None or version["Key"] == key
        ]
        # A page has at most 1,000 entries, and so may a deletion.
        if doomed:
            _delete_batch(aws, bucket, doomed)
        freed += sum(int(one.get("Size", 0)) for one in versions if key is None or one["Key"] == key)
    return freed


def _delete_batch(aws: Cloud, bucket: str, doomed: list[dict[str, str]]) -> None:
    answer = aws.s3.delete_objects(Bucket=bucket, Delete={"Objects": doomed, "Quiet": True})
    errors = [error for error in answer.get("Errors", []) if error.get("Code") != "NoSuchVersion"]
    if errors:
        first = errors[0]
        raise Failure(
            f"{len(errors)} objects of bucket {bucket!r} can't be deleted, the first is {first.get('Key')!r}: "
            f"{first.get('Message') or first.get('Code')}",
            todo="see whether a bucket policy or a retention forbids it, then run the command again",
        )


def _abort_uploads(aws: Cloud, bucket: str) -> None:
    pages = aws.s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket)
    for upload in (upload for page in pages for upload in page.get("Uploads", [])):
        abort = aws.s3.abort_multipart_upload
        unless_gone({"NoSuchUpload"}, abort, Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])

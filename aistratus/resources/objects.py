"""Objects in the stack's bucket: files identified by their content's hash, and small JSON documents.

A file is compared by the SHA-256 that S3 verified and stored at the upload. An upload to an existing path creates a new
version; the bucket's lifecycle removes old ones. Objects carry no tags: they belong
to their bucket and go with it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar

from aistratus.cloud import Cloud, await_match
from aistratus.core.errors import Failure
from aistratus.core.resource import Found, Ref, Resource, at_create, reconciles
from aistratus.core.settle import settle
from aistratus.resources.buckets import BUCKET_SETTLES, NO_BUCKET, bucket_name, buckets, delete_versions
from aistratus.resources.calls import unless_gone

Content = bytes | BinaryIO
"""What is uploaded: small things whole, large ones as an open file."""
BLOCK = 1 << 20

NO_OBJECT = frozenset({"NoSuchBucket", "NoSuchKey", "404"})
"""The answer to a HEAD has no body, and so no code but its status."""


def _bucket_of(aws: Cloud, bucket: Ref | str) -> str | None:
    """The bucket's full name, or `None` if there is no such bucket in this account.

    The ledger's word is enough: a bucket that is gone by now answers "not found" like an object that isn't there.
    """
    name = bucket_name(aws, bucket.to.key) if isinstance(bucket, Ref) else bucket
    recorded = isinstance(bucket, Ref) and aws.recorded(bucket.to.key).get("id") == name
    return name if recorded or name in buckets(aws) else None


def _put(aws: Cloud, bucket: Ref | str, path: str, content: Content, sha256: bytes, content_type: str) -> None:
    """Uploads an object; S3 refuses it if it arrives with another hash. A file is read as it is sent."""

    def put() -> None:
        if not isinstance(content, bytes):
            content.seek(0)  # it was read for its hash, or sent before
        aws.s3.put_object(
            Bucket=bucket,
            Key=path,
            Body=content,
            ContentType=content_type,
            ChecksumAlgorithm="SHA256",
            ChecksumSHA256=base64.b64encode(sha256).decode(),
            ExpectedBucketOwner=aws.account,
        )

    settle(BUCKET_SETTLES, put, clock=aws.clock)


def remove_object(aws: Cloud, have: Found) -> None:
    """Removes every version of the object."""
    unless_gone(NO_BUCKET, delete_versions, aws=aws, bucket=have.ids["bucket"], key=have.ids["path"])


# --- files -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Artifact(Resource):
    """A file at `path`, told apart by its `sha256` (hex); `content` is asked for only when it must be uploaded."""

    bucket: Ref | str
    path: str
    sha256: str
    content: Callable[[], Content] = at_create()
    content_type: str = "application/octet-stream"

    replace_on: ClassVar[frozenset[str]] = frozenset({"bucket", "path"})


def find_artifact(aws: Cloud, want: Artifact) -> Found | None:
    """By path."""
    bucket = _bucket_of(aws, want.bucket)
    if bucket is None:
        return None
    head = unless_gone(
        NO_OBJECT,
        aws.s3.head_object,
        Bucket=bucket,
        Key=want.path,
        ChecksumMode="ENABLED",
        ExpectedBucketOwner=aws.account,
    )
    if head is None:
        return None
    sha256 = _hex(head)
    state = Artifact(
        key=want.key,
        bucket=bucket,
        path=want.path,
        sha256=sha256,
        content=want.content,
        content_type=head.get("ContentType", ""),
    )
    ids = {"id": want.path, "bucket": bucket, "path": want.path, "sha256": sha256, "version": head.get("VersionId", "")}
    return Found(state=state, ids=ids)


@reconciles(Artifact, find=find_artifact, remove=remove_object)
def ensure_artifact(aws: Cloud, want: Artifact, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None or changes:
        content = want.content()
        try:
            if (real := _sha256(content)).hex() != want.sha256:
                raise Failure(
                    f"{want.key}: the file to be uploaded has the SHA-256 {real.hex()}, not {want.sha256}",
                    todo="see whether it changed meanwhile, and run the command again",
                )
            _put(aws, want.bucket, want.path, content, real, want.content_type)
        finally:
            if not isinstance(content, bytes):
                content.close()
    return await_match(find_artifact, aws, want)


def _sha256(content: Content) -> bytes:
    """The content's hash."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).digest()
    digest = hashlib.sha256()
    while block := content.read(BLOCK):
        digest.update(block)
    return digest.digest()


def _hex(head: Mapping[str, Any]) -> str:
    """The content's SHA-256; empty if it was uploaded without one, or in parts (that one isn't the content's)."""
    checksum = head.get("ChecksumSHA256", "")
    if not checksum or head.get("ChecksumType", "FULL_OBJECT") != "FULL_OBJECT":
        return ""
    return base64.b64decode(checksum).hex()


# --- JSON documents ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class JsonObject(Resource):
    """A JSON document at `path`. `body` may hold `Ref`s, filled in when it is written."""

    bucket: Ref | str
    path: str
    body: Mapping[str, Any] | None

    replace_on: ClassVar[frozenset[str]] = frozenset({"bucket", "path"})

    def __post_init__(self) -> None:
        object.__setattr__(self, "body", _as_json(self.body))


def find_json_object(aws: Cloud, want: JsonObject) -> Found | None:
    """By path."""
    bucket = _bucket_of(aws, want.bucket)
    if bucket is None:
        return None
    owner = aws.account
    got = unless_gone(NO_OBJECT, aws.s3.get_object, Bucket=bucket, Key=want.path, ExpectedBucketOwner=owner)
    if got is None:
        return None
    state = JsonObject(key=want.key, bucket=bucket, path=want.path, body=_parsed(got["Body"].read()))
    ids = {"id": want.path, "bucket": bucket, "path": want.path, "version": got.get("VersionId", "")}
    return Found(state=state, ids=ids)


@reconciles(JsonObject, find=find_json_object, remove=remove_object)
def ensure_json_object(aws: Cloud, want: JsonObject, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None or changes:
        content = json.dumps(want.body, indent=2, sort_keys=True, ensure_ascii=False).encode()
        _put(aws, want.bucket, want.path, content, _sha256(content), "application/json")
    return await_match(find_json_object, aws, want)


def _parsed(content: bytes) -> Mapping[str, Any] | None:
    """The document; `None` for what isn't one of ours."""
    try:
        body = json.loads(content)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _as_json(value: Any) -> Any:
    """The value as it comes back from JSON: tuples are lists there. `Ref`s stay as they are."""
    if isinstance(value, Mapping):
        return {name: _as_json(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(entry) for entry in value]
    return value

"""S3: re-exports the kinds of buckets and of the objects in them that belong to the stack."""

from __future__ import annotations

from aistratus.resources.buckets import Bucket, LifecycleRule, bucket_name
from aistratus.resources.objects import Artifact, JsonObject

__all__ = ["Artifact", "Bucket", "JsonObject", "LifecycleRule", "bucket_name"]

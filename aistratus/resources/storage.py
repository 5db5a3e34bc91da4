"""S3: buckets, and the objects in them that belong to the stack. Two rooms with one door."""

from __future__ import annotations

from aistratus.resources.buckets import Bucket, LifecycleRule, bucket_name
from aistratus.resources.objects import Artifact, JsonObject

__all__ = ["Artifact", "Bucket", "JsonObject", "LifecycleRule", "bucket_name"]

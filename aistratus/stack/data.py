"""Storage of prompts and replies: the bucket, the jobs table and the queue; and the secret that the router may read."""

from __future__ import annotations

from dataclasses import dataclass

from aistratus import policies
from aistratus.core.resource import Ref
from aistratus.policies import Names
from aistratus.resources.dynamodb import Table
from aistratus.resources.secrets import Secret
from aistratus.resources.sqs import Queue
from aistratus.resources.storage import Bucket, LifecycleRule, bucket_name
from aistratus.stack.group import Group


@dataclass(frozen=True, kw_only=True)
class Data(Group):
    """The storage that the router and the node use."""

    bucket: Bucket
    bucket_full_name: str
    jobs: Table
    dead_letters: Queue
    queue: Queue
    openai_key: Secret


def declare_data(names: Names) -> Data:
    """Declares the storage."""
    bucket_full_name = bucket_name(names, "data")
    bucket = Bucket(
        key="data",
        lifecycle=(
            LifecycleRule(id="prompts", prefix="prompts/", expire_days=30),
            LifecycleRule(id="command-output", prefix="run-command/", expire_days=1),
            LifecycleRule(id="old-versions", prefix="", noncurrent_days=7, abort_multipart_days=2),
        ),
        policy=policies.tls_only(names, bucket_full_name),
    )
    jobs = Table(key="jobs_table", name="jobs", ttl_attribute="expires_at")
    dead_letters = Queue(key="dead_letters", name="jobs-dlq", retention_s=1_209_600)
    queue = Queue(key="jobs_queue", name="jobs", dead_letter=Ref(dead_letters, "arn"), max_receives=3)
    # Of a secret `up` makes the place, and never fills it.
    openai_key = Secret(
        key="openai_api_key",
        name="openai-api-key",
        description="A key of the OpenAI API; `aistratus secret set openai` sets it",
    )
    return Data(
        wanted=(bucket, jobs, dead_letters, queue, openai_key),
        bucket=bucket,
        bucket_full_name=bucket_full_name,
        jobs=jobs,
        dead_letters=dead_letters,
        queue=queue,
        openai_key=openai_key,
    )

"""The bucket and its objects: made, repaired, emptied and removed, and told apart from strangers'."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import pytest
from converge_engine import ACCOUNT, REGION, Engine, key_of
from perturb_storage import PERTURB

from aistratus import policies
from aistratus.cloud import Access, Clients, Cloud
from aistratus.core.errors import Failure, Stranger, UsageError
from aistratus.core.resource import Ref, Resource
from aistratus.policies import Names
from aistratus.resources.buckets import owned_buckets
from aistratus.resources.sqs import Queue
from aistratus.resources.storage import Artifact, Bucket, JsonObject, LifecycleRule, bucket_name
from aistratus.trace import Meter

CONTENT = b"a worker bundle" * 100


def bucket(aws: Cloud) -> Bucket:
    names = Names("aws", ACCOUNT, REGION, aws.env)
    return Bucket(
        key="data",
        lifecycle=(
            LifecycleRule(id="prompts", prefix="prompts/", expire_days=30),
            LifecycleRule(id="old-versions", noncurrent_days=7, abort_multipart_days=2),
        ),
        policy=policies.tls_only(names, bucket_name(names, "data")),
    )


def stack(aws: Cloud, *, content: Callable[[], bytes] = lambda: CONTENT) -> list[Resource]:
    data, queue = bucket(aws), Queue(key="queue", name="jobs")
    artifact = Artifact(
        key="bundle",
        bucket=Ref(data),
        path="node/worker.zip",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        content=content,
        content_type="application/zip",
    )
    body = {"schema": 1, "environment": {"QUEUE": Ref(queue, "url")}, "names": ("ä", "b")}
    return [data, queue, artifact, JsonObject(key="manifest", bucket=Ref(data), path="node/manifest.json", body=body)]


def test_up_makes_them_as_described_and_up_again_changes_nothing(aws: Cloud, engine: Engine) -> None:
    outcome = engine.up(*stack(aws))
    name = bucket_name(aws, "data")
    assert name == f"tinyllama-{aws.env}-data-{ACCOUNT}-{REGION}"
    assert aws.s3.get_object(Bucket=name, Key="node/worker.zip")["Body"].read() == CONTENT
    url = next(change.found.ids["url"] for change in outcome.changes if change.key == "queue" and change.found)
    manifest = json.loads(aws.s3.get_object(Bucket=name, Key="node/manifest.json")["Body"].read())
    assert manifest == {"schema": 1, "environment": {"QUEUE": url}, "names": ["ä", "b"]}
    tags = {tag["Key"]: tag["Value"] for tag in aws.s3.get_bucket_tagging(Bucket=name)["TagSet"]}
    assert tags == aws.tags("data")
    assert engine.plan(*stack(aws)).empty


@pytest.mark.parametrize(("kind", "field"), PERTURB, ids=lambda value: getattr(value, "__name__", value))
def test_a_change_from_outside_is_shown_and_repaired(standing: Engine, kind: type, field: str) -> None:
    resources = stack(standing.aws)
    standing.assert_repairs(resources, key_of(resources, kind), field, PERTURB[kind, field])


def test_a_lifecycle_rule_with_more_in_it_than_ours_is_a_difference(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    name = bucket_name(aws, "data")
    rules = aws.s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    rules[0]["Transitions"] = [{"Days": 60, "StorageClass": "GLACIER"}]
    aws.s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": rules})
    assert engine.differences(*stack(aws)) == {"data": {"lifecycle"}}
    engine.up(*stack(aws))
    assert engine.plan(*stack(aws)).empty


def test_tags_of_others_survive_a_repair(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    name = bucket_name(aws, "data")
    tags = {**aws.tags("data"), "ManagedBy": "somebody", "cost-centre": "7"}
    tag_set = [{"Key": tag, "Value": value} for tag, value in tags.items()]
    aws.s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": tag_set})
    engine.up(*stack(aws))
    left = {tag["Key"]: tag["Value"] for tag in aws.s3.get_bucket_tagging(Bucket=name)["TagSet"]}
    assert left == {**aws.tags("data"), "cost-centre": "7"}


def test_a_bucket_left_without_settings_by_a_death_after_its_creation_is_completed(aws: Cloud, engine: Engine) -> None:
    tags = [{"Key": name, "Value": value} for name, value in aws.tags("data").items()]
    configuration = {"LocationConstraint": REGION, "Tags": tags}
    aws.s3.create_bucket(Bucket=bucket_name(aws, "data"), CreateBucketConfiguration=configuration)
    assert {"versioning", "lifecycle", "policy"} <= engine.differences(bucket(aws))["data"]
    engine.up(bucket(aws))
    assert engine.plan(bucket(aws)).empty


def test_a_file_that_is_there_is_not_asked_for_its_content(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))

    def unwanted() -> bytes:
        raise AssertionError("nothing had to be uploaded")

    assert engine.plan(*stack(aws, content=unwanted)).empty
    engine.up(*stack(aws, content=unwanted))


def test_a_large_file_is_sent_from_the_disk_and_closed(aws: Cloud, engine: Engine, tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(CONTENT * 2000)
    opened: list[BinaryIO] = []

    def content() -> BinaryIO:
        opened.append(model.open("rb"))
        return opened[-1]

    data = bucket(aws)
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    artifact = Artifact(key="model", bucket=Ref(data), path="models/m.gguf", sha256=sha256, content=content)
    engine.up(data, artifact)
    got = aws.s3.get_object(Bucket=bucket_name(aws, "data"), Key="models/m.gguf")["Body"].read()
    assert hashlib.sha256(got).hexdigest() == sha256
    assert [file.closed for file in opened] == [True]
    assert engine.plan(data, artifact).empty


def test_a_file_whose_content_is_not_what_its_hash_says_is_not_uploaded(aws: Cloud, engine: Engine) -> None:
    outcome = engine.try_up(*stack(aws, content=lambda: b"another"))
    assert [type(change.error) for change in outcome.failures] == [Failure]
    assert engine.differences(*stack(aws)) == {}
    assert [c.key for c in engine.plan(*stack(aws)).changes if c.action == "create"] == ["bundle"]


def test_down_removes_every_version_marker_and_unfinished_upload(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    name = bucket_name(aws, "data")
    with ThreadPoolExecutor(8) as pool:  # more than one page of a listing and one batch of a deletion
        list(pool.map(lambda n: aws.s3.put_object(Bucket=name, Key="prompts/x", Body=str(n).encode()), range(1001)))
    aws.s3.delete_object(Bucket=name, Key="prompts/x")
    aws.s3.create_multipart_upload(Bucket=name, Key="prompts/big")
    assert engine.down(*stack(aws)).ok
    assert owned_buckets(aws.fresh()) == []
    assert engine.down(*stack(aws)).ok


def test_keep_data_keeps_the_bucket_and_what_is_in_it(aws: Cloud, engine: Engine) -> None:
    engine.up(bucket(aws))
    name = bucket_name(aws, "data")
    aws.s3.put_object(Bucket=name, Key="prompts/x", Body=b"kept")
    outcome = engine.down(bucket(aws), keep_data=True)
    assert [change.action for change in outcome.changes] == ["retained"]
    assert aws.s3.get_object(Bucket=name, Key="prompts/x")["Body"].read() == b"kept"
    assert engine.plan(bucket(aws)).empty


def test_removing_one_object_leaves_those_whose_names_go_on(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    name = bucket_name(aws, "data")
    aws.s3.put_object(Bucket=name, Key="node/worker.zip.sig", Body=b"a neighbour")
    aws.s3.put_object(Bucket=name, Key="node/worker.zip", Body=b"a newer version")
    artifact = stack(aws)[2]
    engine.remove(artifact)
    versions = aws.s3.list_object_versions(Bucket=name, Prefix="node/worker.zip")["Versions"]
    assert [version["Key"] for version in versions] == ["node/worker.zip.sig"]


def test_a_bucket_with_our_name_without_our_tags_is_refused_and_left_alone(aws: Cloud, engine: Engine) -> None:
    name = bucket_name(aws, "data")
    aws.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    aws.s3.put_object(Bucket=name, Key="theirs", Body=b"theirs")
    outcome = engine.try_up(bucket(aws))
    assert [type(change.error) for change in outcome.changes] == [Stranger]
    assert engine.down(bucket(aws)).failures
    assert aws.s3.get_object(Bucket=name, Key="theirs")["Body"].read() == b"theirs"


def test_owned_finds_what_an_older_description_left(aws: Cloud, engine: Engine) -> None:
    engine.up(bucket(aws), Bucket(key="old"))
    assert {found.state.key for found in owned_buckets(aws.fresh())} == {"data", "old"}
    assert engine.down(bucket(aws)).ok
    assert owned_buckets(aws.fresh()) == []


def test_a_bucket_of_the_same_env_in_another_region_is_not_swept(aws: Cloud, engine: Engine, endpoint: str) -> None:
    elsewhere, region = f"tinyllama-{aws.env}-data-{ACCOUNT}-us-west-2", "us-west-2"
    access = Access(region, endpoint=endpoint, access_key="testing", secret_key="testing")
    s3 = Clients(access, Meter()).get("s3")
    tags = [{"Key": name, "Value": value} for name, value in aws.tags("data").items()]
    s3.create_bucket(Bucket=elsewhere, CreateBucketConfiguration={"LocationConstraint": region, "Tags": tags})
    assert engine.down(*stack(aws)).ok
    assert s3.head_bucket(Bucket=elsewhere)


def test_a_name_that_s3_would_refuse_is_told(another_env: Callable[[str], Cloud]) -> None:
    with pytest.raises(UsageError, match="63"):
        bucket_name(another_env("a-very-long-name-of-an-env"), "data")

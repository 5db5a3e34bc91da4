"""An env's models: checked before upload, stored in the bucket under their hash, chosen while the node runs.

A file passes the worker's pre-flight check here before it is uploaded: structure, tensors, vocabulary, and whether its
weights and context fit the memory of one of the node's types. The findings are stored beside it as a small document.
The jobs table names the model that the worker is to load (`wire.MODEL_PK`); the worker checks the file again, and keeps
the previous model when that fails (`worker/models.py`).
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from aistratus import wire
from aistratus.cloud import Cloud
from aistratus.core.errors import Absent, Failure, UsageError, error_code
from aistratus.core.settle import Wait, until
from aistratus.node.bootstrap import MANIFEST_KEY
from aistratus.node.lifecycle import BUILD_IT
from aistratus.node.resize import fresh, heartbeat, table_item
from aistratus.resources.buckets import delete_versions
from aistratus.resources.calls import unless_gone
from aistratus.resources.objects import NO_OBJECT

RESERVED_MIB: Final = 400
"""What a node needs beside its model: Amazon Linux with its agents (some 250 MiB), the worker's supervisor (100)."""

TAKEN: Final = Wait(what="the worker has taken the other model", within=300, first=0.3, longest=2)
"""It looks every few seconds, fetches some hundred MB from the bucket, and loads them."""

BLOCK: Final = 1 << 20
SETTINGS: Final = "settings"
"""The word for going back to the model that settings name."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A model in the bucket.

    size, needed: bytes of the file, and of memory that it takes with its context.
    added: seconds since the epoch.
    """

    sha256: str
    name: str
    size: int
    needed: int
    context_tokens: int
    added: int

    @property
    def needed_mib(self) -> int:
        return -(-self.needed // (1 << 20))


def examine(path: Path, *, name: str, sha256: str = "", context_tokens: int = 0) -> Stored:
    """What the worker's pre-flight finds in a file.

    Args:
        sha256: what it has to be, or empty for anything.

    Raises:
        UsageError: it can't be used, and why.
    """
    try:
        import gguf  # noqa: F401 - the pre-flight asks for it only when it has read a file's head

        from aistratus.worker.preflight import ModelRefused, check_model
    except ImportError as error:
        raise Failure("models can't be checked here: a package is missing", todo="pip install gguf") from error
    digest = _digest(path)
    if sha256 and digest != sha256.lower():
        raise UsageError(f"{path} has the SHA-256 {digest}, not {sha256}", todo="fetch it anew")
    try:
        facts = check_model(path, sha256="", context_tokens=context_tokens, memory=sys.maxsize)
    except ModelRefused as refused:
        raise UsageError(f"{path} can't be used: {refused}", todo="take another file") from refused
    return Stored(
        sha256=digest,
        name=name,
        size=facts.size,
        needed=facts.needed,
        context_tokens=facts.context_tokens,
        added=int(time.time()),
    )


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        why = "isn't there" if isinstance(error, FileNotFoundError) else f"can't be read: {error.strerror}"
        raise UsageError(f"{path} {why}", todo="name a GGUF file") from error


# --- memory -----------------------------------------------------------------------------------------------------------


def memory(aws: Cloud, types: tuple[str, ...]) -> dict[str, int]:
    """MiB that a model may have on each of these types, as far as the region has them.

    They are asked for by a filter: named as `InstanceTypes`, one that the region lacks makes the whole call fail with
    InvalidInstanceType. Source: EC2's API reference, DescribeInstanceTypes (`instance-type`), and its error codes.
    """
    wanted = [{"Name": "instance-type", "Values": sorted(set(types))}]
    pages = aws.ec2.get_paginator("describe_instance_types").paginate(Filters=wanted)
    found = (entry for page in pages for entry in page["InstanceTypes"])
    return {entry["InstanceType"]: int(entry["MemoryInfo"]["SizeInMiB"]) - RESERVED_MIB for entry in found}


def fitting(model: Stored, room: Mapping[str, int]) -> list[str]:
    """The types that it fits on, the smallest first."""
    return [type_ for type_, mib in sorted(room.items(), key=lambda entry: entry[1]) if model.needed_mib <= mib]


def require_room(model: Stored, room: Mapping[str, int], type_: str | None = None) -> None:
    """Refuses a model that is too large for a type, or for all of them.

    Raises:
        Failure: with both sizes, and what would do; or the region has none of the types.
    """
    if not room:
        raise Failure(
            "the region has none of the types that settings allow",
            todo="name others in node.gpu_types and node.cpu_type, or take another region",
        )
    fits = fitting(model, room)
    needs = f"the model {model.name} needs about {model.needed_mib} MiB of memory"
    if not fits:
        widest = max(room, key=lambda name: room[name])
        raise Failure(
            f"{needs}, and {widest}, the widest type that settings allow, has {room[widest]} MiB for it",
            todo="take a smaller one, or name a larger type in node.gpu_types or node.cpu_type",
        )
    if type_ is not None and type_ in room and type_ not in fits:
        raise Failure(
            f"{needs}, and the node as {type_} has {room[type_]} MiB for it",
            todo=f"`aistratus node resize {fits[0]}` first",
        )


# --- the bucket -------------------------------------------------------------------------------------------------------


def upload(aws: Cloud, bucket: str, path: Path, model: Stored, told: Callable[[int], None] = lambda _: None) -> bool:
    """Puts file and description into the bucket; False if the file was there already.

    Args:
        told: hears how many bytes were sent, piece by piece.
    """
    key, owner = f"{wire.MODELS}{model.sha256}.gguf", aws.account
    there = unless_gone(NO_OBJECT, aws.s3.head_object, Bucket=bucket, Key=key, ExpectedBucketOwner=owner)
    missing = there is None or there["ContentLength"] != model.size
    try:
        if missing:
            extra = {"ExpectedBucketOwner": owner}
            aws.s3.upload_file(str(path), bucket, key, ExtraArgs=extra, Callback=told)
        text = json.dumps(asdict(model)).encode()
        place = {"Bucket": bucket, "Key": f"{wire.MODELS}{model.sha256}.json", "ExpectedBucketOwner": owner}
        aws.s3.put_object(**place, Body=text, ContentType="application/json")
    except Exception as error:
        if "NoSuchBucket" not in f"{error_code(error)} {error}":
            raise
        raise Absent(f"env {aws.env!r} has no bucket", todo=BUILD_IT) from error
    return missing


def stored(aws: Cloud, bucket: str) -> list[Stored]:
    """All models that were added, the latest first."""
    pages = aws.s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=wire.MODELS, ExpectedBucketOwner=aws.account
    )
    try:
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", []) if entry["Key"].endswith(".json")]
    except Exception as error:
        if error_code(error) != "NoSuchBucket":
            raise
        raise Absent(f"env {aws.env!r} has no bucket", todo=BUILD_IT) from error
    found = (_described(aws, bucket, key) for key in keys)
    return sorted((model for model in found if model is not None), key=lambda model: -model.added)


def kept_as(aws: Cloud, bucket: str, sha256: str) -> Stored | None:
    """What the bucket says of these bytes, if they were added before; they have one name at a time."""
    return _described(aws, bucket, f"{wire.MODELS}{sha256}.json")


def _described(aws: Cloud, bucket: str, key: str) -> Stored | None:
    """What a description says; `None` for one that isn't ours, or went away."""
    place = {"Bucket": bucket, "Key": key, "ExpectedBucketOwner": aws.account}
    got = unless_gone(NO_OBJECT, aws.s3.get_object, **place)
    try:
        return None if got is None else Stored(**json.loads(got["Body"].read()))
    except (ValueError, TypeError):
        return None


def pick(models: list[Stored], word: str) -> Stored:
    """The model with this name (the latest of them), or whose hash begins so.

    Raises:
        UsageError: there is none.
    """
    for model in models:
        if word == model.name or (len(word) >= 6 and model.sha256.startswith(word.lower())):
            return model
    names = ", ".join(model.name for model in models)
    others = f"there are {names}" if names else "none was added"
    raise UsageError(f"there is no model {word!r} ({others})", todo="`aistratus model add FILE` adds one")


def the_one(models: list[Stored], word: str) -> Stored:
    """`pick` for what can't be undone: a name that two models have is refused.

    Raises:
        UsageError: there is none, or more than one.
    """
    named = [model for model in models if model.name == word]
    if len(named) > 1:
        hashes = ", ".join(model.sha256[:12] for model in named)
        raise UsageError(
            f"{len(named)} models are named {word!r}", todo=f"say which by how its SHA-256 begins: {hashes}"
        )
    return pick(models, word)


def shipped_with(aws: Cloud, bucket: str) -> str:
    """The hash of the model that the node's manifest names; empty where there is no manifest."""
    place = {"Bucket": bucket, "Key": MANIFEST_KEY, "ExpectedBucketOwner": aws.account}
    got = unless_gone(NO_OBJECT, aws.s3.get_object, **place)
    return "" if got is None else str(json.loads(got["Body"].read())["model"]["sha256"])


def require_unused(aws: Cloud, model: Stored) -> None:
    """Refuses what answers now, or will when the node is awake again.

    Raises:
        UsageError: and why.
    """
    beat = heartbeat(aws)
    chosen = table_item(aws, wire.MODEL_PK).get("sha256") == model.sha256
    if chosen or (fresh(beat) and beat.get("model_sha256") == model.sha256):
        does = (
            "answers now" if fresh(beat) and beat.get("model_sha256") == model.sha256 else "is the one that was chosen"
        )
        raise UsageError(
            f"{model.name} isn't removed: it {does}",
            todo="`aistratus model use settings`, or another one, and then again",
        )


def remove(aws: Cloud, bucket: str, model: Stored, *, with_bytes: bool) -> int:
    """Takes a model out of the bucket, with all its versions; gives the bytes that this frees.

    The description goes last: what died before can be removed again.

    Args:
        with_bytes: its file goes too; not so if it is that of the model that the stack itself brings.
    """
    freed = delete_versions(aws, bucket, f"{wire.MODELS}{model.sha256}.gguf") if with_bytes else 0
    return freed + delete_versions(aws, bucket, f"{wire.MODELS}{model.sha256}.json")


# --- which one --------------------------------------------------------------------------------------------------------


def choose(aws: Cloud, model: Stored | None, *, by: str) -> None:
    """Says which one the worker is to load; `None`: the one that settings name.

    Raises:
        Absent: there is no table for it.
    """
    values: dict[str, Any] = {":sha256": "", ":name": "", ":context": 0, ":by": by, ":at": int(time.time() * 1000)}
    if model is not None:
        values |= {":sha256": model.sha256, ":name": model.name, ":context": model.context_tokens}
    try:
        aws.dynamodb.update_item(
            TableName=aws.name("jobs"),
            Key=wire.pack({"pk": wire.MODEL_PK}),
            UpdateExpression="SET sha256 = :sha256, #name = :name, context_tokens = :context, #by = :by, at_ms = :at",
            ExpressionAttributeNames={"#name": "name", "#by": "by"},
            ExpressionAttributeValues=wire.pack(values),
        )
    except Exception as error:
        if error_code(error) == "ResourceNotFoundException":
            raise Absent(f"env {aws.env!r} isn't up", todo=BUILD_IT) from error
        raise


def answers(beat: Mapping[str, Any], sha256: str) -> bool:
    """Does the worker answer with this model?

    A refusal counts only if it is of this one: the heartbeat carries an earlier one until the worker has seen that
    another model is wanted.

    Raises:
        Failure: it refuses the model, and why; or it is from before models could be chosen.
    """
    if "model_sha256" not in beat:
        raise Failure(
            "the node's worker is from before models could be chosen",
            todo="`aistratus node stop`; when it wakes, it has the new worker and takes the model",
        )
    # A worker from before `model_refused_sha256` doesn't say which one it has refused.
    if beat.get("model_refused") and beat.get("model_refused_sha256", sha256) == sha256:
        raise Failure(
            f"the worker stays with {beat.get('model')}: {beat['model_refused']}", todo="choose another model"
        )
    return beat.get("state") != "loading" and beat["model_sha256"] == sha256


def await_taken(aws: Cloud, sha256: str, since: float) -> None:
    """Waits until the worker answers with this model.

    Args:
        since: when it was chosen, in seconds since the epoch; what the worker said before doesn't count.

    Raises:
        Failure: it refuses the model, and why; the one before goes on answering.
    """

    def taken() -> bool | None:
        beat = heartbeat(aws)
        if not fresh(beat) or beat["at_ms"] / 1000 < since:
            return None
        return True if answers(beat, sha256) else None

    until(TAKEN, taken, clock=aws.clock)

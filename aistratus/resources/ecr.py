"""ECR: image repositories.

A repository's lifecycle policy is JSON that anybody may write differently; what counts is how many images it keeps.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from aistratus.cloud import Cloud, await_match
from aistratus.core.diff import diff
from aistratus.core.resource import Found, Resource, reconciles
from aistratus.core.settle import Wait, settle
from aistratus.resources.calls import at_once, tag_list, tag_mapping, unless_gone

GONE = frozenset({"RepositoryNotFoundException"})

REPOSITORY_KNOWN = Wait(what="ECR knows the new repository", within=30, codes=GONE, first=0.3)
"""The calls that follow a creation may be answered from a place that doesn't know it yet."""


@dataclass(frozen=True, kw_only=True)
class Repository(Resource):
    """A private repository named `tinyllama-<env>-<name>`; removing it removes its images.

    keep: number of images that stay; when one more is pushed, the oldest expires.
    scan_on_push: each pushed image is looked through for known weaknesses (basic scanning, free).
    immutable_tags: a tag can't be moved to another image.
    encryption: `AES256` (S3's own key) or `KMS`.
    """

    name: str
    keep: int = 5
    scan_on_push: bool = True
    immutable_tags: bool = False
    encryption: str = "AES256"

    replace_on: ClassVar[frozenset[str]] = frozenset({"name", "encryption"})


def find_repository(aws: Cloud, want: Repository) -> Found | None:
    """By name."""
    name = aws.name(want.name)
    described = unless_gone(GONE, aws.ecr.describe_repositories, repositoryNames=[name])
    if described is None:
        return None
    repository = described["repositories"][0]
    lifecycle, tags = at_once(
        lambda: unless_gone(
            GONE | {"LifecyclePolicyNotFoundException"}, aws.ecr.get_lifecycle_policy, repositoryName=name
        ),
        lambda: unless_gone(GONE, aws.ecr.list_tags_for_resource, resourceArn=repository["repositoryArn"]),
    )
    if tags is None:
        return None
    aws.require_ours("image repository", name, _tags(tags), want.key)
    state = Repository(
        key=want.key,
        name=want.name,
        keep=_kept(lifecycle),
        scan_on_push=repository.get("imageScanningConfiguration", {}).get("scanOnPush", False),
        immutable_tags=repository.get("imageTagMutability", "MUTABLE").startswith("IMMUTABLE"),
        encryption=repository.get("encryptionConfiguration", {}).get("encryptionType", "AES256"),
    )
    return Found(state=state, ids=_ids(repository), tags=_tags(tags))


def owned_repositories(aws: Cloud) -> list[Found]:
    """By tags, among the repositories with our name."""
    owned = []
    for page in aws.ecr.get_paginator("describe_repositories").paginate(PaginationConfig={"PageSize": 1000}):
        for repository in page["repositories"]:
            name = repository["repositoryName"]
            if not name.startswith(aws.prefix):
                continue
            answer = unless_gone(GONE, aws.ecr.list_tags_for_resource, resourceArn=repository["repositoryArn"])
            tags = _tags(answer or {})
            if aws.owns(tags):
                state = Repository(key=tags["aistratus:key"], name=name.removeprefix(aws.prefix))
                owned.append(Found(state=state, ids=_ids(repository), tags=tags))
    return owned


def remove_repository(aws: Cloud, have: Found) -> None:
    """Removes it with all its images: without `force` ECR refuses while one is left."""
    unless_gone(GONE, aws.ecr.delete_repository, repositoryName=have.ids["name"], force=True)


@reconciles(Repository, find=find_repository, remove=remove_repository, owned=owned_repositories)
def ensure_repository(aws: Cloud, want: Repository, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        have = aws.create_once(
            "ecr",
            "create_repository",
            look=lambda cloud: find_repository(cloud, want),
            taken={"RepositoryAlreadyExistsException"},
            repositoryName=aws.name(want.name),
            imageTagMutability=_mutability(want),
            imageScanningConfiguration={"scanOnPush": want.scan_on_push},
            encryptionConfiguration={"encryptionType": want.encryption},
            tags=tag_list(aws.tags(want.key)),
        )
        changes = frozenset(change.field for change in diff(want, have, aws.tags(want.key)))
    name = have.ids["name"]
    if "keep" in changes:
        _write(aws, "put_lifecycle_policy", repositoryName=name, lifecyclePolicyText=_lifecycle(want.keep))
    if "scan_on_push" in changes:
        scanning = {"scanOnPush": want.scan_on_push}
        _write(aws, "put_image_scanning_configuration", repositoryName=name, imageScanningConfiguration=scanning)
    if "immutable_tags" in changes:
        _write(aws, "put_image_tag_mutability", repositoryName=name, imageTagMutability=_mutability(want))
    if "tags" in changes:
        _write(aws, "tag_resource", resourceArn=have.ids["arn"], tags=tag_list(aws.tags(want.key)))
    return await_match(find_repository, aws, want)


def _write(aws: Cloud, operation: str, **params: Any) -> None:
    settle(REPOSITORY_KNOWN, getattr(aws.ecr, operation), clock=aws.clock, **params)


def _lifecycle(keep: int) -> str:
    """A policy of one rule. Source: ECR user guide, "Lifecycle policy properties"."""
    rule = {
        "rulePriority": 1,
        "description": f"the newest {keep} images stay",
        "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": keep},
        "action": {"type": "expire"},
    }
    return json.dumps({"rules": [rule]})


def _kept(answer: Mapping[str, Any] | None) -> int:
    """How many images a lifecycle policy keeps; 0 for none, or one that says anything else.

    Priority and description of a single rule mean nothing, nor does the writing of the JSON.
    """
    rules = json.loads(answer["lifecyclePolicyText"]).get("rules", []) if answer else []
    meant = [{name: rule[name] for name in rule if name not in ("rulePriority", "description")} for rule in rules]
    if len(meant) != 1:
        return 0
    keep = meant[0].get("selection", {}).get("countNumber", 0)
    ours = json.loads(_lifecycle(keep))["rules"][0]
    return int(keep) if meant[0] == {"selection": ours["selection"], "action": ours["action"]} else 0


def _mutability(want: Repository) -> str:
    return "IMMUTABLE" if want.immutable_tags else "MUTABLE"


def _ids(repository: Mapping[str, Any]) -> dict[str, str]:
    """The URI is what `docker push` takes."""
    name = repository["repositoryName"]
    return {"id": name, "name": name, "arn": repository["repositoryArn"], "uri": repository["repositoryUri"]}


def _tags(answer: Mapping[str, Any]) -> dict[str, str]:
    return tag_mapping(answer.get("tags"))

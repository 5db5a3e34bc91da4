"""Secrets: created empty, for values that only a person sets.

`up` never reads or writes a value; it creates the secret and manages its description, key and tags. A deleted secret
keeps its name for 7 to 30 days and can be restored with its value until then: it is restored, because another one with
its name can't be created meanwhile.

Secrets Manager's listing may be five minutes old, so it is only a hint: DescribeSecret reads the actual state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, ClassVar

from botocore.exceptions import ClientError

from aistratus.cloud import PROJECT, Cloud, await_match
from aistratus.core.diff import diff
from aistratus.core.errors import error_code
from aistratus.core.resource import Found, Resource, reconciles
from aistratus.core.settle import Wait, until
from aistratus.resources.calls import at_once, tag_list, tag_mapping, unless_gone

GONE = frozenset({"ResourceNotFoundException"})
SCHEDULED = "InvalidRequestException"
"""What most operations say of a secret that is scheduled for deletion."""

CURRENT = "AWSCURRENT"
"""The label of the version that readers get."""

DEFAULT_KEY = "alias/aws/secretsmanager"
"""The account's own key for secrets: free, and usable by whoever may read the secret."""

SECRET_GONE = Wait(what="the deleted secret is gone", within=180)
"""A background process deletes it "with a short delay". Source: Secrets Manager API reference, DeleteSecret."""

NAME_FREE = Wait(
    what="Secrets Manager gives the deleted secret's name out again",
    within=180,
    codes=frozenset({SCHEDULED}),
    saying=r"(?i)scheduled for deletion|was deleted|marked (for deletion|deleted)",
)
"""The name is freed some time after the secret no longer answers.

Source: Secrets Manager API reference, DeleteSecret ("use appropriate back off and retry logic");
terraform-provider-aws issue 10259 has the words.
"""


@dataclass(frozen=True, kw_only=True)
class Secret(Resource):
    """A secret named `tinyllama/<env>/<name>`.

    kms_key: alias or ARN of the key that encrypts it.
    scheduled_for_deletion: somebody deleted it, and it can still be restored.
    """

    name: str
    description: str
    kms_key: str = DEFAULT_KEY
    scheduled_for_deletion: bool = False

    replace_on: ClassVar[frozenset[str]] = frozenset({"name"})


def secret_name(env: str, name: str) -> str:
    """The full name of an env's secret."""
    return f"{PROJECT}/{env}/{name}"


def find_secret(aws: Cloud, want: Secret) -> Found | None:
    """By name."""
    name = secret_name(aws.env, want.name)
    answer = _described(aws, name)
    if answer is None:
        return None
    aws.require_ours("secret", name, _tags(answer), want.key)
    return _found(aws, want.key, answer)


def owned_secrets(aws: Cloud) -> list[Found]:
    """By tags, also those that are scheduled for deletion; each is asked itself, because the listing may be old."""
    arns = [entry["ARN"] for entry in _listed(aws) if aws.owns(_tags(entry))]
    if not arns:
        return []
    answers = at_once(*(partial(_described, aws, arn) for arn in arns))
    there = [(answer, _tags(answer)) for answer in answers if answer is not None]
    return [_found(aws, tags["aistratus:key"], answer) for answer, tags in there if aws.owns(tags)]


def remove_secret(aws: Cloud, have: Found) -> None:
    """Removes it with its value and without a recovery window, and waits until it is gone."""
    arn = have.ids["arn"]
    delete = aws.secretsmanager.delete_secret
    try:
        delete(SecretId=arn, ForceDeleteWithoutRecovery=True)
    except ClientError as error:
        if error_code(error) != SCHEDULED:
            raise
        # Scheduled already: documented as fine, but not for every state that a deletion passes through.
        if unless_gone(GONE, aws.secretsmanager.restore_secret, SecretId=arn) is not None:
            delete(SecretId=arn, ForceDeleteWithoutRecovery=True)
    until(SECRET_GONE, lambda: True if _described(aws, arn) is None else None, clock=aws.clock)


@reconciles(Secret, find=find_secret, remove=remove_secret, owned=owned_secrets)
def ensure_secret(aws: Cloud, want: Secret, have: Found | None, changes: frozenset[str]) -> Found:
    if have is not None and "scheduled_for_deletion" in changes:
        restored = unless_gone(GONE, aws.secretsmanager.restore_secret, SecretId=have.ids["arn"])
        have = have if restored is not None else None  # a `down` that died had deleted it for good
    if have is None:
        # No client token: it would be the id of a first version, and there is none. The name is taken only once.
        another_key: dict[str, Any] = {} if want.kms_key == DEFAULT_KEY else {"KmsKeyId": want.kms_key}
        have = aws.create_once(
            "secretsmanager",
            "create_secret",
            look=lambda cloud: find_secret(cloud, want),
            taken={"ResourceExistsException"},
            settling=NAME_FREE,
            Name=secret_name(aws.env, want.name),
            Description=want.description,
            Tags=tag_list(aws.tags(want.key)),
            **another_key,
        )
        changes = frozenset(change.field for change in diff(want, have, aws.tags(want.key)))
    # An empty text is the account's own key; its alias might be answered as the ARN of the key behind it.
    settings = {"description": ("Description", want.description),
                "kms_key": ("KmsKeyId", "" if want.kms_key == DEFAULT_KEY else want.kms_key)}  # fmt: skip
    if differing := dict(settings[field] for field in sorted(settings.keys() & changes)):
        aws.secretsmanager.update_secret(SecretId=have.ids["arn"], **differing)
    if "tags" in changes:
        aws.secretsmanager.tag_resource(SecretId=have.ids["arn"], Tags=tag_list(aws.tags(want.key)))
    return await_match(find_secret, aws, want)


# --- values: for the command that sets them ---------------------------------------------------------------------------


def put_value(aws: Cloud, secret: Found, value: str) -> None:
    """Makes `value` the current one.

    The SDK adds a token that stays the same when it repeats the call, so that a lost answer makes no second version.
    """
    aws.secretsmanager.put_secret_value(SecretId=secret.ids["arn"], SecretString=value)


def value_set_at(aws: Cloud, secret: Found) -> datetime | None:
    """When the current value was set; `None` if none ever was. The value itself isn't read."""
    where: dict[str, str] = {"SecretId": secret.ids["arn"]}
    while True:  # the SDK has no paginator for this call
        page = aws.secretsmanager.list_secret_version_ids(**where)
        for version in page.get("Versions", []):
            if CURRENT in version.get("VersionStages", []):
                moment: datetime = version["CreatedDate"]
                return moment
        if not page.get("NextToken"):
            return None
        where["NextToken"] = page["NextToken"]


# --- what AWS answers -------------------------------------------------------------------------------------------------


def _found(aws: Cloud, key: str, answer: Mapping[str, Any]) -> Found:
    name = str(answer["Name"])
    state = Secret(
        key=key,
        name=name.removeprefix(secret_name(aws.env, "")),
        description=answer.get("Description", ""),
        # Left out where it is the account's own. Source: Secrets Manager API reference, DescribeSecret, UpdateSecret.
        kms_key=answer.get("KmsKeyId") or DEFAULT_KEY,
        scheduled_for_deletion=bool(answer.get("DeletedDate")),
    )
    return Found(state=state, ids={"id": name, "name": name, "arn": answer["ARN"]}, tags=_tags(answer))


def _described(aws: Cloud, identity: str) -> dict[str, Any] | None:
    answer: dict[str, Any] | None = unless_gone(GONE, aws.secretsmanager.describe_secret, SecretId=identity)
    return answer


def _listed(aws: Cloud) -> list[dict[str, Any]]:
    """Every secret that may be ours: filters match keys and values of tags by their beginnings, each for itself."""

    def read() -> list[dict[str, Any]]:
        pages = aws.secretsmanager.get_paginator("list_secrets").paginate(
            IncludePlannedDeletion=True,
            Filters=[{"Key": "tag-key", "Values": ["aistratus:key"]}, {"Key": "tag-value", "Values": [aws.env]}],
        )
        return [entry for page in pages for entry in page["SecretList"]]

    return aws.shared("secretsmanager.secrets", read)


def _tags(answer: Mapping[str, Any]) -> dict[str, str]:
    return tag_mapping(answer.get("Tags"))

"""IAM's OIDC identity providers, whose tokens this account accepts.

IAM takes one provider for an address in an account, so two envs that deliver from GitHub share it, with each other and
with whatever else the account runs. The rules:

- What is there already is used as it is (*adopted*), and neither changed nor removed nor retagged.
- What we had to make carries our tags like everything else, is repaired, and goes with `down`.
- Unless somebody else's roles still trust it. Then `down` leaves it standing and lets go of it: an env of this project
  that trusts it inherits it (it gets that env's tags, and goes with that env's `down`); where only strangers do, our
  tags are taken off, and it is the account's own from then on. It costs nothing.

An env that is just being built is seen here once its role is there; in the moments before, it may lose the provider and
makes it anew with the next `up`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from aistratus.cloud import PROJECT, Cloud, await_match
from aistratus.core.diff import diff
from aistratus.core.errors import Failure
from aistratus.core.resource import Found, Resource, reconciles, unordered
from aistratus.core.settle import Wait, settle
from aistratus.resources.calls import tag_list, tag_mapping, unless_gone

GONE = frozenset({"NoSuchEntity", "NoSuchEntityException"})

PROVIDER_SETTLES = Wait(
    what="IAM knows the new identity provider, or ends another change of it",
    within=60,
    codes=GONE | {"ConcurrentModification"},
)
"""IAM refuses two changes at the same time, and knows new things late. Source: errors of TagOpenIDConnectProvider."""


@dataclass(frozen=True, kw_only=True)
class OidcProvider(Resource):
    """A provider of OpenID Connect tokens.

    url: its address, `https://…`.
    audiences: for whom its tokens must be meant; of an adopted one, others may be there too.

    Thumbprints aren't managed: AWS checks GitHub's certificate by its own list of roots since July 2023.
    Source: CreateOpenIDConnectProvider, `ThumbprintList`.
    """

    url: str
    audiences: tuple[str, ...] = unordered()

    replace_on: ClassVar[frozenset[str]] = frozenset({"url"})


def provider_arn(aws: Cloud, url: str) -> str:
    """The ARN that follows from the address."""
    return aws.arn("iam", f"oidc-provider/{url.removeprefix('https://')}", region="")


def find_provider(aws: Cloud, want: OidcProvider) -> Found | None:
    """By address; ours or adopted."""
    arn = provider_arn(aws, want.url)
    answer = unless_gone(GONE, aws.iam.get_open_id_connect_provider, OpenIDConnectProviderArn=arn)
    if answer is None:
        return None
    tags, audiences = _tags(answer), tuple(answer.get("ClientIDList", []))
    ours = aws.owns(tags, want.key)
    if not ours and set(want.audiences) <= set(audiences):
        audiences = want.audiences  # what it believes beyond that is its owner's business
    state = OidcProvider(key=want.key, url=want.url, audiences=audiences)
    return Found(state=state, ids={"id": arn, "arn": arn}, tags=tags if ours else None, adopted=not ours)


def owned_providers(aws: Cloud) -> list[Found]:
    """By tags."""
    owned = []
    for row in aws.iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]:  # at most 100, in one answer
        arn = row["Arn"]
        answer = unless_gone(GONE, aws.iam.get_open_id_connect_provider, OpenIDConnectProviderArn=arn)
        tags = _tags(answer or {})
        if answer is not None and aws.owns(tags):
            state = OidcProvider(
                key=tags["aistratus:key"], url=f"https://{answer['Url']}", audiences=tuple(answer["ClientIDList"])
            )
            owned.append(Found(state=state, ids={"id": arn, "arn": arn}, tags=tags))
    return owned


def remove_provider(aws: Cloud, have: Found) -> None:
    """Removes ours, or lets go of it if somebody else's roles trust it."""
    arn = have.ids["arn"]
    answer = unless_gone(GONE, aws.iam.get_open_id_connect_provider, OpenIDConnectProviderArn=arn)
    if answer is None or not aws.owns(_tags(answer)):
        return
    others = list(_others_who_trust(aws, arn))
    if not others:
        unless_gone(GONE, aws.iam.delete_open_id_connect_provider, OpenIDConnectProviderArn=arn)
        return
    heir = next((tags for tags in others if tags.get("Project") == PROJECT and "Env" in tags), None)
    if heir is None:
        names = list(aws.tags(have.state.key))
        _write(aws, "untag_open_id_connect_provider", OpenIDConnectProviderArn=arn, TagKeys=names)
        return
    inherited = {**aws.tags(have.state.key), "Env": heir["Env"], "Name": f"{PROJECT}-{heir['Env']}-{have.state.key}"}
    if "aistratus:region" in heir:
        inherited["aistratus:region"] = heir["aistratus:region"]
    _write(aws, "tag_open_id_connect_provider", OpenIDConnectProviderArn=arn, Tags=tag_list(inherited))


@reconciles(OidcProvider, find=find_provider, remove=remove_provider, owned=owned_providers)
def ensure_provider(aws: Cloud, want: OidcProvider, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        have = aws.create_once(
            "iam",
            "create_open_id_connect_provider",
            look=lambda cloud: find_provider(cloud, want),
            taken={"EntityAlreadyExists"},
            settling=PROVIDER_SETTLES,
            Url=want.url,
            ClientIDList=list(want.audiences),
            Tags=tag_list(aws.tags(want.key)),
        )
        changes = frozenset(change.field for change in diff(want, have, aws.tags(want.key)))
    if "audiences" in changes:
        _repair_audiences(aws, want, have)
    if "tags" in changes:
        _write(
            aws,
            "tag_open_id_connect_provider",
            OpenIDConnectProviderArn=have.ids["arn"],
            Tags=tag_list(aws.tags(want.key)),
        )
    return await_match(find_provider, aws, want)


def _repair_audiences(aws: Cloud, want: OidcProvider, have: Found) -> None:
    """Adds what is missing, and takes off what is too much.

    Raises:
        Failure: it isn't ours. A further audience could open other roles of the account that don't ask for one.
    """
    assert isinstance(have.state, OidcProvider)
    arn, wanted, there = have.ids["arn"], set(want.audiences), set(have.state.audiences)
    if have.adopted:
        missing = ", ".join(sorted(wanted - there))
        raise Failure(
            f"the account's identity provider for {want.url} isn't ours and doesn't take the audience {missing}",
            todo=f"add it: aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn {arn} "
            f"--client-id {missing}",
        )
    for audience in sorted(wanted - there):
        _write(aws, "add_client_id_to_open_id_connect_provider", OpenIDConnectProviderArn=arn, ClientID=audience)
    for audience in sorted(there - wanted):
        _write(aws, "remove_client_id_from_open_id_connect_provider", OpenIDConnectProviderArn=arn, ClientID=audience)


def _others_who_trust(aws: Cloud, arn: str) -> Iterator[Mapping[str, str]]:
    """The tags of each role that trusts the provider and isn't this env's."""
    pages = aws.iam.get_paginator("get_account_authorization_details").paginate(
        Filter=["Role"], PaginationConfig={"PageSize": 1000}
    )
    for page in pages:
        for role in page["RoleDetailList"]:
            tags = _tags(role)
            if f'"{arn}"' in json.dumps(role["AssumeRolePolicyDocument"]) and not aws.owns(tags):
                yield tags


def _write(aws: Cloud, operation: str, **params: Any) -> None:
    settle(PROVIDER_SETTLES, getattr(aws.iam, operation), clock=aws.clock, **params)


def _tags(described: Mapping[str, Any]) -> dict[str, str]:
    return tag_mapping(described.get("Tags"))

"""HTTP APIs, and how their parts find them.

Names of APIs aren't unique, so an API is known by its tags, which the listing of all APIs carries: one call tells about
every API, and one more about each kind of part. API Gateway refuses a change of an API while it works on another one of
the same API, so each change goes through `change`, which waits and asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aistratus.cloud import Cloud, await_match
from aistratus.core.diff import diff
from aistratus.core.resource import Found, Ref, Resource, reconciles
from aistratus.core.settle import Wait, settle
from aistratus.resources.calls import unless_gone

GONE = frozenset({"NotFoundException"})

API_FREE = Wait(
    what="API Gateway ends another change of the API",
    within=90,
    codes=frozenset({"ConflictException"}),
    saying=r"(?i)concurrent modification|try again later",
)
"""Changes of one API follow each other; parallel ones are refused with "Unable to complete operation due to concurrent
modification. Please try again later." The code's other meaning, "already exists", is left out.

Source: terraform-provider-aws issue 18018.
"""


@dataclass(frozen=True, kw_only=True)
class Cors:
    """What pages of other origins may do, as all sets.

    Header names come back in lower case whatever was sent, so they are written so here.

    max_age_s: seconds for which a browser keeps the answer.
    """

    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...]
    max_age_s: int = 0
    expose: tuple[str, ...] = ()
    credentials: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "origins", tuple(sorted(self.origins)))
        object.__setattr__(self, "methods", tuple(sorted(method.upper() for method in self.methods)))
        object.__setattr__(self, "headers", tuple(sorted(header.lower() for header in self.headers)))
        object.__setattr__(self, "expose", tuple(sorted(header.lower() for header in self.expose)))


@dataclass(frozen=True, kw_only=True)
class HttpApi(Resource):
    """An HTTP API named `tinyllama-<env>-<name>`.

    name: the key unless given.
    disable_execute_api_endpoint: True leaves only a custom domain.
    """

    name: str = ""
    description: str = ""
    cors: Cors | None = None
    disable_execute_api_endpoint: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.key.replace("_", "-"))


def find_api(aws: Cloud, want: HttpApi) -> Found | None:
    """By tags; of two of ours (somebody copied the tags) the recorded one, else the oldest.

    Raises:
        Stranger: something has our name, and nothing has our tags.
    """
    api = _tagged(aws, want)
    if api is not None:
        return _found(aws, want.key, api)
    name = aws.name(want.name)
    for entry in all_apis(aws):
        if entry["Name"] == name:
            aws.require_ours("HTTP API", name, entry.get("Tags", {}), want.key)
    return None


def owned_apis(aws: Cloud) -> list[Found]:
    """By tags."""
    tagged = [(api, api.get("Tags", {})) for api in all_apis(aws)]
    return [_found(aws, tags["aistratus:key"], api) for api, tags in tagged if aws.owns(tags)]


def remove_api(aws: Cloud, have: Found) -> None:
    """Removes it with all its parts."""
    drop(aws, aws.apigatewayv2.delete_api, ApiId=have.ids["id"])


@reconciles(HttpApi, find=find_api, remove=remove_api, owned=owned_apis)
def ensure_api(aws: Cloud, want: HttpApi, have: Found | None, changes: frozenset[str]) -> Found:
    if have is None:
        have = aws.create_once(
            "apigatewayv2",
            "create_api",
            look=lambda cloud: find_api(cloud, want),
            settling=API_FREE,
            ProtocolType="HTTP",
            Tags=aws.tags(want.key),
            **_encoded(aws, want, frozenset({"name", "description", "cors", "disable_execute_api_endpoint"})),
        )
        changes = frozenset(entry.field for entry in diff(want, have, aws.tags(want.key)))
    if settings := _encoded(aws, want, changes):
        change(aws, aws.apigatewayv2.update_api, ApiId=have.ids["id"], **settings)
    if "tags" in changes:
        aws.apigatewayv2.tag_resource(ResourceArn=have.ids["arn"], Tags=aws.tags(want.key))
    return await_match(find_api, aws, want)


def _encoded(aws: Cloud, want: HttpApi, fields: frozenset[str]) -> dict[str, Any]:
    """These fields as API Gateway takes them."""
    encoded: dict[str, tuple[str, Any]] = {
        "name": ("Name", aws.name(want.name)),
        "description": ("Description", want.description),
        "cors": ("CorsConfiguration", _cors_encoded(want.cors) if want.cors else None),
        "disable_execute_api_endpoint": ("DisableExecuteApiEndpoint", want.disable_execute_api_endpoint),
    }
    return dict(encoded[name] for name in sorted(fields & encoded.keys()) if encoded[name][1] is not None)


def _cors_encoded(cors: Cors) -> dict[str, Any]:
    return {
        "AllowOrigins": list(cors.origins),
        "AllowMethods": list(cors.methods),
        "AllowHeaders": list(cors.headers),
        "ExposeHeaders": list(cors.expose),
        "MaxAge": cors.max_age_s,
        "AllowCredentials": cors.credentials,
    }


def _cors_decoded(cors: Mapping[str, Any]) -> Cors:
    return Cors(
        origins=tuple(cors.get("AllowOrigins", ())),
        methods=tuple(cors.get("AllowMethods", ())),
        headers=tuple(cors.get("AllowHeaders", ())),
        expose=tuple(cors.get("ExposeHeaders", ())),
        max_age_s=cors.get("MaxAge", 0),
        credentials=cors.get("AllowCredentials", False),
    )


def _found(aws: Cloud, key: str, api: Mapping[str, Any]) -> Found:
    cors = api.get("CorsConfiguration")
    name = str(api["Name"])
    state = HttpApi(
        key=key,
        # A name that somebody gave it is shown whole.
        name=name.removeprefix(aws.prefix) if name.startswith(aws.prefix) else name,
        description=api.get("Description", ""),
        cors=_cors_decoded(cors) if cors else None,
        disable_execute_api_endpoint=api.get("DisableExecuteApiEndpoint", False),
    )
    ids = {"id": api["ApiId"], "arn": arn(aws, api["ApiId"]), "endpoint": api.get("ApiEndpoint", ""), "name": name}
    return Found(state=state, ids=ids, tags=api.get("Tags", {}))


# --- what the parts of an API share ------------------------------------------------------------------------------


def api_id(aws: Cloud, value: Ref | str) -> str | None:
    """The id of the API that a part's field stands for, `None` while there is none."""
    if isinstance(value, str):
        return value
    if not isinstance(value.to, HttpApi):
        raise TypeError(f"{value!r} is no HTTP API")
    api = _tagged(aws, value.to)
    return None if api is None else str(api["ApiId"])


def parts(aws: Cloud, operation: str, api: str) -> list[dict[str, Any]]:
    """All that the listing `operation` (`get_routes` …) tells of an API; nothing once the API is gone."""

    def read() -> list[dict[str, Any]]:
        pages = aws.apigatewayv2.get_paginator(operation).paginate(ApiId=api)
        return unless_gone(GONE, lambda: [item for page in pages for item in page.get("Items", [])]) or []

    return aws.shared(f"apigatewayv2.{operation}.{api}", read)


def arn(aws: Cloud, api: str, part: str = "") -> str:
    """The ARN of an API or of its part (`/stages/$default`), which names no account."""
    return aws.arn("apigateway", f"/apis/{api}{part}", account="")


def change(aws: Cloud, call: Callable[..., Any], **params: Any) -> Any:
    """A call that changes an API; waits for other changes of it."""
    return settle(API_FREE, call, clock=aws.clock, **params)


def drop(aws: Cloud, call: Callable[..., Any], **params: Any) -> None:
    """A call that removes something; already gone is fine."""
    unless_gone(GONE, lambda: change(aws, call, **params))


def all_apis(aws: Cloud) -> list[dict[str, Any]]:
    """Every API of the account and region."""

    def read() -> list[dict[str, Any]]:
        return [api for page in aws.apigatewayv2.get_paginator("get_apis").paginate() for api in page.get("Items", [])]

    return aws.shared("apigatewayv2.apis", read)


def _tagged(aws: Cloud, want: HttpApi) -> dict[str, Any] | None:
    ours = [api for api in all_apis(aws) if aws.owns(api.get("Tags", {}), want.key)]
    if len(ours) < 2:
        return ours[0] if ours else None
    recorded = aws.recorded(want.key).get("id")
    return min(ours, key=lambda api: (api["ApiId"] != recorded, str(api.get("CreatedDate", "")), api["ApiId"]))

"""The stage that serves an API, and its limits.

The limits are settings of the stage for AWS and a resource of their own here: if an import or a change in the console
resets them, `plan` shows that, `up --only api_throttle` repairs them alone, and a limit that somebody added is removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from aistratus.cloud import Cloud, await_match
from aistratus.core.diff import diff
from aistratus.core.resource import Found, Ref, Resource, reconciles
from aistratus.resources.http_apis import API_FREE, api_id, arn, change, drop, parts

# --- stages -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Stage(Resource):
    """A stage; `$default` answers at the root of the API's address.

    auto_deploy: every change of the API is served at once.
    access_log_group: ARN of the group that takes a line for each request, with or without `:*`.
    access_log_format: that line, with `$context` variables.
    """

    api: Ref | str
    name: str = "$default"
    auto_deploy: bool = True
    access_log_group: Ref | str | None = None
    access_log_format: str | None = None

    replace_on: ClassVar[frozenset[str]] = frozenset({"api", "name"})

    def __post_init__(self) -> None:
        if isinstance(self.access_log_group, str):
            object.__setattr__(self, "access_log_group", self.access_log_group.removesuffix(":*"))


def find_stage(aws: Cloud, want: Stage) -> Found | None:
    """By name within the API."""
    api = api_id(aws, want.api)
    entry = _stage(aws, api, want.name)
    if api is None or entry is None:
        return None
    log = entry.get("AccessLogSettings", {})
    state = Stage(
        key=want.key,
        api=api,
        name=want.name,
        auto_deploy=entry.get("AutoDeploy", False),
        access_log_group=log.get("DestinationArn"),
        access_log_format=log.get("Format"),
    )
    ids = {"id": want.name, "api": api, "arn": arn(aws, api, f"/stages/{want.name}")}
    return Found(state=state, ids=ids, tags=entry.get("Tags", {}))


def remove_stage(aws: Cloud, have: Found) -> None:
    drop(aws, aws.apigatewayv2.delete_stage, ApiId=have.ids["api"], StageName=have.ids["id"])


@reconciles(Stage, find=find_stage, remove=remove_stage)
def ensure_stage(aws: Cloud, want: Stage, have: Found | None, changes: frozenset[str]) -> Found:
    log = {"DestinationArn": want.access_log_group, "Format": want.access_log_format}
    settings: dict[str, Any] = {"AutoDeploy": want.auto_deploy}
    if given := {name: value for name, value in log.items() if value is not None}:
        settings["AccessLogSettings"] = given
    if have is None:
        have = aws.create_once(
            "apigatewayv2",
            "create_stage",
            look=lambda cloud: find_stage(cloud, want),
            taken={"ConflictException"},
            settling=API_FREE,
            ApiId=want.api,
            StageName=want.name,
            Tags=aws.tags(want.key),
            **settings,
        )
        changes = frozenset(entry.field for entry in diff(want, have, aws.tags(want.key)))
    if changes - {"tags"}:
        change(aws, aws.apigatewayv2.update_stage, ApiId=want.api, StageName=want.name, **settings)
    if "tags" in changes:
        aws.apigatewayv2.tag_resource(ResourceArn=have.ids["arn"], Tags=aws.tags(want.key))
    return await_match(find_stage, aws, want)


# --- limits -----------------------------------------------------------------------------------------------------

Limit = tuple[float | None, int | None]
"""Requests a second, and how many at once before that counts."""


@dataclass(frozen=True, kw_only=True)
class Throttle(Resource):
    """All limits of a stage.

    stage: its name.
    default_rate, default_burst: of the routes that have no limit of their own.
    routes: the limits of routes that have, by route key; a route must be there before it can have one.
    """

    api: Ref | str
    stage: Ref | str
    default_rate: float
    default_burst: int
    routes: Mapping[str, Limit] = field(default_factory=dict)

    replace_on: ClassVar[frozenset[str]] = frozenset({"api", "stage"})


def find_throttle(aws: Cloud, want: Throttle) -> Found | None:
    """Absent is a stage without any limit."""
    api, name = api_id(aws, want.api), _stage_name(want.stage)
    entry = _stage(aws, api, name)
    if api is None or entry is None:
        return None
    default = _limit(entry.get("DefaultRouteSettings", {}))
    limits = {key: _limit(settings) for key, settings in entry.get("RouteSettings", {}).items()}
    routes = {key: limit for key, limit in limits.items() if limit != (None, None)}
    if default == (None, None) and not routes:
        return None
    rate, burst = default
    state = Throttle(
        key=want.key,
        api=api,
        stage=name,
        # No limit is none of ours: it must differ from whatever is wanted.
        default_rate=-1.0 if rate is None else rate,
        default_burst=-1 if burst is None else burst,
        routes=routes,
    )
    return Found(state=state, ids={"id": f"{api}/{name}", "api": api, "stage": name})


def remove_throttle(aws: Cloud, have: Found) -> None:
    """Removes the routes' limits, before the routes go; the default can't be unset and goes with the stage."""
    for key in have.state.routes if isinstance(have.state, Throttle) else ():
        _drop_limit(aws, have, key)


@reconciles(Throttle, find=find_throttle, remove=remove_throttle)
def ensure_throttle(aws: Cloud, want: Throttle, have: Found | None, changes: frozenset[str]) -> Found:
    state = have.state if have else None
    extra = sorted(state.routes.keys() - want.routes.keys()) if have and isinstance(state, Throttle) else []
    for key in extra:
        # First: the limit of a route that is gone would make the update fail.
        assert have is not None
        _drop_limit(aws, have, key)
    stage = _stage(aws, str(want.api), str(want.stage)) or {}
    default, others = stage.get("DefaultRouteSettings", {}), stage.get("RouteSettings", {})
    change(
        aws,
        aws.apigatewayv2.update_stage,
        ApiId=want.api,
        StageName=want.stage,
        # Metrics are kept as they are: API Gateway takes what isn't said in here for "off".
        DefaultRouteSettings=_with_limit(default, (want.default_rate, want.default_burst)),
        RouteSettings={key: _with_limit(others.get(key, {}), limit) for key, limit in want.routes.items()},
    )
    return await_match(find_throttle, aws, want)


def _drop_limit(aws: Cloud, have: Found, key: str) -> None:
    drop(aws, aws.apigatewayv2.delete_route_settings, ApiId=have.ids["api"], StageName=have.ids["stage"], RouteKey=key)


def _limit(settings: Mapping[str, Any]) -> Limit:
    return settings.get("ThrottlingRateLimit"), settings.get("ThrottlingBurstLimit")


def _with_limit(settings: Mapping[str, Any], limit: Limit) -> dict[str, Any]:
    kept = {name: settings[name] for name in settings.keys() & {"DetailedMetricsEnabled"}}
    return {**kept, "ThrottlingRateLimit": limit[0], "ThrottlingBurstLimit": limit[1]}


def _stage_name(value: Ref | str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value.to, Stage):
        raise TypeError(f"{value!r} is no stage")
    return value.to.name


def _stage(aws: Cloud, api: str | None, name: str) -> dict[str, Any] | None:
    entries = parts(aws, "get_stages", api) if api else []
    return next((entry for entry in entries if entry["StageName"] == name), None)

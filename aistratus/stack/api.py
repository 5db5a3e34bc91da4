"""The HTTP API in front of the router: authorizer, throttling and access log."""

from __future__ import annotations

import json
from dataclasses import dataclass

from aistratus.core.resource import Ref
from aistratus.policies import Names
from aistratus.resources.functions import InvokePermission
from aistratus.resources.httpapi import Cors, HttpApi, JwtAuthorizer, LambdaIntegration, Route, Stage, Throttle
from aistratus.resources.logs import LogGroup
from aistratus.settings import Settings
from aistratus.stack.group import Group
from aistratus.stack.people import Identity
from aistratus.stack.router import Router

ACCESS_LOG = json.dumps(
    {
        "time": "$context.requestTime",
        "request_id": "$context.requestId",
        "ip": "$context.identity.sourceIp",
        "route": "$context.routeKey",
        "status": "$context.status",
        "bytes": "$context.responseLength",
        "ms": "$context.responseLatency",
        "router_ms": "$context.integrationLatency",
        "sub": "$context.authorizer.claims.sub",
        "error": "$context.error.message",
        "authorizer_error": "$context.authorizer.error",
        "router_error": "$context.integrationErrorMessage",
    },
    separators=(",", ":"),
)


@dataclass(frozen=True, kw_only=True)
class Api(Group):
    """The dimensions of its metrics."""

    api: HttpApi
    stage: Stage


def declare_api(settings: Settings, names: Names, router: Router, identity: Identity) -> Api:
    """The API that invokes the router, for callers with a token of the pool."""
    live = router.live
    api = HttpApi(
        key="api",
        description="Prompts in, replies out",
        cors=Cors(
            origins=settings.api.cors_origins,
            methods=("DELETE", "GET", "POST"),
            headers=("authorization", "content-type", "idempotency-key"),
            max_age_s=3600,
        ),
    )
    permission = InvokePermission(
        key="router_permission", function=Ref(live, "function"), qualifier="live", api=Ref(api), alias=Ref(live, "arn")
    )
    authorizer = JwtAuthorizer(
        key="authorizer", api=Ref(api), issuer=Ref(identity.pool, "issuer"), audience=(Ref(identity.client),)
    )
    integration = LambdaIntegration(key="integration", api=Ref(api), function=Ref(live, "arn"))
    health = Route(
        key="route_health", api=Ref(api), route_key=f"GET {settings.api.health_path}", integration=Ref(integration)
    )
    contract = Route(key="route_contract", api=Ref(api), route_key="GET /openapi.json", integration=Ref(integration))

    def guarded(key: str, route_key: str) -> Route:
        """A route that requires a token of our user pool."""
        return Route(
            key=key, api=Ref(api), route_key=route_key, integration=Ref(integration), authorizer=Ref(authorizer)
        )

    infer = guarded("route_infer", "POST /infer")
    read_job = guarded("route_job", "GET /jobs/{id}")
    cancel_job = guarded("route_cancel", "DELETE /jobs/{id}")
    queue_health = guarded("route_queue_health", "GET /queue-health")
    stop = guarded("route_stop", "POST /stop")
    resize = guarded("route_resize", "POST /resize")
    routes = (health, contract, infer, read_job, cancel_job, queue_health, stop, resize)
    api_log = LogGroup(key="api_log", name=f"/aws/vendedlogs/{names.prefix}api", retention_days=settings.api.log_days)
    stage = Stage(key="stage", api=Ref(api), access_log_group=Ref(api_log, "arn"), access_log_format=ACCESS_LOG)
    # Apart from the stage, so that `up --only api_throttle` can bring the limits back alone.
    throttle = Throttle(
        key="api_throttle",
        api=Ref(api),
        stage=Ref(stage),
        default_rate=settings.api.throttle.rate,
        default_burst=settings.api.throttle.burst,
        routes={
            route.route_key: (limit.rate, limit.burst)
            for route in routes
            if (limit := settings.api.throttles.get(route.route_key))
        },
        after=tuple(Ref(route) for route in routes),
    )
    return Api(
        wanted=(api, permission, authorizer, integration, *routes, api_log, stage, throttle), api=api, stage=stage
    )

"""The whole stack of one env, read top to bottom. Nothing else in the project lists resources.

Four readings share this description: `plan` compares it, `up` makes it, `status` asks it for its health, `down` takes
it away in reverse. What must come before what is read off the `Ref`s. The way of a prompt runs from the bottom to the
top: the API calls the router, the router writes the jobs table and the queue, the node takes from both.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from aistratus import policies
from aistratus.core.graph import Stack
from aistratus.core.resource import Ref
from aistratus.node.bootstrap import MANIFEST_KEY, Model, manifest, user_data
from aistratus.policies import Names
from aistratus.resources.cognito import User, UserPool, UserPoolClient, UserPoolGroup
from aistratus.resources.compute import Instance, KeyPair
from aistratus.resources.dynamodb import Table
from aistratus.resources.functions import Alias, Function, InvokePermission
from aistratus.resources.httpapi import (
    Cors,
    HttpApi,
    JwtAuthorizer,
    LambdaIntegration,
    Route,
    Stage,
    Throttle,
)
from aistratus.resources.iam import InstanceProfile, Role
from aistratus.resources.logs import LogGroup
from aistratus.resources.network import GatewayEndpoint, InternetGateway, RouteTable, SecurityGroup, Subnet, Vpc
from aistratus.resources.sqs import Queue
from aistratus.resources.storage import Artifact, Bucket, JsonObject, LifecycleRule, bucket_name
from aistratus.settings import Settings

VPC_CIDR = "10.20.0.0/22"
ANYWHERE = "0.0.0.0/0"

ROUTER_MEMORY_MB = 512
"""Lambda gives processor time by memory; below this the first request of an idle router is felt."""
ROUTER_TIMEOUT_S = 15

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
class Shipped:
    """What is uploaded: programs by content hash, and the public half of the node's key, made when first needed."""

    router: Callable[[], bytes]
    router_sha256: str
    """Base64, as Lambda's CodeSha256."""
    worker: Callable[[], bytes]
    worker_sha256: str
    """Hex."""
    model: Model
    model_content: Callable[[], BinaryIO] | None
    """The model's file, if this machine has it."""
    public_key: Callable[[], str]


def describe(settings: Settings, names: Names, shipped: Shipped, *, node: bool = True) -> Stack:
    """Every resource of the env.

    Args:
        node: False leaves the EC2 instance out (`up --no-node`).
    """
    # --- network: the node stands in the public subnet behind a group without inbound rules; S3 is reached for free
    vpc = Vpc(key="vpc", cidr=VPC_CIDR)
    public = Subnet(key="subnet_public", vpc=Ref(vpc), cidr="10.20.0.0/24", zone_index=0, map_public_ip=True)
    private_a = Subnet(key="subnet_private_a", vpc=Ref(vpc), cidr="10.20.1.0/24", zone_index=0, map_public_ip=False)
    private_b = Subnet(key="subnet_private_b", vpc=Ref(vpc), cidr="10.20.2.0/24", zone_index=1, map_public_ip=False)
    gateway = InternetGateway(key="internet_gateway", vpc=Ref(vpc))
    public_routes = RouteTable(
        key="routes_public", vpc=Ref(vpc), subnets=(Ref(public),), routes={ANYWHERE: Ref(gateway)}
    )
    private_routes = RouteTable(key="routes_private", vpc=Ref(vpc), subnets=(Ref(private_a), Ref(private_b)), routes={})
    s3_endpoint = GatewayEndpoint(
        key="s3_endpoint", vpc=Ref(vpc), service="s3", route_tables=(Ref(public_routes), Ref(private_routes))
    )
    node_group = SecurityGroup(key="node_group", vpc=Ref(vpc), description="The node: no way in, every way out")

    # --- data
    bucket_full_name = bucket_name(names, "data")
    bucket = Bucket(
        key="data",
        lifecycle=(
            LifecycleRule(id="prompts", prefix="prompts/", expire_days=30),
            LifecycleRule(id="old-versions", prefix="", noncurrent_days=7, abort_multipart_days=2),
        ),
        policy=policies.tls_only(names, bucket_full_name),
    )
    jobs = Table(key="jobs_table", name="jobs", ttl_attribute="expires_at")
    dead_letters = Queue(key="dead_letters", name="jobs-dlq", retention_s=1_209_600)
    queue = Queue(key="jobs_queue", name="jobs", dead_letter=Ref(dead_letters, "arn"), max_receives=3)

    # --- identity
    pool = UserPool(key="user_pool")
    client = UserPoolClient(
        key="user_client",
        pool=Ref(pool),
        access_token_min=settings.auth.access_token_minutes,
        refresh_token_days=settings.auth.refresh_token_days,
    )
    operators = UserPoolGroup(key="operators", pool=Ref(pool), name="operators", description="May run the stack")
    operator = User(
        key="operator",
        pool=Ref(pool),
        username="operator",
        email=settings.auth.operator_email,
        groups=(Ref(operators),),
    )

    # --- router
    days = settings.api.log_days
    router_log = LogGroup(key="router_log", name=f"/aws/lambda/{names.prefix}router", retention_days=days)
    router_role = Role(
        key="router_role",
        description="The router: writes jobs and messages, wakes the node",
        trust=policies.trust("lambda.amazonaws.com"),
        inline={"router": policies.router(names, log_group=router_log.name)},
    )
    environment: dict[str, str | Ref] = {
        "AISTRATUS_ENV": names.env,
        "JOBS_TABLE": Ref(jobs, "name"),
        "QUEUE_URL": Ref(queue, "url"),
        "USER_POOL_ID": Ref(pool),
        "CLIENT_ID": Ref(client),
        "LEDGER_PREFIX": f"/tinyllama/{names.env}",
        "RATE_PER_MINUTE": str(settings.api.rate_per_minute),
        "HEALTH_PATH": settings.api.health_path,
    }
    router = Function(
        key="router",
        code=shipped.router,
        code_sha256=shipped.router_sha256,
        handler="aistratus.router.handler.handle",
        description="Takes prompts, answers for jobs",
        role=Ref(router_role, "arn"),
        log_group=Ref(router_log, "name"),
        memory_mb=ROUTER_MEMORY_MB,
        timeout_s=ROUTER_TIMEOUT_S,
        environment=environment,
    )
    live = Alias(
        key="router_live",
        function=Ref(router),
        name="live",
        code_sha256=router.code_sha256,
        handler=router.handler,
        role=router.role,
        runtime=router.runtime,
        architecture=router.architecture,
        log_group=router.log_group,
        memory_mb=router.memory_mb,
        timeout_s=router.timeout_s,
        environment=environment,
    )

    # --- API
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
    authorizer = JwtAuthorizer(key="authorizer", api=Ref(api), issuer=Ref(pool, "issuer"), audience=(Ref(client),))
    integration = LambdaIntegration(key="integration", api=Ref(api), function=Ref(live, "arn"))
    health = Route(
        key="route_health", api=Ref(api), route_key=f"GET {settings.api.health_path}", integration=Ref(integration)
    )
    contract = Route(key="route_contract", api=Ref(api), route_key="GET /openapi.json", integration=Ref(integration))

    def guarded(key: str, route_key: str) -> Route:
        """A route that asks for a token of our user pool."""
        return Route(
            key=key, api=Ref(api), route_key=route_key, integration=Ref(integration), authorizer=Ref(authorizer)
        )

    infer = guarded("route_infer", "POST /infer")
    read_job = guarded("route_job", "GET /jobs/{id}")
    cancel_job = guarded("route_cancel", "DELETE /jobs/{id}")
    routes = (health, contract, infer, read_job, cancel_job)
    api_log = LogGroup(key="api_log", name=f"/aws/vendedlogs/{names.prefix}api", retention_days=days)
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

    # --- node: the manifest tells it what to run, the instance finds it by its user data
    node_log = LogGroup(key="node_log", name=f"/tinyllama/{names.env}/node", retention_days=days)
    node_role = Role(
        key="node_role",
        description="The node: takes jobs, writes replies",
        trust=policies.trust("ec2.amazonaws.com"),
        inline={
            "node": policies.node(names, bucket=bucket_full_name, log_group=node_log.name),
            "managed-node": policies.managed_node(),
        },
    )
    profile = InstanceProfile(key="node_profile", role=Ref(node_role))
    bundle = Artifact(
        key="worker_bundle",
        bucket=Ref(bucket),
        path=f"node/worker-{shipped.worker_sha256}.zip",
        sha256=shipped.worker_sha256,
        content=shipped.worker,
        content_type="application/zip",
    )
    models: tuple[Artifact, ...] = ()
    if shipped.model_content is not None and shipped.model.key is not None:
        models = (
            Artifact(
                key="model",
                bucket=Ref(bucket),
                path=shipped.model.key,
                sha256=shipped.model.sha256,
                content=shipped.model_content,
                content_type="application/octet-stream",
            ),
        )
    node_manifest = JsonObject(
        key="node_manifest",
        bucket=Ref(bucket),
        path=MANIFEST_KEY,
        body=manifest(
            bundle_key=bundle.path,
            bundle_sha256=bundle.sha256,
            model=shipped.model,
            environment={
                "WORKER_QUEUE_URL": Ref(queue, "url"),
                "WORKER_DEAD_LETTER_URL": Ref(dead_letters, "url"),
                "WORKER_JOBS_TABLE": Ref(jobs, "name"),
                "WORKER_LOG_GROUP": Ref(node_log, "name"),
            },
        ),
        after=(Ref(bundle), *(Ref(model) for model in models)),
    )
    key_pair = KeyPair(key="node_key", public_key=shipped.public_key)
    instance = Instance(
        key="node",
        image=settings.node.image,
        type=settings.node.cpu_type,
        subnet=Ref(public),
        security_groups=(Ref(node_group),),
        key_pair=Ref(key_pair, "name"),
        profile=Ref(profile, "name"),
        user_data=user_data(bucket=bucket_full_name, region=names.region),
        volume_gib=settings.node.volume_gib,
        public_ip=True,
        # Its first boot reads the manifest, and needs a way out to do so.
        after=(Ref(node_manifest), Ref(public_routes), Ref(s3_endpoint)),
    )

    return Stack(
        (
            vpc, public, private_a, private_b, gateway, public_routes, private_routes, s3_endpoint, node_group,
            bucket, jobs, dead_letters, queue,
            pool, client, operators, operator,
            router_log, router_role, router, live,
            api, permission, authorizer, integration, *routes, api_log, stage, throttle,
            node_log, node_role, profile, bundle, *models, node_manifest, key_pair,
            *((instance,) if node else ()),
        )
    )  # fmt: skip

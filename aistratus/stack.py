"""The whole stack of one env, read top to bottom. Nothing else in the project lists resources.

What settings switch off is declared here too, and handed over as unwanted: `up` takes it away where it is there. Four
readings share this description: `plan` compares it, `up` makes it, `status` asks it for its health, `down` takes
it away in reverse. What must come before what is read off the `Ref`s. The way of a prompt runs from the bottom to the
top: the API calls the router, the router writes the jobs table and the queue, the node takes from both.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from aistratus import policies, watch, wire
from aistratus.cloud import PROJECT
from aistratus.core.graph import Stack
from aistratus.core.resource import Found, Ref, Resource
from aistratus.node.bootstrap import MANIFEST_KEY, Model, manifest, user_data
from aistratus.policies import Names
from aistratus.resources.alarms import Alarm
from aistratus.resources.budgets import Budget, notice
from aistratus.resources.codebuild import BuildProject
from aistratus.resources.cognito import User, UserPool, UserPoolClient, UserPoolGroup
from aistratus.resources.compute import Instance, KeyPair
from aistratus.resources.connections import Connection
from aistratus.resources.dashboards import Dashboard
from aistratus.resources.dynamodb import Table
from aistratus.resources.ecr import Repository
from aistratus.resources.events import EventRule
from aistratus.resources.functions import Alias, Function, InvokePermission, ServicePermission
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
from aistratus.resources.metric_filters import MetricFilter
from aistratus.resources.network import (
    ElasticIp,
    GatewayEndpoint,
    InternetGateway,
    NatGateway,
    RouteTable,
    SecurityGroup,
    Subnet,
    Vpc,
)
from aistratus.resources.oidc import OidcProvider
from aistratus.resources.scheduler import Schedule, ScheduleGroup
from aistratus.resources.secrets import Secret
from aistratus.resources.sns import Topic, TopicSubscription
from aistratus.resources.sqs import Queue
from aistratus.resources.storage import Artifact, Bucket, JsonObject, LifecycleRule, bucket_name
from aistratus.settings import Settings

VPC_CIDR = "10.20.0.0/22"
ANYWHERE = "0.0.0.0/0"

ROUTER_MEMORY_MB = 512
"""Lambda gives processor time by memory; below this the first request of an idle router is felt."""
ROUTER_TIMEOUT_S = 15

SUMMARY_AT = "cron(0 7 * * ? *)"
"""Seven in the morning, UTC."""
ALARM_PERIOD_S = 300
HEARTBEATS_WANTED = 30
"""In five minutes; a worker that is well writes sixty (`wire.HEARTBEAT_EVERY_S`)."""

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
    functions: Callable[[], bytes]
    """All functions besides the router, in one zip."""
    functions_sha256: str
    """Base64, as Lambda's CodeSha256."""
    worker: Callable[[], bytes]
    worker_sha256: str
    """Hex."""
    model: Model
    model_content: Callable[[], BinaryIO] | None
    """The model's file, if this machine has it."""
    public_key: Callable[[], str]


def cut_off(stack: Stack, found: Mapping[str, Found], *, when_done: bool = False) -> bool:
    """Has the node no way out? It was made behind a NAT gateway that the settings have switched off since.

    Args:
        when_done: what will be so when `up` has taken away what is switched off.
    """
    node, public = found.get("node"), found.get("subnet_public")
    if node is None or public is None or "nat_gateway" in stack.by_key or not isinstance(node.state, Instance):
        return False
    return public.id not in node.state.subnets and (when_done or "nat_gateway" not in found)


WILL_BE_CUT_OFF = "the node stands in a private subnet and will have no way out; with --replace `up` makes another one"
CUT_OFF = "the node stands in a private subnet without a way out; `aistratus up --replace` makes another one"


def describe(settings: Settings, names: Names, shipped: Shipped, *, node: bool = True) -> Stack:
    """Every resource of the env.

    Args:
        node: False leaves the EC2 instance out (`up --no-node`).
    """
    # --- network: the node stands in the public subnet behind a group without inbound rules; S3 is reached for free.
    # With NAT a new node stands in a private subnet. A node that is there stays where it was made, since it could only
    # be made anew: `plan` shows nothing for it, and `up --replace` makes it where a new one would stand.
    with_nat = settings.network.enable_nat_gw
    vpc = Vpc(key="vpc", cidr=VPC_CIDR)
    public = Subnet(key="subnet_public", vpc=Ref(vpc), cidr="10.20.0.0/24", zone_index=0, map_public_ip=True)
    private_a = Subnet(key="subnet_private_a", vpc=Ref(vpc), cidr="10.20.1.0/24", zone_index=0, map_public_ip=False)
    private_b = Subnet(key="subnet_private_b", vpc=Ref(vpc), cidr="10.20.2.0/24", zone_index=1, map_public_ip=False)
    gateway = InternetGateway(key="internet_gateway", vpc=Ref(vpc))
    public_routes = RouteTable(
        key="routes_public", vpc=Ref(vpc), subnets=(Ref(public),), routes={ANYWHERE: Ref(gateway)}
    )
    nat_address = ElasticIp(key="nat_address")
    # It fails for good if the gateway to the internet isn't attached yet, and keeps that one from being detached.
    nat_gateway = NatGateway(
        key="nat_gateway",
        subnet=Ref(public),
        address=Ref(nat_address),
        after=(Ref(gateway), Ref(public_routes)),
    )
    private_routes = RouteTable(
        key="routes_private",
        vpc=Ref(vpc),
        subnets=(Ref(private_a), Ref(private_b)),
        routes={ANYWHERE: Ref(nat_gateway)} if with_nat else {},
    )
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

    # --- secrets: places that `up` makes and never fills
    openai_key = Secret(
        key="openai_api_key",
        name="openai-api-key",
        description="A key of the OpenAI API; `aistratus secret set openai` sets it",
    )

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

    # --- who is told: the operator, of alarms, of money and once a day
    alerts = Topic(key="alerts", name="alerts", policy=policies.alerts_topic(names))
    people: tuple[TopicSubscription, ...] = ()
    if settings.auth.operator_email is not None:
        people = (
            TopicSubscription(
                key="alerts_operator",
                topic=Ref(alerts, "arn"),
                protocol="email",
                endpoint=settings.auth.operator_email,
            ),
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
        "DEAD_LETTER_URL": Ref(dead_letters, "url"),
        "USER_POOL_ID": Ref(pool),
        "CLIENT_ID": Ref(client),
        "LEDGER_PREFIX": f"/tinyllama/{names.env}",
        "OPENAI_SECRET": Ref(openai_key, "name"),
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
        provisioned=settings.router.provisioned_concurrency,
    )
    # Always there, so that switching it off is a change like any other; a disabled rule costs nothing.
    minutes = settings.router.warm_minutes or 60
    warmer = EventRule(
        key="warmer",
        description="Keeps an environment of the router warm",
        schedule=f"rate({minutes} minute{'s' if minutes > 1 else ''})",
        target=Ref(live, "arn"),
        input=json.dumps(wire.WARM),
        enabled=settings.router.warm_minutes > 0,
    )
    warmer_permission = ServicePermission(
        key="warmer_permission",
        function=Ref(live, "function"),
        qualifier="live",
        alias=Ref(live, "arn"),
        principal="events.amazonaws.com",
        source_arn=Ref(warmer, "arn"),
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
    queue_health = guarded("route_queue_health", "GET /queue-health")
    routes = (health, contract, infer, read_job, cancel_job, queue_health)
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
        subnets=(Ref(private_a), Ref(public)) if with_nat else (Ref(public), Ref(private_a)),
        security_groups=(Ref(node_group),),
        key_pair=Ref(key_pair, "name"),
        profile=Ref(profile, "name"),
        user_data=user_data(bucket=bucket_full_name, region=names.region),
        volume_gib=settings.node.volume_gib,
        public_ip=not with_nat,
        # Its first boot reads the manifest, and needs a way out to do so.
        after=(Ref(node_manifest), Ref(private_routes if with_nat else public_routes), Ref(s3_endpoint)),
    )

    # --- watch: four alarms tell the operator, one dashboard shows all of it. An alarm costs $0.10 a month for each
    #     metric (six here; ten are free in an account), a metric of our own $0.30 (two; ten free), dashboards nothing
    #     up to three.
    def alarm(key: str, **about: Any) -> Alarm:
        return Alarm(key=key, name=key.removeprefix("alarm_").replace("_", "-"), actions=(Ref(alerts, "arn"),), **about)

    of_api: dict[str, Any] = {
        "namespace": "AWS/ApiGateway",
        "dimensions": {"ApiId": Ref(api), "Stage": stage.name},
        "period_s": ALARM_PERIOD_S,
    }
    alarms = [
        alarm(
            "alarm_latency",
            description="One of twenty requests to the API takes too long, for a quarter of an hour",
            **of_api,
            metric="Latency",
            statistic="p95",
            threshold=settings.watch.latency_p95_ms,
            periods=3,
            datapoints=3,
            # The one cold start of a quiet day is no reason to write to anybody.
            low_samples="ignore",
        ),
        alarm(
            "alarm_errors",
            description="The API fails: five or more answers of 5xx in five minutes",
            **of_api,
            metric="5xx",
            statistic="Sum",
            comparison="GreaterThanOrEqualToThreshold",
            threshold=5,
            periods=1,
            datapoints=1,
        ),
        alarm(
            "alarm_dead_letters",
            description="Prompts were given up; `aistratus queue redrive` shows them",
            namespace="AWS/SQS",
            dimensions={"QueueName": Ref(dead_letters, "name")},
            period_s=ALARM_PERIOD_S,
            metric="ApproximateNumberOfMessagesVisible",
            statistic="Maximum",
            threshold=0,
            periods=1,
            datapoints=1,
            # SQS falls silent about a queue that nobody asks for six hours; the letters lie there all the same.
            missing="ignore",
        ),
    ]
    tokens = MetricFilter(
        key="tokens_filter",
        log_group=Ref(node_log, "name"),
        name="tokens",
        pattern='{ $.event = "job_done" }',
        namespace=watch.namespace(names.env),
        metric=watch.TOKENS,
        value="$.tokens_per_second",
        unit="Count/Second",
    )
    if node:
        alarms.append(
            alarm(
                "alarm_heartbeat",
                description="The node runs, and is paid for, but its worker gives no sign of life for 15 minutes",
                # Of what AWS counts for nothing: status checks exist only while an instance runs; the jobs table is put
                # to by the worker's heartbeat and once for each prompt that is sent to the queue, which is taken off.
                # Gaps are filled, because alarms on DynamoDB's metrics stay as they are while data are missing.
                expression="IF((FILL(running, 0) > 0) AND "
                f"((FILL(puts, 0) - FILL(prompts, 0)) < {HEARTBEATS_WANTED}), 1, 0)",
                metrics={
                    name: {
                        "namespace": namespace,
                        "metric": metric,
                        "dimensions": dimensions,
                        "statistic": statistic,
                        "period_s": ALARM_PERIOD_S,
                    }
                    for name, namespace, metric, dimensions, statistic in (
                        ("running", "AWS/EC2", "StatusCheckFailed", {"InstanceId": Ref(instance)}, "SampleCount"),
                        (
                            "puts",
                            "AWS/DynamoDB",
                            "SuccessfulRequestLatency",
                            {"TableName": Ref(jobs, "name"), "Operation": "PutItem"},
                            "SampleCount",
                        ),
                        ("prompts", "AWS/SQS", "NumberOfMessagesSent", {"QueueName": Ref(queue, "name")}, "Sum"),
                    )
                },
                threshold=0,
                # A first boot installs packages and fetches the model before its worker is there.
                periods=3,
                datapoints=3,
            )
        )
    overview = Dashboard(
        key="dashboard",
        name="overview",
        body=watch.dashboard(
            watch.Watched(
                env=names.env,
                region=names.region,
                api=Ref(api),
                stage=stage.name,
                queue=Ref(queue, "name"),
                dead_letters=Ref(dead_letters, "name"),
                node=Ref(instance) if node else None,
                alarms=tuple(Ref(one, "arn") for one in alarms),
            )
        ),
    )

    # --- guards: a machine that nobody needs doesn't run for long, and none runs when the budget's limit is reached
    guard_log = LogGroup(
        key="stop_build_box_log", name=f"/aws/lambda/{names.prefix}stop-build-box", retention_days=days
    )
    guard_role = Role(
        key="stop_build_box_role",
        description="The guard and the budget's killer: stop our instances",
        trust=policies.trust("lambda.amazonaws.com"),
        inline={"stop-build-box": policies.stop_build_box(names, log_group=guard_log.name)},
    )
    stop_build_box = Function(
        key="stop_build_box",
        code=shipped.functions,
        code_sha256=shipped.functions_sha256,
        handler="aistratus.functions.stop_build_box.handle",
        description="Stops machines that run unseen, and all of them when the budget's limit is reached",
        role=Ref(guard_role, "arn"),
        log_group=Ref(guard_log, "name"),
        timeout_s=120,
        environment={
            "AISTRATUS_ENV": names.env,
            "JOBS_TABLE": Ref(jobs, "name"),
            "KILL_TOPIC": names.topic("killer"),
            "GUARD_RULE": names.arn("events", f"rule/{names.prefix}force-stop-build-runner"),
        },
    )
    guard = EventRule(
        key="force_stop_build_runner",
        description="Stops builders and nodes that run without a sign of life",
        schedule="rate(30 minutes)",
        target=Ref(stop_build_box, "arn"),
    )
    guard_permission = ServicePermission(
        key="force_stop_permission",
        function=Ref(stop_build_box),
        principal="events.amazonaws.com",
        source_arn=Ref(guard, "arn"),
    )

    # --- money: a budget that warns, one that stops all machines, and a summary every day. AWS counts what carries
    # these tags once somebody has activated them for billing.
    counted = {"Project": PROJECT, "Env": names.env}
    told = (settings.auth.operator_email,) if settings.auth.operator_email else ()
    warned = (notice(50), notice(80), notice(100), notice(100, "forecasted"))
    budget = Budget(
        key="budget",
        name="monthly",
        limit_usd=settings.budget.limit_usd,
        counted=counted,
        notices=dict.fromkeys(warned, told) if told else {},
    )
    killer = Topic(key="killer", name="killer", policy=policies.killer_topic(names))
    kill_budget = Budget(
        key="kill_budget",
        name="killer",
        limit_usd=settings.budget.kill_usd,
        counted=counted,
        notices={notice(100): (Ref(killer, "arn"),)},
    )
    killer_function = TopicSubscription(
        key="killer_function", topic=Ref(killer, "arn"), protocol="lambda", endpoint=Ref(stop_build_box, "arn")
    )
    killer_permission = ServicePermission(
        key="killer_permission",
        function=Ref(stop_build_box),
        principal="sns.amazonaws.com",
        source_arn=Ref(killer, "arn"),
    )
    summary_log = LogGroup(
        key="daily_summary_log", name=f"/aws/lambda/{names.prefix}daily-summary", retention_days=days
    )
    summary_role = Role(
        key="daily_summary_role",
        description="The daily summary: reads the budget and what runs, tells people",
        trust=policies.trust("lambda.amazonaws.com"),
        inline={
            "daily-summary": policies.daily_summary(
                names, log_group=summary_log.name, budget=budget.name, item=wire.SUMMARY_PK
            )
        },
    )
    summary = Function(
        key="daily_summary",
        code=shipped.functions,
        code_sha256=shipped.functions_sha256,
        handler="aistratus.functions.daily_summary.handle",
        description="What the env has cost, and what runs",
        role=Ref(summary_role, "arn"),
        log_group=Ref(summary_log, "name"),
        timeout_s=60,
        environment={
            "AISTRATUS_ENV": names.env,
            "ACCOUNT": names.account,
            "BUDGET": Ref(budget, "name"),
            "JOBS_TABLE": Ref(jobs, "name"),
            "TOPIC": Ref(alerts, "arn"),
            "USD_PER_EUR": f"{settings.budget.usd_per_eur:g}",
            "RATE_DATE": settings.budget.rate_date.isoformat(),
        },
    )
    schedules = ScheduleGroup(key="schedules")
    summary_schedule_role = Role(
        key="daily_summary_schedule_role",
        description="The schedule of the daily summary: calls its function",
        trust=policies.trust("scheduler.amazonaws.com"),
        inline={"call": policies.call_function(names, function=summary.name)},
    )
    summary_schedule = Schedule(
        key="daily_summary_schedule",
        group=Ref(schedules, "name"),
        description="The daily summary",
        expression=SUMMARY_AT,
        target=Ref(summary, "arn"),
        role=Ref(summary_schedule_role, "arn"),
        flexible_min=15,
    )

    nat = (nat_address, nat_gateway)
    stack = Stack(
        {
            "network": (
                vpc, public, private_a, private_b, gateway, public_routes, *(nat if with_nat else ()), private_routes,
                s3_endpoint, node_group,
            ),
            "data": (
                bucket, jobs, dead_letters, queue, openai_key,
            ),
            "identity": (
                pool, client, operators, operator,
            ),
            "people": (
                alerts, *people,
            ),
            "router": (
                router_log, router_role, router, live, warmer, warmer_permission,
            ),
            "API": (
                api, permission, authorizer, integration, *routes, api_log, stage, throttle,
            ),
            "node": (
                node_log, node_role, profile, bundle, *models, node_manifest, key_pair,
                *((instance,) if node else ()),
            ),
            "guard": (
                guard_log, guard_role, stop_build_box, guard, guard_permission,
            ),
            "money": (
                budget, killer, kill_budget, killer_function, killer_permission,
                summary_log, summary_role, summary, schedules, summary_schedule_role, summary_schedule,
            ),
            "watch": (
                tokens, *alarms, overview,
            ),
        },
        unwanted={
            "network": () if with_nat else nat,
        },
    )  # fmt: skip
    # Last, because a workflow may read the ids of everything else.
    return stack.plus("delivery", *_delivery(settings, names, keys=(*stack.whole.by_key, instance.key)))


def _delivery(
    settings: Settings, names: Names, *, keys: Iterable[str]
) -> tuple[tuple[Resource, ...], tuple[Resource, ...]]:
    """From a push to GitHub to the router: its workflow starts a build, and the build publishes the new code.

    Args:
        keys: those of everything else, wanted or not.

    Returns:
        what is wanted of it, and what isn't.
    """
    repository, days = settings.delivery.repository or "nobody/nothing", settings.api.log_days
    deploy_log = LogGroup(key="deploy_log", name=f"/aws/codebuild/{names.prefix}deploy", retention_days=days)
    own_connection = Connection(key="github_connection", name="git", provider="GitHub")
    connection = settings.delivery.connection_arn or Ref(own_connection, "arn")
    deploy_role = Role(
        key="deploy_role",
        description="A build: publishes the router's new code",
        trust=policies.trust("codebuild.amazonaws.com"),
        inline={"deploy": policies.deploy(names, function="router", log_group=deploy_log.name, connection=connection)},
    )
    project = BuildProject(
        key="deploy_project",
        name="deploy",
        description="Publishes the router's code and moves the alias to it",
        repository=repository,
        branch=settings.delivery.branch,
        buildspec="scripts/buildspec.yml",
        connection=connection,
        role=Ref(deploy_role, "arn"),
        environment={"AISTRATUS_ENV": names.env},
        log_group=Ref(deploy_log, "name"),
    )
    images = Repository(key="builder_images", name="builder", keep=settings.delivery.keep_images)
    runner_log = LogGroup(key="build_runner_log", name=f"/tinyllama/{names.env}/build-runner", retention_days=days)
    runner_role = Role(
        key="build_runner_role",
        description="The machine that builds images: pulls and pushes them",
        trust=policies.trust("ec2.amazonaws.com"),
        inline={
            "build-runner": policies.build_runner(
                names, repository=f"{names.prefix}{images.name}", log_group=runner_log.name
            ),
            "managed-node": policies.managed_node(),
        },
    )
    runner_profile = InstanceProfile(key="build_runner_profile", role=Ref(runner_role))
    provider = OidcProvider(key="github_tokens", url=f"https://{policies.GITHUB_TOKENS}", audiences=(policies.STS,))

    everything: tuple[Resource, ...] = (
        deploy_log, own_connection, deploy_role, project, images, runner_log, runner_role, runner_profile, provider,
    )  # fmt: skip
    github_role = Role(
        key="github_role",
        description="Workflows of the repository: read ids, start a build",
        trust=policies.github_trust(names, repository=repository),
        inline={
            "github": policies.github(
                names,
                project=f"{names.prefix}{project.name}",
                keys=sorted({*keys, *(entry.key for entry in everything), "github_role"}),
            )
        },
        after=(Ref(provider),),
    )
    everything = (*everything, github_role)
    if settings.delivery.repository is None:
        return (), everything
    unwanted = (own_connection,) if settings.delivery.connection_arn else ()
    return tuple(entry for entry in everything if entry not in unwanted), unwanted

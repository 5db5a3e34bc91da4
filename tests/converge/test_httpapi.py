"""An HTTP API with all its parts: made, repaired, removed, and told apart from strangers'."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from converge_engine import ACCOUNT, REGION, Engine
from perturb_httpapi import PERTURB

from aistratus.cloud import Access, Clients, Cloud
from aistratus.core.errors import Stranger
from aistratus.core.graph import Stack
from aistratus.core.plan import survey
from aistratus.core.resource import Ref, Resource
from aistratus.resources.cognito import UserPool, UserPoolClient
from aistratus.resources.http_apis import owned_apis
from aistratus.resources.httpapi import Cors, HttpApi, JwtAuthorizer, LambdaIntegration, Route, Stage, Throttle
from aistratus.trace import Meter

FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:router:live"
LOG_GROUP = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/vendedlogs/api"
LIMIT = (5.0, 10)


def stack(*, health: str = "/health", limits: dict[str, tuple[float, int]] | None = None) -> list[Resource]:
    pool = UserPool(key="user_pool")
    client = UserPoolClient(key="user_client", pool=Ref(pool))
    cors = Cors(
        origins=("http://localhost:3000", "https://Example.com"),
        methods=("GET", "post"),
        headers=("Content-Type", "authorization"),
        max_age_s=600,
    )
    api = HttpApi(key="api", description="Prompts in, replies out", cors=cors)
    authorizer = JwtAuthorizer(
        key="authorizer", api=Ref(api), issuer=Ref(pool, "issuer"), audience=("another-client", Ref(client))
    )
    integration = LambdaIntegration(key="integration", api=Ref(api), function=FUNCTION)
    infer = Route(
        key="route_infer",
        api=Ref(api),
        route_key="POST /infer",
        integration=Ref(integration),
        authorizer=Ref(authorizer),
    )
    open_route = Route(key="route_health", api=Ref(api), route_key=f"GET {health}", integration=Ref(integration))
    stage = Stage(
        key="stage", api=Ref(api), access_log_group=f"{LOG_GROUP}:*", access_log_format='{"id":"$context.requestId"}'
    )
    throttle = Throttle(
        key="api_throttle",
        api=Ref(api),
        stage=Ref(stage),
        default_rate=50.0,
        default_burst=100,
        routes={"POST /infer": LIMIT} if limits is None else limits,
        after=(Ref(infer), Ref(open_route)),
    )
    return [throttle, stage, open_route, infer, integration, authorizer, api, client, pool]


KEYS = {
    HttpApi: "api",
    JwtAuthorizer: "authorizer",
    LambdaIntegration: "integration",
    Route: "route_infer",
    Stage: "stage",
    Throttle: "api_throttle",
}


def api_id(engine: Engine) -> str:
    return engine.plan(*stack()).survey.found["api"].ids["id"]


def remembering(aws: Cloud, endpoint: str, api: str) -> Cloud:
    """The same env, with this id of the API in its ledger."""
    access = Access(REGION, endpoint=endpoint, access_key="testing", secret_key="testing")
    clients = Clients(access, Meter())
    return Cloud(
        env=aws.env, identity=aws.identity, clients=clients, clock=aws.clock, recorded=lambda: {"api": {"id": api}}
    )


def test_up_makes_them_as_described_and_up_again_changes_nothing(aws: Cloud, engine: Engine) -> None:
    outcome = engine.up(*stack())
    ids = {change.key: change.found.ids for change in outcome.changes if change.found}
    api = aws.apigatewayv2.get_api(ApiId=ids["api"]["id"])
    assert (api["Name"], api["ProtocolType"]) == (f"tinyllama-{aws.env}-api", "HTTP")
    assert api["Tags"] == aws.tags("api")
    assert api["CorsConfiguration"]["AllowHeaders"] == ["authorization", "content-type"]
    assert ids["api"]["endpoint"] == api["ApiEndpoint"]
    routes = {route["RouteKey"]: route for route in aws.apigatewayv2.get_routes(ApiId=ids["api"]["id"])["Items"]}
    assert set(routes) == {"GET /health", "POST /infer"}
    assert routes["GET /health"]["AuthorizationType"] == "NONE"
    assert routes["POST /infer"]["AuthorizerId"] == ids["authorizer"]["id"]
    assert {route["Target"] for route in routes.values()} == {f"integrations/{ids['integration']['id']}"}
    authorizer = aws.apigatewayv2.get_authorizer(ApiId=ids["api"]["id"], AuthorizerId=ids["authorizer"]["id"])
    assert authorizer["JwtConfiguration"]["Issuer"] == ids["user_pool"]["issuer"]
    assert set(authorizer["JwtConfiguration"]["Audience"]) == {"another-client", ids["user_client"]["id"]}
    stage = aws.apigatewayv2.get_stage(ApiId=ids["api"]["id"], StageName="$default")
    assert stage["AutoDeploy"] is True
    assert stage["AccessLogSettings"]["DestinationArn"] == LOG_GROUP
    assert stage["Tags"] == aws.tags("stage")
    assert stage["DefaultRouteSettings"]["ThrottlingRateLimit"] == 50.0
    assert stage["RouteSettings"]["POST /infer"]["ThrottlingBurstLimit"] == 10
    again = engine.up(*stack())
    assert {change.action for change in again.changes} == {"unchanged"}


@pytest.mark.parametrize(("kind", "field"), PERTURB, ids=lambda value: getattr(value, "__name__", value))
def test_a_change_from_outside_is_shown_and_repaired(standing: Engine, kind: type, field: str) -> None:
    standing.assert_repairs(stack(), KEYS[kind], field, PERTURB[kind, field])


def test_an_open_route_that_somebody_shut_is_opened_again(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    PERTURB[Route, "authorizer"](aws, engine.plan(*stack()).survey.found["route_health"])
    assert engine.differences(*stack()) == {"route_health": {"authorizer"}}
    engine.up(*stack())
    assert engine.plan(*stack()).empty


def test_a_limit_that_somebody_added_is_taken_away(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    limit = {"ThrottlingRateLimit": 1.0, "ThrottlingBurstLimit": 1}
    where = {"ApiId": api_id(engine), "StageName": "$default"}
    aws.apigatewayv2.update_stage(RouteSettings={"GET /health": limit}, **where)
    assert engine.differences(*stack()) == {"api_throttle": {"routes"}}
    engine.up(*stack())
    assert set(aws.apigatewayv2.get_stage(**where)["RouteSettings"]) == {"POST /infer"}


def test_limits_leave_detailed_metrics_as_they_are(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    where = {"ApiId": api_id(engine), "StageName": "$default"}
    limit = {"ThrottlingRateLimit": 1.0, "ThrottlingBurstLimit": 1, "DetailedMetricsEnabled": True}
    aws.apigatewayv2.update_stage(DefaultRouteSettings=limit, RouteSettings={"POST /infer": limit}, **where)
    engine.up(*stack())
    stage = aws.apigatewayv2.get_stage(**where)
    assert stage["DefaultRouteSettings"]["ThrottlingRateLimit"] == 50.0
    assert stage["DefaultRouteSettings"]["DetailedMetricsEnabled"] is True
    assert stage["RouteSettings"]["POST /infer"]["DetailedMetricsEnabled"] is True


def test_limits_that_an_import_reset_are_shown_and_come_back(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    where = {"ApiId": api_id(engine), "StageName": "$default"}
    aws.apigatewayv2.delete_stage(**where)
    aws.apigatewayv2.create_stage(AutoDeploy=True, **where)
    actions = {change.key: change.action for change in engine.plan(*stack()).changes}
    assert actions["api_throttle"] == "create"
    engine.up(*stack())
    assert engine.plan(*stack()).empty


def test_a_route_whose_path_changes_moves_and_leaves_nothing_open_behind(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    moved = stack(health="/alive")
    assert engine.differences(*moved) == {"route_health": {"route_key"}}
    engine.up(*moved)
    routes = aws.apigatewayv2.get_routes(ApiId=api_id(engine))["Items"]
    assert {route["RouteKey"] for route in routes} == {"GET /alive", "POST /infer"}


def test_down_removes_them_and_up_makes_them_again(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    assert engine.down(*stack()).ok
    assert owned_apis(aws.fresh()) == []
    assert engine.down(*stack()).ok
    engine.up(*stack())
    assert engine.plan(*stack()).empty


@pytest.mark.parametrize("key", ["api_throttle", "stage", "route_infer", "route_health"])
def test_each_alone_can_be_removed_and_comes_back(aws: Cloud, engine: Engine, key: str) -> None:
    engine.up(*stack())
    engine.remove(next(resource for resource in stack() if resource.key == key))
    assert not engine.plan(*stack()).empty
    engine.up(*stack())
    assert engine.plan(*stack()).empty


def test_what_routes_no_longer_need_can_be_removed(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    for key in ("route_infer", "route_health", "integration", "authorizer"):
        engine.remove(next(resource for resource in stack() if resource.key == key))
    created = {change.key for change in engine.plan(*stack()).changes if change.action == "create"}
    assert created == {"route_infer", "route_health", "integration", "authorizer"}
    engine.up(*stack())
    assert engine.plan(*stack()).empty


def test_an_api_that_is_gone_comes_back_with_all_its_parts(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    aws.apigatewayv2.delete_api(ApiId=api_id(engine))
    engine.up(*stack())
    assert engine.plan(*stack()).empty


def test_an_api_with_our_name_without_our_tags_is_refused_and_left_alone(aws: Cloud, engine: Engine) -> None:
    stranger = aws.apigatewayv2.create_api(Name=aws.name("api"), ProtocolType="HTTP")["ApiId"]
    assert [type(change.error) for change in engine.try_up(*stack()).failures] == [Stranger]
    engine.down(*stack())
    assert aws.apigatewayv2.get_api(ApiId=stranger)["Name"] == aws.name("api")


def test_beside_a_strangers_api_of_the_same_name_ours_is_still_found(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    stranger = aws.apigatewayv2.create_api(Name=aws.name("api"), ProtocolType="HTTP")["ApiId"]
    assert engine.plan(*stack()).empty
    assert engine.down(*stack()).ok
    assert aws.apigatewayv2.get_api(ApiId=stranger)["Name"] == aws.name("api")


def test_of_two_apis_with_our_tags_the_recorded_one_is_used_and_down_removes_both(
    aws: Cloud, engine: Engine, endpoint: str
) -> None:
    engine.up(*stack())
    ours = api_id(engine)
    twin = aws.apigatewayv2.create_api(Name=aws.name("api"), ProtocolType="HTTP", Tags=aws.tags("api"))["ApiId"]
    for recorded in (ours, twin):
        assert survey(Stack(stack()), remembering(aws, endpoint, recorded)).found["api"].ids["id"] == recorded
    assert {found.ids["id"] for found in owned_apis(aws.fresh())} == {ours, twin}
    assert engine.down(*stack()).ok
    assert owned_apis(aws.fresh()) == []


def test_another_envs_api_is_not_ours(aws: Cloud, engine: Engine, another_env: Callable[[str], Cloud]) -> None:
    engine.up(*stack())
    assert owned_apis(another_env(f"{aws.env}x")) == []


def test_a_run_with_nothing_to_do_makes_five_calls_for_a_whole_api(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack())
    others = [resource for resource in stack() if resource.key in ("user_pool", "user_client")]
    base = engine.calls(lambda: engine.plan(*others))
    assert engine.calls(lambda: engine.plan(*stack())) - base <= 5

"""What somebody may do to an HTTP API from outside: one change for each field that `up` repairs."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from aistratus.cloud import Cloud
from aistratus.core.resource import Found
from aistratus.resources.httpapi import HttpApi, JwtAuthorizer, LambdaIntegration, Route, Stage, Throttle

Perturbation = Callable[[Cloud, Found], None]


def _api(**settings: Any) -> Perturbation:
    def change(aws: Cloud, found: Found) -> None:
        aws.apigatewayv2.update_api(ApiId=found.ids["id"], **settings)

    return change


def _tags(aws: Cloud, found: Found) -> None:
    aws.apigatewayv2.tag_resource(ResourceArn=found.ids["arn"], Tags={"ManagedBy": "somebody"})


def _authorizer(**settings: Any) -> Perturbation:
    def change(aws: Cloud, found: Found) -> None:
        aws.apigatewayv2.update_authorizer(ApiId=found.ids["api"], AuthorizerId=found.ids["id"], **settings)

    return change


def _jwt(*, issuer: str = "", audience: tuple[str, ...] = ()) -> Perturbation:
    def change(aws: Cloud, found: Found) -> None:
        state = found.state
        assert isinstance(state, JwtAuthorizer)
        jwt = {"Issuer": issuer or state.issuer, "Audience": list(audience or state.audience)}
        _authorizer(JwtConfiguration=jwt)(aws, found)

    return change


def _integration(**settings: Any) -> Perturbation:
    def change(aws: Cloud, found: Found) -> None:
        aws.apigatewayv2.update_integration(ApiId=found.ids["api"], IntegrationId=found.ids["id"], **settings)

    return change


def _other_function(aws: Cloud, found: Found) -> None:
    _integration(IntegrationUri=aws.arn("lambda", "function:somebody"))(aws, found)


def _route(**settings: Any) -> Perturbation:
    def change(aws: Cloud, found: Found) -> None:
        aws.apigatewayv2.update_route(ApiId=found.ids["api"], RouteId=found.ids["id"], **settings)

    return change


def _led_elsewhere(aws: Cloud, found: Found) -> None:
    integration = aws.apigatewayv2.create_integration(
        ApiId=found.ids["api"],
        IntegrationType="AWS_PROXY",
        IntegrationUri=aws.arn("lambda", "function:somebody"),
        PayloadFormatVersion="2.0",
    )
    _route(Target=f"integrations/{integration['IntegrationId']}")(aws, found)


def _opened_or_shut(aws: Cloud, found: Found) -> None:
    """A guarded route is opened to everybody; an open one asks for tokens of a stranger."""
    assert isinstance(found.state, Route)
    if found.state.authorizer != "NONE":
        _route(AuthorizationType="NONE")(aws, found)
        return
    authorizer = aws.apigatewayv2.create_authorizer(
        ApiId=found.ids["api"],
        Name=f"somebody-{secrets.token_hex(4)}",
        AuthorizerType="JWT",
        IdentitySource=["$request.header.Authorization"],
        JwtConfiguration={"Issuer": "https://accounts.google.com", "Audience": ["somebody"]},
    )
    _route(AuthorizationType="JWT", AuthorizerId=authorizer["AuthorizerId"])(aws, found)


def _stage(**settings: Any) -> Perturbation:
    def change(aws: Cloud, found: Found) -> None:
        aws.apigatewayv2.update_stage(ApiId=found.ids["api"], StageName=found.ids["id"], **settings)

    return change


def _log(*, group: str = "", line: str = "") -> Perturbation:
    def change(aws: Cloud, found: Found) -> None:
        state = found.state
        assert isinstance(state, Stage)
        destination = aws.arn("logs", f"log-group:{group}") if group else state.access_log_group
        _stage(AccessLogSettings={"DestinationArn": destination, "Format": line or state.access_log_format})(aws, found)

    return change


def _default_limit(*, rate: float | None = None, burst: int | None = None) -> Perturbation:
    def change(aws: Cloud, found: Found) -> None:
        state = found.state
        assert isinstance(state, Throttle)
        limit = {
            "ThrottlingRateLimit": state.default_rate if rate is None else rate,
            "ThrottlingBurstLimit": state.default_burst if burst is None else burst,
        }
        aws.apigatewayv2.update_stage(ApiId=found.ids["api"], StageName=found.ids["stage"], DefaultRouteSettings=limit)

    return change


def _route_limits(aws: Cloud, found: Found) -> None:
    """One limit is lifted, or the first route gets one where there are none."""
    state = found.state
    assert isinstance(state, Throttle)
    where = {"ApiId": found.ids["api"], "StageName": found.ids["stage"]}
    if state.routes:
        aws.apigatewayv2.delete_route_settings(RouteKey=min(state.routes), **where)
        return
    route = aws.apigatewayv2.get_routes(ApiId=found.ids["api"])["Items"][0]["RouteKey"]
    limit = {"ThrottlingRateLimit": 7.0, "ThrottlingBurstLimit": 7}
    aws.apigatewayv2.update_stage(RouteSettings={route: limit}, **where)


PERTURB: dict[tuple[type, str], Perturbation] = {
    (HttpApi, "name"): _api(Name="somebodys"),
    (HttpApi, "description"): _api(Description="Somebody's"),
    (HttpApi, "cors"): _api(CorsConfiguration={"AllowOrigins": ["*"], "AllowMethods": ["*"]}),
    (HttpApi, "disable_execute_api_endpoint"): _api(DisableExecuteApiEndpoint=True),
    (HttpApi, "tags"): _tags,
    (JwtAuthorizer, "issuer"): _jwt(issuer="https://accounts.google.com"),
    (JwtAuthorizer, "audience"): _jwt(audience=("somebody",)),
    (JwtAuthorizer, "identity_source"): _authorizer(IdentitySource=["$request.querystring.token"]),
    (LambdaIntegration, "function"): _other_function,
    (LambdaIntegration, "payload_format"): _integration(PayloadFormatVersion="1.0"),
    (LambdaIntegration, "timeout_ms"): _integration(TimeoutInMillis=777),
    (Route, "route_key"): _route(RouteKey="PUT /somewhere/else"),
    (Route, "integration"): _led_elsewhere,
    (Route, "authorizer"): _opened_or_shut,
    (Route, "scopes"): _route(AuthorizationScopes=["somebody/scope"]),
    (Stage, "auto_deploy"): _stage(AutoDeploy=False),
    (Stage, "access_log_group"): _log(group="/somebody"),
    (Stage, "access_log_format"): _log(line="$context.requestId"),
    (Stage, "tags"): _tags,
    (Throttle, "default_rate"): _default_limit(rate=7777.0),
    (Throttle, "default_burst"): _default_limit(burst=7777),
    (Throttle, "routes"): _route_limits,
}

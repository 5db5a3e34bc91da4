"""HTTP APIs in the embedded cloud: an address that can be called, whole stages, and references that exist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from embedded_cloud_parts import Connect, refused, unique

from aistratus.local.process import Running


@dataclass(frozen=True)
class Api:
    """An API with an integration, an authorizer, a route and a stage."""

    client: Any
    id: str
    integration: str
    authorizer: str
    route: str

    @property
    def stage(self) -> Any:
        return self.client.get_stage(ApiId=self.id, StageName="$default")


@pytest.fixture
def api(connect: Connect) -> Api:
    client = connect("apigatewayv2")
    api_id = client.create_api(Name=unique(), ProtocolType="HTTP", Tags={"Project": "tinyllama"})["ApiId"]
    integration = client.create_integration(
        ApiId=api_id,
        IntegrationType="AWS_PROXY",
        PayloadFormatVersion="2.0",
        IntegrationUri="arn:aws:lambda:eu-central-1:123456789012:function:x",
    )["IntegrationId"]
    authorizer = client.create_authorizer(
        ApiId=api_id,
        Name="jwt",
        AuthorizerType="JWT",
        IdentitySource=["$request.header.Authorization"],
        JwtConfiguration={"Audience": ["c"], "Issuer": "https://cognito-idp.eu-central-1.amazonaws.com/p"},
    )["AuthorizerId"]
    route = client.create_route(
        ApiId=api_id,
        RouteKey="GET /a",
        Target=f"integrations/{integration}",
        AuthorizationType="JWT",
        AuthorizerId=authorizer,
    )["RouteId"]
    client.create_stage(
        ApiId=api_id,
        StageName="$default",
        AutoDeploy=True,
        Tags={"one": "1"},
        RouteSettings={"GET /a": {"ThrottlingRateLimit": 5.0}},
    )
    return Api(client, api_id, integration, authorizer, route)


def test_the_endpoint_is_where_the_api_can_be_called(api: Api, embedded_cloud: Running) -> None:
    expected = f"{embedded_cloud.gateway}/{api.id}"
    listed = {one["ApiId"]: one["ApiEndpoint"] for one in api.client.get_apis()["Items"]}
    assert [api.client.get_api(ApiId=api.id)["ApiEndpoint"], listed[api.id]] == [expected, expected]


def test_a_stage_is_updated_field_by_field(api: Api) -> None:
    api.client.update_stage(
        ApiId=api.id,
        StageName="$default",
        DefaultRouteSettings={"ThrottlingBurstLimit": 9},
        RouteSettings={"GET /a": {"ThrottlingBurstLimit": 2}, "GET /b": {"ThrottlingBurstLimit": 3}},
        AccessLogSettings={"DestinationArn": "arn:aws:logs:eu-central-1:123456789012:log-group:g", "Format": "{}"},
    )
    stage = api.stage
    assert stage["DefaultRouteSettings"]["ThrottlingBurstLimit"] == 9
    assert stage["RouteSettings"] == {
        "GET /a": {"ThrottlingRateLimit": 5.0, "ThrottlingBurstLimit": 2},
        "GET /b": {"ThrottlingBurstLimit": 3},
    }
    assert (stage["AutoDeploy"], stage["AccessLogSettings"]["Format"]) == (True, "{}")


def test_settings_of_a_route_can_be_taken_away(api: Api) -> None:
    api.client.delete_route_settings(ApiId=api.id, StageName="$default", RouteKey="GET /a")
    assert api.stage["RouteSettings"] == {}
    assert (
        refused(api.client.delete_route_settings, ApiId=api.id, StageName="$default", RouteKey="GET /a")
        == "NotFoundException"
    )


def test_access_log_settings_can_be_taken_away(api: Api) -> None:
    settings = {"DestinationArn": "a", "Format": "f"}
    api.client.update_stage(ApiId=api.id, StageName="$default", AccessLogSettings=settings)
    api.client.delete_access_log_settings(ApiId=api.id, StageName="$default")
    assert "AccessLogSettings" not in api.stage


def test_a_stage_has_tags_of_its_own(api: Api) -> None:
    arn = f"arn:aws:apigateway:eu-central-1::/apis/{api.id}/stages/$default"
    api.client.tag_resource(ResourceArn=arn, Tags={"two": "2"})
    api.client.untag_resource(ResourceArn=arn, TagKeys=["one"])
    assert api.client.get_tags(ResourceArn=arn)["Tags"] == {"two": "2"}
    assert api.stage["Tags"] == {"two": "2"}
    assert api.client.get_api(ApiId=api.id)["Tags"] == {"Project": "tinyllama"}


def test_authorizers_are_listed(api: Api) -> None:
    assert [one["AuthorizerId"] for one in api.client.get_authorizers(ApiId=api.id)["Items"]] == [api.authorizer]


def test_a_deployment_can_be_made_and_found(api: Api) -> None:
    made = api.client.create_deployment(ApiId=api.id, StageName="$default")
    assert made["DeploymentStatus"] == "DEPLOYED"
    assert api.stage["DeploymentId"] == made["DeploymentId"]
    assert [one["DeploymentId"] for one in api.client.get_deployments(ApiId=api.id)["Items"]] == [made["DeploymentId"]]


def test_names_and_references_are_checked(api: Api) -> None:
    client, own = api.client, {"ApiId": api.id}
    assert refused(client.create_route, **own, RouteKey="GET /a") == "ConflictException"
    assert refused(client.create_route, **own, RouteKey="GET /b", Target="integrations/none") == "BadRequestException"
    assert (
        refused(client.create_route, **own, RouteKey="GET /b", AuthorizationType="JWT", AuthorizerId="none")
        == "BadRequestException"
    )
    assert refused(client.create_route, **own, RouteKey="GET /b", AuthorizationType="JWT") == "BadRequestException"
    assert refused(client.create_stage, **own, StageName="$default") == "ConflictException"
    assert refused(client.delete_integration, **own, IntegrationId=api.integration) == "ConflictException"
    assert refused(client.delete_authorizer, **own, AuthorizerId=api.authorizer) == "ConflictException"
    assert refused(client.delete_route, **own, RouteId="none") == "NotFoundException"
    assert refused(client.delete_stage, **own, StageName="none") == "NotFoundException"
    assert refused(client.delete_api, ApiId="none") == "NotFoundException"


def test_an_opened_route_loses_its_authorizer(api: Api) -> None:
    changed = api.client.update_route(ApiId=api.id, RouteId=api.route, AuthorizationType="NONE")
    assert changed["AuthorizationType"] == "NONE"
    assert "AuthorizerId" not in changed

"""API Gateway v2: operations on stages and authorizers that moto lacks, and references that it doesn't check.

The gateway (`local/gateway/`) executes what is configured here, so the `ApiEndpoint` that `GetApi` returns is the
gateway's address.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

from moto.apigatewayv2 import urls
from moto.apigatewayv2.exceptions import APIGatewayV2Error, BadRequestException, StageNotFound
from moto.apigatewayv2.models import Api, ApiGatewayV2Backend, Authorizer, Route, Stage
from moto.apigatewayv2.responses import ApiGatewayV2Response
from moto.core.utils import utcnow
from moto.moto_api._internal import mock_random

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import add, add_path, wrap

Reply = tuple[int, dict[str, Any], str]


class Conflict(APIGatewayV2Error):
    """409, as AWS answers for a second resource of one name."""

    code = 409

    def __init__(self, message: str) -> None:
        super().__init__("ConflictException", message)


class Missing(APIGatewayV2Error):
    """404 for a part of an API."""

    code = 404

    def __init__(self, kind: str, identifier: str) -> None:
        super().__init__("NotFoundException", f"Invalid {kind} identifier specified {identifier}")


def patch(cloud: Cloud) -> None:
    _addresses(cloud)
    _stages()
    _stage_tags()
    _deployments()
    _authorizers()
    _routes()
    _deletes()


def _reply(status: int, body: dict[str, Any]) -> Reply:
    return status, {"status": status}, json.dumps(body) if status != 204 else ""


def _addresses(cloud: Cloud) -> None:
    """`ApiEndpoint` is where the API can really be called."""

    @wrap(Api, "__init__")
    def create(original: Any, api: Api, *args: Any, **kwargs: Any) -> None:
        original(api, *args, **kwargs)
        api.api_endpoint = f"{cloud.gateway}/{api.api_id}"
        if api.protocol_type == "HTTP" and api.disable_schema_validation is None:
            api.disable_schema_validation = False


def _stages() -> None:
    """UpdateStage and DeleteRouteSettings are missing; a second CreateStage overwrote the first."""

    @wrap(ApiGatewayV2Backend, "create_stage")
    def create_stage(original: Any, backend: ApiGatewayV2Backend, api_id: str, config: dict[str, Any]) -> Stage:
        if config.get("stageName") in backend.get_api(api_id).stages:
            raise Conflict("Stage already exists")
        stage: Stage = original(backend, api_id, config)
        return stage

    @add(ApiGatewayV2Response)
    def update_stage(self: ApiGatewayV2Response) -> Reply:
        stage = _stage_of(self, -1)
        change_stage(stage, json.loads(self.body))
        return _reply(200, stage.to_json())

    add_path(
        urls.url_paths,
        "{0}/v2/apis/(?P<api_id>[^/]+)/stages/(?P<stage_name>[^/]+)/routesettings/(?P<key>.+)$",
        ApiGatewayV2Response.dispatch,
    )
    add_path(
        urls.url_paths,
        "{0}/v2/apis/(?P<api_id>[^/]+)/stages/(?P<stage_name>[^/]+)/accesslogsettings$",
        ApiGatewayV2Response.dispatch,
    )

    @add(ApiGatewayV2Response)
    def delete_route_settings(self: ApiGatewayV2Response) -> Reply:
        _, _, rest = self.path.partition("/stages/")
        stage_name, _, key = rest.partition("/routesettings/")
        stage = _api_of(self).get_stage(unquote(stage_name))
        if stage.route_settings.pop(unquote(key), None) is None:
            raise Missing("RouteSettings", unquote(key))
        return _reply(204, {})

    @add(ApiGatewayV2Response)
    def delete_access_log_settings(self: ApiGatewayV2Response) -> Reply:
        _stage_of(self, -2).access_log_settings = None
        return _reply(204, {})


def change_stage(stage: Stage, wanted: dict[str, Any]) -> None:
    """UpdateStage merges the settings of routes by key and of a route by field, and replaces everything else."""
    if "defaultRouteSettings" in wanted:
        stage.default_route_settings = {**stage.default_route_settings, **wanted["defaultRouteSettings"]}
    for key, settings in wanted.get("routeSettings", {}).items():
        stage.route_settings[key] = {**stage.route_settings.get(key, {}), **settings}
    for field, attribute in (
        ("accessLogSettings", "access_log_settings"),
        ("autoDeploy", "auto_deploy"),
        ("clientCertificateId", "client_certificate_id"),
        ("description", "description"),
        ("stageVariables", "stage_variables"),
    ):
        if field in wanted:
            setattr(stage, attribute, wanted[field])
    if "deploymentId" in wanted:
        stage.config["deploymentId"] = wanted["deploymentId"]
    stage.updated = utcnow()


def _api_of(response: ApiGatewayV2Response) -> Api:
    api_id = response.path.partition("/apis/")[2].split("/")[0]
    api: Api = response.apigatewayv2_backend.get_api(api_id)
    return api


def _stage_of(response: ApiGatewayV2Response, position: int) -> Stage:
    return _api_of(response).get_stage(unquote(response.path.split("/")[position]))


def _stage_tags() -> None:
    """A stage's tags are its own; moto knows tags of APIs only."""
    add_path(
        urls.url_paths,
        "{0}/v2/tags/(?P<resource_arn_pt1>[^/]+)/apis/(?P<resource_arn_pt2>[^/]+)/stages/(?P<stage_name>[^/]+)$",
        ApiGatewayV2Response.dispatch,
    )

    def stage_at(backend: ApiGatewayV2Backend, arn: str) -> Stage | None:
        _, found, rest = arn.partition("::/apis/")
        api_id, staged, name = rest.partition("/stages/")
        if not found:
            return None
        api = backend.get_api(api_id)  # 404 for tags of an API that isn't there
        return api.get_stage(name) if staged else None

    @wrap(ApiGatewayV2Backend, "get_tags")
    def get_tags(original: Any, backend: ApiGatewayV2Backend, resource_id: str) -> dict[str, str]:
        stage = stage_at(backend, resource_id) if resource_id.count("/stages/") else None
        tags: dict[str, str] = stage.tags if stage is not None else original(backend, resource_id)
        return tags

    @wrap(ApiGatewayV2Backend, "tag_resource")
    def tag_resource(original: Any, backend: ApiGatewayV2Backend, resource_arn: str, tags: dict[str, str]) -> None:
        stage = stage_at(backend, resource_arn) if resource_arn.count("/stages/") else None
        if stage is not None:
            stage.tags = {**stage.tags, **tags}
        else:
            original(backend, resource_arn, tags)

    @wrap(ApiGatewayV2Backend, "untag_resource")
    def untag_resource(original: Any, backend: ApiGatewayV2Backend, resource_arn: str, tag_keys: list[str]) -> None:
        stage = stage_at(backend, resource_arn) if resource_arn.count("/stages/") else None
        if stage is not None:
            stage.tags = {key: value for key, value in stage.tags.items() if key not in tag_keys}
        else:
            original(backend, resource_arn, tag_keys)


def _deployments() -> None:
    """Deployments are kept as records only: the gateway executes what is configured now, as auto-deploy does."""
    for path in (
        "{0}/v2/apis/(?P<api_id>[^/]+)/deployments$",
        "{0}/v2/apis/(?P<api_id>[^/]+)/deployments/(?P<deployment_id>[^/]+)$",
    ):
        add_path(urls.url_paths, path, ApiGatewayV2Response.dispatch)

    def all_of(api: Api) -> dict[str, dict[str, Any]]:
        held: dict[str, dict[str, Any]] = api.__dict__.setdefault("deployments", {})
        return held

    def one_of(response: ApiGatewayV2Response) -> dict[str, Any]:
        identifier = response.path.split("/")[-1]
        try:
            return all_of(_api_of(response))[identifier]
        except KeyError:
            raise Missing("Deployment", identifier) from None

    @add(ApiGatewayV2Response)
    def create_deployment(self: ApiGatewayV2Response) -> Reply:
        api, wanted = _api_of(self), json.loads(self.body or "{}")
        deployment = {
            "deploymentId": mock_random.get_random_string(length=6, lower_case=True),
            "deploymentStatus": "DEPLOYED",
            "autoDeployed": False,
            "createdDate": utcnow().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "description": wanted.get("description"),
        }
        if wanted.get("stageName"):
            api.get_stage(wanted["stageName"]).config["deploymentId"] = deployment["deploymentId"]
        all_of(api)[str(deployment["deploymentId"])] = deployment
        return _reply(201, deployment)

    @add(ApiGatewayV2Response)
    def get_deployments(self: ApiGatewayV2Response) -> Reply:
        return _reply(200, {"items": list(all_of(_api_of(self)).values())})

    @add(ApiGatewayV2Response)
    def get_deployment(self: ApiGatewayV2Response) -> Reply:
        return _reply(200, one_of(self))

    @add(ApiGatewayV2Response)
    def delete_deployment(self: ApiGatewayV2Response) -> Reply:
        del all_of(_api_of(self))[one_of(self)["deploymentId"]]
        return _reply(204, {})

    @wrap(Stage, "to_json")
    def to_json(original: Any, stage: Stage) -> dict[str, Any]:
        data: dict[str, Any] = original(stage)
        if stage.config.get("deploymentId"):
            data["deploymentId"] = stage.config["deploymentId"]
        return data


def _authorizers() -> None:
    """GetAuthorizers is missing; one that a route uses could be deleted."""

    @add(ApiGatewayV2Response)
    def get_authorizers(self: ApiGatewayV2Response) -> Reply:
        return _reply(200, {"items": [one.to_json() for one in _api_of(self).authorizers.values()]})

    @wrap(ApiGatewayV2Backend, "create_authorizer")
    def create_authorizer(original: Any, backend: ApiGatewayV2Backend, api_id: str, **wanted: Any) -> Authorizer:
        if any(one.name == wanted.get("name") for one in backend.get_api(api_id).authorizers.values()):
            raise BadRequestException(
                f"Authorizer name must be unique. Authorizer {wanted.get('name')} already exists in this RestApi."
            )
        if wanted.get("authorizer_type") == "JWT" and not (wanted.get("jwt_config") or {}).get("issuer"):
            raise BadRequestException("Issuer is required for JWT authorizers")
        authorizer: Authorizer = original(backend, api_id, **wanted)
        return authorizer

    @wrap(ApiGatewayV2Backend, "delete_authorizer")
    def delete_authorizer(original: Any, backend: ApiGatewayV2Backend, api_id: str, authorizer_id: str) -> None:
        api = backend.get_api(api_id)
        api.get_authorizer(authorizer_id)
        users = [route.route_key for route in api.routes.values() if route.authorizer_id == authorizer_id]
        if users:
            raise Conflict(f"Cannot delete Authorizer {authorizer_id}: it is used by {', '.join(sorted(users))}")
        original(backend, api_id, authorizer_id)


def _routes() -> None:
    """A route must be the only one with its key, and what it points to must exist."""

    def check(api: Api, wanted: dict[str, Any], own_id: str | None) -> None:
        key, target = wanted.get("route_key"), wanted.get("target")
        if key and any(route.route_key == key for route in api.routes.values() if route.route_id != own_id):
            raise Conflict(f"Route with key {key} already exists for this API")
        if target and target.removeprefix("integrations/") not in api.integrations:
            raise BadRequestException(f"Invalid target {target} specified")
        authorizer_id = wanted.get("authorizer_id")
        if authorizer_id and authorizer_id not in api.authorizers:
            raise BadRequestException(f"Invalid authorizer ID specified {authorizer_id}")

    @wrap(ApiGatewayV2Backend, "create_route")
    def create_route(original: Any, backend: ApiGatewayV2Backend, api_id: str, **wanted: Any) -> Route:
        check(backend.get_api(api_id), wanted, None)
        needs = wanted.get("authorization_type") in ("JWT", "CUSTOM")
        if needs and not wanted.get("authorizer_id"):
            raise BadRequestException(f"An authorizer is required for {wanted['authorization_type']} authorization")
        route: Route = original(backend, api_id, **wanted)
        return route

    @wrap(ApiGatewayV2Backend, "update_route")
    def update_route(original: Any, backend: ApiGatewayV2Backend, api_id: str, **wanted: Any) -> Route:
        api = backend.get_api(api_id)
        check(api, wanted, wanted["route_id"])
        route: Route = original(backend, api_id, **wanted)
        if wanted.get("authorization_scopes") == []:
            route.authorization_scopes = []  # moto takes no scopes for nothing said
        if route.authorization_type == "NONE":
            route.authorizer_id = None  # AWS drops the authorizer of a route that is opened
            route.authorization_scopes = []
        return route


def _deletes() -> None:
    """Deleting what isn't there is NotFoundException; an integration in use is a conflict."""

    @wrap(ApiGatewayV2Backend, "delete_api")
    def delete_api(original: Any, backend: ApiGatewayV2Backend, api_id: str) -> None:
        backend.get_api(api_id)
        original(backend, api_id)

    @wrap(ApiGatewayV2Backend, "delete_route")
    def delete_route(original: Any, backend: ApiGatewayV2Backend, api_id: str, route_id: str) -> None:
        backend.get_api(api_id).get_route(route_id)
        original(backend, api_id, route_id)

    @wrap(ApiGatewayV2Backend, "delete_stage")
    def delete_stage(original: Any, backend: ApiGatewayV2Backend, api_id: str, stage_name: str) -> None:
        if stage_name not in backend.get_api(api_id).stages:
            raise StageNotFound
        original(backend, api_id, stage_name)

    @wrap(ApiGatewayV2Backend, "delete_integration")
    def delete_integration(original: Any, backend: ApiGatewayV2Backend, api_id: str, integration_id: str) -> None:
        api = backend.get_api(api_id)
        api.get_integration(integration_id)
        users = [route.route_key for route in api.routes.values() if route.target == f"integrations/{integration_id}"]
        if users:
            raise Conflict(
                f"Cannot delete Integration '{integration_id}' due to the fact that it is used by "
                f"routes: {', '.join(sorted(users))}"
            )
        original(backend, api_id, integration_id)

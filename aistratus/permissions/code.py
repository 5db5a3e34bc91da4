"""Checks of Lambda and API Gateway. The latter's actions are HTTP methods, its resources are paths.

Source: their pages of the Service Authorization Reference.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from aistratus.permissions import resource_types as t
from aistratus.permissions.check import Check, Params, Table, listing, pass_role, same, tagging

_OF_ALIASES = (
    "GetProvisionedConcurrencyConfig", "PutProvisionedConcurrencyConfig", "DeleteProvisionedConcurrencyConfig",
)  # fmt: skip


def _qualified(params: Params) -> list[str]:
    return [f"{params['FunctionName']}:{params['Qualifier']}"]


CODE: Table = {
    **listing("lambda", "ListFunctions"),
    **same(
        "lambda",
        t.FUNCTION,
        "FunctionName",
        "GetFunctionConfiguration UpdateFunctionCode DeleteFunction PublishVersion ListVersionsByFunction ListAliases "
        "GetAlias CreateAlias UpdateAlias DeleteAlias GetPolicy AddPermission RemovePermission PutFunctionConcurrency",
    ),
    **same("lambda", t.FUNCTION, "Resource", "ListTags TagResource"),
    # Its answer leaves the tags out for those who may not list them. Source: Lambda API reference, GetFunction.
    "lambda:GetFunction": (
        Check("lambda:GetFunction", t.FUNCTION, "FunctionName"),
        Check("lambda:ListTags", t.FUNCTION, "FunctionName"),
    ),
    "lambda:CreateFunction": (
        Check("lambda:CreateFunction", t.FUNCTION, "FunctionName"),
        tagging("lambda:TagResource", t.FUNCTION, "FunctionName", "Tags"),
        pass_role("Role", "lambda.amazonaws.com"),
    ),
    "lambda:UpdateFunctionConfiguration": (
        Check("lambda:UpdateFunctionConfiguration", t.FUNCTION, "FunctionName"),
        pass_role("Role", "lambda.amazonaws.com", "Role"),
    ),
    **{f"lambda:{name}": (Check(f"lambda:{name}", t.FUNCTION, _qualified),) for name in _OF_ALIASES},
    "lambda:Invoke": (Check("lambda:InvokeFunction", t.FUNCTION, "FunctionName"),),
}

_DELIVERY = tuple(
    Check(f"logs:{action}", t.EVERYTHING, "'*'", "AccessLogSettings")
    for action in (
        "CreateLogDelivery", "GetLogDelivery", "UpdateLogDelivery", "DeleteLogDelivery", "ListLogDeliveries",
        "PutResourcePolicy", "DescribeResourcePolicies", "DescribeLogGroups",
    )
)  # fmt: skip
"""Creating a stage with an access log requires the permission for its whole log delivery.

Source: API Gateway developer guide, "Configure logging for HTTP APIs".
"""


def _path(template: str) -> Callable[[Params], list[str]]:
    def filled(params: Params) -> list[str]:
        path = template
        for name, value in params.items():
            path = path.replace("{" + name + "}", str(value))
        return [path]

    return filled


def _api(operation: str, method: str, path: str, *also: Check) -> Table:
    """A check of API Gateway: the action is an HTTP method, the resource a path."""
    return {f"apigatewayv2:{operation}": (Check(f"apigateway:{method}", t.API, _path(path)), *also)}


def _api_tags(path: str) -> tuple[Check, ...]:
    """Tags in a create call.

    AWS asks for POST on `/tags/` and for an action that its own reference doesn't list. Sources: CloudFormation
    coverage roadmap issue 997; aws-amplify/amplify-cli issue 12316.
    """
    return (
        Check("apigateway:POST", t.API_TAGS, "'*'", "Tags"),
        Check("apigateway:TagResource", t.API, _path(path), "Tags"),
    )


def _api_family(plural: str, single: str) -> Table:
    """List, create, update and delete what belongs to an API."""
    one = f"/apis/{{ApiId}}/{plural}/{{{single}Id}}"
    return {
        **_api(f"Get{single}s", "GET", f"/apis/{{ApiId}}/{plural}"),
        **_api(f"Create{single}", "POST", f"/apis/{{ApiId}}/{plural}"),
        **_api(f"Update{single}", "PATCH", one),
        **_api(f"Delete{single}", "DELETE", one),
    }


API: Table = {
    **_api("GetApis", "GET", "/apis"),
    **_api("CreateApi", "POST", "/apis", *_api_tags("/apis")),
    **_api("UpdateApi", "PATCH", "/apis/{ApiId}"),
    **_api("DeleteApi", "DELETE", "/apis/{ApiId}"),
    **_api_family("authorizers", "Authorizer"),
    **_api_family("integrations", "Integration"),
    **_api_family("routes", "Route"),
    **_api("GetStages", "GET", "/apis/{ApiId}/stages"),
    **_api("CreateStage", "POST", "/apis/{ApiId}/stages", *_api_tags("/apis/{ApiId}/stages"), *_DELIVERY),
    **_api("UpdateStage", "PATCH", "/apis/{ApiId}/stages/{StageName}", *_DELIVERY),
    **_api("DeleteStage", "DELETE", "/apis/{ApiId}/stages/{StageName}"),
    **_api("DeleteRouteSettings", "DELETE", "/apis/{ApiId}/stages/{StageName}/routesettings/{RouteKey}"),
    "apigatewayv2:TagResource": (
        Check("apigateway:POST", t.API_TAGS, lambda params: [quote(params["ResourceArn"], safe="")]),
        Check("apigateway:TagResource", t.API, "ResourceArn"),
    ),
}

"""IAM: the policy simulator, by which an operator's rights are checked, and the audiences of identity providers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

from moto.core.responses import ActionResult, EmptyResult
from moto.iam.exceptions import NotFoundException
from moto.iam.responses import IamResponse

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import add
from aistratus.local.shim.policy_evaluation import Request, decide

EVERYTHING: Final = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


def patch(cloud: Cloud) -> None:
    @add(IamResponse)
    def simulate_principal_policy(self: Any) -> ActionResult:
        source = self._get_param("PolicySourceArn")
        # Any pair of keys is let in as this user, who isn't in IAM; nothing is ever refused to it.
        policies = [EVERYTHING] if source.endswith(":user/moto") else list(policies_of(self.backend, source))
        return _simulate(self, policies + _given(self, "PolicyInputList"))

    @add(IamResponse)
    def simulate_custom_policy(self: Any) -> ActionResult:
        return _simulate(self, _given(self, "PolicyInputList"))

    @add(IamResponse, "add_client_id_to_open_id_connect_provider")
    def add_audience(self: Any) -> EmptyResult:
        provider = self.backend.get_open_id_connect_provider(self._get_param("OpenIDConnectProviderArn"))
        audience = self._get_param("ClientID")
        if audience not in provider.client_id_list:
            provider.client_id_list = [*provider.client_id_list, audience]
        return EmptyResult()

    @add(IamResponse, "remove_client_id_from_open_id_connect_provider")
    def remove_audience(self: Any) -> EmptyResult:
        provider = self.backend.get_open_id_connect_provider(self._get_param("OpenIDConnectProviderArn"))
        audience = self._get_param("ClientID")
        provider.client_id_list = [one for one in provider.client_id_list if one != audience]
        return EmptyResult()


def _given(self: Any, name: str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in self._get_param(name) or []]


def policies_of(backend: Any, arn: str) -> Iterator[dict[str, Any]]:
    """The identity policies of a user or role, inline and attached, and those of a user's groups."""
    kind, _, name = arn.split(":", 5)[5].partition("/")
    name = name.rsplit("/", 1)[-1]
    if kind == "user":
        holders = [backend.get_user(name), *backend.get_groups_for_user(name)]
    elif kind in ("role", "assumed-role"):
        holders = [backend.get_role(arn.split("/")[1] if kind == "assumed-role" else name)]
    else:
        raise NotFoundException(f"The principal {arn} can't be simulated.")
    for holder in holders:
        for document in holder.policies.values():
            yield json.loads(document) if document.lstrip().startswith("{") else json.loads(unquote(document))
        for policy in holder.managed_policies.values():
            in_force = (one for one in policy.versions if one.version_id == policy.default_version_id)
            yield from (json.loads(one.document) for one in in_force)


def _simulate(self: Any, policies: list[dict[str, Any]]) -> ActionResult:
    context: dict[str, list[str]] = {}
    for entry in self._get_param("ContextEntries") or []:
        context[entry["ContextKeyName"].lower()] = list(entry.get("ContextKeyValues") or [])
    results = []
    for action in self._get_param("ActionNames") or []:
        for resource in self._get_param("ResourceArns") or ["*"]:
            decision = decide(policies, Request(action=action, resource=resource, context=context))
            results.append(
                {
                    "EvalActionName": action,
                    "EvalResourceName": resource,
                    "EvalDecision": decision,
                    "MatchedStatements": [],
                    "MissingContextValues": [],
                }
            )
    return ActionResult({"EvaluationResults": results, "IsTruncated": False})

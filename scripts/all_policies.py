"""Prints every IAM document as JSON by name: the roles' and the operator's, with everything switched on."""

from __future__ import annotations

import json

from aistratus.cli.session import shipped
from aistratus.permissions import COMMANDS, operator
from aistratus.policies import Names
from aistratus.resources.iam import Role
from aistratus.settings_load import load
from aistratus.stack import describe

NAMES = Names("aws", "123456789012", "eu-central-1", "prod")
CONNECTION = NAMES.arn("codeconnections", "connection/00000000-1111-2222-3333-444444444444")
EVERYTHING_ON = {
    "network": {"enable_nat_gw": True},
    "router": {"provisioned_concurrency": 1, "warm_minutes": 5},
    "delivery": {"repository": "ann/llm", "connection_arn": CONNECTION},
}


def main() -> None:
    settings = load(flags={"env": NAMES.env}, environ={})
    tables = {name: values for name, values in EVERYTHING_ON.items() if name in type(settings).model_fields}
    settings = load(flags={"env": NAMES.env, **tables}, environ={})
    stack = describe(settings, NAMES, shipped(settings))
    documents = {f"operator-{command}": operator(NAMES, stack, command=command) for command in COMMANDS}
    documents["operator"] = operator(NAMES, stack)
    for role in (resource for resource in stack.resources if isinstance(resource, Role)):
        documents |= {f"{role.key}-{name}": dict(document) for name, document in role.inline.items()}
    print(json.dumps(documents))


if __name__ == "__main__":
    main()

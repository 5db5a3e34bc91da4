"""Lints every IAM document with parliament and cloudsplaining: `scripts/lint_policies` installs them and runs this.

Accepted findings are listed below, each with its reason; any other finding is an error. Standard input: documents by
name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from cloudsplaining.scan.policy_document import PolicyDocument
from parliament import analyze_policy_string

ARGUED = {
    # parliament
    "UNKNOWN_ACTION apigateway:TagResource": "AWS asks for it, unlisted (aws-amplify/amplify-cli issue 12316)",
    "RESOURCE_STAR codeconnections:ListConnections": "asked for all connections at once, so that no ARN would match",
    "RESOURCE_MISMATCH ec2:RunInstances": "one call touches many types; each stands with its own condition",
    "RESOURCE_MISMATCH ec2:Create": "what is made and what it is made in stand in two statements: other tags count",
    "RESOURCE_MISMATCH ssm:GetParameter": "AWS's own parameters lie in no account, and so have no number in their ARN",
    "RESOURCE_MISMATCH ssm:SendCommand": "the instance stands with its tags, the document without, in two statements",
    # cloudsplaining
    "infrastructure ssm:UpdateInstanceInformation": "the SSM agent's; AWS gives it no resource level",
    "credentials ecr:GetAuthorizationToken": "a token for all repositories; what it opens the next statement says",
}


def findings(document: dict[str, Any]) -> Iterator[str]:
    """What both linters say about one document."""
    for found in analyze_policy_string(json.dumps(document)).findings:
        detail = found.detail
        entries = detail if isinstance(detail, list) else [detail]
        for entry in entries:
            text = entry["action"] if isinstance(entry, dict) else str(entry).removeprefix("Unknown action ")
            yield f"{found.issue} {text}"
    policy = PolicyDocument(document)
    kinds = {
        "escalation": [one["type"] for one in policy.allows_privilege_escalation],
        "exfiltration": policy.allows_data_exfiltration_actions,
        "permissions": policy.permissions_management_without_constraints,
        "infrastructure": policy.infrastructure_modification,
        "credentials": policy.credentials_exposure,
    }
    for kind, actions in kinds.items():
        yield from (f"{kind} {action}" for action in actions)


def main() -> int:
    found = [
        (name, finding)
        for name, document in json.load(sys.stdin).items()
        for finding in sorted(set(findings(document)))
    ]
    argued = tuple(ARGUED)
    told = [f"{name}: {finding}" for name, finding in found if not finding.startswith(argued)]
    told += [f"argued, but not found: {one}" for one in argued if not any(what.startswith(one) for _, what in found)]
    print("\n".join(told) or "nothing but what is argued in scripts/lint_policies.py")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main())

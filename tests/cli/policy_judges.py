"""Two evaluators of IAM policies: our own, which is always there, and another project's, where it is installed.

`.ci/run` installs the second one from npm; elsewhere `npm install --prefix .cache/iam-simulate
@cloud-copilot/iam-simulate@0.1.173` does.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from aistratus.local.shim.policy_evaluation import ALLOWED, Request, decide
from aistratus.permissions import Need
from aistratus.policies import Document

ROOT = Path(__file__).parents[2]
SIMULATOR = ROOT / ".cache" / "iam-simulate"
SCRIPT = ROOT / "scripts" / "simulate_policies.mjs"


def unknown_to_the_simulator(need: Need) -> bool:
    """What its data doesn't know or can't tell apart; our own evaluator judges these.

    Paths of HTTP APIs, parameters and documents of AWS's own (which have no account in their ARNs), and whether
    `function:name:live` is a version or an alias.
    """
    of_aws = ":parameter/aws/service/" in need.resource or "::document/AWS-" in need.resource
    return of_aws or "ProvisionedConcurrencyConfig" in need.action or need.action.startswith("apigateway:")


@dataclass(frozen=True)
class Case:
    """One decision: these documents, this need, in this context."""

    documents: tuple[int, ...]
    need: Need
    context: tuple[tuple[str, str], ...]


def context_of(need: Need, own_tags: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """What IAM knows when it decides: the request's tags, those of the resource, and what the call itself says."""
    pairs = {f"aws:RequestTag/{name}": value for name, value in need.tags.items()}
    if need.tagged:
        pairs |= {f"aws:ResourceTag/{name}": value for name, value in own_tags.items()}
    return tuple(sorted({**pairs, **need.context}.items()))


def by_ourselves(documents: Sequence[Document], cases: Iterable[Case]) -> list[bool]:
    """What our own evaluator says."""
    return [
        decide(
            [documents[index] for index in case.documents],
            Request(
                action=case.need.action,
                resource=case.need.resource,
                context={key.lower(): [value] for key, value in case.context},
            ),
        )
        == ALLOWED
        for case in cases
    ]


def simulator_is_there() -> bool:
    return shutil.which("node") is not None and (SIMULATOR / "node_modules/@cloud-copilot/iam-simulate").is_dir()


def by_the_simulator(documents: Sequence[Document], cases: Iterable[Case]) -> list[bool]:
    """What the other project's evaluator says; all cases in one process."""
    requests = [
        {
            "policies": list(case.documents),
            "action": case.need.action,
            "resource": case.need.resource,
            "context": dict(case.context),
        }
        for case in cases
    ]
    asked = json.dumps({"policies": list(documents), "requests": requests})
    done = subprocess.run(
        ["node", str(SCRIPT), str(SIMULATOR)], input=asked, capture_output=True, text=True, check=True, timeout=120
    )
    answers: list[str] = json.loads(done.stdout)
    wrong = {f"{case['action']} on {case['resource']}: {answer}" for case, answer in zip(requests, answers, strict=True)
             if answer.startswith("error")}  # fmt: skip
    assert not wrong, sorted(wrong)
    return [answer == "Allowed" for answer in answers]

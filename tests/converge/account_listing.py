"""The resources of an account, read with plain boto3 calls: an independent judge of `up` and `down`.

Nothing here imports the product. `Account.things()` lists every service that the stack uses (`account_services.py`),
including resources of others. `of_env` selects those of an env: by name, by tags, or because their parent belongs to
it. `shape` describes an env without ids, times and the env's name, so that two envs, or two histories of one, compare
with `==`; it counts, so a second VPC or queue makes it another shape.
"""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from account_services import LISTINGS, Listing, Thing
from botocore.config import Config
from botocore.exceptions import ClientError

REGION = "eu-central-1"

TRIES = 20
"""More often than that no listing loses a race against other envs' `down`."""

VANISHED = re.compile("NotFound|NoSuch|NonExistent|DoesNotExist")
"""In the error codes of looking at what is no longer there."""

Shape = Counter[tuple[str, str, str]]


@functools.cache
def _session() -> boto3.Session:
    return boto3.Session(aws_access_key_id="judge", aws_secret_access_key="judge", region_name=REGION)


class Account:
    """An account behind an endpoint."""

    def __init__(self, endpoint: str) -> None:
        config = Config(proxies={}, retries={"mode": "standard", "total_max_attempts": 5})
        services = (
            "ec2", "iam", "s3", "dynamodb", "sqs", "cognito-idp", "lambda", "apigatewayv2", "logs", "ssm", "sns",
            "budgets", "cloudwatch", "codebuild", "codeconnections", "ecr", "events", "scheduler", "secretsmanager",
        )  # fmt: skip
        self.clients: dict[str, Any] = {
            service: _session().client(service, endpoint_url=endpoint, config=config) for service in services
        }

    def things(self) -> list[Thing]:
        """Everything there is."""
        with ThreadPoolExecutor(max_workers=4) as pool:
            listed = pool.map(self._listed, LISTINGS)
            return [thing for things in listed for thing in things]

    def _listed(self, listing: Listing) -> list[Thing]:
        """A whole listing; made anew if something of it vanished on the way: other envs come and go meanwhile."""
        for _ in range(TRIES - 1):
            try:
                return list(listing(self.clients))
            except ClientError as error:
                if not VANISHED.search(error.response["Error"]["Code"]):
                    raise
        return list(listing(self.clients))

    def of_env(self, env: str) -> list[Thing]:
        """Everything of one env."""
        return of_env(self.things(), env)

    def identities(self) -> set[tuple[str, str]]:
        """Kind and id of everything there is."""
        return {thing.identity for thing in self.things()}


def of_env(things: Iterable[Thing], env: str) -> list[Thing]:
    """What belongs to an env, and what hangs on it."""
    waiting = list(things)
    chosen: dict[tuple[str, str], Thing] = {}
    while True:
        more = [thing for thing in waiting if _belongs(thing, env) or thing.parent in chosen]
        if not more:
            return list(chosen.values())
        chosen.update({thing.identity: thing for thing in more})
        waiting = [thing for thing in waiting if thing.identity not in chosen]


def _belongs(thing: Thing, env: str) -> bool:
    if "Env" in thing.tags:
        return thing.tags.get("Project") == "tinyllama" and thing.tags["Env"] == env
    starts = (f"tinyllama-{env}-", f"/aws/lambda/tinyllama-{env}-", f"/aws/vendedlogs/tinyllama-{env}-",
              f"/tinyllama/{env}/", f"tinyllama/{env}/")  # fmt: skip
    return thing.name.startswith(starts)


def shape(things: Iterable[Thing], env: str) -> Shape:
    """How many of each kind and name there are, and what each is like."""
    return Counter((thing.kind, _without_env(thing.name, env), _without_env(thing.facts, env)) for thing in things)


def _without_env(text: str, env: str) -> str:
    return text.replace(f"tinyllama-{env}-", "tinyllama-*-").replace(f"tinyllama/{env}/", "tinyllama/*/")


def missing_ids(things: Iterable[Thing], env: str) -> list[str]:
    """Ledger records of an env that name something that isn't there."""
    things = list(things)
    ids = {thing.id for thing in things} | {thing.name for thing in things}
    wrong = []
    for thing in things:
        if thing.kind == "parameter" and thing.name.startswith(f"/tinyllama/{env}/"):
            recorded = json.loads(thing.tags.get("value", "{}")).get("id", "")
            # Some ids are composed of a parent's and a name; then the parent must be there.
            if recorded.partition(":")[0].partition("/")[0] not in ids and recorded not in ids:
                wrong.append(f"{thing.name}: {recorded}")
    return wrong


def difference(found: Shape, wanted: Shape) -> str:
    """The two shapes' difference, for people."""
    lines = [f"too much: {count} × {entry}" for entry, count in (found - wanted).items()]
    return "\n".join(lines + [f"missing: {count} × {entry}" for entry, count in (wanted - found).items()])

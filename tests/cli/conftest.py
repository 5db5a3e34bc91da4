"""People at the command line, and one stack that many tests look at.

The stack is built once for each test process; everything that uses it carries `xdist_group("cli")`, so that this is
once altogether where groups are kept together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli_parts import Person, Said, client, eventually, node_state

from aistratus.local import process

BUSY = {"AISTRATUS_API__RATE_PER_MINUTE": "1000", "AISTRATUS_NODE__IDLE_MINUTES": "720"}
"""The tests ask more than a person does in a minute, and then nothing for a quarter of an hour."""
SLOW = "slow"


@dataclass(frozen=True)
class Built:
    """A person whose local env is up."""

    person: Person
    endpoint: str
    first_up: Said

    @property
    def resources(self) -> int:
        """How many the first `up` said it would create."""
        told = re.search(r"^\+ (\d+) to create: ", self.first_up.out, re.M)
        assert told, self.first_up.out
        return int(told[1])


@dataclass(frozen=True)
class Asleep:
    """An env whose node was stopped, and the chat that woke it; its model writes 25 characters a second."""

    person: Person
    endpoint: str
    status: Said
    woken: Said


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    """Somebody who has never used it, and who leaves nothing running."""
    yield Person(tmp_path)
    process.stop(tmp_path / ".local/state/aistratus/local")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    person = Person(tmp_path_factory.mktemp("home"), BUSY)
    first = person.run("up", "--wait")
    assert first.code == 0, first.words
    yield Built(person, person.run("local", "start", "-q").out.strip(), first)
    last = person.run("down")
    assert "0 resources left, €0.00 a month" in last.out, last.words
    assert "this stack cost" in last.out, last.words
    left = [path for place in (".local/share/aistratus/keys/local.*", ".local/state/aistratus/local/functions/*")
            for path in person.home.glob(place)]  # fmt: skip
    assert left == [], "neither the node's key nor the code of functions outlives them"
    assert "it wasn't running" in person.run("local", "stop").out


@pytest.fixture(scope="session")
def asleep(built: Built) -> Asleep:
    """Another env in the same account, reached as any env is: by AWS_ENDPOINT_URL.

    Its manifest is changed from outside so that the worker repeats the question slowly: a reply that lasts as long as
    a test needs. That takes effect when the node starts the next time, so the node is stopped, and woken by a chat.
    """
    person = built.person.with_variables(
        AWS_ENDPOINT_URL=built.endpoint, AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AISTRATUS_ENV=SLOW
    )
    up = person.run("up", "--wait", "-o", "json")
    assert up.code == 0, up.words
    ids = {entry["key"]: entry["id"] for entry in up.document["resources"]}
    s3, place = client(built.endpoint, "s3"), {"Bucket": ids["data"], "Key": "node/manifest.json"}
    manifest = json.loads(s3.get_object(**place)["Body"].read())
    manifest["environment"] |= {"WORKER_ENGINE": "echo", "WORKER_ECHO_DELAY_MS": "40"}
    s3.put_object(**place, Body=json.dumps(manifest))
    client(built.endpoint, "ec2").stop_instances(InstanceIds=[ids["node"]])
    assert eventually(lambda: node_state(built.endpoint, SLOW), lambda state: state == "stopped") == "stopped"
    status = person.run("status", "-o", "json")
    return Asleep(person, built.endpoint, status, person.run("chat", "awake?"))

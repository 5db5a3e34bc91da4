"""The whole stack on the strict cloud while AWS is at its slowest: what was just made isn't known yet.

Every rule about time is in force, one after the other and all at once, for three calls on each new thing. `up` must
build the same stack as ever, a second `up` must find nothing to do, repairs must settle, and `down` must leave nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import secrets
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from aistratus.cloud import Access, Clients, Cloud, Identity
from aistratus.core.errors import error_code
from aistratus.core.execute import Outcome, Run, owned
from aistratus.core.graph import Stack
from aistratus.core.ledger import Ledger
from aistratus.core.plan import plan, survey
from aistratus.local import process
from aistratus.local.process import Running
from aistratus.local.strict import RULES
from aistratus.node.bootstrap import Model
from aistratus.package import functions_zip, router_zip, worker_zip
from aistratus.policies import Names
from aistratus.resources.parameters import SsmStore
from aistratus.settings import DeliverySettings, NetworkSettings, Settings
from aistratus.stack import Shipped, describe
from aistratus.trace import Meter

ACCOUNT = "123456789012"
REGION = "eu-central-1"
CALLS = 3
EVERYTHING = Settings(network=NetworkSettings(enable_nat_gw=True), delivery=DeliverySettings(repository="owner/name"))
EVERY = 6

NEVER_MET = {
    "gpu-quota": "the node starts with a CPU type",
    "provisioned-in-progress": "no provisioned concurrency is asked for",
    "provisioning-fails": "no provisioned concurrency is asked for",
}
REFUSED = {"no-capacity": "it is told, not waited for"}
DELAYS = sorted(rule.name for rule in RULES if rule.asked and rule.name not in {*NEVER_MET, *REFUSED})

CONCERNED = {
    "api-throttled": ["api_throttle"],
    "bucket-name-busy": ["data"],
    "build-role-not-assumable": ["deploy_project"],
    "changed-at-once": ["user_domain", "node_profile"],
    "ec2-throttled": ["s3_endpoint", "node_key"],
    "function-in-progress": ["router_live"],
    "iam-throttled": ["node_profile"],
    "interface-lingers": ["node"],
    "nat-lingers": ["nat_gateway"],
    "nat-pending": ["nat_gateway"],
    "not-found-yet": ["node"],
    "parameter-throttled": ["router_live"],
    "policy-changed-at-once": ["force_stop_permission"],
    "profile-not-propagated": ["node"],
    "queue-lingers": ["jobs_queue"],
    "queue-settling": ["jobs_queue"],
    "role-not-assumable": ["router"],
    "schedule-group-lingers": ["schedules"],
    "scheduler-role-not-assumable": ["daily_summary_schedule"],
    "secret-lingers": ["openai_api_key"],
    "tags-not-indexed-yet": ["node"],
    "targets-refused": ["force_stop_permission"],
    "topic-tags-linger": ["alerts"],
}
"""Where each delay is felt: keys that are built, with all that they stand on."""

NAMES_AGAIN = ("bucket-name-busy", "topic-tags-linger")
"""Felt by what is built a second time."""

COOLED_DOWN_S = 61
"""A deleted queue's name is refused for a minute of the cloud's own clock."""

PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5Jb8Yl7tQ3zvVnCwXyq0m9kqk0b8aQ3p0eZ6b7mJ2v"


class FastClock:
    """A clock that runs ahead of the machine's: caps of minutes keep their meaning and pass in seconds."""

    SPEED = 20.0

    def __init__(self) -> None:
        self.stop = threading.Event()

    def now(self) -> float:
        return time.monotonic() * self.SPEED

    def wait(self, seconds: float) -> None:
        self.stop.wait(seconds / self.SPEED)


@dataclass(frozen=True)
class Product:
    """`up` and `down` of the declared stack in an env of its own, as the commands do them."""

    cloud: Running
    aws: Cloud
    clock: FastClock
    stack: Stack
    ledger: Ledger

    def try_up(self) -> Outcome:
        aws = self.aws.fresh()
        return self._run(aws).up(plan(self.stack, aws, survey(self.stack, aws)))

    def up(self) -> Outcome:
        outcome = self.try_up()
        assert [(change.key, repr(change.error)) for change in outcome.changes if change.error] == []
        return outcome

    def down(self) -> Outcome:
        outcome = self._run(self.aws.fresh()).down(survey(self.stack, self.aws.fresh()))
        assert [(change.key, repr(change.error)) for change in outcome.changes if change.error] == []
        return outcome

    def changed(self) -> list[str]:
        """Keys of what `up` changes."""
        return [change.key for change in self.up().changes if change.action != "unchanged"]

    def only(self, *keys: str) -> Product:
        """A part of the stack, with all that it stands on, all of it to be as it is declared."""
        return replace(self, stack=self.stack.only(self.stack.only(keys).whole.by_key))

    def order(self, **order: Any) -> None:
        """Tells the judge."""
        request = urllib.request.Request(self._judge, json.dumps(order).encode(), method="POST")
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 200

    def met(self, rule: str) -> int:
        """How often the rule was met."""
        with urllib.request.urlopen(self._judge, timeout=20) as answer:
            return {entry["name"]: int(entry["met"]) for entry in json.load(answer)["rules"]}[rule]

    @property
    def _judge(self) -> str:
        return f"{self.cloud.endpoint}/_aistratus/strict"

    def ask(self, *rules: str) -> None:
        how = {rule.name: rule.asked for rule in RULES}
        for rule in rules:
            self.order(rule=rule, **{how[rule]: CALLS if how[rule] == "calls" else EVERY})

    def _run(self, aws: Cloud) -> Run:
        return Run(self.stack, aws, self.ledger, self.clock, self.clock.stop)


@pytest.fixture(scope="module")
def strict_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    state_dir = tmp_path_factory.mktemp("strict")
    yield process.ensure(state_dir=state_dir, strict=True)
    process.stop(state_dir)


@pytest.fixture
def product(strict_cloud: Running) -> Iterator[Product]:
    env, clock = f"t{secrets.token_hex(3)}", FastClock()
    access = Access(REGION, endpoint=strict_cloud.endpoint, access_key="testing", secret_key="testing")
    identity = Identity(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/test", REGION)
    ledger: Ledger

    def recorded() -> dict[str, dict[str, str]]:
        return ledger.read(stack.whole.by_key)

    aws = Cloud(env=env, identity=identity, clients=Clients(access, Meter()), clock=clock, recorded=recorded)
    ledger = Ledger(SsmStore(aws), f"/tinyllama/{env}")
    stack = describe(EVERYTHING, Names("aws", ACCOUNT, REGION, env), shipped())
    product = Product(strict_cloud, aws, clock, stack, ledger)
    yield product
    product.order(reset=True)


def shipped() -> Shipped:
    """The real router and worker, and a model that nobody loads."""
    router, functions, worker, content = router_zip(), functions_zip(), worker_zip(), b"GGUF"
    sha256 = hashlib.sha256(content).hexdigest()
    return Shipped(
        router=lambda: router.content,
        router_sha256=router.sha256_base64,
        functions=lambda: functions.content,
        functions_sha256=functions.sha256_base64,
        worker=lambda: worker.content,
        worker_sha256=worker.sha256_hex,
        model=Model(name="none", sha256=sha256, context_tokens=64, key=f"models/{sha256}.gguf"),
        model_content=lambda: io.BytesIO(content),
        public_key=lambda: PUBLIC_KEY,
    )


# --- what somebody changes outside ------------------------------------------------------------------------------


def _id(product: Product, key: str, name: str = "id") -> str:
    return product.ledger.read([key])[key][name]


OPEN = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}

CHANGES: dict[str, Callable[[Cloud, Product], object]] = {
    "jobs_queue": lambda aws, product: aws.sqs.set_queue_attributes(
        QueueUrl=_id(product, "jobs_queue", "url"), Attributes={"VisibilityTimeout": "7"}
    ),
    "router": lambda aws, product: aws.lambda_.update_function_configuration(
        FunctionName=_id(product, "router"), Timeout=3
    ),
    "node_role": lambda aws, product: aws.iam.put_role_policy(
        RoleName=_id(product, "node_role"), PolicyName="extra", PolicyDocument=json.dumps(OPEN)
    ),
    "subnet_public": lambda aws, product: aws.ec2.modify_subnet_attribute(
        SubnetId=_id(product, "subnet_public"), MapPublicIpOnLaunch={"Value": False}
    ),
    "routes_public": lambda aws, product: aws.ec2.delete_route(
        RouteTableId=_id(product, "routes_public"), DestinationCidrBlock="0.0.0.0/0"
    ),
    "node": lambda aws, product: aws.ec2.modify_instance_attribute(
        InstanceId=_id(product, "node"), InstanceInitiatedShutdownBehavior={"Value": "terminate"}
    ),
    "openai_api_key": lambda aws, product: aws.secretsmanager.delete_secret(
        SecretId=_id(product, "openai_api_key"), RecoveryWindowInDays=7
    ),
    "api_log": lambda aws, product: aws.logs.put_retention_policy(
        logGroupName=_id(product, "api_log"), retentionInDays=3
    ),
    "data": lambda aws, product: aws.s3.put_bucket_versioning(
        Bucket=_id(product, "data"), VersioningConfiguration={"Status": "Suspended"}
    ),
}
"""One field of several kinds, changed by another hand."""

LOSSES: dict[str, Callable[[Cloud, Product], object]] = {
    "s3_endpoint": lambda aws, product: aws.ec2.delete_vpc_endpoints(VpcEndpointIds=[_id(product, "s3_endpoint")]),
    "nat_gateway": lambda aws, product: aws.ec2.delete_nat_gateway(NatGatewayId=_id(product, "nat_gateway")),
    "node_key": lambda aws, product: aws.ec2.delete_key_pair(KeyPairId=_id(product, "node_key")),
    "router": lambda aws, product: aws.lambda_.delete_function(FunctionName=_id(product, "router")),
    "openai_api_key": lambda aws, product: aws.secretsmanager.delete_secret(
        SecretId=_id(product, "openai_api_key"), ForceDeleteWithoutRecovery=True
    ),
    "dead_letters": lambda aws, product: aws.sqs.delete_queue(QueueUrl=_id(product, "dead_letters", "url")),
}
"""Things of several kinds, deleted by another hand."""


def build_repair_and_remove(product: Product, *rules: str, again: bool) -> None:
    """`again`: build it once more, for names are used again. The hand that changes things meets no delay."""
    product.ask(*rules)
    assert {change.action for change in product.up().changes} == {"create"}
    assert product.changed() == []
    for changes in (CHANGES, LOSSES):
        product.order(pause=True)
        keys = changes.keys() & product.stack.by_key.keys()
        for key in keys:
            changes[key](product.aws, product)
        product.order(pause=False)
        product.order(advance_s=COOLED_DOWN_S)
        assert keys <= set(product.changed())
        assert product.changed() == []
    product.down()
    if again:
        product.order(advance_s=COOLED_DOWN_S)
        product.up()
        product.down()
    assert [rule for rule in rules if not product.met(rule)] == []
    product.order(reset=True)
    assert owned(product.aws.fresh()) == []
    assert product.ledger.everything() == []


def test_the_stack_is_built_repaired_and_removed_with_every_delay_at_once(product: Product) -> None:
    build_repair_and_remove(product, *DELAYS, again=True)


@pytest.mark.parametrize("rule", DELAYS)
def test_its_parts_are_built_repaired_and_removed_with_one_delay(product: Product, rule: str) -> None:
    build_repair_and_remove(product.only(*CONCERNED[rule]), rule, again=rule in NAMES_AGAIN)


def test_a_start_without_capacity_is_told_and_the_next_up_goes_on(product: Product) -> None:
    """The service's 500 is a plain no: nothing is looked for, nothing is tried again behind the user's back."""
    product = product.only("node")
    product.order(rule="no-capacity", calls=1)
    outcome = product.try_up()
    failed = {change.key: error_code(change.error) for change in outcome.changes if change.error}
    assert failed == {"node": "InsufficientInstanceCapacity"}
    assert product.met("no-capacity") == 1
    assert product.changed() == ["node"]
    product.down()
    assert owned(product.aws.fresh()) == []

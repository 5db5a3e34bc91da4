"""The cloud as reconcilers see it: clients, names, tags, identity, clock, and a cache of shared list calls.

There is one `Cloud` type for every cloud. The embedded cloud plugs in as an endpoint and credentials, set by the
composition root; nothing here or below distinguishes clouds.

Clients are created lazily and once, are thread-safe, and retry by botocore's `standard` mode and beyond its quota
(`retries.py`). Create calls are different: one whose answer got lost may have been carried out, and a retry would
create a second VPC. So they go through `create_once`, which never repeats a call before it has checked whether the
first one worked.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from aistratus.core.errors import Stranger, error_code
from aistratus.core.resource import Found
from aistratus.core.settle import Clock, Wait, until
from aistratus.retries import THROTTLED, maybe_carried_out, never_sent, stay_patient
from aistratus.trace import Meter

T = TypeVar("T")

PROJECT = "tinyllama"

LEDGER = "ledger"
"""The cache key of the ledger's ids."""

OWNERSHIP = ("Project", "Env", "aistratus:key")
"""The tags that mark a resource as ours. The others are repaired like any field."""

CREATED_SEEN = Wait(what="the new resource shows up in the service's own listing", within=60, first=0.2)
"""EC2, IAM and others list a new resource some seconds late."""

LOST_ANSWER_SEEN = Wait(what="a create whose answer was lost shows up", within=15, first=0.3, longest=2.0)
"""The usual delay of a listing; after it a create that isn't listed counts as not carried out."""

CREATE_THROTTLED = Wait(what="the service accepts the create call again", within=120, codes=THROTTLED, longest=15.0)
"""EC2 and IAM refill their mutation budgets within seconds; a crowded account may take longer."""

CREATE_ANSWERED = Wait(what="the service answers the create call", within=60, first=0.3, longest=10.0)
"""Retries after connection errors, as many as the SDK makes for calls that are safe to retry."""

SETTINGS_SEEN = Wait(what="the service shows the new settings", within=70, first=0.3)
"""SQS states up to 60 s for its attributes; the others take less."""


@dataclass(frozen=True)
class Identity:
    """The caller's identity, and the region."""

    account: str
    arn: str
    region: str

    @property
    def partition(self) -> str:
        """`aws`, `aws-cn`, `aws-us-gov`."""
        return self.arn.split(":")[1] if self.arn.count(":") >= 5 else "aws"


@dataclass(frozen=True)
class Access:
    """How to reach a cloud; what is `None` comes from the SDK's own chain (environment, profile, instance role)."""

    region: str
    profile: str | None = None
    endpoint: str | None = None
    access_key: str | None = None
    secret_key: str | None = None


class Clients:
    """Lazy, thread-safe boto3 clients of one session, with and without retries."""

    def __init__(self, access: Access, meter: Meter) -> None:
        self._access = access
        self._meter = meter
        self._lock = threading.Lock()
        self._made: dict[tuple[str, bool], Any] = {}

    @functools.cached_property
    def _session(self) -> Any:
        import boto3  # here, so that `--help` doesn't pay for it
        import botocore.session

        core = botocore.session.Session()
        core.register_component("data_loader", _models(core.get_config_variable("data_path")))
        session = boto3.session.Session(
            botocore_session=core,
            region_name=self._access.region,
            profile_name=self._access.profile,
            aws_access_key_id=self._access.access_key,
            aws_secret_access_key=self._access.secret_key,
        )
        self._meter.attach(session.events)
        return session

    def get(self, service: str, *, retries: bool = True) -> Any:
        """The client for `service`; with `retries=False` one that makes each call once."""
        with self._lock:
            if (service, retries) not in self._made:
                self._made[service, retries] = self._make(service, retries)
            return self._made[service, retries]

    def elsewhere(self, service: str, region: str) -> Any:
        """The client for a service in another region than the cloud's."""
        return self._make(service, True, region)

    def _make(self, service: str, retries: bool, region: str | None = None) -> Any:
        from botocore.config import Config

        attempts = 10 if retries else 1
        config = Config(
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=10,
            read_timeout=60,
            max_pool_connections=64,
            tcp_keepalive=True,
            user_agent_extra="aistratus",
        )
        place = {} if region is None else {"region_name": region}
        client = self._session.client(service, config=config, endpoint_url=self._access.endpoint, **place)
        if retries:
            stay_patient(client)
        return client


@functools.cache
def _models(data_path: str | None) -> Any:
    """botocore's loader of service models, shared by all sessions: parsing EC2's alone takes a tenth of a second."""
    from botocore.loaders import create_loader

    return create_loader(data_path)


class Cloud:
    """One env in one account and region.

    `aws.ec2`, `aws.sqs` … are boto3 clients (`aws.lambda_`, `aws.cognito_idp`: a trailing underscore is dropped, others
    become dashes).
    """

    def __init__(
        self,
        *,
        env: str,
        identity: Identity,
        clients: Clients,
        clock: Clock,
        recorded: Callable[[], Mapping[str, Mapping[str, str]]] = dict,
    ) -> None:
        self.env = env
        self.identity = identity
        self.clock = clock
        self._clients = clients
        self._recorded = recorded
        self._memory: dict[str, Future[Any]] = {}
        self._memory_lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._clients.get(name.rstrip("_").replace("_", "-"))

    def elsewhere(self, service: str, region: str) -> Any:
        """The client of a service that has endpoints in some regions only, which serve all."""
        return self._clients.elsewhere(service, region)

    # --- identity, names, tags ------------------------------------------------------------------------

    @property
    def account(self) -> str:
        return self.identity.account

    @property
    def region(self) -> str:
        return self.identity.region

    def arn(self, service: str, resource: str, *, region: str | None = None, account: str | None = None) -> str:
        """An ARN in this account and region; pass empty strings for services without them (IAM, S3)."""
        region = self.region if region is None else region
        account = self.account if account is None else account
        return f"arn:{self.identity.partition}:{service}:{region}:{account}:{resource}"

    def name(self, suffix: str) -> str:
        """The physical name `tinyllama-<env>-<suffix>`."""
        return f"{self.prefix}{suffix}"

    @property
    def prefix(self) -> str:
        return f"{PROJECT}-{self.env}-"

    def tags(self, key: str) -> dict[str, str]:
        """The tags that our resource with this key carries."""
        return {
            "Project": PROJECT,
            "Env": self.env,
            "ManagedBy": "aistratus",
            "aistratus:key": key,
            "aistratus:region": self.region,
            "Name": self.name(key),
        }

    def owns(self, tags: Mapping[str, str], key: str | None = None) -> bool:
        """Whether these tags mark a resource of this env (and, if given, with this key)."""
        ours = tags.get("Project") == PROJECT and tags.get("Env") == self.env and "aistratus:key" in tags
        # IAM's names are global: the same env in another region would share its roles, and lose them to our `down`.
        ours = ours and tags.get("aistratus:region", self.region) == self.region
        return ours and (key is None or tags["aistratus:key"] == key)

    def require_ours(self, kind: str, name: str, tags: Mapping[str, str], key: str) -> None:
        """Refuses a resource that has our name without our tags.

        Raises:
            Stranger: it isn't ours.
        """
        if not self.owns(tags, key):
            raise Stranger(
                f"the {kind} {name!r} exists but isn't ours: it lacks the tags Project={PROJECT}, Env={self.env}, "
                f"aistratus:key={key} or belongs to another region",
                todo="rename or remove it, use another env name, or add these tags if it is really yours",
            )

    def recorded(self, key: str) -> Mapping[str, str]:
        """The ids that the ledger held for this key when it was first read: a hint, never a proof."""
        return self.shared(LEDGER, self._recorded).get(key, {})

    # --- memory -----------------------------------------------------------------------------------------

    def fresh(self) -> Cloud:
        """The same cloud with an empty cache: list calls are repeated.

        What the ledger held stays known, if it was asked already. It is only a hint, and reading all of it again for
        every look at one resource would run into Parameter Store's limit of 40 reads a second.
        """
        other = Cloud(
            env=self.env, identity=self.identity, clients=self._clients, clock=self.clock, recorded=self._recorded
        )
        with self._memory_lock:
            known = self._memory.get(LEDGER)
        if known is not None and known.done() and known.exception() is None:
            other._memory[LEDGER] = known
        return other

    def shared(self, name: str, call: Callable[[], T]) -> T:
        """The result of `call`, which is made once for all callers with this `name`; a failure is shared too."""
        with self._memory_lock:
            future = self._memory.get(name)
            mine = future is None
            if future is None:
                future = self._memory[name] = Future()
        if mine:
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
                raise
        result: T = future.result()
        return result

    # --- creating ---------------------------------------------------------------------------------------

    def create_once(
        self,
        service: str,
        operation: str,
        look: Callable[[Cloud], Found | None],
        *,
        taken: Iterable[str] = (),
        settling: Wait | None = None,
        seen: Wait = CREATED_SEEN,
        **params: Any,
    ) -> Found:
        """Creates a resource and returns it as found afterwards; never creates two.

        The call is made without automatic retries. If it fails in a way that leaves open whether it was carried out
        (connection lost, time-out, 5xx) or says that the thing exists, `look` decides: only what isn't there is created
        again. What never left this machine (no connection) is simply sent again.

        Args:
            look: finds the thing by name or tags with the cloud it is given (a fresh one each time).
            taken: error codes that mean "exists already": the service itself refuses to make a second one.
            settling: a wait for error codes that mean "not yet" (a role that can't be assumed yet).
            seen: how long the service may take to list what it created.
        """
        call = getattr(self._clients.get(service, retries=False), operation)
        taken = frozenset(taken)
        pauses = CREATE_ANSWERED.pauses(self.clock)
        while True:
            try:
                self._settled(call, settling, params)
            except Exception as error:
                if never_sent(error):
                    if next(pauses, StopIteration) is StopIteration:
                        raise
                    continue
                exists = error_code(error) in taken
                if not exists and not maybe_carried_out(error):
                    raise
                # Where the service itself refuses a second one, asking again is the quickest way to know.
                found = look(self.fresh()) if taken and not exists else self._look_again(look)
                if found is not None:
                    return found
                if exists or next(pauses, StopIteration) is StopIteration:
                    raise
                continue
            return until(seen, lambda: look(self.fresh()), clock=self.clock)

    def _settled(self, call: Callable[..., Any], settling: Wait | None, params: Mapping[str, Any]) -> Any:
        throttled = CREATE_THROTTLED.pauses(self.clock)
        not_yet = settling.pauses(self.clock) if settling else iter(())
        while True:
            try:
                return call(**params)
            except Exception as error:
                if CREATE_THROTTLED.forgives(error):
                    pauses = throttled
                elif settling is not None and settling.forgives(error):
                    pauses = not_yet
                else:
                    raise
                if next(pauses, StopIteration) is StopIteration:
                    raise

    def _look_again(self, look: Callable[[Cloud], Found | None]) -> Found | None:
        for _ in _at_once_and_after(LOST_ANSWER_SEEN, self.clock):
            if (found := look(self.fresh())) is not None:
                return found
        return None


def _at_once_and_after(wait: Wait, clock: Clock) -> Iterable[None]:
    yield None
    yield from wait.pauses(clock)


def await_match(
    find: Callable[[Cloud, Any], Found | None],
    aws: Cloud,
    want: Any,
    *,
    wait: Wait = SETTINGS_SEEN,
) -> Found:
    """Reads a resource back until it shows the desired state (SQS attributes take up to 60 s to settle).

    Raises:
        Unsettled: it still differs after the wait.
    """
    from aistratus.core.diff import diff

    def probe() -> Found | None:
        found = find(aws.fresh(), want)
        return found if found is not None and not diff(want, found, aws.tags(want.key)) else None

    return until(wait, probe, clock=aws.clock)

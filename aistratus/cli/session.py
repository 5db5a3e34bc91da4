"""The context of a command that talks to a cloud: settings, cloud, ledger, lock, stack, and an orderly Ctrl-C."""

from __future__ import annotations

import getpass
import hashlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import FrameType
from typing import TYPE_CHECKING, Any, BinaryIO

from aistratus.cli.options import Options
from aistratus.cloud import Clients, Cloud, Identity
from aistratus.core.errors import Absent, Interrupted, Locked, UsageError
from aistratus.core.ledger import Ledger
from aistratus.core.lock import Holder, Lock
from aistratus.core.settle import RealClock, Wait
from aistratus.node.bootstrap import Model
from aistratus.policies import Names
from aistratus.resources.parameters import SsmStore
from aistratus.retries import may_pass
from aistratus.settings import Settings
from aistratus.trace import Meter

if TYPE_CHECKING:
    from aistratus.cli.quotes import Quotes
    from aistratus.core.graph import Stack
    from aistratus.stack import Shipped

LOCK_LASTS_S = 3600
"""A lock that wasn't renewed for so long was left by a machine that is gone."""

RENEW_EVERY_S = 300.0
"""Leaves a dozen tries to a machine whose network is away for a while; most runs end before the first."""

GGUF = b"GGUF"
"""How every such file begins. Source: the format's specification, "magic"."""

NO_ACCOUNT = "0" * 12
"""A placeholder account id where only the declaration of the stack matters."""

ANSWERED = Wait(what="AWS tells who is calling", within=20, first=1.0)
"""Time limits of a command's first call: with the SDK's own retries it would take minutes to fail."""


@dataclass
class Session:
    """One command's view of one env."""

    options: Options
    settings: Settings
    cloud: Cloud
    ledger: Ledger
    meter: Meter
    stop: threading.Event
    clock: RealClock
    caller: Mapping[str, Any]
    """The answer to the first call: who AWS takes us for, and what time it has."""
    lost: str = field(default="", init=False)
    """A sentence when the env's lock was lost while it was held."""

    @property
    def names(self) -> Names:
        identity = self.cloud.identity
        return Names(identity.partition, identity.account, identity.region, self.settings.env)

    @cached_property
    def stack(self) -> Stack:
        """The declared stack of this env."""
        from aistratus.stack import describe  # here, because `chat` needs no resource kinds

        return describe(self.settings, self.names, shipped(self.settings))

    @property
    def quotes(self) -> Quotes:
        """What the stack costs, in this env's region."""
        from aistratus.cli.quotes import quotes

        return quotes(self.settings, self.cloud.identity.region)

    @property
    def asks(self) -> bool:
        """Whether to ask before something is changed."""
        assert self.options.embedded is not None
        return self.options.embedded.asks(self.settings)

    @contextmanager
    def locked(self, command: str, *, steal: bool, every: float = RENEW_EVERY_S) -> Iterator[str]:
        """Holds the env's lock; yields a sentence if it was taken over from another owner.

        It is renewed as long as it is held. If it is lost nevertheless, nothing new is started, and `lost` says why.

        Args:
            every: seconds between two renewals.

        Raises:
            Locked: somebody else holds the lock, or it was lost before anything was changed.
        """
        lock = self._lock(command)
        told = lock.take(steal=steal)
        ended = threading.Event()

        def keep() -> None:
            self.lost = lock.keep(every=every, lasts=LOCK_LASTS_S, ended=ended.wait)
            if self.lost:
                self.stop.set()

        keeper = threading.Thread(target=keep, name="lock", daemon=True)
        keeper.start()
        try:
            yield told
        except Interrupted as interrupted:
            if self.lost:
                raise Locked(f"{self.lost}; {interrupted.what}", todo=f"`{command}` continues") from interrupted
            raise
        finally:
            ended.set()
            keeper.join()  # a renewal that is on its way would write the lock anew
            lock.release()

    def unlocked(self, command: str, *, steal: bool) -> str:
        """Makes sure that the env's lock is free; returns a sentence if a dead process had left it."""
        return self._lock(command).check(steal=steal)

    def _lock(self, command: str) -> Lock:
        return Lock(self.ledger, _me(command), now=time.time, is_dead=_is_dead)


def open_session(options: Options, *, start: bool = False) -> Session:
    """Connects to the env's cloud.

    Args:
        start: start the embedded cloud if this env has one and it isn't running.

    Raises:
        Absent: the env's cloud isn't running, so nothing of it exists.
    """
    settings = options.load()
    assert options.embedded is not None
    meter = Meter(options.trace)  # first of all: a file that can't be written shall not leave a cloud behind
    access = options.embedded.access(settings, start)
    if access is None:
        raise Absent(f"env {settings.env!r} isn't up", todo="`aistratus up` builds it")
    stop = threading.Event()
    clock = RealClock(stop)
    clients = Clients(access, meter)
    caller = _caller(clients, clock)
    identity = Identity(account=caller["Account"], arn=caller["Arn"], region=access.region)
    meter.names = Names(identity.partition, identity.account, identity.region, settings.env)
    session: Session

    def recorded() -> dict[str, dict[str, str]]:
        return session.ledger.read(session.stack.whole.by_key)

    cloud = Cloud(env=settings.env, identity=identity, clients=clients, clock=clock, recorded=recorded)
    ledger = Ledger(SsmStore(cloud), f"/tinyllama/{settings.env}")
    session = Session(options, settings, cloud, ledger, meter, stop, clock, caller)
    return session


def _caller(clients: Clients, clock: RealClock) -> dict[str, Any]:
    """The caller's identity. This is the first call of every command, so that an unreachable AWS shows early."""
    from botocore.exceptions import ConnectionError, ReadTimeoutError

    once = clients.get("sts", retries=False)
    pauses, unreached = ANSWERED.pauses(clock), False
    while True:
        try:
            caller: dict[str, Any] = once.get_caller_identity()
            return caller
        except Exception as error:  # sorted out below: a blip is tried again, all else goes on as it is
            if isinstance(error, (ConnectionError, ReadTimeoutError)):
                # A second try tells a blip from an address where nobody is.
                if unreached:
                    raise
                unreached = True
            if not may_pass(error) or next(pauses, StopIteration) is StopIteration:
                raise


@contextmanager
def ending_gently(session: Session) -> Iterator[None]:
    """Ctrl-C ends the run after the calls in flight; a second one ends it at once."""

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if session.stop.is_set():
            os._exit(130)
        session.stop.set()
        print("interrupted: letting calls in flight end (Ctrl-C again ends at once) …", file=sys.stderr)

    before = {number: signal.signal(number, on_interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def described(settings: Settings) -> Stack:
    """The declared stack of an env, without any call: account and region are placeholders where unknown."""
    from aistratus.stack import describe

    return describe(
        settings, Names("aws", NO_ACCOUNT, settings.region or "eu-central-1", settings.env), shipped(settings)
    )


# --- what is shipped ----------------------------------------------------------------------------------------


def shipped(settings: Settings) -> Shipped:
    """The programs and the model that `up` uploads."""
    from aistratus.node.keys import public_key
    from aistratus.package import functions_zip, router_zip, worker_zip
    from aistratus.stack import Shipped

    router, functions, worker = router_zip(), functions_zip(), worker_zip()
    model, content = _model(settings)
    return Shipped(
        router=lambda: router.content,
        router_sha256=router.sha256_base64,
        functions=lambda: functions.content,
        functions_sha256=functions.sha256_base64,
        worker=lambda: worker.content,
        worker_sha256=worker.sha256_hex,
        model=model,
        model_content=content,
        public_key=lambda: public_key(settings.env),
    )


def _model(settings: Settings) -> tuple[Model, Callable[[], BinaryIO] | None]:
    chosen = settings.model
    if chosen.path is None:
        name = chosen.name or chosen.url.rsplit("/", 1)[-1].removesuffix(".gguf")
        return Model(name=name, sha256=chosen.sha256, context_tokens=chosen.context_tokens, url=chosen.url), None
    try:
        with chosen.path.open("rb") as file:
            if file.read(4) != GGUF:
                raise UsageError(f"model.path: {chosen.path} isn't a GGUF file", todo="name one, or leave it out")
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        why = "isn't there" if isinstance(error, FileNotFoundError) else f"can't be read: {error.strerror}"
        raise UsageError(f"model.path: {chosen.path} {why}", todo="name a GGUF file that exists") from error
    model = Model(
        name=chosen.name or chosen.path.stem,
        sha256=digest,
        context_tokens=chosen.context_tokens,
        key=f"models/{digest}.gguf",
    )
    path = chosen.path
    return model, lambda: path.open("rb")


# --- the lock's owner -------------------------------------------------------------------------------------------


def _me(command: str) -> Holder:
    import psutil

    now = time.time()
    return Holder(
        command=command,
        user=getpass.getuser(),
        host=socket.gethostname(),
        pid=os.getpid(),
        pid_started=psutil.Process().create_time(),
        since=now,
        expires=now + LOCK_LASTS_S,
    )


def _is_dead(holder: Holder) -> bool:
    """Has the holder's process ended? Only to be known on its own machine; a reused process id doesn't count."""
    if holder.host != socket.gethostname():
        return False
    import psutil

    try:
        process = psutil.Process(holder.pid)
        another = abs(process.create_time() - holder.pid_started) > 1
        # A killed process whose parent hasn't asked for its end yet (in a container often nobody does) has ended too.
        return another or process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True

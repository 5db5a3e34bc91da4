"""The ledger and the lock on SSM's parameters."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict

import pytest

from aistratus.cloud import Cloud
from aistratus.core.errors import Failure, Locked
from aistratus.core.ledger import Ledger, Parameter
from aistratus.core.lock import Holder, Lock
from aistratus.resources.parameters import SsmStore

NOW = 1_800_000_000.0


@pytest.fixture
def store(aws: Cloud) -> SsmStore:
    return SsmStore(aws)


@pytest.fixture
def ledger(aws: Cloud, store: SsmStore) -> Iterator[Ledger]:
    ledger = Ledger(store, f"/tinyllama/{aws.env}")
    yield ledger
    store.delete(ledger.everything())


def holder(pid: int = 1, *, expires: float = NOW + 3600) -> Holder:
    return Holder("aistratus up", "ann", "laptop", pid, NOW - 60, NOW - 600, expires)


def lock(ledger: Ledger, me: Holder, *, dead: frozenset[int] = frozenset()) -> Lock:
    return Lock(ledger, me, now=lambda: NOW, is_dead=lambda other: other.pid in dead)


# --- store and ledger -------------------------------------------------------------------------------


def test_more_than_a_batch_is_written_read_listed_and_forgotten(aws: Cloud, ledger: Ledger) -> None:
    keys = [f"key_{n:02}" for n in range(23)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: ledger.record(key, {"id": key}, known=False), keys))
    assert ledger.read([*keys, "never_written"]) == {key: {"id": key} for key in keys}
    assert sorted(ledger.everything()) == [f"/tinyllama/{aws.env}/{key}" for key in keys]
    ledger.forget(["key_00", "never_written"])
    assert "key_00" not in ledger.read(keys)
    ledger.forget(keys)
    assert ledger.everything() == []


def test_a_record_that_is_thought_to_be_new_or_known_is_written_either_way(ledger: Ledger) -> None:
    ledger.record("vpc", {"id": "vpc-1"}, known=False)
    ledger.record("vpc", {"id": "vpc-2"}, known=False)
    assert ledger.read(["vpc"]) == {"vpc": {"id": "vpc-2"}}
    ledger.record("vpc", {"id": "vpc-3"}, known=True)
    assert ledger.read(["vpc"]) == {"vpc": {"id": "vpc-3"}}


def test_records_that_somebody_else_wrote_count_as_none(store: SsmStore, ledger: Ledger) -> None:
    store.create(ledger.name("a"), "no JSON", key="a")
    store.create(ledger.name("b"), '"no object"', key="b")
    assert ledger.read(["a", "b"]) == {}


def test_parameters_are_tagged_as_ours(aws: Cloud, ledger: Ledger) -> None:
    ledger.record("vpc", {"id": "vpc-1"}, known=False)
    tags = aws.ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=ledger.name("vpc"))["TagList"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == aws.tags("vpc")


def test_a_secret_is_made_once_kept_encrypted_and_read_in_the_clear(aws: Cloud, ledger: Ledger) -> None:
    first = ledger.secret("password", lambda: secrets.token_hex(8))
    assert ledger.secret("password", lambda: secrets.token_hex(8)) == first
    stored = aws.ssm.get_parameter(Name=ledger.name("password"))["Parameter"]
    assert stored["Type"] == "SecureString"
    assert stored["Value"] != first


def test_two_who_make_a_secret_at_once_get_the_same(ledger: Ledger) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda n: ledger.secret("password", lambda: f"secret-{n}"), range(4)))
    assert len(set(made)) == 1


def test_another_env_sees_nothing_of_ours(ledger: Ledger, another_env: Callable[[str], Cloud], aws: Cloud) -> None:
    ledger.record("vpc", {"id": "vpc-1"}, known=False)
    # Its name starts like ours.
    other = another_env(f"{aws.env}2")
    assert Ledger(SsmStore(other), f"/tinyllama/{other.env}").everything() == []
    assert Ledger(SsmStore(aws), f"/tinyllama/{aws.env[:-1]}").everything() == []


def test_a_value_that_is_too_long_is_told_before_it_is_sent(store: SsmStore, ledger: Ledger) -> None:
    with pytest.raises(Failure, match="SSM takes 4096"):
        store.create(ledger.name("long"), "ä" * 2049, key="long")


def test_create_says_who_was_first_and_overwrite_counts_versions(store: SsmStore, ledger: Ledger) -> None:
    name = ledger.name("x")
    assert store.create(name, "1", key="x") is True
    assert store.create(name, "2", key="x") is False
    assert store.get([name])[name].value == "1"
    assert [store.overwrite(name, "2"), store.overwrite(name, "3")] == [2, 3]
    assert (store.get([name])[name].value, store.get([name])[name].version) == ("3", 3)


# --- lock --------------------------------------------------------------------------------------------


def test_the_lock_is_taken_given_back_and_taken_again(ledger: Ledger) -> None:
    mine = lock(ledger, holder())
    assert mine.take() == ""
    mine.release()
    assert lock(ledger, holder(2)).take() == ""


def test_of_many_who_take_it_at_once_one_gets_it(ledger: Ledger) -> None:
    def take(pid: int) -> bool:
        try:
            lock(ledger, holder(pid)).take()
        except Locked:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(8))) == 1


def test_who_comes_second_is_told_who_holds_it_and_since_when(ledger: Ledger) -> None:
    lock(ledger, holder(4711)).take()
    with pytest.raises(
        Locked, match=r"`aistratus up` of ann@laptop \(process 4711\), started 10 min ago.*--steal-lock"
    ):
        lock(ledger, holder(2)).take()


def test_a_dead_holders_lock_is_taken_over_and_that_is_told(ledger: Ledger) -> None:
    lock(ledger, holder(1)).take()
    assert "whose process has ended" in lock(ledger, holder(2), dead=frozenset({1})).take()
    with pytest.raises(Locked, match="process 2"):
        lock(ledger, holder(3), dead=frozenset({1})).take()


def test_an_expired_lock_is_taken_over_and_that_is_told(ledger: Ledger) -> None:
    lock(ledger, holder(1, expires=NOW - 1)).take()
    assert "had expired" in lock(ledger, holder(2)).take()


def test_a_lock_can_be_stolen_and_its_old_holder_does_not_give_back_the_new_ones(ledger: Ledger) -> None:
    old, new = lock(ledger, holder(1)), lock(ledger, holder(2))
    old.take()
    assert "was taken over from" in new.take(steal=True)
    old.release()
    with pytest.raises(Locked, match="process 2"):
        lock(ledger, holder(3)).take()
    new.release()
    assert lock(ledger, holder(3)).take() == ""


def test_of_many_who_take_over_a_dead_holders_lock_at_once_one_gets_it(ledger: Ledger) -> None:
    lock(ledger, holder(99)).take()

    def take(pid: int) -> bool:
        try:
            lock(ledger, holder(pid), dead=frozenset({99})).take()
        except Locked:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(take, range(4))) == 1


class Slow(SsmStore):
    """A store whose user is held up between reading the lock and writing to it."""

    def __init__(self, aws: Cloud, meanwhile: Callable[[], object]) -> None:
        super().__init__(aws)
        self._meanwhile = [meanwhile]

    def get(self, names: Iterable[str]) -> Mapping[str, Parameter]:
        found = super().get(names)
        if self._meanwhile:
            self._meanwhile.pop()()
        return found


def test_who_is_late_in_taking_over_leaves_the_text_of_the_one_who_was_first(aws: Cloud, ledger: Ledger) -> None:
    lock(ledger, holder(99)).take()
    first = lock(ledger, holder(1), dead=frozenset({99}))
    slow = Ledger(Slow(aws, first.take), ledger.prefix)
    with pytest.raises(Locked, match="process 1"):
        lock(slow, holder(2), dead=frozenset({99})).take()
    # The late one has ended by now; the first one is at work, and nobody may think the lock free.
    with pytest.raises(Locked, match="process 1"):
        lock(ledger, holder(3), dead=frozenset({2, 99})).take()
    first.release()
    assert ledger.everything() == []


def test_a_claim_that_a_dead_process_left_does_not_bar_the_lock(store: SsmStore, ledger: Ledger) -> None:
    lock(ledger, holder(99)).take()
    store.create(ledger.name("lock.1"), json.dumps(asdict(holder(98))), key="lock.1")
    assert "whose process has ended" in lock(ledger, holder(1), dead=frozenset({98, 99})).take()


def test_a_renewed_lock_lasts_longer_and_no_claim_is_left(store: SsmStore, ledger: Ledger) -> None:
    mine = lock(ledger, holder())
    mine.take()
    assert [mine.renew(7200), mine.renew(9000)] == ["", ""]
    assert json.loads(store.get([ledger.name("lock")])[ledger.name("lock")].value)["expires"] == NOW + 9000
    assert ledger.everything() == [ledger.name("lock")]
    lock(ledger, holder(2)).take(steal=True)
    assert "taken over by `aistratus up` of ann@laptop (process 2)" in mine.renew(9000)


def test_an_unreadable_lock_is_taken_over(store: SsmStore, ledger: Ledger) -> None:
    store.create(ledger.name("lock"), "rubbish", key="lock")
    assert "no readable owner" in lock(ledger, holder()).take()
    stored = json.loads(store.get([ledger.name("lock")])[ledger.name("lock")].value)
    assert stored.keys() == asdict(holder()).keys()


def test_a_lock_whose_answer_was_lost_is_recognised_as_ones_own(ledger: Ledger) -> None:
    mine = lock(ledger, holder())
    mine.take()
    # The SDK asks again after a lost answer and is told that the parameter exists: the same calls as here.
    assert mine.take() == ""

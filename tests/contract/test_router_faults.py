# ruff: noqa: F401, F811 (fixtures are imported by name)
"""The router when AWS throttles, fails, hangs up, or carries a call out and loses the answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from router_front import Fault, Front, answer_lost, denied, failing, reset, throttled
from router_function import Function, event
from router_stack import Stack, alice, code, front, function, moto, runtime

from aistratus import wire


@pytest.fixture
def stack(moto: str) -> Stack:
    made = Stack.create(moto)
    made.beat()
    return made


CALLS = ("UpdateItem", "GetItem", "PutItem", "SendMessage")


@pytest.mark.parametrize("fault", [throttled, failing, reset, answer_lost], ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("operation", CALLS)
def test_one_failing_call_is_made_good(
    function: Function, front: Front, stack: Stack, alice: str, operation: str, fault: Fault
) -> None:
    front.break_next(operation, fault)
    answer = function.infer(alice, {"prompt": "hello"}, key="key-1")
    assert (answer.status, answer.body["status"]) == (202, "queued")
    assert len(stack.jobs()) == 1
    assert [job.job_id for job in stack.messages()] == ["key-1"]


@pytest.mark.parametrize("fault", [throttled, failing, reset, denied], ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("operation", CALLS)
def test_a_lasting_failure_is_a_503_and_a_log_line_and_no_traceback(
    function: Function, front: Front, alice: str, operation: str, fault: Fault
) -> None:
    front.break_next(operation, *[fault] * 20)
    answer = function.infer(alice, {"prompt": "hello"})
    assert (answer.status, answer.body["type"]) == (503, wire.SERVICE_UNAVAILABLE)
    assert int(answer.headers["retry-after"]) >= 1
    assert "raceback" not in json.dumps(answer.body)
    (line,) = answer.printed.splitlines()
    entry = json.loads(line)
    assert entry["level"] == "error"
    assert operation in entry["cause"]


def test_a_job_whose_message_was_refused_is_taken_back(
    function: Function, front: Front, stack: Stack, alice: str
) -> None:
    front.break_next("SendMessage", denied)
    assert function.infer(alice, {"prompt": "hello"}, key="key-refused").status == 503
    assert stack.jobs() == []
    assert function.infer(alice, {"prompt": "hello"}, key="key-refused").status == 202
    assert len(stack.messages()) == 1


def test_a_job_whose_message_may_have_been_sent_is_mended_by_repeating_the_request(
    function: Function, front: Front, stack: Stack, alice: str
) -> None:
    front.break_next("SendMessage", *[answer_lost] * 10)
    assert function.infer(alice, {"prompt": "hello"}, key="key-lost").status == 503
    front.faults.clear()
    again = function.infer(alice, {"prompt": "hello"}, key="key-lost")
    assert (again.status, again.body["status"]) == (202, "queued")
    (job,) = stack.messages()
    assert job.conversation == again.body["conversation"]


def test_a_job_whose_message_never_left_is_sent_by_repeating_the_request(
    function: Function, front: Front, stack: Stack, alice: str
) -> None:
    front.break_next("SendMessage", *[failing] * 10)
    assert function.infer(alice, {"prompt": "hello"}, key="key-500").status == 503
    front.faults.clear()
    assert function.infer(alice, {"prompt": "hello"}, key="key-500").status == 202
    assert len(stack.messages()) == 1


def test_the_router_answers_before_its_own_time_is_up(function: Function, front: Front, alice: str) -> None:
    front.break_next("GetItem", *[throttled] * 50)
    headers = {"authorization": f"Bearer {alice}"}
    asked = {"routeKey": "POST /infer", "headers": headers, "body": '{"prompt": "x"}'}
    assert function.invoke(asked, remaining_ms=1_050).status == 503
    assert function.invoke(asked, remaining_ms=0).status == 503


def test_connections_are_kept_and_a_dead_one_is_replaced_unseen(
    function: Function, front: Front, stack: Stack, alice: str
) -> None:
    function.infer(alice, {"prompt": "one"})
    front.operations.clear()
    front.break_next("GetItem", reset)
    answer = function.infer(alice, {"prompt": "two"})
    assert answer.status == 202
    # One more than the four calls of a warm prompt, and no second look at the pool's keys.
    assert sorted(front.operations) == sorted(["UpdateItem", "GetItem", "GetItem", "PutItem", "SendMessage"])


def test_a_function_without_its_variables_says_so_in_its_log_only(code: Path, runtime: Path, stack: Stack) -> None:
    variables = stack.variables()
    del variables["JOBS_TABLE"]
    function = Function(code, runtime, variables)
    answer = function.infer("x", {"prompt": "x"})
    function.close()
    assert answer.status == 500
    assert "JOBS_TABLE" not in json.dumps(answer.body)
    assert "JOBS_TABLE" in answer.printed


def test_queue_health_is_told_without_the_age_that_cloudwatch_keeps_to_itself(
    function: Function, front: Front, alice: str
) -> None:
    function.infer(alice, {"prompt": "hello"})
    front.break_next("GetMetricStatistics", denied)
    told = function.invoke(event("GET /queue-health", alice))
    assert (told.status, told.body["depth"], told.body["oldest_age_s"]) == (200, 1, None)
    assert "monitoring GetMetricStatistics: AccessDeniedException" in told.printed
    front.break_next("GetQueueAttributes", denied)
    assert function.invoke(event("GET /queue-health", alice)).status == 503

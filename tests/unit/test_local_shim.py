"""Those parts of the shim that decide something by themselves, without a running cloud."""

from __future__ import annotations

from typing import Any

import pytest

from aistratus.client.srp import G, N, padded
from aistratus.local.shim import dynamodb, s3
from aistratus.local.shim.cognito_srp import begin
from aistratus.local.shim.patching import MotoChanged, add, wrap
from aistratus.local.shim.policy_evaluation import ALLOWED, DENIED, NOT_ALLOWED, Request, decide
from aistratus.local.strict.rule import Delays
from aistratus.local.wire_errors import error_answer

ARN = "arn:aws:s3:::bucket/key"


def statement(effect: str = "Allow", action: Any = "s3:GetObject", resource: Any = ARN, **extra: Any) -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource, **extra}


def decided(*statements: dict[str, Any], action: str = "s3:GetObject", **context: list[str]) -> str:
    keys = {name.replace("_", ":"): values for name, values in context.items()}
    return decide([{"Statement": list(statements)}], Request(action=action, resource=ARN, context=keys))


def test_a_policy_that_says_nothing_allows_nothing() -> None:
    assert decided() == NOT_ALLOWED
    assert decided(statement(action="s3:PutObject")) == NOT_ALLOWED
    assert decided(statement(resource="arn:aws:s3:::other/*")) == NOT_ALLOWED


def test_a_denial_wins() -> None:
    assert decided(statement(), statement("Deny", "s3:*", "*")) == DENIED


@pytest.mark.parametrize("action", ["s3:*", "S3:getobject", "s3:Get?bject", ["s3:PutObject", "s3:Get*"], "*"])
def test_actions_match_by_glob_and_without_case(action: Any) -> None:
    assert decided(statement(action=action)) == ALLOWED


def test_not_action_and_not_resource_turn_it_round() -> None:
    assert decided({"Effect": "Allow", "NotAction": "iam:*", "NotResource": "arn:aws:s3:::other/*"}) == ALLOWED
    assert decided({"Effect": "Allow", "NotAction": "s3:*", "Resource": "*"}) == NOT_ALLOWED


@pytest.mark.parametrize(
    ("condition", "context", "expected"),
    [
        ({"StringEquals": {"aws:region": "eu"}}, {"aws_region": ["eu"]}, ALLOWED),
        ({"StringEquals": {"aws:region": "eu"}}, {"aws_region": ["us"]}, NOT_ALLOWED),
        ({"StringEquals": {"aws:region": "eu"}}, {}, NOT_ALLOWED),
        ({"StringEqualsIfExists": {"aws:region": "eu"}}, {}, ALLOWED),
        ({"StringNotEquals": {"aws:region": "eu"}}, {"aws_region": ["us"]}, ALLOWED),
        ({"StringNotEquals": {"aws:region": ["eu", "us"]}}, {"aws_region": ["us"]}, NOT_ALLOWED),
        ({"StringLike": {"aws:region": "e*"}}, {"aws_region": ["eu"]}, ALLOWED),
        ({"Null": {"aws:region": "true"}}, {}, ALLOWED),
        ({"ForAnyValue:StringEquals": {"aws:tags": "a"}}, {"aws_tags": ["a", "b"]}, ALLOWED),
        ({"ForAllValues:StringEquals": {"aws:tags": "a"}}, {"aws_tags": ["a", "b"]}, NOT_ALLOWED),
        ({"NumericLessThan": {"aws:age": "10"}}, {"aws_age": ["9"]}, ALLOWED),
        ({"IpAddress": {"aws:ip": "10.0.0.0/8"}}, {"aws_ip": ["10.0.0.1"]}, NOT_ALLOWED),  # unknown operator: not met
    ],
)
def test_conditions_are_met_as_iam_meets_them(condition: Any, context: dict[str, list[str]], expected: str) -> None:
    assert decided(statement(Condition=condition), **context) == expected


@pytest.mark.parametrize(
    ("conditions", "applies"),
    [
        ({"Bool": {"aws:SecureTransport": "false"}}, False),
        ({"Bool": {"aws:SecureTransport": ["true"]}}, True),
        ({"BoolIfExists": {"AWS:SECURETRANSPORT": False}}, False),
        ({"NumericLessThan": {"s3:TlsVersion": "1.2"}}, False),
        ({"NumericGreaterThanEquals": {"s3:TlsVersion": 1.2}}, True),
        ({"Null": {"aws:SecureTransport": "true"}}, False),
        ({"StringEquals": {"aws:PrincipalOrgID": "o"}}, True),  # not about transport: left to moto
        ({}, True),
    ],
)
def test_transport_conditions_take_the_endpoint_for_secure(conditions: Any, applies: bool) -> None:
    assert s3.applies(conditions) is applies


def test_srp_numbers_are_hashed_as_positive_ones() -> None:
    assert padded(0x7F) == b"\x7f"
    assert padded(0x80) == b"\x00\x80"
    assert padded(0x123) == b"\x01\x23"


def test_each_srp_exchange_is_new() -> None:
    first, second = (begin("pool", "user", "password", 1, G) for _ in range(2))
    assert first.big_b != second.big_b
    assert first.verifier == second.verifier
    assert 0 < first.big_b < N


class Target:
    def there(self) -> str:
        return "original"


def test_a_mend_notices_that_moto_has_changed() -> None:
    with pytest.raises(MotoChanged, match="gone"):
        wrap(Target, "gone")
    with pytest.raises(MotoChanged, match="there"):
        add(Target, "there")(lambda self: None)


def test_a_wrapped_method_gets_the_original_first() -> None:
    class Own(Target):
        pass

    wrap(Own, "there")(lambda original, self: f"mended {original(self)}")
    assert Own().there() == "mended original"
    assert Target().there() == "original"


@pytest.mark.parametrize(
    ("service", "content_type", "expected"),
    [
        ("ec2", "application/x-www-form-urlencoded; charset=utf-8", "<Response><Errors><Error><Code>C</Code>"),
        ("iam", "application/x-www-form-urlencoded; charset=utf-8", "<ErrorResponse><Error><Type>Receiver</Type>"),
        ("s3", "", "<Error><Code>C</Code><Message>a &lt; b</Message>"),
        ("ssm", "application/x-amz-json-1.1", '{"__type": "C", "message": "a < b"}'),
    ],
)
def test_an_error_is_written_in_its_services_protocol(service: str, content_type: str, expected: str) -> None:
    status, headers, body = error_answer({"CONTENT_TYPE": content_type}, service, 501, "C", "a < b")
    assert status == "501 Not Implemented"
    assert body.decode().startswith(expected)
    assert dict(headers)["x-amzn-ErrorType"] == "C"


def test_a_delay_is_met_as_often_as_it_was_asked_for() -> None:
    delays = Delays()
    delays.ask("one", 2)
    assert [delays.meets("one", "a") for _ in range(3)] == [True, True, False]
    assert [delays.meets("one", "b") for _ in range(3)] == [True, True, False]
    assert not delays.meets("other", "a")


def test_the_clock_of_strict_mode_can_be_moved() -> None:
    delays = Delays()
    before = delays.now()
    delays.advance(60)
    assert delays.now() >= before + 60


def test_expired_items_are_swept_and_no_others() -> None:
    from moto.dynamodb.models import dynamodb_backends

    backend = dynamodb_backends["123456789012"]["eu-central-1"]
    backend.create_table(
        "swept",
        [{"AttributeName": "pk", "KeyType": "HASH"}],
        None,
        [{"AttributeName": "pk", "AttributeType": "S"}],
        None,
        None,
        None,
        "PAY_PER_REQUEST",
        None,
        [],
        False,
        [],
    )
    backend.update_time_to_live("swept", {"Enabled": True, "AttributeName": "expires_at"})
    now = 1_800_000_000
    for key, value in (
        ("over", {"N": str(now - 1)}),
        ("later", {"N": str(now + 1)}),
        ("text", {"S": "1"}),
        ("ancient", {"N": "1"}),
    ):
        backend.put_item("swept", {"pk": {"S": key}, "expires_at": value})
    backend.put_item("swept", {"pk": {"S": "without"}})
    assert dynamodb.sweep(now) == 1
    left = {item.attrs["pk"].value for item in backend.get_table("swept").all_items()}
    assert left == {"later", "text", "ancient", "without"}

"""What AWS and its SDK raise becomes one sentence that says what to do next."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore import exceptions as sdk
from botocore.exceptions import ClientError

from aistratus.client.errors import ApiUnreachable, SignInError
from aistratus.core.errors import Denied, Failure, LoginExpired, UsageError
from aistratus.explain import explain
from aistratus.policies import Names
from aistratus.trace import CALL

ANN = "arn:aws:iam::123456789012:user/ann"


def refused(code: str, message: str, operation: str = "CreateVpc") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, operation)


@pytest.mark.parametrize(
    ("message", "action", "resource"),
    [
        # IAM's, Lambda's, DynamoDB's …
        (
            f"User: {ANN} is not authorized to perform: iam:CreateRole on resource: arn:aws:iam::123456789012:role/x "
            "because no identity-based policy allows the iam:CreateRole action",
            "iam:CreateRole",
            "arn:aws:iam::123456789012:role/x",
        ),
        # S3's puts the resource in quotes.
        (
            f'User: {ANN} is not authorized to perform: s3:CreateBucket on resource: "arn:aws:s3:::b" because no …',
            "s3:CreateBucket",
            "arn:aws:s3:::b",
        ),
        # EC2's comes with an encoded message behind it.
        (
            f"You are not authorized to perform this operation. User: {ANN} is not authorized to perform: "
            "ec2:CreateVpc on resource: arn:aws:ec2:eu-central-1:123456789012:vpc/*. "
            "Encoded authorization failure message: 3Hx",
            "ec2:CreateVpc",
            "arn:aws:ec2:eu-central-1:123456789012:vpc/*",
        ),
        (f"User: {ANN} is not authorized to perform: sts:GetSessionToken", "sts:GetSessionToken", "*"),
    ],
)
def test_a_denial_names_the_statement_to_add(message: str, action: str, resource: str) -> None:
    failure = explain(refused("AccessDenied", message))
    assert isinstance(failure, Denied)
    assert action in failure.what
    statement = json.loads(failure.todo.removeprefix("add the statement ").partition(";")[0])
    assert statement == {"Effect": "Allow", "Action": action, "Resource": resource}


def test_an_explicit_deny_is_not_answered_with_an_allow() -> None:
    message = (
        f"User: {ANN} is not authorized to perform: ec2:RunInstances on resource: "
        "arn:aws:ec2:eu-central-1:123456789012:instance/* with an explicit deny in a service control policy"
    )
    failure = explain(refused("UnauthorizedOperation", message))
    assert failure.todo == "a policy denies it (explicit deny in a service control policy)"


@pytest.mark.parametrize("kind", ["permissions boundary", "service control policy", "session policy"])
def test_what_bounds_the_callers_own_policies_is_named_where_it_lacks_the_statement(kind: str) -> None:
    message = (
        f"User: {ANN} is not authorized to perform: iam:CreateRole on resource: arn:aws:iam::123456789012:role/x "
        f"because no {kind} allows the iam:CreateRole action"
    )
    todo = explain(refused("AccessDenied", message)).todo
    assert f"}} to the {kind}, which bounds" in todo


def test_a_denial_without_details_says_who_can_help() -> None:
    failure = explain(refused("403", "Forbidden", "HeadBucket"))
    assert str(failure) == "HeadBucket was denied: Forbidden; allow this call to the user or role that you use"


NAMES = Names("aws", "123456789012", "eu-central-1", "dev")


def refused_call(service: str, operation: str, code: str, message: str, **params: Any) -> ClientError:
    """An error as `trace.Meter` leaves it: the call that was refused stands beside it."""
    call = {"service": service, "operation": operation, "params": params, "names": NAMES}
    return ClientError({"Error": {"Code": code, "Message": message}, "ResponseMetadata": {CALL: call}}, operation)


def test_a_bare_denial_of_s3_is_explained_by_what_was_called() -> None:
    error = refused_call("s3", "PutBucketEncryption", "AccessDenied", "Access Denied", Bucket="b")
    failure = explain(error)
    assert isinstance(failure, Denied)
    assert "s3:PutEncryptionConfiguration on arn:aws:s3:::b may be missing" in failure.what
    statement = json.loads(failure.todo.removeprefix("add the statement ").partition(";")[0])
    assert statement == {"Effect": "Allow", "Action": "s3:PutEncryptionConfiguration", "Resource": "arn:aws:s3:::b"}
    assert "`aistratus iam policy`" in failure.todo


def test_an_encoded_denial_of_ec2_is_explained_by_what_was_called() -> None:
    message = "You are not authorized to perform this operation. Encoded authorization failure message: 3Hx9"
    failure = explain(refused_call("ec2", "AttachInternetGateway", "UnauthorizedOperation", message,
                                   InternetGatewayId="igw-1", VpcId="vpc-1"))  # fmt: skip
    assert "3Hx9" not in str(failure)
    statement = json.loads(failure.todo.removeprefix("add the statement ").partition(";")[0])
    assert statement["Action"] == "ec2:AttachInternetGateway"
    assert {arn.rpartition(":")[2] for arn in statement["Resource"]} == {"internet-gateway/igw-1", "vpc/vpc-1"}


def test_a_head_without_words_is_explained_by_what_was_called() -> None:
    failure = explain(refused_call("s3", "HeadObject", "403", "Forbidden", Bucket="b", Key="k"))
    assert "s3:GetObject on arn:aws:s3:::b/k and s3:ListBucket on arn:aws:s3:::b may be missing" in failure.what
    assert failure.todo.count("add the statement") == 1 and failure.todo.count('"Effect":"Allow"') == 2


def test_a_denial_of_an_unknown_call_says_who_can_help() -> None:
    failure = explain(refused_call("ec2", "CreateFleet", "UnauthorizedOperation", "You are not authorized"))
    assert failure.todo == "allow this call to the user or role that you use"


@pytest.mark.parametrize(
    "error",
    [
        refused("ExpiredToken", "The security token included in the request is expired"),
        refused("InvalidClientTokenId", "The security token included in the request is invalid."),
        sdk.NoCredentialsError(),
        sdk.PartialCredentialsError(provider="env", cred_var="aws_secret_access_key"),
        sdk.UnauthorizedSSOTokenError(),
        sdk.SSOTokenLoadError(error_msg="gone"),
    ],
)
def test_whoever_is_not_signed_in_is_told_how(error: Exception) -> None:
    failure = explain(error, profile="work")
    assert isinstance(failure, LoginExpired)
    assert "aws sso login --profile work" in failure.todo


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (sdk.EndpointConnectionError(endpoint_url="http://127.0.0.1:1/"), "AWS can't be reached: Could not connect"),
        (sdk.ConnectTimeoutError(endpoint_url="http://127.0.0.1:1/"), "AWS can't be reached: Connect timeout"),
        (sdk.ProxyConnectionError(proxy_url="http://p:1"), "AWS can't be reached: Failed to connect to proxy"),
        (sdk.ReadTimeoutError(endpoint_url="http://127.0.0.1:1/"), "AWS can't be reached: Read timeout"),
        (sdk.ProfileNotFound(profile="x"), "`aws configure list-profiles` shows those that exist"),
        (sdk.InvalidRegionError(region_name="x y"), "Provided region_name 'x y' doesn't match a supported format"),
        (ValueError("Invalid endpoint: foo"), "AWS_ENDPOINT_URL needs an address like"),
        (PermissionError(13, "Permission denied", "/srv/x"), "/srv/x: Permission denied; check who may write there"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (refused("VpcLimitExceeded", "The maximum number of VPCs has been reached."), "CreateVpc failed: The maximum"),
        (KeyError("x"), "something unexpected happened: KeyError: 'x'; --verbose shows where"),
    ],
)
def test_everything_else_is_a_sentence_as_well(error: Exception, told: str) -> None:
    failure = explain(error)
    assert told in str(failure)
    assert "\n" not in str(failure)
    assert failure.__cause__ is error
    assert failure.exit_code == 1


def test_a_failure_stays_what_it_is() -> None:
    failure = UsageError("no")
    assert explain(failure) is failure
    assert isinstance(failure, Failure)


def test_a_sign_in_that_failed_is_told_in_its_own_words() -> None:
    told = explain(SignInError("Your session in dev has expired; type `aistratus login -e dev`."))
    assert (str(told), told.kind) == ("Your session in dev has expired; type `aistratus login -e dev`", "login")
    assert str(explain(ApiUnreachable("nobody answers"))) == "nobody answers"

"""Turns what AWS and its SDK raise into one sentence for a person.

The sentence says what failed, why, and what to do next. The original exception stays attached for `--verbose`.
"""

from __future__ import annotations

import json
import re

from aistratus.core.errors import Denied, Failure, LoginExpired, error_code, error_message

EXPIRED = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidClientTokenId", "UnrecognizedClientException",
     "AuthFailure", "SignatureDoesNotMatch", "InvalidAccessKeyId"}
)  # fmt: skip
DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "NotAuthorized", "403",
     "AuthorizationErrorException"}
)  # fmt: skip


def explain(error: BaseException, *, profile: str | None = None) -> Failure:
    """`error` as a sentence; a `Failure` is given back as it is."""
    if isinstance(error, Failure):
        return error
    failure = _client_error(error, profile) if error_code(error) else _sdk_error(error, profile)
    failure.__cause__ = error
    return failure


def _client_error(error: BaseException, profile: str | None) -> Failure:
    code, message = error_code(error), error_message(error).rstrip(".")
    operation = getattr(error, "operation_name", "a call")
    if code in EXPIRED:
        return LoginExpired(f"AWS refused the credentials in {operation}: {message}", todo=_sign_in(profile))
    if code in DENIED:
        return _denied(operation, message)
    return Failure(f"{operation} failed: {message} ({code})")


def _denied(operation: str, message: str) -> Denied:
    action = re.search(r"perform: ([a-z0-9-]+:\w+)", message)
    if not action:
        return Denied(f"{operation} was denied: {message}", todo="allow this call to the user or role that you use")
    resource = re.search(r'on resource: "?([^\s"]+)', message)
    arn = resource[1].rstrip(".,") if resource else "*"
    what = f"{operation} was denied: {action[1]}{f' on {arn}' if resource else ''} isn't allowed"
    if "explicit deny" in message:  # S3 and EC2 name the kind of policy behind it; no Allow outweighs a Deny
        return Denied(what, todo=f"a policy denies it ({message.rpartition('with an ')[2] or 'explicit deny'})")
    statement = json.dumps({"Effect": "Allow", "Action": action[1], "Resource": arn}, separators=(",", ":"))
    return Denied(what, todo=f"add the statement {statement}")


def _sdk_error(error: BaseException, profile: str | None) -> Failure:
    from botocore import exceptions as sdk

    if isinstance(error, (sdk.NoCredentialsError, sdk.PartialCredentialsError, sdk.CredentialRetrievalError)):
        return LoginExpired("there are no AWS credentials", todo=_sign_in(profile))
    if isinstance(
        error, (sdk.SSOError, sdk.TokenRetrievalError, sdk.LoginRefreshRequired, sdk.RefreshWithMFAUnsupportedError)
    ):
        return LoginExpired("the AWS login has expired", todo=_sign_in(profile))
    if isinstance(error, sdk.ProfileNotFound):
        return Failure(f"{error}".rstrip("."), todo="`aws configure list-profiles` shows those that exist")
    if isinstance(error, (sdk.HTTPClientError, sdk.ConnectionError)):
        return Failure(
            f"AWS can't be reached: {error}".rstrip("."), todo="check the connection and run the command again"
        )
    if isinstance(error, sdk.BotoCoreError):
        return Failure(f"{error}".rstrip("."))
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return Failure(f"{place}{error.strerror or error}", todo=_about_files(error))
    if isinstance(error, ValueError) and str(error).startswith("Invalid endpoint"):
        return Failure(f"{error}".rstrip("."), todo="AWS_ENDPOINT_URL needs an address like http://127.0.0.1:4599")
    return Failure(f"something unexpected happened: {type(error).__name__}: {error}", todo="--verbose shows where")


def _about_files(error: OSError) -> str:
    """What to do where the system refuses a file: most are the command's own, in the user's folders."""
    return "check who may write there, and that $HOME is yours" if error.filename else ""


def _sign_in(profile: str | None) -> str:
    option = f" --profile {profile}" if profile else ""
    return f"sign in with `aws sso login{option}` or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"

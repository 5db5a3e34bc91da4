"""Turns errors of AWS and its SDK into one sentence for the user.

The sentence says what failed, why, and what to do next. The original exception stays attached for `--verbose`.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from aistratus.core.errors import Denied, Failure, LoginExpired, UsageError, error_code, error_message
from aistratus.trace import CALL

EXPIRED = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidClientTokenId", "UnrecognizedClientException",
     "AuthFailure", "SignatureDoesNotMatch", "InvalidAccessKeyId"}
)  # fmt: skip
DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "NotAuthorized", "403",
     "AuthorizationErrorException"}
)  # fmt: skip


LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Hosts that are this machine: the cloud behind them is an emulation, and it checks no keys."""


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
        return _denied(error, operation, message)
    return Failure(f"{operation} failed: {message} ({code})")


ALL_OF_IT = "`aistratus iam policy` prints all that these commands need"


def _denied(error: BaseException, operation: str, message: str) -> Denied:
    """From AWS's own words, which name action and resource mostly; else from what the call is known to need."""
    found = re.search(r"perform: ([a-z0-9-]+:\w+)", message)
    action = found[1] if found else ""
    on = re.search(r'on resource: "?([^\s"]+)', message)
    resource = on[1].rstrip(".,") if on else "*"
    short = message.partition(" Encoded authorization failure message")[0].rstrip(".")
    if "explicit deny" in message:  # S3 and EC2 name the kind of policy behind it; no Allow outweighs a Deny
        named = f"{action}{_on({resource})} isn't allowed" if action else short
        why = message.rpartition("with an ")[2] or "explicit deny"
        return Denied(f"{operation} was denied: {named}", todo=f"a policy denies it ({why})")
    wanted = {action: {resource}} if action else _needed(error)
    if not wanted:
        return Denied(f"{operation} was denied: {short}", todo="allow this call to the user or role that you use")
    told = " and ".join(f"{name}{_on(resources)}" for name, resources in wanted.items())
    isnt = "isn't allowed" if action else "may be missing, AWS doesn't say what"
    statements = " and ".join(_statement(actions, resources) for resources, actions in _by_resources(wanted).items())
    todo = f"add the statement {statements}{_to_what(message)}; {ALL_OF_IT}"
    return Denied(f"{operation} was denied: {told} {isnt}", todo=todo)


def _to_what(message: str) -> str:
    """Where the statement belongs, if not to the caller's own policies: what else bounds them has to allow it as well.

    Source: IAM user guide, "Troubleshoot access denied error messages": "because no <kind of policy> allows the …".
    """
    lacking = re.search(r"because no ([\w -]+?) allows", message)
    if lacking is None or lacking[1] == "identity-based policy":
        return ""
    return f" to the {lacking[1]}, which bounds what your own policies allow"


def _needed(error: BaseException) -> dict[str, set[str]]:
    """What IAM checks for the call that was refused: resources by action; nothing if the call isn't known."""
    from aistratus.permissions import needs

    metadata = getattr(error, "response", {}).get("ResponseMetadata", {})
    call = metadata.get(CALL)
    if not call or call["names"] is None:
        return {}
    try:
        needed = needs(call["names"], call["service"], call["operation"], call["params"])
    except KeyError:
        return {}
    wanted: dict[str, set[str]] = {}
    for need in needed:
        wanted.setdefault(need.action, set()).add(need.resource)
    return wanted


def _on(resources: set[str]) -> str:
    named = sorted(resources - {"*"})
    return f" on {', '.join(named)}" if named else ""


def _by_resources(wanted: Mapping[str, set[str]]) -> dict[frozenset[str], list[str]]:
    grouped: dict[frozenset[str], list[str]] = {}
    for action, resources in wanted.items():
        grouped.setdefault(frozenset(resources), []).append(action)
    return grouped


def _statement(actions: list[str], resources: Iterable[str]) -> str:
    def plain(values: list[str]) -> str | list[str]:
        return values[0] if len(values) == 1 else values

    content = {"Effect": "Allow", "Action": plain(sorted(actions)), "Resource": plain(sorted(resources))}
    return json.dumps(content, separators=(",", ":"))


def _sdk_error(error: BaseException, profile: str | None) -> Failure:
    from botocore import exceptions as sdk

    from aistratus.client.errors import ClientError, SignInError

    if isinstance(error, SignInError):
        return LoginExpired(str(error).rstrip("."))
    if isinstance(error, ClientError):
        return Failure(str(error).rstrip("."))
    if isinstance(error, (sdk.NoCredentialsError, sdk.PartialCredentialsError, sdk.CredentialRetrievalError)):
        return LoginExpired("there are no AWS credentials", todo=_sign_in(profile))
    if isinstance(
        error, (sdk.SSOError, sdk.TokenRetrievalError, sdk.LoginRefreshRequired, sdk.RefreshWithMFAUnsupportedError)
    ):
        return LoginExpired("the AWS login has expired", todo=_sign_in(profile))
    if isinstance(error, sdk.ProfileNotFound):
        return Failure(f"{error}".rstrip("."), todo="`aws configure list-profiles` shows those that exist")
    if isinstance(error, (sdk.HTTPClientError, sdk.ConnectionError)):
        asked = getattr(error, "kwargs", {}).get("endpoint_url") or ""
        if urlsplit(str(asked)).hostname in LOOPBACK:  # no connection to check: what was there has ended
            todo = "nothing answers there on this machine (any more); run the command again"
        else:
            todo = "check the connection and run the command again"
        return Failure(f"AWS can't be reached: {error}".rstrip("."), todo=todo)
    if isinstance(error, sdk.BotoCoreError):
        return Failure(f"{error}".rstrip("."))
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        return Failure(f"{place}{error.strerror or error}", todo=_about_files(error))
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        # That is how Python keeps bytes of the command line that are no text.
        word = ascii(error.object[error.start : error.end])
        return UsageError(f"{word} isn't text in UTF-8", todo="type it again, or convert it with iconv")
    if isinstance(error, ValueError) and str(error).startswith("Invalid endpoint"):
        return Failure(f"{error}".rstrip("."), todo="AWS_ENDPOINT_URL needs an address like http://127.0.0.1:4599")
    return Failure(f"something unexpected happened: {type(error).__name__}: {error}", todo="--verbose shows where")


def _about_files(error: OSError) -> str:
    """What to do where the system refuses a file: most are the command's own, in the user's folders."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = "there" if error.filename else "where the output goes, in $HOME and in the folder for temporary files"
        return f"make room {where}"
    return "check who may write there, and that $HOME is yours" if error.filename else ""


def _sign_in(profile: str | None) -> str:
    if urlsplit(os.environ.get("AWS_ENDPOINT_URL", "")).hostname in LOOPBACK:
        return "any key pair will do at AWS_ENDPOINT_URL: export AWS_ACCESS_KEY_ID=x AWS_SECRET_ACCESS_KEY=x"
    option = f" --profile {profile}" if profile else ""
    return f"sign in with `aws sso login{option}` or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"

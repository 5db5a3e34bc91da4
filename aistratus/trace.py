"""Counts every AWS call, and logs them for `--trace FILE`.

One JSON line per call: time, service, operation, names of the resources involved, HTTP status, error code,
milliseconds, retries. A parameter is written only if its name marks it as a resource's name, so that no secret can get
into the trace.
"""

from __future__ import annotations

import json
import os
import re
import stat
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from aistratus.core.errors import Failure, UsageError

if TYPE_CHECKING:
    from aistratus.policies import Names

READS = re.compile(
    r"^(Get|List|Describe|Head|Lookup|BatchGet|Query|Scan|Search|Simulate|Select|AdminGet|AdminList|Assume)"
)
"""Operations that change nothing, by the verb that AWS gives them."""

REFUSED = re.compile(r"^(403$|Unauthorized|AccessDenied|Authorization)")
"""Error codes that may say "not allowed"."""

CALL = "aistratus"
"""Where a refused call is told in its error's `ResponseMetadata`: the error itself may not say what was asked for."""

NAMES = re.compile(r"(Name|Names|Id|Ids|Arn|Arns|ARN|Url|Bucket|Key|Path|Prefix|Resource|GroupName|RouteKey)$")
UNNAMED = re.compile(r"(AccessKey|Token|Password|Tag|KMS)", re.IGNORECASE)


CALL_PARAMS = "aistratus.params"
SECRET = frozenset(
    {"Value", "SecretString", "SecretBinary", "Password", "Body", "ZipFile", "UserData", "AuthParameters",
     "TemporaryPassword", "ChallengeResponses", "Session", "Token"}
)  # fmt: skip
"""Parameters that say nothing about permissions, and hold what nobody needs to see."""


class Meter:
    """Counts calls and traces them to a file (0600), if one is given.

    Raises:
        UsageError: that file can't be written.
        Failure: there is no more room for it; raised by the call that was to be traced.
    """

    def __init__(self, trace: Path | None = None) -> None:
        self.read = 0
        self.write = 0
        self.names: Names | None = None
        """Of which env, account and region the calls are, once that is known."""
        self._lock = threading.Lock()
        self._file: IO[str] | None = None
        self._path = trace
        if trace is not None:
            try:
                descriptor = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    os.fchmod(descriptor, 0o600)  # also one that was there, but not /dev/null for all of the machine
            except OSError as error:
                raise UsageError(
                    f"--trace {trace} can't be written: {error.strerror}", todo="name a file in a folder of yours"
                ) from error
            self._file = os.fdopen(descriptor, "a", buffering=1, encoding="utf-8")

    def attach(self, events: Any) -> None:
        """Listens to a botocore event system; must happen before its clients are made."""
        events.register("provide-client-params.*.*", self._start)
        events.register("after-call.*.*", self._answered)
        events.register("after-call-error.*.*", self._failed)

    def _start(self, params: Any, model: Any, context: dict[str, Any], **_: Any) -> None:
        context["aistratus"] = (time.time(), model, _resource_names(params))
        context[CALL_PARAMS] = params

    def _answered(self, http_response: Any, parsed: dict[str, Any], context: dict[str, Any], **_: Any) -> None:
        metadata = parsed.setdefault("ResponseMetadata", {})
        error = parsed.get("Error", {}).get("Code")
        if error is not None and REFUSED.match(str(error)) and (told := context.get("aistratus")):
            params = {name: value for name, value in context[CALL_PARAMS].items() if name not in SECRET}
            metadata[CALL] = {
                "service": told[1].service_model.service_name,
                "operation": told[1].name,
                "params": params,
                "names": self.names,
            }
        self._write(context, http_response.status_code, error, metadata.get("RetryAttempts", 0))

    def _failed(self, exception: Exception, context: dict[str, Any], **_: Any) -> None:
        self._write(context, None, type(exception).__name__, context.get("retries", {}).get("attempt", 1) - 1)

    def _write(self, context: dict[str, Any], status: int | None, error: str | None, retries: int) -> None:
        started, model, names = context.get("aistratus", (time.time(), None, {}))
        if model is None:
            return
        line = {
            "time": datetime.fromtimestamp(started, UTC).isoformat(timespec="milliseconds"),
            "service": model.service_model.endpoint_prefix,
            "operation": model.name,
            "resources": names,
            "status": status,
            "error": error,
            "ms": round((time.time() - started) * 1000),
            "retries": retries,
        }
        with self._lock:
            if READS.match(model.name):
                self.read += 1
            else:
                self.write += 1
            if self._file is not None:
                try:
                    self._file.write(json.dumps(line) + "\n")
                except OSError as error:
                    raise Failure(
                        f"--trace {self._path} can't be written any more: {error.strerror}",
                        todo="make room there, or leave --trace away; the same command goes on from here",
                    ) from error


def _resource_names(params: Any) -> dict[str, Any]:
    """The parameters that name resources: strings and lists of strings, by their names."""
    if not isinstance(params, dict):
        return {}
    return {
        name: value
        for name, value in params.items()
        if NAMES.search(name)
        and not UNNAMED.search(name)
        and (isinstance(value, str) or (isinstance(value, list) and all(isinstance(entry, str) for entry in value)))
    }

"""Error answers in each of AWS's protocols, for those that don't come from moto.

SDKs read the code from a header and a JSON body (json, rest-json), or from one of three XML forms (query, ec2, s3).
The forms are those of https://smithy.io/2.0/aws/protocols/.
"""

from __future__ import annotations

import json
import uuid
from http import HTTPStatus
from typing import Any
from xml.sax.saxutils import escape  # it writes XML and reads none # nosec B406

Raw = tuple[str, tuple[tuple[str, str], ...], bytes]


def error_answer(environ: dict[str, Any], service: str, status: int, code: str, message: str) -> Raw:
    """Status line, headers and body of an error of `service`, in the protocol that the request is written in."""
    request_id = str(uuid.uuid4())
    content_type = environ.get("CONTENT_TYPE", "")
    if service == "s3":
        body, kind = _s3(code, message, request_id), "application/xml"
    elif service == "ec2":
        body, kind = _ec2(code, message, request_id), "text/xml"
    elif content_type.startswith("application/x-www-form-urlencoded"):
        body, kind = _query(code, message, request_id), "text/xml"
    else:
        body, kind = json.dumps({"__type": code, "message": message}), "application/x-amz-json-1.1"
    headers = (("Content-Type", kind), ("x-amzn-ErrorType", code), ("x-amzn-RequestId", request_id))
    return f"{status} {HTTPStatus(status).phrase}", headers, body.encode()


def _s3(code: str, message: str, request_id: str) -> str:
    return f"<Error><Code>{code}</Code><Message>{escape(message)}</Message><RequestId>{request_id}</RequestId></Error>"


def _ec2(code: str, message: str, request_id: str) -> str:
    error = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    return f"<Response><Errors>{error}</Errors><RequestID>{request_id}</RequestID></Response>"


def _query(code: str, message: str, request_id: str) -> str:
    error = f"<Error><Type>Receiver</Type><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    return f"<ErrorResponse>{error}<RequestId>{request_id}</RequestId></ErrorResponse>"

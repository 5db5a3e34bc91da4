"""The four EC2 calls that the router makes, within the time that a request can spare.

boto3 is imported here only, and only when a call has to be made: the import takes half a second, and nobody minds
that before a boot of a minute. Each call is made once, with short timeouts, because the next request tries again
anyway. What EC2 refuses is raised as `Ec2Error` with AWS's code; what it doesn't answer, or has no time left to be
asked, is `Undecided`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aistratus.router.clock import Deadline

CONNECT_S: Final = 1
READ_S: Final = 2
"""Seconds until a call is given up: EC2 answers in a tenth of them."""

IMPORT_S: Final = 2.0
"""boto3's import and making the client with the function's share of a processor, with a margin."""

SUBMIT_S: Final = 4.0
"""Reserved for what a prompt needs after the node was woken: the wake item, the job item and the message."""

RACED: Final = "IncorrectInstanceState"
"""The instance changed its state between the look at it and the call."""

GONE: Final = frozenset({"InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"})

REASONS: Final[Mapping[str, str]] = {
    "InsufficientInstanceCapacity": "AWS has no capacity for the node's instance type right now",
    "InsufficientHostCapacity": "AWS has no capacity for the node's instance type right now",
    "InstanceLimitExceeded": "the account's limit on running instances is reached",
    "VcpuLimitExceeded": "the account's limit on running instances is reached",
    "Unsupported": "AWS doesn't offer the node's instance type in its zone",
    "InvalidParameterValue": "EC2 refused to start the node; its volume may be detached",
    "UnauthorizedOperation": "the router may not start the node",
    "AccessDenied": "the router may not start the node",
}
"""Why EC2 doesn't start an instance, in words for the caller."""

NO_CAPACITY: Final = frozenset(
    {
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InstanceLimitExceeded",
        "Unsupported",
        "VcpuLimitExceeded",
    }
)
"""Another instance type may still be available, in the zone or within the account's limits.

Source: AWS's Instance Scheduler, "Handling EC2 Insufficient Capacity Errors", does the same.
"""

TRANSIENT: Final = frozenset(
    {
        "InternalError",
        "InternalFailure",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "Throttling",
        "ThrottlingException",
        "Unavailable",
    }
)
"""EC2 didn't decide: it throttled the call, or failed itself.

https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
"""


class Undecided(Exception):
    """It isn't known whether the node can start: AWS didn't answer, or too little time was left to ask."""


class Ec2Error(Exception):
    """EC2 refused a call; `code` is AWS's."""

    def __init__(self, code: str) -> None:
        super().__init__(f"EC2 refused ({code})")
        self.code = code

    @property
    def is_final(self) -> bool:
        """Asking again wouldn't help: the instance is there, it hasn't just changed, and EC2 has decided."""
        return self.code not in TRANSIENT | GONE | {RACED, ""}


def require_time(seconds: float, deadline: Deadline) -> None:
    """Goes on only where a step of that many seconds leaves enough time for submitting the prompt.

    Raises:
        Undecided: it doesn't.
    """
    if deadline.left() < seconds + SUBMIT_S:
        raise Undecided("too little of the request's time was left to ask EC2")


@dataclass(frozen=True)
class Ec2:
    """boto3's EC2 client. Every method raises `Ec2Error` or `Undecided`."""

    client: Any

    @classmethod
    def connect(cls, region: str, endpoint: str | None) -> Ec2:
        import boto3
        from botocore.config import Config

        once = {"mode": "standard", "total_max_attempts": 1}
        config = Config(connect_timeout=CONNECT_S, read_timeout=READ_S, retries=once)
        return cls(boto3.client("ec2", region_name=region, endpoint_url=endpoint, config=config))

    def describe(self, instance_id: str, deadline: Deadline) -> Mapping[str, Any] | None:
        """The instance as EC2 describes it; `None` when it is terminated or was never there."""
        try:
            answer = _call(self.client.describe_instances, deadline, InstanceIds=[instance_id])
        except Ec2Error as error:
            if error.code in GONE:
                return None
            raise
        instances = [one for reservation in answer["Reservations"] for one in reservation["Instances"]]
        alive = [one for one in instances if one["State"]["Name"] not in ("terminated", "shutting-down")]
        return alive[0] if alive else None

    def start(self, instance_id: str, deadline: Deadline) -> None:
        _call(self.client.start_instances, deadline, InstanceIds=[instance_id])

    def stop(self, instance_id: str, deadline: Deadline) -> None:
        _call(self.client.stop_instances, deadline, InstanceIds=[instance_id])

    def set_type(self, instance_id: str, type_: str, deadline: Deadline) -> None:
        """Changes the type of a stopped instance."""
        change = {"InstanceId": instance_id, "InstanceType": {"Value": type_}}
        _call(self.client.modify_instance_attribute, deadline, **change)


def _call(operation: Callable[..., Any], deadline: Deadline, **arguments: Any) -> Any:
    require_time(CONNECT_S + READ_S, deadline)
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return operation(**arguments)
    except ClientError as error:
        raise Ec2Error(str(error.response.get("Error", {}).get("Code", ""))) from error
    except BotoCoreError as error:
        raise Undecided(f"EC2 doesn't answer ({type(error).__name__})") from error

"""Answers that get lost on the way back: the call was carried out, but nobody was told.

For calls that botocore repeats by itself the effect is that they are made twice; for creates, which it must not repeat,
the connection breaks after the request was carried out.
"""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ConnectionClosedError

from aistratus.cloud import Cloud

READS = ("Describe", "Get", "List")


def lose_answers(aws: Cloud, service: str = "ec2") -> list[str]:
    """Loses the first answer of every changing call from now on; gives the list that fills with their names."""
    lost: list[str] = []

    def again(operation: Any, attempts: int, **_: Any) -> float | None:
        if attempts > 1 or operation.name.startswith(READS):
            return None
        lost.append(operation.name)
        return 0.0

    broken: set[str] = set()

    def broken_off(model: Any, **_: Any) -> None:
        if model.name not in broken and not model.name.startswith(READS):
            broken.add(model.name)
            lost.append(model.name)
            raise ConnectionClosedError(endpoint_url="http://lost.example")

    aws._clients.get(service).meta.events.register(f"needs-retry.{service}", again)
    aws._clients.get(service, retries=False).meta.events.register(f"after-call.{service}", broken_off)
    return lost

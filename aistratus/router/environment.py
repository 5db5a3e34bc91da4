"""The function's configuration, read from its environment variables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class Misconfigured(RuntimeError):
    """The function's configuration is wrong, which no caller can change."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Ids of the resources that the router uses, and its limits.

    kill_usd: the kill limit: US dollars a month at which all machines are stopped.
    node_types: the node's possible instance types, in the order they are tried in; the last is the CPU type.
    wake_as: the type that a prompt gives the sleeping node; empty: the type that it has.
    limit_eur, usd_per_eur: the month's budget in euros, and the exchange rate, for displaying costs.
    """

    env: str
    region: str
    jobs_table: str
    queue_url: str
    dead_letter_url: str
    user_pool_id: str
    client_id: str
    openai_secret: str
    ledger_prefix: str
    rate_per_minute: int
    kill_usd: float
    node_types: tuple[str, ...]
    wake_as: str
    limit_eur: float
    usd_per_eur: float
    endpoint: str | None

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Environment:
        """Reads the variables.

        Raises:
            Misconfigured: one is missing or no number.
        """
        try:
            return cls(
                env=variables["AISTRATUS_ENV"],
                region=variables["AWS_REGION"],
                jobs_table=variables["JOBS_TABLE"],
                queue_url=variables["QUEUE_URL"],
                dead_letter_url=variables["DEAD_LETTER_URL"],
                user_pool_id=variables["USER_POOL_ID"],
                client_id=variables["CLIENT_ID"],
                openai_secret=variables["OPENAI_SECRET"],
                ledger_prefix=variables["LEDGER_PREFIX"],
                rate_per_minute=int(variables["RATE_PER_MINUTE"]),
                kill_usd=float(variables["KILL_USD"]),
                node_types=tuple(variables["NODE_TYPES"].split(",")),
                # A deployment may bring the code before the variable.
                wake_as=wakes if (wakes := variables.get("WAKE_AS", "last")) != "last" else "",
                limit_eur=float(variables["LIMIT_EUR"]),
                usd_per_eur=float(variables["USD_PER_EUR"]),
                endpoint=variables.get("AWS_ENDPOINT_URL") or None,
            )
        except KeyError as error:
            raise Misconfigured(f"the environment variable {error.args[0]} is missing") from error
        except ValueError as error:
            raise Misconfigured(
                "RATE_PER_MINUTE is no whole number, or KILL_USD, LIMIT_EUR or USD_PER_EUR no number"
            ) from error

    @property
    def issuer(self) -> str:
        """The `iss` of the pool's tokens, whatever endpoint its API has."""
        return f"https://cognito-idp.{self.region}.amazonaws.com/{self.user_pool_id}"

    @property
    def keys_url(self) -> str:
        """Where the pool publishes its public keys."""
        base = f"{self.endpoint.rstrip('/')}/{self.user_pool_id}" if self.endpoint else self.issuer
        return f"{base}/.well-known/jwks.json"

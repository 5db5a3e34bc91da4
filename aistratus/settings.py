"""All settings, typed, each with its description, unit, limits and default.

`settings_load` reads `aistratus.toml`, `AISTRATUS_*` variables and flags into them. `aistratus init` writes a settings
file from these declarations.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from aistratus.settings_file import PREFIX
from aistratus.wire import IDLE_MINUTES

RESERVED_PATHS = ("/ping", "/sping")


def _servable(path: str) -> str:
    """Source: API Gateway's developer guide: `/ping` and `/sping` are reserved for the service's own health checks."""
    if path in RESERVED_PATHS:
        raise ValueError(f"{path} is answered by API Gateway itself and would never reach the router; use /health")
    if not re.fullmatch(r"/[A-Za-z0-9._~/-]*", path):
        raise ValueError("a path starts with / and holds letters, digits and ._~-/ only")
    return path


def _throttled_route(key: str) -> str:
    method, _, path = key.partition(" ")
    if method not in {"GET", "POST", "DELETE"} or not path:
        raise ValueError(f"{key!r} isn't a route; write it like 'POST /infer'")
    _servable(path.replace("{", "").replace("}", ""))
    return key


RoutePath = Annotated[str, AfterValidator(_servable)]
RouteKey = Annotated[str, AfterValidator(_throttled_route)]


class Section(BaseModel):
    """A table of the file; unknown keys are refused, so that a typing error doesn't go unnoticed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Throttle(Section):
    """A limit of requests."""

    rate: float = Field(gt=0, le=10_000, description="requests a second, on average")
    burst: int = Field(ge=1, le=5_000, description="requests at once")


class AuthSettings(Section):
    """Who may sign in."""

    operator_email: str | None = Field(
        default=None,
        pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$",
        description="e-mail address of the first user",
        examples=["ann@example.com"],
    )
    access_token_minutes: int = Field(default=60, ge=5, le=1440, description="minutes an access token is good for")
    refresh_token_days: int = Field(default=30, ge=1, le=3650, description="days until one has to sign in again")


class NetworkSettings(Section):
    """The network that the node stands in."""

    enable_nat_gw: bool = Field(
        default=False,
        description="a new node is placed in a private subnet, behind a NAT gateway, which is billed by the hour",
    )


DEFAULT_THROTTLES = {
    "POST /infer": Throttle(rate=10, burst=40),
    "GET /jobs/{id}": Throttle(rate=500, burst=1000),
    "DELETE /jobs/{id}": Throttle(rate=20, burst=40),
    "GET /health": Throttle(rate=20, burst=40),
    "GET /openapi.json": Throttle(rate=5, burst=20),
    "GET /queue-health": Throttle(rate=5, burst=10),
    "POST /stop": Throttle(rate=1, burst=5),
    "POST /resize": Throttle(rate=1, burst=5),
}
HEALTH_ROUTE = "GET /health"
_JOB_PATH = re.compile(r"/jobs/[^/]+")

REGION_ELSEWHERE = (
    "it belongs to a part of AWS with endpoints of its own, outside amazonaws.com, and China has no Cognito user pools"
)
"""Source: https://docs.amazonaws.cn/en_us/aws/latest/userguide/cognito.html"""


class ApiSettings(Section):
    """The HTTP API."""

    health_path: RoutePath = Field(default="/health", description="path of the open health check")
    cors_origins: tuple[str, ...] = Field(
        default=("http://localhost:3000",), description="origins whose pages may call the API"
    )
    rate_per_minute: int = Field(default=20, ge=1, le=1_000, description="prompts a minute for each user")
    throttle: Throttle = Field(
        default=Throttle(rate=100, burst=200),
        description="default for every route: requests a second on average (rate) and at once (burst)",
    )
    throttles: dict[RouteKey, Throttle] = Field(
        default=DEFAULT_THROTTLES,
        description="limits of single routes, in the same units; a route that isn't named keeps what is shown",
    )
    log_days: Literal[1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365] = Field(
        default=30, description="days that logs are kept (CloudWatch takes just these values)"
    )

    @field_validator("health_path")
    @classmethod
    def _free(cls, path: str) -> str:
        """Each path of the API is one thing: a route can't be declared twice, nor the contract name it twice."""
        taken = {route.partition(" ")[2] for route in DEFAULT_THROTTLES if route != HEALTH_ROUTE}
        if path in taken:
            raise ValueError(f"{path} is another route of this API; use /health")
        if _JOB_PATH.fullmatch(path):
            raise ValueError(f"{path} is where a job of that name is read (GET /jobs/{{id}}); use /health")
        return path

    @model_validator(mode="before")
    @classmethod
    def _keep_unnamed_throttles(cls, data: Any) -> Any:
        """One limit that is changed doesn't take the others away."""
        if not isinstance(data, Mapping) or not isinstance(given := data.get("throttles", {}), Mapping):
            return data
        health = f"GET {data.get('health_path', '/health')}"
        kept = {health if route == HEALTH_ROUTE else route: limit for route, limit in DEFAULT_THROTTLES.items()}
        return {**data, "throttles": {**kept, **given}}

    @field_validator("throttles")
    @classmethod
    def _known_routes(cls, throttles: dict[str, Throttle], info: ValidationInfo) -> dict[str, Throttle]:
        health = f"GET {info.data.get('health_path', '/health')}"
        known = [health if route == HEALTH_ROUTE else route for route in DEFAULT_THROTTLES]
        if unknown := [route for route in throttles if route not in known]:
            raise ValueError(f"{', '.join(unknown)} isn't a route of this API; its routes are {', '.join(known)}")
        return throttles


class RouterSettings(Section):
    """How ready the router is kept for the first request after a pause."""

    provisioned_concurrency: int = Field(
        default=0,
        ge=0,
        le=100,
        description="environments kept ready day and night; 0: none. Each costs money by the hour, used or not",
    )
    warm_minutes: int = Field(
        default=0, ge=0, le=1440, description="minutes between two calls that only keep the router warm; 0: none"
    )


class WatchSettings(Section):
    """What the operator is told of."""

    latency_p95_ms: int = Field(
        default=2_000,
        ge=100,
        le=29_000,
        description="milliseconds; an alarm is raised when one request in twenty takes longer",
    )
    dashboard: bool = Field(
        default=True,
        description="one CloudWatch dashboard; AWS gives each account three, every further one costs $3 a month",
    )


def _gpu_type(name: str) -> str:
    """Source: EC2 user guide, "Accelerated computing instances"; the node's image is for x86-64 processors."""
    if not re.fullmatch(r"(g4dn|g5|g6|g6e|gr6)\.[0-9]*xlarge", name):
        raise ValueError(f"{name!r} isn't one with an NVIDIA GPU and x86-64 processors; for example g4dn.xlarge")
    return name


GpuType = Annotated[str, AfterValidator(_gpu_type)]


class NodeSettings(Section):
    """The machine that runs the model."""

    cpu_type: str = Field(
        default="t3.small",
        pattern=r"^[a-z0-9-]+\.[a-z0-9]+$",
        description="EC2 type of a new node; an existing node keeps its own",
    )
    gpu_types: tuple[GpuType, ...] = Field(
        default=("g4dn.xlarge", "g5.xlarge", "g6.xlarge"),
        description="EC2 types with a GPU that the node may be made; where AWS has no room for one, the next is tried",
    )
    wake_as: Literal["last", "cpu", "gpu"] = Field(
        default="last",
        description="what a prompt makes the sleeping node: what it was last, `cpu_type`, or the first of `gpu_types`",
    )
    idle_minutes: int = Field(
        default=15,
        ge=IDLE_MINUTES[0],
        le=IDLE_MINUTES[1],
        description="minutes without a job after which the machine is switched off; `node idle` changes it at once",
    )
    max_hours: int = Field(
        default=12,
        ge=1,
        le=168,
        description="hours after which it is switched off, jobs or none; a prompt wakes it again",
    )
    answer_on_cpu: bool = Field(
        default=False,
        description="before `node resize gpu` the CPU answers what waits, where that is sooner; nothing is answered "
        "while the one machine changes",
    )
    # Half of it is for what isn't a model (Amazon Linux, NVIDIA's driver, CUDA's libraries, the worker), half for three
    # files of TinyLlama's size (0.6 each: the env's own, the one in use, the next while it is fetched) or two of 7
    # billion weights (4 each). It is what idleness costs most, and it can grow but not shrink: no more than that needs.
    volume_gib: int = Field(
        default=20, ge=8, le=1024, description="GiB of the encrypted gp3 root volume; it can grow but never shrink"
    )
    image: str = Field(
        default="/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
        description="SSM public parameter that names the newest machine image",
    )
    transport: Literal["auto", "ssm", "ssh"] = Field(
        default="auto",
        description="how commands reach the node; auto: ssm where its agent answers, else ssh where ssh_cidr opens it",
    )
    ssh_cidr: str | None = Field(
        default=None,
        description="the one IPv4 address from which SSH may come, as 203.0.113.7, or none",
    )
    ssh_user: str = Field(default="ec2-user", pattern=r"^\S{1,64}$", description="the image's user that may use sudo")
    ssh_port: int = Field(default=22, ge=1, le=65_535, description="TCP port of the image's sshd")

    @field_validator("ssh_cidr")
    @classmethod
    def _one_address(cls, value: str | None) -> str | None:
        if value is None or value == "none":
            return None
        try:
            network = IPv4Network(value)
        except ValueError:
            raise ValueError("it has to be an IPv4 address, as 203.0.113.7") from None
        if network.prefixlen != 32:
            raise ValueError("it opens one address only: leave out the slash and what follows it, or make it /32")
        return str(network)

    @model_validator(mode="after")
    def _wakes_as_something(self) -> NodeSettings:
        if self.wake_as == "gpu" and not self.gpu_types:
            raise ValueError("wake_as can't be gpu, because gpu_types names none")
        return self

    @property
    def wake_type(self) -> str:
        """The type that a prompt makes the sleeping node; empty where it stays as it is."""
        return {"last": "", "cpu": self.cpu_type, "gpu": next(iter(self.gpu_types), "")}[self.wake_as]

    @property
    def types(self) -> tuple[str, ...]:
        """All that the node may be, in the order they are tried in; the last is always to be had."""
        return (*self.gpu_types, self.cpu_type)


class BudgetSettings(Section):
    """What a month may cost. AWS counts in US dollars, without tax, up to half a day late."""

    limit_eur: float = Field(
        default=20, ge=0.1, le=100_000, description="EUR a month; the operator is notified at 50, 80 and 100 % of it"
    )
    kill_eur: float = Field(
        default=21,
        ge=0.1,
        le=100_000,
        description="EUR a month above which all machines of the env are stopped till the month ends or this is raised",
    )
    usd_per_eur: float = Field(default=1.175, ge=0.5, le=2, description="US dollars for one euro, on `rate_date`")
    rate_date: date = Field(default=date(2025, 12, 31), description="the day of that rate, as YYYY-MM-DD")
    """Source of the default: the European Central Bank's euro reference rates."""

    @model_validator(mode="after")
    def _told_before_it_is_stopped(self) -> BudgetSettings:
        if self.kill_eur < self.limit_eur:
            raise ValueError("kill_eur must not be below limit_eur, or machines would stop before anybody is notified")
        return self

    @property
    def limit_usd(self) -> float:
        """US dollars, to the cent."""
        return round(self.limit_eur * self.usd_per_eur, 2)

    @property
    def kill_usd(self) -> float:
        """US dollars, to the cent."""
        return round(self.kill_eur * self.usd_per_eur, 2)


TINYLLAMA_URL = (
    "https://huggingface.co/TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF/resolve/main/tinyllama-1.1b-chat-v1.0.Q4_K_M.gguf"
)
TINYLLAMA_SHA256 = "9fecc3b3cd76bba89d504f29b616eedf7da85b96540e490ca5824d3f7d2776a0"
TINYLLAMA_BYTES = 668_788_096
"""Source: the file's page at its publisher."""


class ModelSettings(Section):
    """Which model answers. `path` wins; without it `url` is fetched by the node and checked by `sha256`."""

    name: str | None = Field(default=None, description="name shown beside each reply; default: the file's name")
    path: Path | None = Field(
        default=None,
        description="a GGUF file on this machine; uploaded to the bucket by `up`; default in `local`: the demo model",
    )
    url: str = Field(default=TINYLLAMA_URL, pattern=r"^https://", description="public address of a GGUF file")
    sha256: str = Field(
        default=TINYLLAMA_SHA256,
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 of the file at `url`, in hex; the node refuses any other content",
    )
    context_tokens: int = Field(
        default=0,
        ge=0,
        le=131_072,
        description="tokens of prompt and reply together; 0 is the file's own, at most 2048",
    )
    temperature: float = Field(default=0.7, ge=0, le=2, description="what `chat` asks for; 0 is the surest answer")

    @model_validator(mode="after")
    def _hash_belongs_to_url(self) -> ModelSettings:
        if self.url != TINYLLAMA_URL and self.sha256 == TINYLLAMA_SHA256:
            raise ValueError(
                "another url needs its own sha256 beside it, or the node couldn't recognise a damaged file"
            )
        return self


class DeliverySettings(Section):
    """How a push to GitHub reaches the router. Nothing of it exists until `repository` is set."""

    repository: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9-]{0,37}[A-Za-z0-9])?/[A-Za-z0-9._-]{1,100}$",
        description="the GitHub repository, as owner/name",
        examples=["octocat/hello-world"],
    )
    repository_number: int | None = Field(
        default=None,
        ge=1,
        description="the repository's id (`gh api repos/OWNER/NAME --jq .id`): no other one delivers under its name",
        examples=[1296269],
    )
    branch: str = Field(
        default="main",
        pattern=r"^[A-Za-z0-9._][A-Za-z0-9._/-]{0,243}$",
        description="branch that is built unless a commit is named",
    )
    connection_arn: str | None = Field(
        default=None,
        pattern=r"^arn:aws[a-z-]*:(codeconnections|codestar-connections):[a-z0-9-]+:\d{12}:connection/[A-Za-z0-9-]+$",
        description="ARN of an existing connection to GitHub; else one is created, and waits for a click",
        examples=["arn:aws:codeconnections:eu-central-1:123456789012:connection/0a1b2c3d"],
    )
    keep_images: int = Field(default=5, ge=1, le=1000, description="builder images that are kept; ECR bills each GiB")


class Settings(BaseSettings):
    """Everything that a person can choose."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
    )

    env: str = Field(default="local", description="which copy of the stack; `local` is the embedded cloud")
    region: str | None = Field(
        default=None,
        pattern=r"^[a-z]{2}(-[a-z]+)+-\d$",
        description="AWS region; default: the SDK's, else eu-central-1",
        examples=["eu-central-1"],
    )
    profile: str | None = Field(default=None, description="AWS profile; default: the SDK's")
    auth: AuthSettings = AuthSettings()
    network: NetworkSettings = NetworkSettings()
    api: ApiSettings = ApiSettings()
    router: RouterSettings = RouterSettings()
    node: NodeSettings = NodeSettings()
    budget: BudgetSettings = BudgetSettings()
    model: ModelSettings = ModelSettings()
    watch: WatchSettings = WatchSettings()
    delivery: DeliverySettings = DeliverySettings()

    @field_validator("region")
    @classmethod
    def _within_reach(cls, region: str | None) -> str | None:
        if region is not None and re.match(r"cn-|[a-z]{2}-iso", region):
            raise ValueError(f"{REGION_ELSEWHERE}; choose another, for example eu-central-1")
        return region

    @field_validator("env")
    @classmethod
    def _nameable(cls, env: str) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9-]{0,14}[a-z0-9]|[a-z]", env):
            raise ValueError(
                "an env's name has 1 to 16 lower-case letters, digits and dashes, starts with a letter and doesn't end "
                "with a dash (it becomes part of bucket names)"
            )
        return env

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags and file arrive merged by `load`; environment variables lie between them."""
        return (init_settings,)

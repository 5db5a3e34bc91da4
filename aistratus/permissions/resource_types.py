"""The resource types that IAM checks calls against: their ARNs, and how a policy recognises an env's own.

A resource that we name is recognised by its name. One that AWS names (`vpc-0a1b…`) is recognised by its tags, where
AWS supports a condition on them; elsewhere a policy can't distinguish envs.

Source for ARNs and condition keys: the Service Authorization Reference, one page for each service.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from aistratus.policies import Names


@dataclass(frozen=True)
class ResourceType:
    """A resource type.

    arn: its ARN, with `{id}` for the resource's own part.
    ids: patterns of `{id}` for resources of an env.
    tagged: whether those of an env are recognised by their tags.
    """

    arn: str
    ids: tuple[str, ...] = ("{prefix}*",)
    tagged: bool = False

    def one(self, names: Names, identity: str) -> str:
        """The ARN of one resource, given its id, its ARN, or a URL whose last part is its id (a queue's)."""
        if identity.startswith("arn:"):
            return identity
        if identity.startswith("http"):
            identity = identity.rpartition("/")[2]
        return self._filled(names, self.arn).replace("{id}", identity)

    def of_env(self, names: Names) -> Iterator[str]:
        """Patterns that match the ARNs of an env's resources, and as little else as AWS allows."""
        for pattern in self.ids:
            yield self.one(names, self._filled(names, pattern))

    @staticmethod
    def _filled(names: Names, text: str) -> str:
        values = {
            "partition": names.partition,
            "region": names.region,
            "account": names.account,
            "env": names.env,
            "prefix": names.prefix,
        }
        for name, value in values.items():
            text = text.replace("{" + name + "}", value)
        return text


def _regional(service: str, resource: str, *ids: str, tagged: bool = False) -> ResourceType:
    arn = f"arn:{{partition}}:{service}:{{region}}:{{account}}:{resource}"
    return ResourceType(arn, ids or ("{prefix}*",), tagged)


def _global(resource: str, *ids: str) -> ResourceType:
    return ResourceType(f"arn:{{partition}}:iam::{{account}}:{resource}", ids or ("{prefix}*",))


def _ec2(resource: str) -> ResourceType:
    """A type of EC2, which chooses ids itself."""
    return _regional("ec2", f"{resource}/{{id}}", "*", tagged=True)


EVERYTHING = ResourceType("{id}", ("*",))
"""For actions without resource-level permissions."""

# --- EC2
VPC = _ec2("vpc")
SUBNET = _ec2("subnet")
INTERNET_GATEWAY = _ec2("internet-gateway")
NAT_GATEWAY = _ec2("natgateway")
ADDRESS = _ec2("elastic-ip")
ROUTE_TABLE = _ec2("route-table")
ENDPOINT = _ec2("vpc-endpoint")
SECURITY_GROUP = _ec2("security-group")
KEY_PAIR = _ec2("key-pair")
INSTANCE = _ec2("instance")
VOLUME = _ec2("volume")
INTERFACE = _ec2("network-interface")
IMAGE = ResourceType("arn:{partition}:ec2:{region}::image/{id}", ("ami-*",))
"""Any image, because settings may name any."""

TAGGABLE = {
    "vpc": VPC, "subnet": SUBNET, "igw": INTERNET_GATEWAY, "nat": NAT_GATEWAY, "eipalloc": ADDRESS, "rtb": ROUTE_TABLE,
    "vpce": ENDPOINT, "sg": SECURITY_GROUP, "key": KEY_PAIR, "i": INSTANCE, "vol": VOLUME, "eni": INTERFACE,
}  # fmt: skip
"""By the prefix of their ids."""

# --- data
BUCKET = ResourceType("arn:{partition}:s3:::{id}", ("{prefix}*-{account}-{region}",))
OBJECT = ResourceType("arn:{partition}:s3:::{id}", ("{prefix}*-{account}-{region}/*",))
TABLE = _regional("dynamodb", "table/{id}")
QUEUE = _regional("sqs", "{id}")
LEDGER = _regional("ssm", "parameter{id}", "/tinyllama/{env}/*")
LEDGER_PATH = _regional("ssm", "parameter{id}", "/tinyllama/{env}", "/tinyllama/{env}/*")
"""For what asks by the path of all."""
IMAGE_PARAMETER = ResourceType("arn:{partition}:ssm:{region}::parameter{id}", ("/aws/service/*",))
"""AWS's own parameters, the same for every account."""
RUN_SHELL_SCRIPT = ResourceType("arn:{partition}:ssm:{region}::document/{id}", ("AWS-RunShellScript",))
START_SSH_SESSION = ResourceType("arn:{partition}:ssm:{region}::document/{id}", ("AWS-StartSSHSession",))
"""Documents of AWS's own: what Run Command does on a node, and how a session reaches its sshd."""
SECRET = _regional("secretsmanager", "secret:{id}", "tinyllama/{env}/*")

# --- identity, code, API
USER_POOL = _regional("cognito-idp", "userpool/{id}", "*", tagged=True)
ROLE = _global("role/{id}")
PROFILE = _global("instance-profile/{id}")
PRINCIPAL = _global("{id}", "user/*", "role/*")
"""The IAM user that runs the commands, which we don't name. Read only."""
ANY_ROLE = _global("role/{id}", "*")
"""Likewise, the role that runs the commands."""
OIDC_PROVIDER = _global("oidc-provider/{id}", "token.actions.githubusercontent.com")
OIDC_PROVIDERS = _global("oidc-provider/{id}", "*")
"""All of them are listed to find ours by their tags."""
FUNCTION = _regional("lambda", "function:{id}")
API = ResourceType("arn:{partition}:apigateway:{region}::{id}", ("/apis", "/apis/*"))
"""An API's id is API Gateway's own, and the tags of an API say nothing about its routes or stages."""
API_TAGS = ResourceType("arn:{partition}:apigateway:{region}::/tags/{id}", ("*",))

# --- watching and paying
LOG_GROUP = _regional(
    "logs",
    "log-group:{id}",
    "/aws/lambda/{prefix}*",
    "/aws/vendedlogs/{prefix}*",
    "/aws/codebuild/{prefix}*",
    "/tinyllama/{env}/*",
)
LOG_SHOWN = _regional(
    "logs", "log-group:{id}", "/aws/lambda/{prefix}*", "/aws/vendedlogs/{prefix}*", "/tinyllama/{env}/*"
)
"""What `aistratus logs` shows: the router's, the API's and the worker's."""
LOG_STREAM = LOG_GROUP
"""Told by its group, whose ARN is the beginning of its own."""
TOPIC = _regional("sns", "{id}")
ALARM = _regional("cloudwatch", "alarm:{id}")
ALARMS = _regional("cloudwatch", "alarm:{id}", "*")
DASHBOARD = ResourceType("arn:{partition}:cloudwatch::{account}:dashboard/{id}")
WATCH = ResourceType(
    "arn:{partition}:cloudwatch:{id}",
    ("{region}:{account}:alarm:{prefix}*", ":{account}:dashboard/{prefix}*"),
)
"""Alarms and dashboards."""
BUDGETS = ResourceType("arn:{partition}:budgets::{account}:budget/{id}", ("*",))
BUDGET = ResourceType("arn:{partition}:budgets::{account}:budget/{id}")
RULE = _regional("events", "rule/{id}")
SCHEDULE = _regional("scheduler", "schedule/{id}", "{prefix}*/{prefix}*")
SCHEDULE_GROUP = _regional("scheduler", "schedule-group/{id}")

# --- delivery
PROJECT = _regional("codebuild", "project/{id}")
REPOSITORIES = _regional("ecr", "repository/{id}", "*")
REPOSITORY = _regional("ecr", "repository/{id}")
CONNECTION = _regional("codeconnections", "connection/{id}", "*", tagged=True)
ANY_CONNECTION = _regional("codeconnections", "connection/{id}", "*")
"""Settings may name a connection that was made by hand."""
OLD_CONNECTION = _regional("codestar-connections", "connection/{id}", "*")
"""One that was made while the service still had its first name keeps the ARN it was given then."""

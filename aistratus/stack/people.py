"""Users and notifications: who may sign in, and the topics that mail the operator."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from aistratus import policies
from aistratus.callbacks import CALLBACKS, SCOPES
from aistratus.core.resource import Ref
from aistratus.policies import Names
from aistratus.resources.cognito import User, UserPool, UserPoolClient, UserPoolDomain, UserPoolGroup
from aistratus.resources.sns import Topic, TopicSubscription
from aistratus.settings import Settings
from aistratus.stack.group import Group

ALERTS_OPERATOR = "alerts_operator"
TOLD = (ALERTS_OPERATOR,)
"""Keys that are declared only where the settings have the operator's address."""


@dataclass(frozen=True, kw_only=True)
class Identity(Group):
    """The issuer and client of the tokens that the API accepts."""

    pool: UserPool
    client: UserPoolClient


RESERVED = ("aws", "amazon", "cognito")
"""Words that a domain's prefix can't contain. Source: Cognito developer guide, "Using your own domain"."""


def domain_prefix(names: Names) -> str:
    """Unique in a region, so it contains a hash of the account, which doesn't disclose the account."""
    own = sha256(f"{names.account}/{names.region}/{names.env}".encode()).hexdigest()[:12]
    env = "" if any(word in names.env for word in RESERVED) else f"{names.env}-"
    return f"tinyllama-{env}{own}"


def declare_identity(settings: Settings, names: Names) -> Identity:
    """Declares the user pool, its sign-in pages and its first user."""
    pool = UserPool(key="user_pool")
    client = UserPoolClient(
        key="user_client",
        pool=Ref(pool),
        access_token_min=settings.auth.access_token_minutes,
        refresh_token_days=settings.auth.refresh_token_days,
        callback_urls=CALLBACKS,
        oauth_flows=("code",),
        scopes=SCOPES,
        providers=("COGNITO",),
    )
    domain = UserPoolDomain(key="user_domain", pool=Ref(pool), prefix=domain_prefix(names))
    operators = UserPoolGroup(key="operators", pool=Ref(pool), name="operators", description="May run the stack")
    operator = User(
        key="operator",
        pool=Ref(pool),
        username="operator",
        email=settings.auth.operator_email,
        groups=(Ref(operators),),
    )
    return Identity(wanted=(pool, client, domain, operators, operator), pool=pool, client=client)


@dataclass(frozen=True, kw_only=True)
class People(Group):
    """The topic for notifications."""

    alerts: Topic


def declare_people(settings: Settings, names: Names) -> People:
    """Declares the topic, and the operator's subscription if the address is known."""
    alerts = Topic(key="alerts", name="alerts", policy=policies.alerts_topic(names))
    people: tuple[TopicSubscription, ...] = ()
    if settings.auth.operator_email is not None:
        people = (
            TopicSubscription(
                key=ALERTS_OPERATOR,
                topic=Ref(alerts, "arn"),
                protocol="email",
                endpoint=settings.auth.operator_email,
            ),
        )
    return People(wanted=(alerts, *people), alerts=alerts)

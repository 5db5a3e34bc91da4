"""The address of a pool's sign-in pages: `https://<prefix>.auth.<region>.amazoncognito.com`.

A prefix is unique in a region, and a pool has one. So it is found through its pool, whose description names it.
Source: https://docs.aws.amazon.com/cognito/latest/developerguide/cognito-user-pools-assign-domain-prefix.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from botocore.exceptions import ClientError

from aistratus.cloud import Cloud, await_match
from aistratus.core.errors import error_code, error_message
from aistratus.core.resource import Found, Ref, Resource, reconciles
from aistratus.resources.calls import unless_gone
from aistratus.resources.pools import GONE, POOL_FREE, change, described_pool, pool_id, pool_is_ours

CLASSIC_PAGES = 1
"""The newer pages (2) show nothing before somebody has given them a style, which takes calls of their own.

Source: Cognito API reference, CreateUserPoolDomain; https://github.com/minorun365/html-share/issues/3
"""


@dataclass(frozen=True, kw_only=True)
class UserPoolDomain(Resource):
    """Where the users of a pool sign in with a browser.

    prefix: 1 to 63 lower-case letters, digits and dashes, without `aws`, `amazon` and `cognito`.
    """

    pool: Ref | str
    prefix: str

    replace_on: ClassVar[frozenset[str]] = frozenset({"pool", "prefix"})


def find_domain(aws: Cloud, want: UserPoolDomain) -> Found | None:
    """The one prefix of the pool."""
    pool = pool_id(aws, want.pool)
    prefix = described_pool(aws, pool).get("Domain") if pool else None
    if pool is None or prefix is None or not pool_is_ours(aws, want.pool):
        return None
    state = UserPoolDomain(key=want.key, pool=pool, prefix=prefix)
    return Found(state=state, ids={"id": prefix, "pool": pool})


def remove_domain(aws: Cloud, have: Found) -> None:
    drop_domain(aws, have.ids["pool"], have.ids["id"])


def drop_domain(aws: Cloud, pool: str, prefix: str) -> None:
    """Gone already is fine: Cognito says so in one of two ways.

    Source: https://github.com/hashicorp/terraform-provider-aws, `resourceUserPoolDomainDelete`.
    """
    try:
        unless_gone(GONE, lambda: change(aws, aws.cognito_idp.delete_user_pool_domain, UserPoolId=pool, Domain=prefix))
    except ClientError as error:
        if error_code(error) != "InvalidParameterException" or "No such domain" not in error_message(error):
            raise


@reconciles(UserPoolDomain, find=find_domain, remove=remove_domain)
def ensure_domain(aws: Cloud, want: UserPoolDomain, have: Found | None, changes: frozenset[str]) -> Found:
    aws.create_once(
        "cognito-idp",
        "create_user_pool_domain",
        look=lambda cloud: find_domain(cloud, want),
        taken={"InvalidParameterException"},
        settling=POOL_FREE,  # client, group and user of the same pool are made beside it
        UserPoolId=want.pool,
        Domain=want.prefix,
        ManagedLoginVersion=CLASSIC_PAGES,
    )
    return await_match(find_domain, aws, want)

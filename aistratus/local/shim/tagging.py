"""The tagging API lists what AWS's lists: moto leaves out four kinds of EC2, HTTP APIs and user pools.

IAM roles, access-log settings and the like stay out, as they do on AWS: whoever sweeps by tag has to know that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from moto.apigatewayv2.models import apigatewayv2_backends
from moto.cognitoidp.models import cognitoidp_backends
from moto.core.resource_tagging import TaggedResource, make_tag_matcher, match_resource_type
from moto.ec2.models import ec2_backends
from moto.resourcegroupstaggingapi.models import ResourceGroupsTaggingAPIBackend

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import wrap


def patch(cloud: Cloud) -> None:
    @wrap(ResourceGroupsTaggingAPIBackend, "_get_resources_generator")
    def resources(
        original: Any,
        backend: Any,
        tag_filters: Any = None,
        resource_type_filters: Any = None,
        resource_arn_list: Any = None,
    ) -> Iterator[TaggedResource]:
        # Listed at once: moto keeps the iterator between two pages, while resources come and go.
        found = list(original(backend, tag_filters, resource_type_filters, resource_arn_list))
        matches = make_tag_matcher(tag_filters)
        for one in left_out(backend.account_id, backend.region_name):
            wanted = match_resource_type(one.resource_type, resource_type_filters) and matches(one.tags)
            if one.tags and wanted and (not resource_arn_list or one.arn in resource_arn_list):
                found.append(one)
        return iter(found)


def left_out(account: str, region: str) -> Iterator[TaggedResource]:
    """The tagged resources of one region that moto's list misses."""
    ec2 = ec2_backends[account][region]
    groups = (
        ("elastic-ip", [one.allocation_id for one in ec2.addresses if one.allocation_id]),
        ("key-pair", [one.id for one in ec2.key_pairs.values()]),
        ("launch-template", list(ec2.launch_templates)),
        ("vpc-endpoint", [one.id for one in ec2.vpc_end_points.values() if one.state != "deleted"]),
    )
    for kind, ids in groups:
        for identifier in ids:
            arn = f"arn:aws:ec2:{region}:{account}:{kind}/{identifier}"
            yield TaggedResource(arn=arn, tags=dict(ec2.tags.get(identifier, {})), resource_type=f"ec2:{kind}")
    for api in apigatewayv2_backends[account][region].apis.values():
        yield TaggedResource(arn=api.arn, tags=dict(api.backend.get_tags(api.arn)), resource_type="apigateway:apis")
        for stage in api.stages.values():
            yield TaggedResource(
                arn=f"{api.arn}/stages/{stage.name}", tags=dict(stage.tags), resource_type="apigateway:stages"
            )
    for pool in cognitoidp_backends[account][region].user_pools.values():
        tags = pool.extended_config.get("UserPoolTags") or {}
        yield TaggedResource(arn=pool.arn, tags=dict(tags), resource_type="cognito-idp:userpool")

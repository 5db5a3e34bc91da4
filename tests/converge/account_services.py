"""Lists an account's resources, service by service, for `account_listing.py`.

Each function lists one kind or a few kinds with boto3 clients by service name; `LISTINGS` has them all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from botocore.exceptions import ClientError


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One entry of an account.

    id: unique within its kind. parent: kind and id of what it hangs on. facts: what tells a right one from a wrong one.
    """

    kind: str
    id: str
    name: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    parent: tuple[str, str] | None = None
    facts: str = ""

    @property
    def identity(self) -> tuple[str, str]:
        return self.kind, self.id


def _pages(client: Any, operation: str, path: str, **params: Any) -> Iterator[Any]:
    found: Iterable[Any] = client.get_paginator(operation).paginate(**params).search(f"{path}[]")
    return (entry for entry in found if entry is not None)


def _tags(entries: Iterable[Mapping[str, str]] | None) -> dict[str, str]:
    return {entry["Key"]: entry["Value"] for entry in entries or []}


def _ec2(kind: str, identity: str, entry: Mapping[str, Any], facts: object = "", *, in_vpc: bool = True) -> Thing:
    tags = _tags(entry.get("Tags") or entry.get("TagSet"))
    parent = ("vpc", entry["VpcId"]) if in_vpc and entry.get("VpcId") else None
    return Thing(kind=kind, id=entry[identity], name=tags.get("Name", ""), tags=tags, parent=parent, facts=str(facts))


def _network(clients: Mapping[str, Any]) -> Iterator[Thing]:
    ec2 = clients["ec2"]
    for vpc in _pages(ec2, "describe_vpcs", "Vpcs"):
        names = [
            ec2.describe_vpc_attribute(VpcId=vpc["VpcId"], Attribute=name)
            for name in ("enableDnsSupport", "enableDnsHostnames")
        ]
        dns = names[0]["EnableDnsSupport"]["Value"], names[1]["EnableDnsHostnames"]["Value"]
        yield _ec2("vpc", "VpcId", vpc, (vpc["CidrBlock"], dns), in_vpc=False)
    for subnet in _pages(ec2, "describe_subnets", "Subnets"):
        zone = subnet["AvailabilityZone"]
        yield _ec2("subnet", "SubnetId", subnet, (subnet["CidrBlock"], zone, subnet["MapPublicIpOnLaunch"]))
    for table in _pages(ec2, "describe_route_tables", "RouteTables"):
        routes = sorted(
            route.get("DestinationCidrBlock") or route.get("DestinationPrefixListId", "?") for route in table["Routes"]
        )
        main = [bool(entry.get("Main")) for entry in table["Associations"]]
        yield _ec2("route table", "RouteTableId", table, (routes, sorted(main)))
    for gateway in _pages(ec2, "describe_internet_gateways", "InternetGateways"):
        attached = [entry["VpcId"] for entry in gateway["Attachments"]]
        yield _ec2("internet gateway", "InternetGatewayId", {**gateway, "VpcId": next(iter(attached), "")},
                   f"{len(attached)} attached")  # fmt: skip
    for endpoint in _pages(ec2, "describe_vpc_endpoints", "VpcEndpoints"):
        if endpoint["State"].lower() not in ("deleting", "deleted"):
            facts = endpoint["ServiceName"], len(endpoint["RouteTableIds"])
            yield _ec2("endpoint", "VpcEndpointId", endpoint, facts)
    for group in _pages(ec2, "describe_security_groups", "SecurityGroups"):
        rules = len(group["IpPermissions"]), len(group["IpPermissionsEgress"])
        yield _ec2("security group", "GroupId", group, (group["GroupName"], rules))
    for nat in _pages(ec2, "describe_nat_gateways", "NatGateways"):
        if nat["State"] != "deleted":
            yield _ec2("NAT gateway", "NatGatewayId", nat, nat["State"])
    for address in ec2.describe_addresses()["Addresses"]:
        yield _ec2("address", "AllocationId", address)


def _instances(clients: Mapping[str, Any]) -> Iterator[Thing]:
    ec2 = clients["ec2"]
    for instance in _pages(ec2, "describe_instances", "Reservations[].Instances"):
        state = instance["State"]["Name"]
        if state in ("shutting-down", "terminated"):
            continue
        facts = (
            "up" if state in ("pending", "running") else state,
            instance["InstanceType"],
            instance.get("IamInstanceProfile", {}).get("Arn", "").rpartition("/")[2],
            instance.get("KeyName", ""),
            len(instance["SecurityGroups"]),
            instance["MetadataOptions"]["HttpTokens"],
        )
        yield _ec2("instance", "InstanceId", instance, facts)
    for volume in _pages(ec2, "describe_volumes", "Volumes"):
        yield _ec2("volume", "VolumeId", volume, (volume["Size"], volume["Encrypted"]))
    for interface in _pages(ec2, "describe_network_interfaces", "NetworkInterfaces"):
        yield _ec2("interface", "NetworkInterfaceId", interface, interface.get("InterfaceType", ""))


def _key_pairs(clients: Mapping[str, Any]) -> Iterator[Thing]:
    for pair in clients["ec2"].describe_key_pairs()["KeyPairs"]:
        tags = _tags(pair.get("Tags"))
        yield Thing(kind="key pair", id=pair["KeyPairId"], name=pair["KeyName"], tags=tags)


def _roles(clients: Mapping[str, Any]) -> Iterator[Thing]:
    iam = clients["iam"]
    for role in _pages(iam, "list_roles", "Roles"):
        name = role["RoleName"]
        tags = _tags(iam.list_role_tags(RoleName=name)["Tags"])
        inline = sorted(_pages(iam, "list_role_policies", "PolicyNames", RoleName=name))
        attached = len(iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"])
        yield Thing(kind="role", id=role["RoleId"], name=name, tags=tags, facts=f"{inline} {attached}")


def _profiles(clients: Mapping[str, Any]) -> Iterator[Thing]:
    iam = clients["iam"]
    for entry in _pages(iam, "list_instance_profiles", "InstanceProfiles"):
        name = entry["InstanceProfileName"]
        tags = _tags(iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"].get("Tags"))
        roles = [role["RoleName"] for role in entry["Roles"]]
        yield Thing(kind="instance profile", id=entry["InstanceProfileId"], name=name, tags=tags, facts=str(roles))


def _unless(codes: set[str], call: Any, **params: Any) -> dict[str, Any]:
    """The answer; an empty one if the call fails with one of these codes."""
    try:
        answer: dict[str, Any] = call(**params)
    except ClientError as error:
        if error.response["Error"]["Code"] not in codes:
            raise
        return {}
    return answer


def _buckets(clients: Mapping[str, Any]) -> Iterator[Thing]:
    s3 = clients["s3"]
    for bucket in s3.list_buckets()["Buckets"]:
        name = bucket["Name"]
        tags = _tags(_unless({"NoSuchTagSet"}, s3.get_bucket_tagging, Bucket=name).get("TagSet"))
        policy = "Policy" in _unless({"NoSuchBucketPolicy"}, s3.get_bucket_policy, Bucket=name)
        versioning = s3.get_bucket_versioning(Bucket=name).get("Status", "")
        yield Thing(kind="bucket", id=name, name=name, tags=tags, facts=f"{versioning} {policy}")
        current = [entry["Key"] for entry in s3.list_objects_v2(Bucket=name).get("Contents", [])]
        for key in current:
            yield Thing(kind="object", id=f"{name}/{key}", name=key, parent=("bucket", name))


def _tables(clients: Mapping[str, Any]) -> Iterator[Thing]:
    dynamodb = clients["dynamodb"]
    for name in _pages(dynamodb, "list_tables", "TableNames"):
        table = dynamodb.describe_table(TableName=name)["Table"]
        tags = _tags(dynamodb.list_tags_of_resource(ResourceArn=table["TableArn"])["Tags"])
        ttl = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"].get("AttributeName", "")
        yield Thing(kind="table", id=name, name=name, tags=tags, facts=ttl)


def _queues(clients: Mapping[str, Any]) -> Iterator[Thing]:
    sqs = clients["sqs"]
    for url in _pages(sqs, "list_queues", "QueueUrls"):
        name = url.rpartition("/")[2]
        tags = sqs.list_queue_tags(QueueUrl=url).get("Tags", {})
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        facts = [attributes["VisibilityTimeout"], attributes["MessageRetentionPeriod"], "RedrivePolicy" in attributes]
        yield Thing(kind="queue", id=name, name=name, tags=tags, facts=str(facts))


def _parameters(clients: Mapping[str, Any]) -> Iterator[Thing]:
    for entry in _pages(clients["ssm"], "get_parameters_by_path", "Parameters", Path="/tinyllama", Recursive=True):
        # The value goes along as a tag, so that ids in it can be checked without being part of the shape.
        yield Thing(kind="parameter", id=entry["Name"], name=entry["Name"], tags={"value": entry["Value"]})


def _secrets(clients: Mapping[str, Any]) -> Iterator[Thing]:
    for entry in _pages(clients["secretsmanager"], "list_secrets", "SecretList", IncludePlannedDeletion=True):
        facts = f"{'scheduled' if entry.get('DeletedDate') else ''} {len(entry.get('SecretVersionsToStages') or {})}"
        yield Thing(kind="secret", id=entry["Name"], name=entry["Name"], tags=_tags(entry.get("Tags")), facts=facts)


def _pools(clients: Mapping[str, Any]) -> Iterator[Thing]:
    cognito = clients["cognito-idp"]
    for listed in _pages(cognito, "list_user_pools", "UserPools", MaxResults=60):
        pool = listed["Id"]
        described = cognito.describe_user_pool(UserPoolId=pool)["UserPool"]
        tags = described.get("UserPoolTags", {})
        parent = ("user pool", pool)
        if domain := described.get("Domain"):
            # Its last part is made of the env's name: another one in each env.
            yield Thing(kind="domain", id=domain, name=re.sub(r"[0-9a-f]{12}$", "*", domain), parent=parent)
        yield Thing(kind="user pool", id=pool, name=listed["Name"], tags=tags)
        for client in _pages(cognito, "list_user_pool_clients", "UserPoolClients", UserPoolId=pool):
            about = cognito.describe_user_pool_client(UserPoolId=pool, ClientId=client["ClientId"])["UserPoolClient"]
            facts = str((about.get("AccessTokenValidity"), sorted(about.get("ExplicitAuthFlows", []))))
            yield Thing(kind="client", id=client["ClientId"], name=client["ClientName"], parent=parent, facts=facts)
        for group in _pages(cognito, "list_groups", "Groups", UserPoolId=pool):
            yield Thing(kind="group", id=f"{pool}/{group['GroupName']}", name=group["GroupName"], parent=parent)
        for user in _pages(cognito, "list_users", "Users", UserPoolId=pool):
            name = user["Username"]
            groups = cognito.admin_list_groups_for_user(UserPoolId=pool, Username=name)["Groups"]
            facts = str((user["Enabled"], user["UserStatus"], [group["GroupName"] for group in groups]))
            yield Thing(kind="user", id=f"{pool}/{name}", name=name, parent=parent, facts=facts)


def _functions(clients: Mapping[str, Any]) -> Iterator[Thing]:
    client = clients["lambda"]
    for config in _pages(client, "list_functions", "Functions"):
        name, arn = config["FunctionName"], config["FunctionArn"]
        tags = client.list_tags(Resource=arn).get("Tags", {})
        variables = sorted(config.get("Environment", {}).get("Variables", {}))
        facts = str((config["CodeSha256"], config["MemorySize"], config["Timeout"], variables))
        yield Thing(kind="function", id=name, name=name, tags=tags, facts=facts)
        parent = ("function", name)
        versions: dict[str, str] = {}
        listed = _pages(client, "list_versions_by_function", "Versions", FunctionName=name)
        published = [entry for entry in listed if entry["Version"] != "$LATEST"]
        for version in sorted(published, key=lambda entry: int(entry["Version"])):
            content = version["CodeSha256"]
            # By content and not by number, which is history; but the same content twice in a row is one too many.
            twice = " again" if [*versions.values()][-1:] == [content] else ""
            versions[version["Version"]] = content
            yield Thing(kind="version", id=f"{name}:{version['Version']}", parent=parent, facts=f"{content}{twice}")
        for alias in _pages(client, "list_aliases", "Aliases", FunctionName=name):
            identity = f"{name}:{alias['Name']}"
            behind = str(versions.get(alias["FunctionVersion"]))
            yield Thing(kind="alias", id=identity, name=alias["Name"], parent=parent, facts=behind)
            yield from _statements(client, name, identity, Qualifier=alias["Name"])
        yield from _statements(client, name, name)


def _statements(client: Any, function: str, where: str, **qualifier: str) -> Iterator[Thing]:
    """Who may invoke a function, or one of its aliases."""
    policy = _unless({"ResourceNotFoundException"}, client.get_policy, FunctionName=function, **qualifier)
    for statement in json.loads(policy.get("Policy", '{"Statement":[]}'))["Statement"]:
        sid = statement["Sid"]
        facts = json.dumps(statement["Principal"], sort_keys=True)
        yield Thing(kind="statement", id=f"{where}:{sid}", name=sid, parent=("function", function), facts=facts)


def _apis(clients: Mapping[str, Any]) -> Iterator[Thing]:
    client = clients["apigatewayv2"]
    for api in _pages(client, "get_apis", "Items"):
        identity, parent = api["ApiId"], ("API", api["ApiId"])
        facts = str(api.get("CorsConfiguration", {}).get("AllowOrigins"))
        yield Thing(kind="API", id=identity, name=api["Name"], tags=api.get("Tags", {}), facts=facts)
        for route in _pages(client, "get_routes", "Items", ApiId=identity):
            facts = f"{route.get('AuthorizationType')} {bool(route.get('Target'))} {bool(route.get('AuthorizerId'))}"
            yield Thing(kind="route", id=route["RouteId"], name=route["RouteKey"], parent=parent, facts=facts)
        for integration in _pages(client, "get_integrations", "Items", ApiId=identity):
            facts = f"{integration['PayloadFormatVersion']} {integration['IntegrationUri'].rpartition(':')[2]}"
            yield Thing(kind="integration", id=integration["IntegrationId"], parent=parent, facts=facts)
        for authorizer in client.get_authorizers(ApiId=identity)["Items"]:
            yield Thing(kind="authorizer", id=authorizer["AuthorizerId"], name=authorizer["Name"], parent=parent)
        for stage in client.get_stages(ApiId=identity)["Items"]:
            limits = stage.get("DefaultRouteSettings", {}), stage.get("RouteSettings", {})
            facts = json.dumps([stage.get("AutoDeploy"), "AccessLogSettings" in stage, *limits], sort_keys=True)
            yield Thing(kind="stage", id=f"{identity}/{stage['StageName']}", name=stage["StageName"], parent=parent,
                        facts=facts)  # fmt: skip


def _log_groups(clients: Mapping[str, Any]) -> Iterator[Thing]:
    logs = clients["logs"]
    for group in _pages(logs, "describe_log_groups", "logGroups"):
        name = group["logGroupName"]
        arn = group["arn"].removesuffix(":*")
        tags = logs.list_tags_for_resource(resourceArn=arn)["tags"]
        yield Thing(kind="log group", id=name, name=name, tags=tags, facts=str(group.get("retentionInDays")))
        for entry in _pages(logs, "describe_metric_filters", "metricFilters", logGroupName=name):
            facts = f"{entry['filterPattern']} {[made['metricName'] for made in entry['metricTransformations']]}"
            identity = f"{name}:{entry['filterName']}"
            yield Thing(kind="metric filter", id=identity, name=entry["filterName"], parent=("log group", name),
                        facts=facts)  # fmt: skip


def _topics(clients: Mapping[str, Any]) -> Iterator[Thing]:
    sns = clients["sns"]
    for topic in _pages(sns, "list_topics", "Topics"):
        arn = topic["TopicArn"]
        name = arn.rpartition(":")[2]
        tags = _tags(sns.list_tags_for_resource(ResourceArn=arn)["Tags"])
        statements = json.loads(sns.get_topic_attributes(TopicArn=arn)["Attributes"]["Policy"])["Statement"]
        facts = str([statement.get("Principal") for statement in statements])
        yield Thing(kind="topic", id=name, name=name, tags=tags, facts=facts)
        for entry in _pages(sns, "list_subscriptions_by_topic", "Subscriptions", TopicArn=arn):
            whom = f"{entry['Protocol']} {entry['Endpoint']}"
            facts = "confirmed" if entry["SubscriptionArn"].startswith("arn:") else entry["SubscriptionArn"]
            yield Thing(kind="subscription", id=f"{name}:{whom}", name=whom, parent=("topic", name), facts=facts)


def _budgets(clients: Mapping[str, Any]) -> Iterator[Thing]:
    client, account = clients["budgets"], "123456789012"
    for budget in _pages(client, "describe_budgets", "Budgets", AccountId=account, ShowFilterExpression=True):
        name = budget["BudgetName"]
        arn = f"arn:aws:budgets::{account}:budget/{name}"
        tags = _tags(client.list_tags_for_resource(ResourceARN=arn)["ResourceTags"])
        about = {"AccountId": account, "BudgetName": name}
        notices = [
            (notice["NotificationType"], notice["Threshold"])
            for notice in _pages(client, "describe_notifications_for_budget", "Notifications", **about)
        ]
        facts = str((budget["BudgetLimit"], sorted(notices), "FilterExpression" in budget))
        yield Thing(kind="budget", id=name, name=name, tags=tags, facts=facts)


def _rules(clients: Mapping[str, Any]) -> Iterator[Thing]:
    events = clients["events"]
    for rule in _pages(events, "list_rules", "Rules"):
        name = rule["Name"]
        tags = _tags(events.list_tags_for_resource(ResourceARN=rule["Arn"])["Tags"])
        listed = _pages(events, "list_targets_by_rule", "Targets", Rule=name)
        targets = [target["Arn"].partition(":function:")[2] for target in listed]
        facts = str((rule.get("ScheduleExpression"), rule["State"], targets))
        yield Thing(kind="rule", id=name, name=name, tags=tags, facts=facts)


def _schedules(clients: Mapping[str, Any]) -> Iterator[Thing]:
    scheduler = clients["scheduler"]
    for group in _pages(scheduler, "list_schedule_groups", "ScheduleGroups"):
        tags = _tags(scheduler.list_tags_for_resource(ResourceArn=group["Arn"])["Tags"])
        yield Thing(kind="schedule group", id=group["Name"], name=group["Name"], tags=tags)
    for listed in _pages(scheduler, "list_schedules", "Schedules"):
        group, name = listed["GroupName"], listed["Name"]
        about = scheduler.get_schedule(GroupName=group, Name=name)
        facts = str((about["ScheduleExpression"], about["State"], about["Target"]["Arn"].partition(":function:")[2]))
        yield Thing(kind="schedule", id=f"{group}/{name}", name=name, parent=("schedule group", group), facts=facts)


def _alarms(clients: Mapping[str, Any]) -> Iterator[Thing]:
    cloudwatch = clients["cloudwatch"]
    for alarm in _pages(cloudwatch, "describe_alarms", "MetricAlarms"):
        name = alarm["AlarmName"]
        tags = _tags(cloudwatch.list_tags_for_resource(ResourceARN=alarm["AlarmArn"])["Tags"])
        watched = alarm.get("MetricName") or [query.get("Expression") for query in alarm["Metrics"]]
        facts = str((watched, alarm["Threshold"], alarm.get("Period"), len(alarm["AlarmActions"])))
        yield Thing(kind="alarm", id=name, name=name, tags=tags, facts=facts)


def _dashboards(clients: Mapping[str, Any]) -> Iterator[Thing]:
    cloudwatch = clients["cloudwatch"]
    for entry in _pages(cloudwatch, "list_dashboards", "DashboardEntries"):
        name = entry["DashboardName"]
        tags = _tags(cloudwatch.list_tags_for_resource(ResourceARN=entry["DashboardArn"])["Tags"])
        body = json.loads(cloudwatch.get_dashboard(DashboardName=name)["DashboardBody"])
        facts = str([widget["properties"].get("title") for widget in body["widgets"]])
        yield Thing(kind="dashboard", id=name, name=name, tags=tags, facts=facts)


def _delivery(clients: Mapping[str, Any]) -> Iterator[Thing]:
    builds, connections, ecr, iam = (clients[name] for name in ("codebuild", "codeconnections", "ecr", "iam"))
    for name in _pages(builds, "list_projects", "projects"):
        for project in builds.batch_get_projects(names=[name])["projects"]:
            tags = {tag["key"]: tag["value"] for tag in project.get("tags") or []}
            facts = str((project["source"]["location"], project["environment"]["image"], project["timeoutInMinutes"]))
            yield Thing(kind="build project", id=name, name=name, tags=tags, facts=facts)
    for entry in connections.list_connections(MaxResults=100)["Connections"]:
        arn = entry["ConnectionArn"]
        tags = _tags(connections.list_tags_for_resource(ResourceArn=arn)["Tags"])
        yield Thing(kind="connection", id=arn, name=entry["ConnectionName"], tags=tags, facts=entry["ConnectionStatus"])
    for entry in _pages(ecr, "describe_repositories", "repositories"):
        name = entry["repositoryName"]
        tags = _tags(ecr.list_tags_for_resource(resourceArn=entry["repositoryArn"])["tags"])
        policy = _unless({"LifecyclePolicyNotFoundException"}, ecr.get_lifecycle_policy, repositoryName=name)
        facts = str((entry["imageScanningConfiguration"], policy.get("lifecyclePolicyText")))
        yield Thing(kind="image repository", id=name, name=name, tags=tags, facts=facts)
    for entry in iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]:
        provider = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=entry["Arn"])
        facts = f"{provider['Url']} {sorted(provider['ClientIDList'])}"
        yield Thing(kind="identity provider", id=entry["Arn"], tags=_tags(provider.get("Tags")), facts=facts)


Listing = Callable[[Mapping[str, Any]], Iterator[Thing]]

LISTINGS: Final[tuple[Listing, ...]] = (
    _network, _instances, _key_pairs, _roles, _profiles, _buckets, _tables, _queues, _pools, _functions, _apis,
    _log_groups, _parameters, _topics, _budgets, _rules, _schedules, _alarms, _dashboards, _secrets, _delivery,
)  # fmt: skip

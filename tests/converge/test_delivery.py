"""What delivers from GitHub: made, repaired, removed, told apart from strangers', and shared where AWS has just one."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from converge_engine import ACCOUNT, REGION, Engine, key_of
from lost_answers import lose_answers
from perturb_delivery import PERTURB

from aistratus import policies
from aistratus.cloud import Cloud
from aistratus.core.errors import Failure, Stranger
from aistratus.core.execute import owned
from aistratus.core.resource import Found, Ref, Resource
from aistratus.policies import Names
from aistratus.resources.codebuild import BuildProject, owned_projects
from aistratus.resources.connections import Connection, owned_connections
from aistratus.resources.ecr import Repository, owned_repositories
from aistratus.resources.iam import Role
from aistratus.resources.oidc import OidcProvider, owned_providers, provider_arn
from aistratus.trace import Meter

URL = "https://token.actions.githubusercontent.com"


def stack(aws: Cloud, **project: Any) -> list[Resource]:
    names = Names("aws", ACCOUNT, REGION, aws.env)
    connection = Connection(key="github_connection", name="git")
    inline = policies.deploy(names, function="router", log_group="/builds", connection=Ref(connection, "arn"))
    role = Role(key="deploy_role", trust=policies.trust("codebuild.amazonaws.com"), inline={"deploy": inline})
    build = BuildProject(
        **{
            "key": "deploy_project",
            "name": "deploy",
            "repository": "owner/name",
            "buildspec": "scripts/buildspec.yml",
            "connection": Ref(connection, "arn"),
            "role": Ref(role, "arn"),
            "environment": {"AISTRATUS_ENV": aws.env},
            "log_group": "/builds",
            **project,
        }
    )
    return [build, role, connection, Repository(key="builder_images", name="builder")]


def provider(url: str = URL) -> OidcProvider:
    return OidcProvider(key="github_tokens", url=url, audiences=("sts.amazonaws.com",))


def with_role(aws: Cloud, url: str) -> list[Resource]:
    """A provider, and a role that trusts it."""
    trust = policies.github_trust(Names("aws", ACCOUNT, REGION, aws.env), repository="owner/name")
    trust["Statement"][0]["Principal"]["Federated"] = provider_arn(aws, url)
    return [provider(url), Role(key="github_role", trust=trust, after=(Ref(provider(url)),))]


def complete(aws: Cloud) -> str:
    """Does what a person does in the console; gives the connection's ARN."""
    arn: str = owned_connections(aws.fresh())[0].ids["arn"]
    request = urllib.request.Request(
        f"{aws.codeconnections.meta.endpoint_url}/",
        json.dumps({"ConnectionArn": arn}).encode(),
        {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": "com.amazonaws.codeconnections.CodeConnections_20231201.UpdateConnectionInstallation",
            "Authorization": f"AWS4-HMAC-SHA256 Credential=a/20260101/{REGION}/codeconnections/aws4_request, "
            "SignedHeaders=host, Signature=0",
        },
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.status == 200
    return arn


def found_by_key(engine: Engine, resources: list[Resource], key: str) -> Found:
    found = next(change.found for change in engine.plan(*resources).changes if change.key == key)
    assert found is not None
    return found


def test_up_makes_them_as_described_and_up_again_changes_nothing(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    project = aws.codebuild.batch_get_projects(names=[aws.name("deploy")])["projects"][0]
    assert project["source"]["location"] == "https://github.com/owner/name.git"
    assert project["artifacts"] == {"type": "NO_ARTIFACTS"}
    assert project["environment"]["type"] == "ARM_CONTAINER"
    assert project["timeoutInMinutes"] == 15
    repository = aws.ecr.describe_repositories(repositoryNames=[aws.name("builder")])["repositories"][0]
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
    assert repository["encryptionConfiguration"] == {"encryptionType": "AES256"}
    policy = json.loads(aws.ecr.get_lifecycle_policy(repositoryName=aws.name("builder"))["lifecyclePolicyText"])
    assert policy["rules"][0]["selection"]["countNumber"] == 5
    assert engine.plan(*stack(aws)).empty


@pytest.mark.parametrize(
    ("kind", "field"),
    [entry for entry in PERTURB if entry[0] is not OidcProvider],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_change_from_outside_is_shown_and_repaired(standing: Engine, kind: type, field: str) -> None:
    resources = stack(standing.aws)
    standing.assert_repairs(resources, key_of(resources, kind), field, PERTURB[kind, field])


def test_a_lifecycle_policy_that_means_the_same_is_the_same(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    selection = {"countNumber": 5, "countType": "imageCountMoreThan", "tagStatus": "any"}
    rule = {"action": {"type": "expire"}, "rulePriority": 7, "selection": selection}
    name = aws.name("builder")
    aws.ecr.put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=json.dumps({"rules": [rule]}, indent=1))
    assert engine.plan(*stack(aws)).empty
    more = [rule, {**rule, "rulePriority": 8, "selection": {**selection, "tagStatus": "untagged"}}]
    aws.ecr.put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=json.dumps({"rules": more}))
    assert engine.differences(*stack(aws)) == {"builder_images": {"keep"}}


def test_others_tags_on_a_project_stay(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    foreign = [{"key": "Team", "value": "theirs"}]
    project = aws.codebuild.batch_get_projects(names=[aws.name("deploy")])["projects"][0]
    kept = [tag for tag in project["tags"] if tag["key"] != "ManagedBy"]
    aws.codebuild.update_project(name=project["name"], tags=kept + foreign)
    engine.up(*stack(aws))
    tags = found_by_key(engine, stack(aws), "deploy_project").tags
    assert tags == {**aws.tags("deploy_project"), "Team": "theirs"}


# --- the connection that waits for a person -----------------------------------------------------------------------


def test_a_pending_connection_says_what_to_click_and_holds_nothing_up(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    found = found_by_key(engine, stack(aws), "github_connection")
    assert found.health == "pending"
    assert f"https://{REGION}.console.aws.amazon.com/codesuite/settings/connections" in found.todo
    assert aws.name("git") in found.todo
    project = aws.codebuild.batch_get_projects(names=[aws.name("deploy")])["projects"][0]
    assert "auth" not in project["source"]


def test_a_completed_connection_reaches_the_project_with_the_next_up_and_comes_back(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    arn = complete(aws)
    assert engine.differences(*stack(aws)) == {"deploy_project": {"connection"}}
    engine.up(*stack(aws))
    assert engine.plan(*stack(aws)).empty
    name = aws.name("deploy")
    source = aws.codebuild.batch_get_projects(names=[name])["projects"][0]["source"]
    assert source["auth"] == {"type": "CODECONNECTIONS", "resource": arn}
    found = found_by_key(engine, stack(aws), "github_connection")
    assert (found.health, found.todo) == ("ok", "")

    aws.codebuild.update_project(name=name, source={**source, "auth": {"type": "SECRETS_MANAGER", "resource": "x"}})
    assert engine.differences(*stack(aws)) == {"deploy_project": {"connection"}}
    engine.up(*stack(aws))
    assert engine.plan(*stack(aws)).empty


def test_a_connection_of_ones_own_is_used_and_never_touched(aws: Cloud, engine: Engine) -> None:
    own = aws.codeconnections.create_connection(ConnectionName="mine", ProviderType="GitHub")["ConnectionArn"]
    names = Names("aws", ACCOUNT, REGION, aws.env)
    inline = policies.deploy(names, function="router", log_group="/builds", connection=own)
    role = Role(key="deploy_role", trust=policies.trust("codebuild.amazonaws.com"), inline={"deploy": inline})
    project = BuildProject(
        key="deploy_project", name="deploy", repository="o/n", buildspec="b.yml", connection=own, role=Ref(role, "arn"),
        log_group="/builds",
    )  # fmt: skip
    engine.up(role, project)
    assert engine.plan(role, project).empty
    assert engine.down(role, project).ok
    assert aws.codeconnections.get_connection(ConnectionArn=own)["Connection"]["ConnectionName"] == "mine"
    aws.codeconnections.delete_connection(ConnectionArn=own)


# --- down, strangers, leftovers -------------------------------------------------------------------------------------


def test_down_removes_them_with_their_images_and_up_makes_them_again(aws: Cloud, engine: Engine) -> None:
    engine.up(*stack(aws))
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "layers": []}
    aws.ecr.put_image(repositoryName=aws.name("builder"), imageManifest=json.dumps(manifest), imageTag="latest")
    assert engine.down(*stack(aws)).ok
    assert owned(aws.fresh()) == []
    engine.up(*stack(aws))
    assert engine.down(*stack(aws)).ok


def test_lost_answers_make_nothing_twice(aws: Cloud, engine: Engine, url: str) -> None:
    resources = [*stack(aws), *with_role(aws, url)]
    lost = [lose_answers(aws, service) for service in ("codebuild", "codeconnections", "ecr", "iam")]
    engine.up(*resources)
    assert {"CreateProject", "CreateConnection", "CreateRepository", "CreateOpenIDConnectProvider"} <= {
        name for names in lost for name in names
    }
    assert len(owned_connections(aws.fresh())) == 1
    assert engine.plan(*resources).empty
    assert engine.down(*resources).ok
    assert owned(aws.fresh()) == []


def test_what_has_our_name_without_our_tags_is_refused_and_left_alone(aws: Cloud, engine: Engine) -> None:
    trust = json.dumps(policies.trust("codebuild.amazonaws.com"))
    role = aws.iam.create_role(RoleName=f"theirs-{aws.env}", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    aws.codebuild.create_project(
        name=aws.name("deploy"), source={"type": "GITHUB", "location": "https://github.com/a/b"},
        artifacts={"type": "NO_ARTIFACTS"}, serviceRole=role,
        environment={"type": "ARM_CONTAINER", "image": "x", "computeType": "BUILD_GENERAL1_SMALL"},
    )  # fmt: skip
    aws.ecr.create_repository(repositoryName=aws.name("builder"))
    arn = aws.codeconnections.create_connection(ConnectionName=aws.name("git"), ProviderType="GitHub")["ConnectionArn"]
    planned = engine.plan(*stack(aws))
    assert {key: type(error) for key, error in planned.survey.failed.items()} == dict.fromkeys(
        ("deploy_project", "builder_images", "github_connection"), Stranger
    )
    assert engine.down(*stack(aws)).failures
    assert aws.codebuild.batch_get_projects(names=[aws.name("deploy")])["projects"]
    assert aws.ecr.describe_repositories(repositoryNames=[aws.name("builder")])["repositories"]
    aws.codeconnections.delete_connection(ConnectionArn=arn)


def test_owned_finds_what_an_older_description_left(aws: Cloud, engine: Engine) -> None:
    older = [Repository(key="old_images", name="old"), Connection(key="old_connection", name="old")]
    engine.up(*stack(aws), *older)
    assert {found.state.key for found in owned_repositories(aws.fresh())} == {"builder_images", "old_images"}
    assert {found.state.key for found in owned_connections(aws.fresh())} == {"github_connection", "old_connection"}
    assert [found.state.key for found in owned_projects(aws.fresh())] == ["deploy_project"]
    assert engine.down(*stack(aws)).ok
    assert owned(aws.fresh()) == []


def test_of_two_connections_with_one_name_the_completed_one_counts(aws: Cloud, engine: Engine) -> None:
    """A create whose answer got lost for good can leave a second one."""
    engine.up(*stack(aws))
    arn = complete(aws)
    tags = [{"Key": name, "Value": value} for name, value in aws.tags("github_connection").items()]
    aws.codeconnections.create_connection(ConnectionName=aws.name("git"), ProviderType="GitHub", Tags=tags)
    assert found_by_key(engine, stack(aws), "github_connection").id == arn
    assert engine.down(*stack(aws)).ok
    assert owned_connections(aws.fresh()) == []


# --- the identity provider, of which an account has one -----------------------------------------------------------


@pytest.fixture
def url(aws: Cloud) -> Iterator[str]:
    """An address that no other test shares."""
    yield f"https://{aws.env}.example.com"


def provider_tags(aws: Cloud, url: str) -> dict[str, str]:
    answer = aws.iam.get_open_id_connect_provider(OpenIDConnectProviderArn=provider_arn(aws, url))
    return {tag["Key"]: tag["Value"] for tag in answer["Tags"]}


def engine_of(aws: Cloud) -> Engine:
    return Engine(aws, Meter())


@pytest.mark.parametrize("field", ["audiences", "tags"])
def test_a_provider_of_ours_is_repaired_and_removed(aws: Cloud, engine: Engine, url: str, field: str) -> None:
    resources = with_role(aws, url)
    engine.up(*resources)
    assert provider_tags(aws, url) == aws.tags("github_tokens")
    PERTURB[OidcProvider, field](aws, found_by_key(engine, resources, "github_tokens"))
    assert engine.differences(*resources) == {"github_tokens": {field}}
    engine.up(*resources)
    assert engine.plan(*resources).empty
    assert engine.down(*resources).ok
    assert owned_providers(aws.fresh()) == []
    listed = aws.iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]
    assert provider_arn(aws, url) not in {row["Arn"] for row in listed}


def test_a_provider_that_was_there_is_adopted_and_never_changed_or_removed(
    aws: Cloud, engine: Engine, url: str
) -> None:
    tags = [{"Key": "Team", "Value": "theirs"}]
    aws.iam.create_open_id_connect_provider(Url=url, ClientIDList=["theirs", "sts.amazonaws.com"], Tags=tags)
    resources = with_role(aws, url)
    engine.up(*resources)
    assert engine.plan(*resources).empty
    assert found_by_key(engine, resources, "github_tokens").adopted
    down = engine.down(*resources)
    assert down.ok
    assert [change.key for change in down.changes] == ["github_role"]
    answer = aws.iam.get_open_id_connect_provider(OpenIDConnectProviderArn=provider_arn(aws, url))
    assert sorted(answer["ClientIDList"]) == ["sts.amazonaws.com", "theirs"]
    assert provider_tags(aws, url) == {"Team": "theirs"}


def test_an_adopted_provider_without_our_audience_is_told_and_left_as_it_is(
    aws: Cloud, engine: Engine, url: str
) -> None:
    aws.iam.create_open_id_connect_provider(Url=url, ClientIDList=["theirs"])
    outcome = engine.try_up(*with_role(aws, url))
    error = next(change.error for change in outcome.failures if change.key == "github_tokens")
    assert isinstance(error, Failure)
    assert "doesn't take the audience sts.amazonaws.com" in str(error)
    answer = aws.iam.get_open_id_connect_provider(OpenIDConnectProviderArn=provider_arn(aws, url))
    assert answer["ClientIDList"] == ["theirs"]


def test_the_env_that_made_the_provider_leaves_it_to_the_env_that_uses_it(
    aws: Cloud, engine: Engine, url: str, another_env: Callable[[str], Cloud]
) -> None:
    first, second = with_role(aws, url), another_env(f"{aws.env}2")
    engine.up(*first)
    beside = with_role(second, url)
    engine_of(second).up(*beside)
    assert provider_tags(aws, url)["Env"] == aws.env
    assert engine.down(*first).ok
    assert provider_tags(aws, url) == second.tags("github_tokens")
    assert engine_of(second).plan(*beside).empty
    assert engine_of(second).down(*beside).ok
    assert owned_providers(aws.fresh()) == owned_providers(second.fresh()) == []
    listed = aws.iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]
    assert provider_arn(aws, url) not in {row["Arn"] for row in listed}


def test_a_provider_that_a_strangers_role_trusts_is_let_go_of(aws: Cloud, engine: Engine, url: str) -> None:
    resources = with_role(aws, url)
    engine.up(*resources)
    trust = {"Effect": "Allow", "Principal": {"Federated": provider_arn(aws, url)}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    aws.iam.create_role(RoleName=f"theirs-{aws.env}", AssumeRolePolicyDocument=document)
    assert engine.down(*resources).ok
    assert provider_tags(aws, url) == {}
    assert owned_providers(aws.fresh()) == []
    engine.up(*resources)
    assert found_by_key(engine, resources, "github_tokens").adopted

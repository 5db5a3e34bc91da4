"""What delivers, as the embedded cloud has it: what moto lacks, and AWS's own limits."""

from __future__ import annotations

import json

from embedded_cloud_parts import BUILD_ENVIRONMENT, Connect, build_project, complete_connection, refused, unique


def test_an_update_changes_what_it_names_and_keeps_the_rest(connect: Connect) -> None:
    builds, wanted = connect("codebuild"), build_project(connect, description="before", timeoutInMinutes=10)
    made = builds.create_project(**wanted)["project"]
    assert (made["timeoutInMinutes"], made["queuedTimeoutInMinutes"]) == (10, 480)
    builds.update_project(name=wanted["name"], description="after", source={**wanted["source"], "buildspec": "b.yml"})
    changed = builds.batch_get_projects(names=[wanted["name"]])["projects"][0]
    assert (changed["description"], changed["source"]["buildspec"]) == ("after", "b.yml")
    assert (changed["timeoutInMinutes"], changed["environment"]) == (10, BUILD_ENVIRONMENT)
    assert refused(builds.update_project, name=unique()) == "ResourceNotFoundException"


def test_a_build_projects_name_has_letters_digits_dashes_and_underscores(connect: Connect) -> None:
    builds = connect("codebuild")
    for name in ("a.b", "a b", "a" * 151):
        assert refused(builds.create_project, **build_project(connect, name=name)) == "InvalidInputException"
    builds.create_project(**build_project(connect, name=f"{unique('x')}_a"))


def test_a_connection_is_pending_until_a_person_completes_it(connect: Connect) -> None:
    connections, name = connect("codeconnections"), unique()
    assert refused(connections.create_connection, ConnectionName="x" * 33) == "ValidationException"
    tags = [{"Key": "a", "Value": "1"}]
    arn = connections.create_connection(ConnectionName=name, ProviderType="GitHub", Tags=tags)["ConnectionArn"]
    assert connections.get_connection(ConnectionArn=arn)["Connection"]["ConnectionStatus"] == "PENDING"
    complete_connection(connect, arn)
    assert connections.get_connection(ConnectionArn=arn)["Connection"]["ConnectionStatus"] == "AVAILABLE"
    connections.tag_resource(ResourceArn=arn, Tags=[{"Key": "b", "Value": "2"}])
    connections.untag_resource(ResourceArn=arn, TagKeys=["a"])
    assert connections.list_tags_for_resource(ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": "2"}]
    connections.delete_connection(ConnectionArn=arn)
    for call in (connections.get_connection, connections.delete_connection):
        assert refused(call, ConnectionArn=arn) == "ResourceNotFoundException"


def test_connections_are_listed_in_pages(connect: Connect) -> None:
    connections = connect("codeconnections")
    made = {
        connections.create_connection(ConnectionName=unique(), ProviderType="GitHub")["ConnectionArn"] for _ in range(3)
    }
    listed, more = set(), {}
    while True:
        page = connections.list_connections(MaxResults=2, **more)
        assert len(page["Connections"]) <= 2
        listed |= {row["ConnectionArn"] for row in page["Connections"]}
        if "NextToken" not in page:
            break
        more = {"NextToken": page["NextToken"]}
    assert made <= listed


def test_a_repository_with_images_is_only_removed_by_force(connect: Connect) -> None:
    ecr, name = connect("ecr"), unique("images")
    ecr.create_repository(repositoryName=name)
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "layers": []}
    ecr.put_image(repositoryName=name, imageManifest=json.dumps(manifest), imageTag="latest")
    assert refused(ecr.delete_repository, repositoryName=name) == "RepositoryNotEmptyException"
    ecr.delete_repository(repositoryName=name, force=True)


def test_audiences_of_an_identity_provider_come_and_go(connect: Connect) -> None:
    iam, url = connect("iam"), f"https://{unique()}.example.com"
    arn = iam.create_open_id_connect_provider(Url=url, ClientIDList=["one"])["OpenIDConnectProviderArn"]
    iam.add_client_id_to_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID="two")
    iam.remove_client_id_from_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID="one")
    assert iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)["ClientIDList"] == ["two"]

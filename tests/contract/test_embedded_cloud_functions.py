"""Lambda in the embedded cloud: code that runs, and configuration kept the way AWS keeps it."""

from __future__ import annotations

import base64
import json

from embedded_cloud_parts import HANDLER, Connect, function, refused, role, unique, zipped


def test_an_invocation_runs_the_deployed_code(connect: Connect) -> None:
    name = function(connect, Environment={"Variables": {"X": "1"}})
    answer = connect("lambda").invoke(FunctionName=name, Payload=json.dumps({"a": "ä"}), LogType="Tail")
    assert json.loads(answer["Payload"].read()) == {"event": {"a": "ä"}, "version": "$LATEST", "x": "1"}
    assert (answer["StatusCode"], answer["ExecutedVersion"]) == (200, "$LATEST")
    assert "a line of the function" in base64.b64decode(answer["LogResult"]).decode()


def test_a_handler_that_raises_is_a_function_error(connect: Connect) -> None:
    answer = connect("lambda").invoke(FunctionName=function(connect), Payload=b'{"fail": true}')
    assert answer["FunctionError"] == "Unhandled"
    assert json.loads(answer["Payload"].read())["errorMessage"] == "asked to"


def test_an_alias_runs_the_version_that_it_points_to(connect: Connect) -> None:
    client, name = connect("lambda"), function(connect)
    version = client.publish_version(FunctionName=name)["Version"]
    client.create_alias(FunctionName=name, Name="live", FunctionVersion=version)
    client.update_function_code(FunctionName=name, ZipFile=zipped({"code.py": HANDLER.replace('"x"', '"y"')}))
    old = json.loads(client.invoke(FunctionName=name, Qualifier="live", Payload=b"{}")["Payload"].read())
    new = json.loads(client.invoke(FunctionName=name, Payload=b"{}")["Payload"].read())
    assert (old["version"], "x" in old, "y" in new) == (version, True, True)


def test_an_unknown_function_is_not_found(connect: Connect) -> None:
    assert refused(connect("lambda").invoke, FunctionName=unique()) == "ResourceNotFoundException"


def test_asynchronous_and_dry_invocations_answer_as_such(connect: Connect) -> None:
    client, name = connect("lambda"), function(connect)
    codes = [client.invoke(FunctionName=name, InvocationType=kind)["StatusCode"] for kind in ("Event", "DryRun")]
    assert codes == [202, 204]


def test_publishing_what_is_published_gives_the_same_version(connect: Connect) -> None:
    client, name = connect("lambda"), function(connect)

    def publish() -> str:
        version: str = client.publish_version(FunctionName=name)["Version"]
        return version

    assert [publish(), publish()] == ["1", "1"]
    client.update_function_configuration(FunctionName=name, Timeout=9)
    assert [publish(), publish()] == ["2", "2"]
    client.delete_function(FunctionName=name, Qualifier="2")
    client.update_function_configuration(FunctionName=name, Timeout=10)
    assert publish() == "3"


def test_a_version_can_be_tied_to_a_digest(connect: Connect) -> None:
    code = refused(connect("lambda").publish_version, FunctionName=function(connect), CodeSha256="another")
    assert code == "InvalidParameterValueException"


def test_updates_take_effect_field_by_field(connect: Connect) -> None:
    client, name = connect("lambda"), function(connect, Environment={"Variables": {"X": "1"}})
    client.update_function_configuration(
        FunctionName=name,
        EphemeralStorage={"Size": 600},
        Environment={"Variables": {}},
        TracingConfig={"Mode": "Active"},
        LoggingConfig={"LogFormat": "JSON"},
    )
    client.update_function_code(FunctionName=name, ZipFile=zipped({"code.py": "pass"}), Architectures=["arm64"])
    found = client.get_function_configuration(FunctionName=name)
    assert found["EphemeralStorage"] == {"Size": 600}
    assert "Environment" not in found
    assert (found["TracingConfig"], found["Architectures"]) == ({"Mode": "Active"}, ["arm64"])
    assert found["LoggingConfig"] == {"LogFormat": "JSON", "LogGroup": f"/aws/lambda/{name}"}
    assert (found["State"], found["LastUpdateStatus"]) == ("Active", "Successful")


def test_a_statement_id_is_used_once_for_each_qualifier(connect: Connect) -> None:
    client, name = connect("lambda"), function(connect)
    version = client.publish_version(FunctionName=name)["Version"]
    client.create_alias(FunctionName=name, Name="live", FunctionVersion=version)
    statement = {
        "FunctionName": name,
        "StatementId": "api",
        "Action": "lambda:InvokeFunction",
        "Principal": "apigateway.amazonaws.com",
    }
    client.add_permission(**statement, Qualifier="live")
    assert refused(client.add_permission, **statement, Qualifier="live") == "ResourceConflictException"
    assert refused(client.get_policy, FunctionName=name) == "ResourceNotFoundException"
    client.add_permission(**statement)
    policy = json.loads(client.get_policy(FunctionName=name, Qualifier="live")["Policy"])
    assert [one["Resource"].rsplit(":", 1)[1] for one in policy["Statement"]] == ["live"]
    client.remove_permission(FunctionName=name, StatementId="api", Qualifier="live")
    assert refused(client.get_policy, FunctionName=name, Qualifier="live") == "ResourceNotFoundException"
    assert json.loads(client.get_policy(FunctionName=name)["Policy"])["Statement"]


def test_names_are_taken_once(connect: Connect) -> None:
    client, name = connect("lambda"), function(connect)
    again = {
        "FunctionName": name,
        "Role": role(connect),
        "Runtime": "python3.13",
        "Handler": "code.handle",
        "Code": {"ZipFile": zipped({"code.py": HANDLER})},
    }
    assert refused(client.create_function, **again) == "ResourceConflictException"
    alias = {"FunctionName": name, "Name": "live", "FunctionVersion": "$LATEST"}
    client.create_alias(**alias)
    assert refused(client.create_alias, **alias) == "ResourceConflictException"


def test_provisioned_concurrency_needs_a_version_or_an_alias(connect: Connect) -> None:
    client, name = connect("lambda"), function(connect)
    version = client.publish_version(FunctionName=name)["Version"]
    wanted = {"FunctionName": name, "ProvisionedConcurrentExecutions": 2}
    assert (
        refused(client.put_provisioned_concurrency_config, Qualifier="$LATEST", **wanted)
        == "InvalidParameterValueException"
    )
    client.put_provisioned_concurrency_config(Qualifier=version, **wanted)
    found = client.get_provisioned_concurrency_config(FunctionName=name, Qualifier=version)
    assert (found["RequestedProvisionedConcurrentExecutions"], found["Status"]) == (2, "READY")
    client.delete_provisioned_concurrency_config(FunctionName=name, Qualifier=version)
    assert (
        refused(client.get_provisioned_concurrency_config, FunctionName=name, Qualifier=version)
        == "ProvisionedConcurrencyConfigNotFoundException"
    )


def test_the_account_has_settings(connect: Connect) -> None:
    assert connect("lambda").get_account_settings()["AccountLimit"]["ConcurrentExecutions"] == 1000

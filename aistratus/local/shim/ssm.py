"""Systems Manager: Run Command that runs, managed instances, and the public parameters of GPU images.

moto's `SendCommand` succeeds at once without running anything, also on instances that don't exist. Here the whole
of Run Command is `local/ssm_executor.py`; this file speaks the API.
"""

from __future__ import annotations

import datetime
import uuid
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models import ec2_backends
from moto.ssm.exceptions import SSMException
from moto.ssm.models import Parameter, ParameterDict
from moto.ssm.responses import SimpleSystemManagerResponse

from aistratus.local import ssm_executor
from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.ec2 import DEEP_LEARNING, deep_learning_image
from aistratus.local.shim.patching import add, wrap
from aistratus.local.sshd import PORT
from aistratus.local.ssm_executor import Command, Executor, Invocation

SSH_SESSION = "AWS-StartSSHSession"
AGENT_VERSION = "3.3.2299.0"


def patch(cloud: Cloud) -> None:
    executor = Executor(cloud.nodes)
    _send(cloud, executor)
    _invocations(executor)
    _cancel(executor)
    _sessions(cloud)
    _managed_instances(cloud)
    _image_parameters()
    _document()


def _error(code: str, message: str) -> SSMException:
    return SSMException(code, message)


def _send(cloud: Cloud, executor: Executor) -> None:
    """SendCommand to instances, named or by tag, that are running."""

    @wrap(SimpleSystemManagerResponse, "send_command")
    def send_command(original: Any, self: Any) -> ActionResult:
        if self._get_param("DocumentName") not in (
            ssm_executor.DOCUMENT,
            f"arn:aws:ssm:{self.region}::document/{ssm_executor.DOCUMENT}",
        ):
            raise _error("InvalidDocument", f"Document with name {self._get_param('DocumentName')} does not exist.")
        parameters = {name: list(values) for name, values in (self._get_param("Parameters") or {}).items()}
        unknown = set(parameters) - {"commands", "workingDirectory", "executionTimeout"}
        if unknown or not parameters.get("commands"):
            raise _error("InvalidParameters", f"Invalid parameters: {', '.join(sorted(unknown)) or 'commands'}")
        instance_ids = targets_of(self, cloud)
        command = executor.send(
            region=self.region,
            instance_ids=instance_ids,
            comment=self._get_param("Comment", ""),
            parameters=parameters,
            timeout_s=self._get_int_param("TimeoutSeconds") or 3600,
            bucket=self._get_param("OutputS3BucketName"),
            prefix=self._get_param("OutputS3KeyPrefix") or "",
        )
        return ActionResult({"Command": _command(command)})

    @wrap(SimpleSystemManagerResponse, "list_commands")
    def list_commands(original: Any, self: Any) -> ActionResult:
        wanted, instance_id = self._get_param("CommandId"), self._get_param("InstanceId")
        commands = [executor.find(wanted)] if wanted else executor.all(self.region)
        if commands == [None]:
            raise _error("InvalidCommandId", f"Command {wanted} does not exist.")
        found = [one for one in commands if one and (not instance_id or instance_id in one.invocations)]
        return ActionResult({"Commands": [_command(one) for one in found]})


def targets_of(self: Any, cloud: Cloud) -> list[str]:
    """Ids of the running instances that a SendCommand request names; InvalidInstanceId if one can't be reached."""
    named = list(self._get_param("InstanceIds") or [])
    for target in self._get_param("Targets") or []:
        if target["Key"] == "InstanceIds":
            named += target["Values"]
        else:
            instances = ec2_backends[cloud.account][self.region].all_instances()
            key = target["Key"].removeprefix("tag:")
            named += [
                one.id
                for one in instances
                if one.state == "running"
                and any(tag["key"] == key and tag["value"] in target["Values"] for tag in one.get_tags())
            ]
    absent = [one for one in named if cloud.nodes.running(one) is None]
    if absent:
        raise _error(
            "InvalidInstanceId", f"Instances [[{', '.join(absent)}]] not in a valid state for account {cloud.account}"
        )
    return list(dict.fromkeys(named))


def _invocations(executor: Executor) -> None:
    @wrap(SimpleSystemManagerResponse, "get_command_invocation")
    def get_command_invocation(original: Any, self: Any) -> ActionResult:
        command = executor.find(self._get_param("CommandId"))
        invocation = command.invocations.get(self._get_param("InstanceId")) if command else None
        plugin = self._get_param("PluginName")
        if command is None or invocation is None or plugin not in (None, ssm_executor.PLUGIN):
            raise _error(
                "InvocationDoesNotExist",
                "The command ID and managed node ID you specified didn't match any invocations.",
            )
        return ActionResult(_invocation(command, invocation))

    @add(SimpleSystemManagerResponse)
    def list_command_invocations(self: Any) -> ActionResult:
        wanted, instance_id = self._get_param("CommandId"), self._get_param("InstanceId")
        commands = [executor.find(wanted)] if wanted else executor.all(self.region)
        entries = [
            _listed(command, invocation, bool(self._get_param("Details")))
            for command in commands
            if command is not None
            for invocation in command.invocations.values()
            if instance_id in (None, invocation.instance_id)
        ]
        return ActionResult({"CommandInvocations": entries})


def _cancel(executor: Executor) -> None:
    @add(SimpleSystemManagerResponse)
    def cancel_command(self: Any) -> ActionResult:
        command = executor.find(self._get_param("CommandId"))
        if command is None:
            raise _error("InvalidCommandId", "The specified command ID isn't valid. Verify the ID and try again.")
        only = self._get_param("InstanceIds") or list(command.invocations)
        for instance_id in only:
            executor.cancel(command, instance_id)
        return ActionResult({})


def _sessions(cloud: Cloud) -> None:
    """A session for SSH: its address is that of the node's sshd, where the plugin's bytes are to go.

    AWS's own plugin speaks a protocol of its own over a WebSocket, which isn't spoken here.
    """

    @add(SimpleSystemManagerResponse)
    def start_session(self: Any) -> ActionResult:
        node = cloud.nodes.running(self._get_param("Target"))
        if node is None or self._get_param("DocumentName") != SSH_SESSION:
            raise _error("TargetNotConnected", f"{self._get_param('Target')} is not connected.")
        return ActionResult(
            {
                "SessionId": f"embedded-{uuid.uuid4().hex[:17]}",
                "TokenValue": uuid.uuid4().hex,
                "StreamUrl": f"ws://{node.facts.address}:{PORT}/",
            }
        )


def _managed_instances(cloud: Cloud) -> None:
    """Each running instance has an agent that answers."""

    @add(SimpleSystemManagerResponse)
    def describe_instance_information(self: Any) -> ActionResult:
        wanted: set[str] | None = None
        for one in (self._get_param("Filters") or []) + (self._get_param("InstanceInformationFilterList") or []):
            key, values = one.get("Key") or one.get("key"), one.get("Values") or one.get("valueSet")
            if key == "InstanceIds":
                wanted = set(values) if wanted is None else wanted & set(values)
        instances = ec2_backends[cloud.account][self.region].all_instances()
        found = [
            one
            for one in instances
            if one.state == "running"
            and cloud.nodes.running(one.id) is not None
            and (wanted is None or one.id in wanted)
        ]
        return ActionResult({"InstanceInformationList": [_managed(one) for one in found]})


def _managed(instance: Any) -> dict[str, Any]:
    return {
        "InstanceId": instance.id,
        "PingStatus": "Online",
        "LastPingDateTime": datetime.datetime.now(datetime.UTC),
        "AgentVersion": AGENT_VERSION,
        "IsLatestVersion": True,
        "PlatformType": "Linux",
        "PlatformName": "Amazon Linux",
        "PlatformVersion": "2023",
        "ResourceType": "EC2Instance",
        "IPAddress": instance.private_ip,
        "ComputerName": instance.private_dns_name,
    }


def _image_parameters() -> None:
    """`/aws/service/deeplearning/ami/…` names images that exist; moto has none of these parameters."""

    @wrap(ParameterDict, "_check_loading_status")
    def load(original: Any, parameters: Any, key: str) -> None:
        original(parameters, key)
        prefix = "/aws/service/deeplearning/ami/x86_64/"
        if not str(key or "").startswith("/aws/service/deeplearning/") or parameters.__dict__.get("deep_learning"):
            return
        parameters.deep_learning = True
        for name in DEEP_LEARNING:
            path = f"{prefix}{name}/latest/ami-id"
            dict.__setitem__(
                parameters,
                path,
                [
                    Parameter(  # type: ignore[abstract]
                        account_id=parameters.account_id,
                        name=path,
                        parameter_type="String",
                        description=None,
                        value=deep_learning_image(parameters.region_name, name),
                        allowed_pattern=None,
                        keyid=None,
                        last_modified_date=datetime.datetime(2026, 9, 1),
                        version=1,
                        data_type="aws:ec2:image",
                    )
                ],
            )


def _document() -> None:
    """AWS's own document can be described: tools look for it before they use it."""

    @wrap(SimpleSystemManagerResponse, "describe_document")
    def describe_document(original: Any, self: Any) -> ActionResult:
        if self._get_param("Name") != ssm_executor.DOCUMENT:
            answer: ActionResult = original(self)
            return answer
        return ActionResult(
            {
                "Document": {
                    "Name": ssm_executor.DOCUMENT,
                    "Owner": "Amazon",
                    "Status": "Active",
                    "DocumentType": "Command",
                    "DocumentVersion": "1",
                    "SchemaVersion": "1.2",
                    "PlatformTypes": ["Linux", "MacOS"],
                    "Description": "Run a shell script or specify the commands to run.",
                }
            }
        )


def _when(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _command(command: Command) -> dict[str, Any]:
    states = [one.status for one in command.invocations.values()]
    return {
        "CommandId": command.command_id,
        "DocumentName": command.document,
        "Comment": command.comment,
        "Parameters": command.parameters,
        "InstanceIds": list(command.invocations),
        "Targets": [],
        "RequestedDateTime": _when(command.requested),
        "ExpiresAfter": _when(command.requested + command.timeout_s),
        "Status": command.status,
        "StatusDetails": command.status,
        "TargetCount": len(states),
        "CompletedCount": sum(state in ssm_executor.ENDED for state in states),
        "ErrorCount": sum(state in (ssm_executor.FAILED, ssm_executor.TIMED_OUT) for state in states),
        "DeliveryTimedOutCount": 0,
        "TimeoutSeconds": command.timeout_s,
    }


def _invocation(command: Command, one: Invocation) -> dict[str, Any]:
    """GetCommandInvocation gives its times as text."""
    seconds = max(0.0, (one.ended or datetime.datetime.now().timestamp()) - one.started) if one.started else 0.0
    return {
        "CommandId": command.command_id,
        "InstanceId": one.instance_id,
        "Comment": command.comment,
        "DocumentName": command.document,
        "PluginName": ssm_executor.PLUGIN,
        "ResponseCode": one.response_code,
        "ExecutionStartDateTime": _when(one.started).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if one.started else "",
        "ExecutionElapsedTime": f"PT{seconds:.3f}S",
        "ExecutionEndDateTime": _when(one.ended).strftime("%Y-%m-%dT%H:%M:%S.%fZ") if one.ended else "",
        "Status": one.status,
        "StatusDetails": one.details,
        "StandardOutputContent": one.stdout,
        "StandardOutputUrl": one.stdout_url,
        "StandardErrorContent": one.stderr,
        "StandardErrorUrl": one.stderr_url,
    }


def _listed(command: Command, one: Invocation, details: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "CommandId": command.command_id,
        "InstanceId": one.instance_id,
        "Comment": command.comment,
        "DocumentName": command.document,
        "RequestedDateTime": _when(command.requested),
        "Status": one.status,
        "StatusDetails": one.details,
        "CommandPlugins": [],
    }
    if details:
        entry["CommandPlugins"] = [
            {
                "Name": ssm_executor.PLUGIN,
                "Status": one.status,
                "StatusDetails": one.details,
                "ResponseCode": one.response_code,
                "Output": one.stdout[:2500],
                "ResponseStartDateTime": _when(one.started),
                **({"ResponseFinishDateTime": _when(one.ended)} if one.ended else {}),
            }
        ]
    return entry

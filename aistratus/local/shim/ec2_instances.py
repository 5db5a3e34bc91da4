"""The life of an instance: states that take time, and a process for each running node.

moto jumps from state to state. On AWS a start passes through `pending` and a stop through `stopping`, and what may
be asked for depends on it. Here an answer shows the state in between, and the next one follows as soon as the
node's process has really started or ended.
"""

from __future__ import annotations

import base64
import binascii
import copy
import threading
from collections.abc import Callable
from typing import Any, Final

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instances import Instance, InstanceBackend, StateReason
from moto.ec2.responses.general import General
from moto.ec2.responses.instances import InstanceResponse

from aistratus.local import sshd
from aistratus.local.node import InstanceFacts
from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.patching import wrap

PENDING: Final = ("pending", 0)
RUNNING: Final = ("running", 16)
SHUTTING_DOWN: Final = ("shutting-down", 32)
TERMINATED: Final = ("terminated", 48)
STOPPING: Final = ("stopping", 64)
STOPPED: Final = ("stopped", 80)

SELF_SHUTDOWN: Final = (
    "Client.InstanceInitiatedShutdown",
    "Client.InstanceInitiatedShutdown: Instance initiated shutdown",
)


class IncorrectInstanceState(EC2ClientError):
    """400: what is asked for can't be done in the instance's present state."""

    def __init__(self, message: str) -> None:
        super().__init__("IncorrectInstanceState", message)


def patch(cloud: Cloud) -> None:
    lives = Lives(cloud)
    _run(lives)
    _start(lives)
    _stop(lives)
    _terminate(lives)
    _reboot(lives)
    _console(cloud)
    _answers()


def set_state(instance: Instance, state: tuple[str, int]) -> None:
    instance._state.name, instance._state.code = state


class Lives:
    """Moves instances on when their processes have got there. All changes are made under EC2's lock."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    def begin(self, instance: Instance) -> None:
        """From `pending` to `running`, once the request that started it has been answered."""
        set_state(instance, PENDING)
        user_data = ""
        if instance.user_data is not None:
            user_data = _decoded(instance.user_data)
        facts = InstanceFacts(
            instance_id=instance.id,
            region=instance.ec2_backend.region_name,
            user_data=user_data,
            instance_type=instance.instance_type,
            public_key=_public_key(instance),
            address=_give_address(instance),
        )
        self._cloud.nodes.boot(facts, lambda: self._switched_itself_off(instance))
        self._later(lambda: self._move(instance, PENDING, RUNNING))

    def end(self, instance: Instance, through: tuple[str, int], to: tuple[str, int]) -> None:
        """Through `stopping` or `shutting-down` to the end, when the worker has ended."""
        set_state(instance, through)
        gone = to == TERMINATED
        self._cloud.nodes.shut_down(instance.id, lambda: self._move(instance, through, to), forget=gone)

    def restart(self, instance: Instance) -> None:
        """A reboot: the worker ends and begins anew; EC2 shows `running` all the while."""

        def again() -> None:
            with self._cloud.locks.of("ec2"):
                if instance.state == "running":
                    self.begin(instance)
                    set_state(instance, RUNNING)

        self._cloud.nodes.shut_down(instance.id, again)

    def _switched_itself_off(self, instance: Instance) -> None:
        """The operating system shut down: `InstanceInitiatedShutdownBehavior` says what becomes of the instance."""

        def off() -> None:
            with self._cloud.locks.of("ec2"):
                if instance.state not in ("pending", "running"):
                    return
                if instance.instance_initiated_shutdown_behavior == "terminate":
                    instance.terminate()
                    self.end(instance, SHUTTING_DOWN, TERMINATED)
                else:
                    instance.stop()
                    self.end(instance, STOPPING, STOPPED)
                instance.state_reason = StateReason(SELF_SHUTDOWN[1], SELF_SHUTDOWN[0])

        self._later(off)

    def _move(self, instance: Instance, expected: tuple[str, int], to: tuple[str, int]) -> None:
        with self._cloud.locks.of("ec2"):
            if instance.state_code == expected[1]:
                set_state(instance, to)

    @staticmethod
    def _later(action: Callable[[], None]) -> None:
        threading.Thread(target=action, daemon=True, name="instance-state").start()


def _console(cloud: Cloud) -> None:
    """What the node has said: the log of the bootstrap script, and its host keys as cloud-init prints them."""

    @wrap(General, "get_console_output")
    def get_console_output(original: Any, self: Any) -> ActionResult:
        instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
        output = base64.b64encode(cloud.nodes.console(instance.id).encode()).decode()
        return ActionResult({"InstanceId": instance.id, "Timestamp": utcnow(), "Output": output})


def _public_key(instance: Instance) -> str:
    pair = instance.ec2_backend.key_pairs.get(instance.key_name or "")
    return "" if pair is None else pair.material_public.decode(errors="replace")


def _give_address(instance: Instance) -> str:
    """The node's own on the loopback, where its sshd listens; told as the public address, if it has one."""
    address = sshd.address(instance.id)
    if instance.nics and instance.nics[0].public_ip:
        instance.nics[0].public_ip = address
    return address


def _decoded(user_data: Any) -> str:
    """User data as text. It may have come as base64 text, or as bytes by ModifyInstanceAttribute."""
    raw = str(user_data).encode()
    try:
        return base64.b64decode(raw, validate=True).decode(errors="replace")
    except binascii.Error:
        return raw.decode(errors="replace")


def _run(lives: Lives) -> None:
    @wrap(InstanceBackend, "run_instances")
    def run_instances(original: Any, backend: Any, *args: Any, **kwargs: Any) -> Any:
        reservation = original(backend, *args, **kwargs)
        for instance in reservation.instances:
            lives.begin(instance)
        return reservation


def _start(lives: Lives) -> None:
    @wrap(InstanceBackend, "start_instances")
    def start_instances(original: Any, backend: Any, instance_ids: list[str]) -> Any:
        instances = backend.get_multi_instances_by_id(instance_ids)
        for instance in instances:
            if instance.state not in ("stopped", "running", "pending"):
                raise IncorrectInstanceState(
                    f"The instance '{instance.id}' is not in a state from which it can be started."
                )
        before = []
        for instance in instances:
            if instance.state == "stopped":
                before.append((instance, instance.start()))
                instance.launch_time = utcnow()  # EC2's LaunchTime is that of the latest start
                lives.begin(instance)
            else:
                before.append((instance, _copy(instance)))
        return before


def _stop(lives: Lives) -> None:
    @wrap(InstanceBackend, "stop_instances")
    def stop_instances(original: Any, backend: Any, instance_ids: list[str]) -> Any:
        instances = backend.get_multi_instances_by_id(instance_ids)
        for instance in instances:
            if instance.state in ("terminated", "shutting-down"):
                raise IncorrectInstanceState(
                    f"This instance '{instance.id}' is not in a state from which it can be stopped."
                )
        active = [one.id for one in instances if one.state in ("pending", "running")]
        before = {one.id: _copy(one) for one in instances}
        for instance, _ in original(backend, active):
            lives.end(instance, STOPPING, STOPPED)
        return [(one, before[one.id]) for one in instances]


def _terminate(lives: Lives) -> None:
    @wrap(InstanceBackend, "terminate_instances")
    def terminate_instances(original: Any, backend: Any, instance_ids: list[str]) -> Any:
        instances = backend.get_multi_instances_by_id(instance_ids)
        before = {one.id: _copy(one) for one in instances}
        living = [one.id for one in instances if one.state not in ("terminated", "shutting-down")]
        if living or not instances:
            for instance, _ in original(backend, living):
                lives.end(instance, SHUTTING_DOWN, TERMINATED)
        return [(one, before[one.id]) for one in instances]


def _reboot(lives: Lives) -> None:
    @wrap(InstanceBackend, "reboot_instances")
    def reboot_instances(original: Any, backend: Any, instance_ids: list[str]) -> Any:
        instances = backend.get_multi_instances_by_id(instance_ids)
        for instance in instances:
            if instance.state != "running":
                raise IncorrectInstanceState(
                    f"Instance '{instance.id}' is not in a state from which it can be rebooted."
                )
        for instance in instances:
            lives.restart(instance)
        return instances


def _answers() -> None:
    """moto's answers name a fixed state; an instance that was stopped already is `stopped`, not `stopping`."""
    for operation, listed in (
        ("start_instances", "StartingInstances"),
        ("stop_instances", "StoppingInstances"),
        ("terminate_instances", "TerminatingInstances"),
    ):

        @wrap(InstanceResponse, operation)
        def with_present_state(original: Any, self: Any, listed: str = listed) -> ActionResult:
            answer: ActionResult = original(self)
            for entry in answer.result[listed]:  # type: ignore[index]
                instance = self.ec2_backend.get_instance(entry["InstanceId"])
                entry["CurrentState"] = {"Code": instance.state_code, "Name": instance.state}
            return answer


def _copy(instance: Instance) -> Any:
    return copy.copy(instance._state)

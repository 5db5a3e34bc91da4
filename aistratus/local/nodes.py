"""All EC2 instances of the embedded cloud, as processes on this machine.

Each instance has a folder of its own, and one that is a node of ours runs its worker there (`node.py`). Calls return
at once: what takes time happens in the node's own thread.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from aistratus.local.node import STOP_GRACE_S, InstanceFacts, Node, PowerOff
from aistratus.local.sshd import BEGIN, END


class Nodes:
    """The running instances, by id."""

    def __init__(self, *, endpoint: str, state_dir: Path, credentials: Mapping[str, str]) -> None:
        self._endpoint, self._state_dir, self._credentials = endpoint, state_dir, dict(credentials)
        self._nodes: dict[str, Node] = {}
        self._lock = threading.Lock()

    def boot(self, facts: InstanceFacts, power_off: PowerOff) -> None:
        """Starts an instance that isn't running. `power_off` is called when it switches itself off."""
        with self._lock:
            node = Node(
                facts=facts,
                home=self._state_dir / facts.instance_id,
                endpoint=self._endpoint,
                # The embedded cloud accepts any key; this one attributes the calls to the instance.
                credentials={**self._credentials, "AWS_ACCESS_KEY_ID": facts.instance_id},
                power_off=power_off,
            )
            self._nodes[facts.instance_id] = node
        node.start()

    def shut_down(self, instance_id: str, then: Callable[[], None], *, forget: bool = False) -> None:
        """Stops an instance's worker; afterwards removes its folder (`forget`) and calls `then`."""
        with self._lock:
            node = self._nodes.pop(instance_id, None)

        def end() -> None:
            if node is not None:
                node.stop(STOP_GRACE_S)
            if forget:
                shutil.rmtree(self._state_dir / instance_id, ignore_errors=True)
            then()

        threading.Thread(target=end, daemon=True, name=f"stop-{instance_id}").start()

    def running(self, instance_id: str) -> Node | None:
        """The node of a running instance."""
        with self._lock:
            return self._nodes.get(instance_id)

    def console(self, instance_id: str) -> str:
        """What an instance's console shows."""
        root = self._state_dir / instance_id / "root"
        log, keys = root / "var/log/user-data.log", sorted(root.glob("etc/ssh/ssh_host_*_key.pub"))
        shown = [log.read_text(errors="replace")] if log.is_file() else []
        if keys:
            shown += [f"{BEGIN}\n", *(key.read_text() for key in keys), f"{END}\n"]
        return "".join(shown)

    def ids(self) -> list[str]:
        """Ids of the running instances."""
        with self._lock:
            return sorted(self._nodes)

    def close(self) -> None:
        """Ends all workers, with little time for each."""
        with self._lock:
            nodes, self._nodes = list(self._nodes.values()), {}
        threads = [threading.Thread(target=node.stop, args=(0.4,), daemon=True) for node in nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

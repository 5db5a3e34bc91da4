"""`python -m aistratus.worker`: reads the environment, starts the supervisor, passes signals on.

Exit status: 0 asked to stop, 1 can't continue (systemd restarts it), 2 invalid settings, 64 the machine is to be
switched off (`power.py`). `--self-test` loads the model, prints what it measured as JSON and exits; it needs no queue
and no AWS.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

from aistratus import __version__
from aistratus.worker.child import ModelDied, ModelProcess
from aistratus.worker.clients import connect
from aistratus.worker.engine import ModelSpec
from aistratus.worker.keeper import LOAD_LIMIT_S
from aistratus.worker.log import Log
from aistratus.worker.settings import SettingsError, read_model, read_settings
from aistratus.worker.state import StateError, StateFolder
from aistratus.worker.supervisor import Supervisor

USAGE = "usage: python -m aistratus.worker [--self-test]"


def main() -> int:
    """Runs the worker until it is stopped; returns its exit status only when it didn't start working."""
    arguments = sys.argv[1:]
    try:
        if arguments == ["--self-test"]:
            return self_test(read_model(os.environ))
        if arguments:
            print(USAGE, file=sys.stderr)
            return 2
        _work()
    except SettingsError as error:
        print(f"aistratus-worker: {error}", file=sys.stderr)
        return 2
    except StateError as error:
        print(f"aistratus-worker: {error}", file=sys.stderr)
        return 1


def self_test(spec: ModelSpec) -> int:
    """Loads the model in its own process and prints how fast it is; 1 when it can't be loaded."""
    process = ModelProcess(spec, Log(sys.stderr))
    try:
        event = process.event(LOAD_LIMIT_S) or {"event": "failed", "reason": f"not loaded within {LOAD_LIMIT_S} s"}
    except ModelDied as death:
        event = {"event": "failed", "reason": str(death)}
    process.kill()
    print(json.dumps(event))
    return 0 if event["event"] == "loaded" else 1


def _work() -> NoReturn:
    settings = read_settings(os.environ)
    log = Log(sys.stderr)
    state = StateFolder(settings.state_dir, log)
    state.open()
    supervisor = Supervisor(settings, connect(settings), state, log)

    _stop_on_signals(supervisor)
    log.event(
        "started",
        version=__version__,
        instance=settings.instance_id,
        engine=settings.model.engine,
        model=settings.model_name,
        pid=os.getpid(),
    )
    status = supervisor.run()
    # Threads may still wait for AWS or write to the log; ending them in an orderly way can abort the interpreter.
    os._exit(status)


def _stop_on_signals(supervisor: Supervisor) -> None:
    """A handler runs in the middle of whatever the main thread does, so it takes no lock: it only writes a byte."""
    reader, writer = os.pipe()

    def handle(number: int, frame: FrameType | None) -> None:
        os.write(writer, b"!")

    def wait() -> None:
        os.read(reader, 1)
        supervisor.stopping.set()

    threading.Thread(target=wait, name="signals", daemon=True).start()
    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


if __name__ == "__main__":
    sys.exit(main())

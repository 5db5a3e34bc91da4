"""Replacements of system commands on the local node, so that they affect the node and not this computer.

An operator's command (`aws ssm send-command`, `aistratus node …`) runs in a real shell on the developer's computer.
`systemctl restart aistratus-worker` has to restart the node's worker there, and `shutdown -h now` must switch off the
node, never the computer. These scripts come first on the `PATH` of such commands and write their request into a file
that the node's thread reads. They aren't a sandbox: an absolute path bypasses them.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Final

POLL_S: Final = 0.1
"""How often a node looks for a command; one failing `open` in an own folder."""

_SUDO: Final = """#!/bin/sh
# The node's user may do what it may do; options of sudo are dropped.
while [ "${1#-}" != "$1" ]; do
  case "$1" in -u|-g) shift 2 ;; *) shift ;; esac
done
exec "$@"
"""
_POWER: Final = """#!/bin/sh
echo {verb} > {request}
"""
_SYSTEMCTL: Final = """#!/bin/sh
running() {{ cat {pid} 2>/dev/null; }}
obeyed() {{ [ ! -e {request} ] && {{ [ "$verb" != restart ] || [ "$(running)" != "$before" ]; }}; }}
order() {{ # returns when it is done, as systemctl does, if there is a worker; a node that is ending won't do it
  before=$(running)
  echo "$verb" > {request}
  [ -e {active} ] || return 0
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    for _ in 1 2 3 4 5 6 7 8 9 10; do obeyed && return; sleep 0.1; done
  done
}}
for word in "$@"; do
  case "$word" in
    poweroff|halt) echo poweroff > {request}; exit 0 ;;
    reboot) echo reboot > {request}; exit 0 ;;
    start|stop|restart) verb=$word ;;
    try-restart|reload-or-restart) verb=restart ;;
    is-active) verb=is-active ;;
    aistratus-worker|aistratus-worker.service)
      case "$verb" in is-active) [ -e {active} ]; exit ;; ?*) order ;; esac
      exit 0 ;;
    aistratus-node|aistratus-node.service) exit 0 ;;
    daemon-reload|enable|disable|is-enabled|status) verb= ;;
    -*) ;;
    *) echo "Unit $word not found." >&2; exit 5 ;;
  esac
done
"""
_JOURNALCTL: Final = """#!/bin/sh
lines=200
while [ $# -gt 0 ]; do
  case "$1" in -n) lines=$2; shift ;; -n*) lines=${{1#-n}} ;; --lines=*) lines=${{1#--lines=}} ;; esac
  shift
done
exec tail -n "$lines" {log}
"""


def folder(home: Path) -> Path:
    """Where the scripts of the node at `home` lie."""
    return home / "bin"


def install(home: Path, worker_log: Path, more: Mapping[str, str] | None = None) -> None:
    """Writes the scripts, and `more` beside them; forgets a request that an earlier life left."""
    request = shlex.quote(str(_request(home)))
    active, pid = (shlex.quote(str(path)) for path in (_active(home), _pid(home)))
    scripts = {
        "sudo": _SUDO,
        "systemctl": _SYSTEMCTL.format(request=request, active=active, pid=pid),
        "journalctl": _JOURNALCTL.format(log=shlex.quote(str(worker_log))),
        **{name: _POWER.format(verb="poweroff", request=request) for name in ("shutdown", "poweroff", "halt", "init")},
        "reboot": _POWER.format(verb="reboot", request=request),
        **(more or {}),
    }
    folder(home).mkdir(parents=True, exist_ok=True, mode=0o700)
    worker_log.touch(mode=0o600)
    _request(home).unlink(missing_ok=True)
    for name, text in scripts.items():
        script = folder(home) / name
        script.write_text(text)
        script.chmod(0o700)


def take(home: Path) -> str | None:
    """The last word that a command left, once."""
    request = _request(home)
    taken = request.with_name("request.taken")
    with contextlib.suppress(FileNotFoundError):
        request.replace(taken)
        return taken.read_text().strip() or None
    return None


def tell(home: Path, *, active: bool, pid: int | None = None) -> None:
    """What `systemctl is-active` is to say, and which process is the worker's."""
    if pid is not None:
        _pid(home).write_text(str(pid))
    if active:
        _active(home).touch()
    else:
        _active(home).unlink(missing_ok=True)


def _active(home: Path) -> Path:
    return home / "active"


def _pid(home: Path) -> Path:
    return home / "worker.pid"


def _request(home: Path) -> Path:
    return home / "request"

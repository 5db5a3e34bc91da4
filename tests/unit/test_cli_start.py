"""Ctrl-C before anything has begun: no traceback of whatever was just being imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

HASTY = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Hasty:
    def find_spec(self, name, path=None, target=None):
        if name == {during!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Hasty())
from aistratus.cli.start import main
sys.argv = ["aistratus", *{arguments!r}]
main()
"""


@pytest.mark.parametrize(
    ("during", "arguments", "said"),
    [
        ("aistratus.cli.app", ["status"], ""),
        ("aistratus.costs.declared", ["cost", "--idle"], "aistratus: interrupted\n"),
    ],
)
def test_ctrl_c_never_shows_a_traceback(during: str, arguments: list[str], said: str) -> None:
    script = HASTY.format(during=during, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", said)

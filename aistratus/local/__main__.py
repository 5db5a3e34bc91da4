"""`python -m aistratus.local --state-dir DIR [--port N] [--strict]`: the embedded cloud in the foreground.

`process.ensure` starts this detached; running it by hand shows its log on the terminal. It ends on SIGTERM and
on Ctrl-C, and takes its functions and nodes with it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(argv: list[str] | None = None) -> int:
    """Serves until told to stop; gives back the exit code."""
    parser = argparse.ArgumentParser(prog="python -m aistratus.local", description="AWS on this machine.")
    parser.add_argument("--state-dir", type=Path, required=True, help="folder for the pid file, the log and the nodes")
    parser.add_argument("--port", type=int, default=0, help="port of the AWS endpoint (default: any free one)")
    parser.add_argument("--strict", action="store_true", help="enforce the AWS rules that emulators forgive")
    options = parser.parse_args(argv)
    from aistratus.local.process import MissingExtra, require_extra

    try:
        require_extra()
    except MissingExtra as error:
        print(error, file=sys.stderr)
        return 1
    from aistratus.local.server import serve

    return serve(state_dir=options.state_dir, port=options.port, strict=options.strict)


if __name__ == "__main__":
    sys.exit(main())

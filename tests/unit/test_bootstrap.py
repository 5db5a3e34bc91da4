"""The node's first boot: a script that EC2 takes, that a shell understands, and that the embedded cloud reads alike."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.resources import files

import pytest

from aistratus.local.node_bootstrap import NodeConfiguration, read_configuration
from aistratus.node.bootstrap import MANIFEST_KEY, USER_DATA_LIMIT, Model, manifest, user_data

BUCKET = "tinyllama-dev-data-123456789012-eu-central-1"
SCRIPT = user_data(bucket=BUCKET, region="eu-central-1")


def test_it_fits_into_ec2s_user_data() -> None:
    assert USER_DATA_LIMIT == 16_384
    assert len(SCRIPT.encode()) <= USER_DATA_LIMIT
    assert SCRIPT.startswith("#!/bin/bash\n")


def test_its_configuration_is_what_the_embedded_cloud_reads() -> None:
    expected = NodeConfiguration(bucket=BUCKET, manifest_key=MANIFEST_KEY, region="eu-central-1")
    assert read_configuration(SCRIPT) == expected
    assert read_configuration("#!/bin/bash\necho hello\n") is None


def test_a_shell_reads_the_same_configuration() -> None:
    head = SCRIPT.partition("# --- configuration\n")[2].partition("# --- end of configuration")[0]
    show = 'printf "%s\\n" "$NODE_BUCKET" "$NODE_MANIFEST_KEY" "$NODE_REGION"'
    told = subprocess.run(["bash", "-euc", head + show], capture_output=True, text=True, check=True)
    assert told.stdout.split() == [BUCKET, MANIFEST_KEY, "eu-central-1"]


def test_nothing_but_the_configuration_differs_from_the_file() -> None:
    template = files("aistratus.node").joinpath("bootstrap.sh").read_text(encoding="utf-8")
    filled = [pair for pair in zip(template.splitlines(), SCRIPT.splitlines(), strict=True) if pair[0] != pair[1]]
    assert [before for before, _ in filled] == ["NODE_BUCKET=''", "NODE_MANIFEST_KEY=''", "NODE_REGION=''"]


@pytest.mark.parametrize("bucket", ["a'b", "a b", "$(reboot)", "a\nb", ""])
def test_no_value_can_break_out_of_its_quotes(bucket: str) -> None:
    with pytest.raises(ValueError, match="NODE_BUCKET can't be"):
        user_data(bucket=bucket, region="eu-central-1")


def test_it_stops_at_the_first_error_and_keeps_a_log() -> None:
    commands = [line for line in SCRIPT.splitlines() if line and not line.startswith("#")]
    assert commands[0] == "set -euo pipefail"
    preamble = "\n".join(commands[1 : commands.index(f"NODE_BUCKET='{BUCKET}'")])
    assert 'exec > >(tee "$ROOT/var/log/user-data.log" | logger -t user-data -s 2>/dev/console) 2>&1' in preamble


def test_a_shell_can_parse_it() -> None:
    assert subprocess.run(["bash", "-n"], input=SCRIPT, text=True, capture_output=True, check=False).stderr == ""


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck isn't installed")
def test_shellcheck_finds_nothing() -> None:
    found = subprocess.run(["shellcheck", "-"], input=SCRIPT, text=True, capture_output=True, check=False)
    assert found.stdout == ""


def test_every_field_that_it_reads_is_in_the_manifest() -> None:
    model = Model(name="m", sha256="0" * 64, context_tokens=64, key=None, url="https://a.example/m.gguf")
    content = manifest(bundle_key="k", bundle_sha256="1" * 64, model=model, environment={"WORKER_QUEUE_URL": "q"})
    read = set(re.findall(r'm\["(\w+)"\](?:\["(\w+)"\])?', SCRIPT))
    assert read
    for table, field in read:
        assert table in content
        assert not field or field in content[table]

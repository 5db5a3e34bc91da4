"""The embedded cloud's process: one for a state directory, private, and gone with all its children when it ends."""

from __future__ import annotations

import http.client
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from embedded_cloud_parts import connected_to, eventually, log_lines, run_instance, unique, upload_node, user_data

from aistratus.local import process
from aistratus.local.process import CloudAbsent, CloudError, CloudGone, Running


def ask(address: str, headers: dict[str, str]) -> int:
    parts = urlsplit(address)
    assert parts.hostname and parts.port
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    connection.putrequest("GET", f"/?{parts.query}" if parts.query else "/", skip_host=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection.getresponse().status


def test_the_second_start_joins_the_first(embedded_cloud: Running) -> None:
    again = process.ensure(state_dir=embedded_cloud.log.parent)
    assert (again.pid, again.endpoint, again.started) == (embedded_cloud.pid, embedded_cloud.endpoint, False)
    assert embedded_cloud.started


def test_two_starts_at_once_make_one_cloud(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from aistratus.local import process; "
        "found = process.ensure(state_dir=Path(sys.argv[1])); print(found.pid, found.started)"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [one.communicate(timeout=60)[0].split() for one in both]
    process.stop(tmp_path)
    assert answers[0][0] == answers[1][0]
    assert sorted(started for _, started in answers) == ["False", "True"]


def test_it_is_private_to_its_user(embedded_cloud: Running) -> None:
    folder = embedded_cloud.log.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir() if one.is_file()} == {0o600}


def test_it_listens_on_the_loopback_only(embedded_cloud: Running) -> None:
    listening = [one for one in psutil.Process(embedded_cloud.pid).net_connections() if one.status == "LISTEN"]
    assert listening
    assert {one.laddr.ip for one in listening} == {"127.0.0.1"}


@pytest.mark.parametrize("part", ["endpoint", "gateway"])
def test_a_foreign_host_header_is_refused(embedded_cloud: Running, part: str) -> None:
    address = getattr(embedded_cloud, part)
    assert ask(address, {"Host": "rebound.example"}) == 403
    assert ask(address, {"Host": urlsplit(address).netloc}) != 403


def test_a_web_page_can_not_call_the_endpoint(embedded_cloud: Running) -> None:
    own = urlsplit(embedded_cloud.endpoint).netloc
    assert ask(embedded_cloud.endpoint, {"Host": own, "Origin": "https://page.example"}) == 403
    assert ask(embedded_cloud.endpoint, {"Host": own, "Origin": "null"}) == 403


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_an_image_in_a_web_page_can_not_call_the_endpoint(embedded_cloud: Running, site: str) -> None:
    """Its GET has no Origin; the browser tells that it was a page of another site."""
    own = urlsplit(embedded_cloud.endpoint).netloc
    assert ask(embedded_cloud.endpoint, {"Host": own, "Sec-Fetch-Site": site}) == 403
    assert ask(embedded_cloud.endpoint, {"Host": own, "Sec-Fetch-Site": "none"}) != 403
    page = {"Host": own, "Sec-Fetch-Site": site, "Origin": "http://localhost:3000"}
    assert ask(embedded_cloud.endpoint, page) != 403  # a page of this machine, which says so


def test_a_link_carries_out_nothing(embedded_cloud: Running) -> None:
    """Not even in a browser that tells nothing of where it comes from, and whatever signature the link has."""
    iam = connected_to(embedded_cloud)("iam")
    credential = "AKIAEXAMPLE%2F20260101%2Fus-east-1%2Fiam%2Faws4_request"
    link = f"{embedded_cloud.endpoint}/?Action=CreateUser&Version=2010-05-08&UserName=of-a-page"
    for address in (link, f"{link}&X-Amz-Credential={credential}"):
        assert ask(address, {"Host": urlsplit(address).netloc}) == 403
    assert "of-a-page" not in {user["UserName"] for user in iam.list_users()["Users"]}
    signed = f"AWS4-HMAC-SHA256 Credential={credential.replace('%2F', '/')}, SignedHeaders=host, Signature=0"
    assert ask(link, {"Host": urlsplit(link).netloc, "Authorization": signed}) == 200


def test_a_named_port_is_used_and_must_agree_with_a_running_cloud(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = process.ensure(state_dir=tmp_path, port=port)
    try:
        assert started.endpoint == f"http://127.0.0.1:{port}"
        with pytest.raises(CloudError, match="runs already at"):
            process.ensure(state_dir=tmp_path, port=port + 1)
        with pytest.raises(CloudError, match="without --strict"):
            process.ensure(state_dir=tmp_path, strict=True)
    finally:
        process.stop(tmp_path)


def test_a_taken_port_is_told_in_a_sentence(embedded_cloud: Running, tmp_path: Path) -> None:
    taken = urlsplit(embedded_cloud.endpoint).port
    assert taken
    with pytest.raises(CloudError, match=f"port {taken} on 127.0.0.1 can't be used") as caught:
        process.ensure(state_dir=tmp_path, port=taken)
    assert "Traceback" not in str(caught.value)


def test_stop_ends_it_and_absence_is_told(tmp_path: Path) -> None:
    with pytest.raises(CloudAbsent):
        process.require(tmp_path)
    started = process.ensure(state_dir=tmp_path)
    assert process.require(tmp_path).pid == started.pid
    assert process.stop(tmp_path)
    assert not process.stop(tmp_path)
    assert process.running(tmp_path) is None


@pytest.mark.parametrize("end", [psutil.Process.kill, psutil.Process.terminate], ids=["killed", "terminated"])
def test_its_workers_end_with_it(tmp_path: Path, end: Callable[[psutil.Process], None]) -> None:
    started = process.ensure(state_dir=tmp_path)
    connect = connected_to(started)
    group, bucket = unique("/group"), unique("bucket")
    connect("logs").create_log_group(logGroupName=group)
    upload_node(connect, bucket, group=group)
    run_instance(connect, UserData=user_data(bucket))
    lines = eventually(lambda: log_lines(connect, group))
    worker = psutil.Process(int(lines[0].split()[-1]))
    end(psutil.Process(started.pid))
    assert eventually(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


def test_a_crash_is_told_once_and_a_new_start_says_what_is_lost(tmp_path: Path) -> None:
    def crash() -> None:
        found = process.require(tmp_path)
        psutil.Process(found.pid).kill()
        assert eventually(lambda: process.running(tmp_path) is None)

    process.ensure(state_dir=tmp_path)
    crash()
    again = process.ensure(state_dir=tmp_path)
    assert (again.started, again.lost) == (True, True)
    crash()
    with pytest.raises(CloudGone, match="its state is gone; `aistratus up` builds it again"):
        process.require(tmp_path)
    with pytest.raises(CloudAbsent):
        process.require(tmp_path)


def test_the_users_aws_settings_do_not_reach_it(tmp_path: Path) -> None:
    """A profile that doesn't exist, or an endpoint of another cloud, must not break or redirect it."""
    script = (
        "import sys; from pathlib import Path; from aistratus.local import process; "
        "process.ensure(state_dir=Path(sys.argv[1]))"
    )
    environment = {
        **os.environ,
        "AWS_PROFILE": "nobody",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "HTTP_PROXY": "http://127.0.0.1:1",
    }
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=environment, check=True, timeout=60)
    cloud = process.require(tmp_path)
    group, bucket = unique("/group"), unique("bucket")
    connect = connected_to(cloud)
    try:
        connect("logs").create_log_group(logGroupName=group)
        upload_node(connect, bucket, group=group)
        run_instance(connect, UserData=user_data(bucket))
        assert eventually(lambda: log_lines(connect, group))
    finally:
        process.stop(tmp_path)

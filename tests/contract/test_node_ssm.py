"""Run Command as a way to the node: on an instance of the strict embedded cloud, which really runs the scripts."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from embedded_cloud_parts import REGION, Connect, connected_to, eventually, image, unique

from aistratus.cloud import Access, Clients, Cloud, Identity
from aistratus.core.errors import Failure, Interrupted
from aistratus.core.settle import RealClock
from aistratus.local.process import Running
from aistratus.node.reach import Reach
from aistratus.node.ssm import AGENT_THERE, SsmTransport
from aistratus.node.ssm_heard import LOST_LOOKS
from aistratus.node.transport import TookTooLong, Unreachable
from aistratus.resources.instance_listing import INSTANCES
from aistratus.settings import NodeSettings
from aistratus.trace import Meter

BUCKET = unique("bucket")


class Movable(RealClock):
    """The machine's clock, which a test may set forward; waits take no longer than they have to."""

    def __init__(self) -> None:
        super().__init__(threading.Event())
        self.ahead = 0.0
        self.waits = 0

    def now(self) -> float:
        return super().now() + self.ahead

    def wait(self, seconds: float) -> None:
        self.waits += 1
        super().wait(min(seconds, 0.05))


@pytest.fixture(scope="module")
def instance(embedded_cloud: Running) -> str:
    connect = connected_to(embedded_cloud)
    connect("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    answer = connect("ec2").run_instances(ImageId=image(connect), MinCount=1, MaxCount=1, InstanceType="t3.small")
    identity: str = answer["Instances"][0]["InstanceId"]
    return identity


@pytest.fixture
def clock() -> Movable:
    return Movable()


@pytest.fixture
def aws(embedded_cloud: Running, clock: Movable) -> Cloud:
    access = Access(REGION, endpoint=embedded_cloud.endpoint, access_key="testing", secret_key="testing")
    identity = Identity("123456789012", "arn:aws:iam::123456789012:user/test", REGION)
    return Cloud(env=unique("t"), identity=identity, clients=Clients(access, Meter()), clock=clock)


@pytest.fixture
def ssm(aws: Cloud, instance: str) -> SsmTransport:
    return SsmTransport(aws, instance, bucket=BUCKET)


@pytest.fixture
def root(embedded_cloud: Running, instance: str) -> Path:
    """Where commands start on the node."""
    return embedded_cloud.log.parent / "nodes" / instance / "root"


def test_a_script_tells_both_streams_and_its_status(ssm: SsmTransport) -> None:
    done = ssm.run("echo '{{ssm:as it stands}}'; echo umlaut ä >&2; [[ 7 ]] && exit 7")
    assert (done.code, done.out, done.err) == (7, "{{ssm:as it stands}}\n", "umlaut ä\n")
    with pytest.raises(Failure, match="the test failed on the node with status 7: umlaut ä"):
        done.check("the test")


def test_output_that_an_answer_cuts_off_is_fetched_whole(ssm: SsmTransport) -> None:
    """Bytes are counted: a text with other characters than ASCII is cut off at fewer of them."""
    done = ssm.run("seq 20000; seq -f 'Zeile für Zeile: %g ✓' 400 >&2")
    assert done.out.split() == [str(number) for number in range(1, 20_001)]
    assert done.err.splitlines() == [f"Zeile für Zeile: {number} ✓" for number in range(1, 401)]


def test_a_command_whose_answer_gets_lost_is_not_run_twice(ssm: SsmTransport, aws: Cloud, root: Path) -> None:
    once = aws._clients.get("ssm", retries=False)

    def lose(http_response: Any, **_: Any) -> None:
        once.meta.events.unregister("before-parse.ssm.SendCommand", lose)
        raise ConnectionResetError

    def lost(response_dict: dict[str, Any], **_: Any) -> None:
        once.meta.events.unregister("before-parse.ssm.SendCommand", lost)
        response_dict["status_code"], response_dict["body"] = 500, b"{}"

    once.meta.events.register("before-parse.ssm.SendCommand", lost)
    assert ssm.run("echo x >>once").code == 0
    assert (root / "once").read_text() == "x\n"


def test_a_script_is_heard_as_it_goes(ssm: SsmTransport, root: Path) -> None:
    heard: list[str] = []

    def hear(piece: str) -> None:
        heard.append(piece)
        if "one" in piece:
            (root / "go").touch()

    done = ssm.run("echo one; until [[ -e go ]]; do sleep 0.05; done; echo two >&2; seq 9000; exit 3", heard=hear)
    assert (done.code, done.err) == (3, "")
    assert done.out == "".join(heard) == "one\ntwo\n" + "".join(f"{n}\n" for n in range(1, 9_001))


@pytest.mark.parametrize("looks", [LOST_LOOKS, LOST_LOOKS + 1])
def test_a_few_lost_looks_do_not_end_a_script_that_is_heard(
    ssm: SsmTransport, aws: Cloud, root: Path, looks: int
) -> None:
    lost, looked, events = 0, root / f"looked-{looks}", aws.ssm.meta.events

    def lose(parsed: dict[str, Any], **_: Any) -> None:
        nonlocal lost
        lost += 1
        parsed["Status"], parsed["StatusDetails"] = "TimedOut", "Delivery Timed Out"
        if lost == looks:
            events.unregister("after-call.ssm.GetCommandInvocation", lose)
            looked.touch()

    def hear(piece: str) -> None:
        if "begun" in piece:
            events.register("after-call.ssm.GetCommandInvocation", lose)

    script = f"echo begun; until [[ -e {looked} ]]; do sleep 0.05; done; echo over"
    if looks > LOST_LOOKS:
        with pytest.raises(Unreachable, match=r"didn't reach the node \(Delivery Timed Out\)"):
            ssm.run(script, heard=hear)
    else:
        assert ssm.run(script, heard=hear).out == "begun\nover\n"
    assert lost == looks


def test_a_file_arrives_whole_and_one_that_grows_is_followed(ssm: SsmTransport, root: Path) -> None:
    content = os.urandom(90_000)
    ssm.put(content, "/a b/c", mode=0o640)
    assert (root / "a b/c").read_bytes() == content
    assert [file.name for file in (root / "a b").iterdir()] == ["c"]
    log, seen = root / "log", ""
    log.write_text("1\n2\n3\n")
    assert "".join(ssm.tail("/log", lines=2)) == "2\n3\n"
    for piece in ssm.tail("/log", lines=1, follow=True):
        seen += piece
        if seen == "3\n":
            log.write_text("ä\n")  # begun anew
        if seen == "3\nä\n":
            break


@pytest.mark.parametrize("heard", [True, False])
@pytest.mark.parametrize("how", ["time", "ctrl-c"])
def test_what_is_ended_here_is_ended_there(
    ssm: SsmTransport, clock: Movable, root: Path, connect: Connect, how: str, heard: bool
) -> None:
    pid = root / f"pid-{how}-{heard}"

    def end() -> None:
        assert eventually(lambda: pid.exists() and pid.read_text().strip())
        before = clock.waits  # the command may run before its caller has begun to count
        assert eventually(lambda: clock.waits > before)
        if how == "time":
            clock.ahead = 7200
        else:
            clock.stop.set()

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(TookTooLong if how == "time" else Interrupted):
        ssm.run(f"sleep 600 & echo $! >{pid}; wait", within=600, heard=(lambda piece: None) if heard else None)
    thread.join()
    assert eventually(lambda: not Path(f"/proc/{pid.read_text().strip()}").exists() or _zombie(pid.read_text().strip()))


def _zombie(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_an_agent_that_does_not_come_is_waited_for_and_told(aws: Cloud, clock: Movable) -> None:
    told: list[str] = []

    def tell(sentence: str) -> None:
        told.append(sentence)
        clock.ahead += AGENT_THERE.within / 2

    with pytest.raises(Unreachable, match="hasn't answered for 90 s: it needs a machine that runs, the role"):
        SsmTransport(aws, "i-00000000000000000", bucket=BUCKET, told=tell).run("true")
    assert told[0].startswith("waiting for the SSM agent of i-00000000000000000 … ") and told[0].endswith(" of 90 s")


def test_without_a_way_for_ssh_it_is_said_what_would_open_one(
    aws: Cloud, instance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aistratus.node.keys import public_key

    monkeypatch.setenv("PATH", str(tmp_path))
    instance = INSTANCES.by_id(aws, instance)
    assert instance is not None
    reach = Reach(aws=aws, settings=NodeSettings(), bucket=BUCKET, folder=tmp_path)
    assert reach.transport(instance, "auto").name == "ssm"
    with pytest.raises(Failure, match="this machine has no SSH key of env"):
        reach.transport(instance, "ssh")
    public_key(aws.env, tmp_path)
    with pytest.raises(
        Failure, match=r"node\.ssh_cidr opens no address, and session-manager-plugin isn't on this machine"
    ):
        reach.transport(instance, "ssh")

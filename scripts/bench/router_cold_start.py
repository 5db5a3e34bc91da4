"""The router's cold start, compared with a router that uses boto3.

Both do the same in a new process, from the first import to the first answer of `POST /infer` with a warm node: fetch
the pool's keys, verify the token, count the request, read the heartbeat, write the job item, send the message. One is
the router from its zip; the other uses boto3 with the four clients that such a function would create (DynamoDB, SQS,
SSM, EC2) and unmodified python-jose. moto stands for AWS, in the process that starts the measured ones.

    python scripts/bench/router_cold_start.py [--rounds 7]

Prints JSON with the medians in milliseconds and their ratio, in two states:

- `compiled`: bytecode of both lies on disk. This is the promised number: at most 0.3.
- `from_source`: no bytecode of the function's own package, as in Lambda, which can't keep it, while boto3, which is
  part of Lambda's runtime, has its own.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "contract"))
from router_stack import Stack, event, lambda_runtime, moto_server, unpacked_router

LIMIT: Final = 0.3

OURS: Final = """
import json, os, sys, time
asked = json.loads(sys.stdin.read())
began = time.perf_counter()
from aistratus.router.handler import handle
answer = handle(asked, None)
took = time.perf_counter() - began
"""

BOTO3: Final = """
import json, os, sys, time
asked = json.loads(sys.stdin.read())
began = time.perf_counter()
import hashlib, urllib.request, uuid
import boto3
from jose import jwt
endpoint, pool = os.environ["AWS_ENDPOINT_URL"], os.environ["USER_POOL_ID"]
dynamodb, sqs, ssm, ec2 = (boto3.client(name) for name in ("dynamodb", "sqs", "ssm", "ec2"))
table = os.environ["JOBS_TABLE"]
with urllib.request.urlopen(f"{endpoint}/{pool}/.well-known/jwks.json") as keys:
    jwks = json.load(keys)
token = asked["headers"]["authorization"].removeprefix("Bearer ")
issuer = f"https://cognito-idp.{os.environ['AWS_REGION']}.amazonaws.com/{pool}"
claims = jwt.decode(token, jwks, algorithms=["RS256"], issuer=issuer)
assert claims["client_id"] == os.environ["CLIENT_ID"] and claims["token_use"] == "access"
owner, now, job_id = claims["sub"], time.time(), uuid.uuid4().hex
body = json.loads(asked["body"])
dynamodb.update_item(
    TableName=table, Key={"pk": {"S": f"rate#{owner}#{int(now) // 60}"}}, UpdateExpression="ADD #n :one",
    ExpressionAttributeNames={"#n": "count"}, ExpressionAttributeValues={":one": {"N": "1"}},
)
beat = dynamodb.get_item(TableName=table, Key={"pk": {"S": "node#heartbeat"}}, ConsistentRead=True)["Item"]
assert now * 1000 - float(beat["at_ms"]["N"]) < 60000
dynamodb.put_item(
    TableName=table,
    Item={"pk": {"S": f"job#{owner}#{job_id}"}, "status": {"S": "queued"}, "text": {"S": ""}, "attempt": {"N": "0"}},
    ConditionExpression="attribute_not_exists(pk)",
)
sqs.send_message(
    QueueUrl=os.environ["QUEUE_URL"], MessageBody=json.dumps({"job_id": job_id, **body}),
    MessageGroupId=owner, MessageDeduplicationId=hashlib.sha256(job_id.encode()).hexdigest(),
)
answer = {"statusCode": 202, "body": json.dumps({"job_id": job_id, "status": "queued"})}
took = time.perf_counter() - began
"""

REPORT: Final = """
assert answer["statusCode"] == 202, answer
print(json.dumps({"ms": took * 1000}))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # moto's line for each request
    with tempfile.TemporaryDirectory() as folder, moto_server() as endpoint:
        print(json.dumps(measure(Path(folder), endpoint, rounds), indent=2))
    return 0


def measure(folder: Path, endpoint: str, rounds: int) -> dict[str, Any]:
    """Medians of `rounds` fresh processes for each side, taken in turns so that a busy moment hits all alike."""
    stack = Stack.create(endpoint)
    asked = json.dumps(event("POST /infer", stack.user("bench"), body=json.dumps({"prompt": "hello"})))
    runtime = lambda_runtime(folder / "runtime")
    zipped = unpacked_router(folder / "zip")
    plain = _vendored_beside_boto3(folder / "plain")
    sides = {
        "router": ([zipped, runtime], OURS, True),
        "router_from_source": ([unpacked_router(folder / "source"), runtime], OURS, False),
        "boto3": ([plain, runtime], BOTO3, True),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, (paths, script, compiled) in sides.items():
            stack.beat()
            took = _fresh_process(paths, script, compiled, stack.variables(), asked)
            if turn:  # the first one writes the bytecode
                times[name].append(took)
    medians = {name: round(statistics.median(taken), 1) for name, taken in times.items()}
    return {
        "schema": 1,
        "rounds": rounds,
        "median_ms": medians,
        "compiled": {"ratio": round(medians["router"] / medians["boto3"], 3), "limit": LIMIT},
        "from_source": {"ratio": round(medians["router_from_source"] / medians["boto3"], 3)},
    }


def _fresh_process(paths: list[Path], script: str, compiled: bool, variables: dict[str, str], asked: str) -> float:
    """Milliseconds that one process measured of itself; its own start is on neither side."""
    head = f"import sys; sys.path[:0] = {[str(path) for path in paths]!r}; sys.dont_write_bytecode = {not compiled}\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", head + script + REPORT],
        input=asked,
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(json.loads(done.stdout.splitlines()[-1])["ms"])


def _vendored_beside_boto3(folder: Path) -> Path:
    """python-jose with all of its pure-Python needs, as `pip install -t` would lay it down."""
    from importlib.metadata import distribution

    folder.mkdir()
    for name in ("jose", "rsa", "ecdsa", "pyasn1"):
        (folder / name).symlink_to(str(distribution("python-jose").locate_file(name)))
    return folder


if __name__ == "__main__":
    sys.exit(main())

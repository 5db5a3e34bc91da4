"""Every IAM document of the stack, as pure functions of names.

Resources are as narrow as AWS allows. Where a statement has to say `*`, the reason stands beside it. ARNs are written
from deterministic names, so that a document needs no lookup and no other resource to exist first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Document = dict[str, Any]


@dataclass(frozen=True)
class Names:
    """The names and ARNs of one env in one account and region."""

    partition: str
    account: str
    region: str
    env: str

    @property
    def prefix(self) -> str:
        return f"tinyllama-{self.env}-"

    def arn(self, service: str, resource: str) -> str:
        """ARN of a regional resource of this account."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"

    def queue(self, name: str) -> str:
        return self.arn("sqs", f"{self.prefix}{name}.fifo")

    def table(self, name: str) -> str:
        return self.arn("dynamodb", f"table/{self.prefix}{name}")

    def log_group(self, name: str) -> str:
        """ARN of a log group's streams."""
        return self.arn("logs", f"log-group:{name}:*")

    def bucket(self, name: str) -> str:
        """ARN of a bucket (given its full name); S3's ARNs carry neither region nor account."""
        return f"arn:{self.partition}:s3:::{name}"

    def parameter(self, key: str) -> str:
        """ARN of one entry of the env's ledger."""
        return self.arn("ssm", f"parameter/tinyllama/{self.env}/{key}")


def document(*statements: Document) -> Document:
    """A policy of these statements."""
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(actions: list[str], *resources: str, **conditions: Any) -> Document:
    """An Allow statement; `conditions` is IAM's condition block by operator."""
    statement: Document = {"Effect": "Allow", "Action": actions, "Resource": list(resources)}
    if conditions:
        statement["Condition"] = conditions
    return statement


# --- who may assume a role -----------------------------------------------------------------------------


def trust(service: str) -> Document:
    """Lets one AWS service (`lambda.amazonaws.com`) assume the role."""
    return document({"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"})


# --- the router --------------------------------------------------------------------------------------------


def router(names: Names, *, log_group: str) -> Document:
    """What the router does: write its log, jobs and messages; read ids; start the sleeping node."""
    return document(
        allow(["logs:CreateLogStream", "logs:PutLogEvents"], names.log_group(log_group)),
        allow(
            ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"],
            names.table("jobs"),
        ),
        allow(["sqs:SendMessage"], names.queue("jobs")),
        # Just the node's id: the ledger also holds secrets.
        allow(["ssm:GetParameter"], names.parameter("node")),
        # AWS gives ec2:DescribeInstances no resource level.
        allow(["ec2:DescribeInstances"], "*"),
        allow(["ec2:StartInstances"], names.arn("ec2", "instance/*"), StringEquals=_our_tags(names)),
    )


# --- the node ------------------------------------------------------------------------------------------------


def node(names: Names, *, bucket: str, log_group: str) -> Document:
    """What the node does: take jobs, write their text, fetch its program and model, write its log."""
    artifacts = names.bucket(bucket)
    return document(
        allow(
            ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"],
            names.queue("jobs"),
        ),
        # It looks at dead letters to tell their owners what happened, and never deletes one.
        allow(["sqs:ReceiveMessage", "sqs:ChangeMessageVisibility", "sqs:GetQueueAttributes"], names.queue("jobs-dlq")),
        allow(
            ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"],
            names.table("jobs"),
        ),
        allow(["s3:GetObject"], f"{artifacts}/node/*", f"{artifacts}/models/*"),
        # A model fetched from its public address is kept, so that the next boot needs no internet for it.
        allow(["s3:PutObject"], f"{artifacts}/models/*"),
        allow(["logs:CreateLogStream", "logs:PutLogEvents"], names.log_group(log_group)),
    )


def managed_node() -> Document:
    """What the SSM agent needs. AWS gives none of these actions a resource level.

    The managed policy AmazonSSMManagedInstanceCore also lets the node read every parameter of the account.
    Source: Systems Manager's user guide, "ec2messages, ssmmessages, and other API operations".
    """
    return document(
        allow(
            [
                "ssm:UpdateInstanceInformation",
                "ssmmessages:CreateControlChannel",
                "ssmmessages:CreateDataChannel",
                "ssmmessages:OpenControlChannel",
                "ssmmessages:OpenDataChannel",
                "ec2messages:AcknowledgeMessage",
                "ec2messages:DeleteMessage",
                "ec2messages:FailMessage",
                "ec2messages:GetEndpoint",
                "ec2messages:GetMessages",
                "ec2messages:SendReply",
            ],
            "*",
        )
    )


# --- the bucket ----------------------------------------------------------------------------------------------


def tls_only(names: Names, bucket: str) -> Document:
    """Refuses every request to the bucket that isn't encrypted on the way."""
    arn = names.bucket(bucket)
    return document(
        {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [arn, f"{arn}/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    )


def _our_tags(names: Names) -> dict[str, str]:
    return {"aws:ResourceTag/Project": "tinyllama", "aws:ResourceTag/Env": names.env}

"""Every IAM document of the stack, as pure functions of names.

Resources are as narrow as AWS allows. Where a statement needs `*`, a comment gives the reason. ARNs are built from
deterministic names, so that a document needs no lookup and no other resource to exist first.
"""

from __future__ import annotations

from collections.abc import Iterable
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

    def topic(self, name: str) -> str:
        return self.arn("sns", f"{self.prefix}{name}")

    def budget(self, name: str) -> str:
        """ARN of a budget; they belong to no region."""
        return f"arn:{self.partition}:budgets::{self.account}:budget/{self.prefix}{name}"

    def log_group(self, name: str) -> str:
        """ARN of a log group's streams."""
        return self.arn("logs", f"log-group:{name}:*")

    def bucket(self, name: str) -> str:
        """ARN of a bucket (given its full name); S3's ARNs carry neither region nor account."""
        return f"arn:{self.partition}:s3:::{name}"

    def secret(self, name: str) -> str:
        """ARN of one of the env's secrets: AWS ends it with a dash and six characters of its own choice.

        Source: Secrets Manager's user guide, "Determine who has permissions": six question marks match just that.
        """
        return self.arn("secretsmanager", f"secret:tinyllama/{self.env}/{name}-??????")

    def function(self, name: str) -> str:
        """ARN of a function; with `:<qualifier>` behind it, of its versions and aliases."""
        return self.arn("lambda", f"function:{self.prefix}{name}")

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


def trust(service: str, *, account: str | None = None) -> Document:
    """Lets one AWS service (`lambda.amazonaws.com`) assume the role.

    Args:
        account: only on behalf of something in this account, so that nobody gets the service to use the role for them.
            AWS asks for it where a service sends the key (Scheduler user guide, "Confused deputy prevention"; CodeBuild
            user guide, "Allow CodeBuild to interact with other AWS services"). Lambda and EC2 promise no such thing
            for their functions' and instances' roles, and a role that can't be assumed would be worse.
    """
    statement: Document = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    if account is not None:
        statement["Condition"] = {"StringEquals": {"aws:SourceAccount": account}}
    return document(statement)


# --- the router --------------------------------------------------------------------------------------------


def router(names: Names, *, log_group: str, types: Iterable[str]) -> Document:
    """What the router does: write its log, jobs and messages; read ids and one secret; start the sleeping node.

    Args:
        types: what it may make the node, and nothing else of it: EC2 tells IAM the attribute that is set and its value
            (EC2 user guide, "Control access using attribute-based access").
    """
    return document(
        allow(["logs:CreateLogStream", "logs:PutLogEvents"], names.log_group(log_group)),
        allow(
            ["dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:DeleteItem"],
            names.table("jobs"),
        ),
        allow(["sqs:SendMessage"], names.queue("jobs")),
        allow(["sqs:GetQueueAttributes"], names.queue("jobs"), names.queue("jobs-dlq")),
        # The age of the oldest message. AWS gives cloudwatch:GetMetricStatistics no resource level.
        allow(["cloudwatch:GetMetricStatistics"], "*"),
        allow(["secretsmanager:GetSecretValue"], names.secret("openai-api-key")),
        # Just the node's id: the ledger also holds secrets.
        allow(["ssm:GetParameter"], names.parameter("node")),
        # AWS gives ec2:DescribeInstances no resource level.
        allow(["ec2:DescribeInstances"], "*"),
        allow(
            ["ec2:StartInstances", "ec2:StopInstances"], names.arn("ec2", "instance/*"), StringEquals=_our_tags(names)
        ),
        allow(
            ["ec2:ModifyInstanceAttribute"],
            names.arn("ec2", "instance/*"),
            StringEquals={**_our_tags(names), "ec2:Attribute/InstanceType": sorted(types)},
        ),
    )


# --- the small functions ---------------------------------------------------------------------------------------


def stop_build_box(names: Names, *, log_group: str) -> Document:
    """What the guard and the budget's killer do: look at our instances, stop them, say so, and call the router."""
    return document(
        allow(["logs:CreateLogStream", "logs:PutLogEvents"], names.log_group(log_group)),
        # AWS gives ec2:DescribeInstances no resource level.
        allow(["ec2:DescribeInstances"], "*"),
        allow(["ec2:StopInstances"], names.arn("ec2", "instance/*"), StringEquals=_our_tags(names)),
        # The worker's heartbeat, the mark that keeps the router from waking the node, the power record and what was
        # metered: no job.
        allow(
            ["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"],
            names.table("jobs"),
            **{"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["node#*", "power#*", "money#*"]}},
        ),
        allow(["sns:Publish"], names.topic("alerts")),
        # It starts no machine itself: a change of the node's type that the API began is carried on by the router.
        allow(["lambda:InvokeFunction"], names.function("router:live")),
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
        # The SSM agent leaves the output of commands there, of which an answer shows the beginning only.
        allow(["s3:PutObject"], f"{artifacts}/models/*", f"{artifacts}/run-command/*"),
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


# --- money -----------------------------------------------------------------------------------------------------


def call_function(names: Names, *, function: str) -> Document:
    """What a schedule's role does: call one function."""
    return document(allow(["lambda:InvokeFunction"], names.function(function)))


def daily_summary(names: Names, *, log_group: str, budget: str, item: str) -> Document:
    """What the daily summary does: read budget and record, see what runs, tell people, note what it told.

    Args:
        budget: the budget's name, without the env's prefix.
        item: key of the one item of the jobs table that is its own.
    """
    return document(
        allow(["logs:CreateLogStream", "logs:PutLogEvents"], names.log_group(log_group)),
        allow(["budgets:ViewBudget"], names.budget(budget)),
        # AWS gives ec2:DescribeInstances no resource level.
        allow(["ec2:DescribeInstances"], "*"),
        allow(["sns:Publish"], names.topic("alerts")),
        allow(
            ["dynamodb:GetItem", "dynamodb:PutItem"],
            names.table("jobs"),
            **{"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": [item]}},
        ),
        # The record of what was on, and what it costs.
        allow(
            ["dynamodb:BatchGetItem"],
            names.table("jobs"),
            **{"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["power#*"]}},
        ),
    )


# --- delivery -------------------------------------------------------------------------------------------------

GITHUB_TOKENS = "token.actions.githubusercontent.com"
"""Who signs the tokens of GitHub's workflows. Source: GitHub's docs, "Configuring OpenID Connect in AWS"."""
STS = "sts.amazonaws.com"
"""For whom these tokens are meant: GitHub's own action for AWS asks for this audience."""


def github_trust(names: Names, *, repository: str, number: int | None = None) -> Document:
    """Lets workflows of this one GitHub repository (`owner/name`) assume the role, whatever their branch.

    Args:
        number: the repository's id at GitHub, where it is known. Names can pass to others, ids can't.

    Since July 15th, 2026 the subject that GitHub signs for a new or renamed repository has the ids of owner and
    repository in it: `repo:owner@1/name@2:…`; others go on without. Both are let in. A `*` for an id would match any
    text, a slash or the name of an environment included, so the token's own claim of its repository has to fit as well,
    where AWS passes it on (since January 2026).

    Sources: GitHub changelog, "Immutable subject claims for GitHub Actions OIDC tokens"; AWS, "STS supports validation
    of select identity provider specific claims"; aws-actions/configure-aws-credentials issue 1888, pull request 1890.
    """
    owner, _, name = repository.partition("/")
    told = {"aud": STS, **({} if number is None else {"repository_id": str(number)})}
    return document(
        {
            "Effect": "Allow",
            "Principal": {"Federated": f"arn:{names.partition}:iam::{names.account}:oidc-provider/{GITHUB_TOKENS}"},
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {
                "StringEquals": {f"{GITHUB_TOKENS}:{claim}": value for claim, value in told.items()},
                "StringLike": {f"{GITHUB_TOKENS}:sub": [f"repo:{repository}:*", f"repo:{owner}@*/{name}@*:*"]},
                "StringEqualsIfExists": {f"{GITHUB_TOKENS}:repository": repository},
            },
        }
    )


def github(names: Names, *, project: str, keys: Iterable[str]) -> Document:
    """What a workflow does: read the ids that `aistratus env export` prints, start the build and see how it ends.

    Args:
        project: name of the build project.
        keys: entries of the ledger, one by one: it also holds a password.
    """
    return document(
        allow(["ssm:GetParameters"], *(names.parameter(key) for key in keys)),
        allow(["codebuild:StartBuild", "codebuild:BatchGetBuilds"], names.arn("codebuild", f"project/{project}")),
    )


def deploy(names: Names, *, function: str, log_group: str, connection: Any) -> Document:
    """What a build does: read the repository by the connection, write its log, publish the function's new code.

    Args:
        connection: ARN of the connection, or what stands for it until it is known.
    """
    router = names.function(function)
    return document(
        allow(["logs:CreateLogStream", "logs:PutLogEvents"], names.log_group(log_group)),
        # CodeBuild asks for all three when the project is made, and again when it fetches the source. Source: CodeBuild
        # user guide, "GitHub App connections"; aws-cdk issue 38504, which has UseConnection besides.
        allow(
            [f"{_service(connection)}:{verb}" for verb in ("GetConnection", "GetConnectionToken", "UseConnection")],
            connection,
        ),
        allow(
            [
                "lambda:GetFunctionConfiguration",
                "lambda:PublishVersion",
                "lambda:UpdateAlias",
                "lambda:UpdateFunctionCode",
            ],
            router,
            f"{router}:*",
        ),
    )


def _service(connection: Any) -> str:
    """The service that IAM knows a connection by: of its two names the one in the ARN, the new one for what `up` makes.

    Source: Developer Tools console user guide, "Identity and access management": "the service prefix needs to match
    that of the resource", and what is created under the new prefix has it in its ARN.
    """
    old = isinstance(connection, str) and ":codestar-connections:" in connection
    return "codestar-connections" if old else "codeconnections"


def build_runner(names: Names, *, repository: str, bucket: str, log_group: str) -> Document:
    """What the machine that builds images does: pull and push in the one repository, write its log."""
    return document(
        # AWS gives ecr:GetAuthorizationToken no resource level; what the token is good for, the next statement says.
        allow(["ecr:GetAuthorizationToken"], "*"),
        allow(
            [
                "ecr:BatchCheckLayerAvailability",
                "ecr:BatchGetImage",
                "ecr:CompleteLayerUpload",
                "ecr:GetDownloadUrlForLayer",
                "ecr:InitiateLayerUpload",
                "ecr:PutImage",
                "ecr:UploadLayerPart",
            ],
            names.arn("ecr", f"repository/{repository}"),
        ),
        # The SSM agent leaves the output of commands there, of which an answer shows the beginning only.
        allow(["s3:PutObject"], f"{names.bucket(bucket)}/run-command/*"),
        allow(["logs:CreateLogStream", "logs:PutLogEvents"], names.log_group(log_group)),
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


# --- who may publish ------------------------------------------------------------------------------------------


def alerts_topic(names: Names) -> Document:
    """Lets the env's alarms tell people. Our own functions may publish by their roles."""
    alarms = names.arn("cloudwatch", f"alarm:{names.prefix}*")
    return document(_may_publish(names, "cloudwatch.amazonaws.com", "alerts", alarms))


def killer_topic(names: Names) -> Document:
    """Lets the account's budgets say that a limit is reached. Whoever publishes here stops machines.

    The source is as wide as AWS documents it: a budget that can't publish would let the machines run on.
    """
    budgets = f"arn:{names.partition}:budgets::{names.account}:*"
    return document(_may_publish(names, "budgets.amazonaws.com", "killer", budgets))


def _may_publish(names: Names, service: str, topic: str, source: str) -> Document:
    """A topic's statement for one AWS service, on behalf of this account's resources and no other account's.

    Source: Cost Management user guide, "Creating an Amazon SNS topic for budget notifications".
    """
    return {
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": "SNS:Publish",
        "Resource": names.topic(topic),
        "Condition": {"StringEquals": {"aws:SourceAccount": names.account}, "ArnLike": {"aws:SourceArn": source}},
    }


def _our_tags(names: Names) -> dict[str, str]:
    return {"aws:ResourceTag/Project": "tinyllama", "aws:ResourceTag/Env": names.env}

"""S3, DynamoDB, SQS, Parameter Store, Secrets Manager. S3 has action names of its own.

Source: their pages of the Service Authorization Reference.
"""

from __future__ import annotations

from aistratus.permissions import resource_types as t
from aistratus.permissions.check import Check, Params, Table, listing, same, tagging


def _objects(params: Params) -> list[str]:
    return [f"{params.get('Bucket', '*')}/{params.get('Key', '*')}"]


def _versions(params: Params) -> list[str]:
    listed = params.get("Delete", {}).get("Objects", [])
    return [f"{params['Bucket']}/{entry['Key']}" for entry in listed if entry.get("VersionId")]


def _current(params: Params) -> list[str]:
    listed = params.get("Delete", {}).get("Objects", [])
    return [f"{params['Bucket']}/{entry['Key']}" for entry in listed if not entry.get("VersionId")]


def _bucket(action: str, *operations: str) -> Table:
    return {f"s3:{name}": (Check(f"s3:{action}", t.BUCKET, "Bucket"),) for name in operations}


_READING = (
    Check("s3:GetObject", t.OBJECT, _objects),
    Check("s3:ListBucket", t.BUCKET, "Bucket", by="operator"),
)

S3: Table = {
    "s3:ListBuckets": (Check("s3:ListAllMyBuckets", t.EVERYTHING),),
    # Tags in the create call need a permission of their own. Source: S3 API reference, CreateBucketConfiguration.
    "s3:CreateBucket": (
        Check("s3:CreateBucket", t.BUCKET, "Bucket"),
        Check("s3:TagResource", t.BUCKET, "Bucket", "CreateBucketConfiguration.Tags || Tags"),
    ),
    **_bucket("DeleteBucket", "DeleteBucket"),
    **_bucket("ListBucketVersions", "ListObjectVersions"),
    **_bucket("ListBucketMultipartUploads", "ListMultipartUploads"),
    **_bucket("GetBucketTagging", "GetBucketTagging"),
    **_bucket("PutBucketTagging", "PutBucketTagging"),
    **_bucket("GetBucketVersioning", "GetBucketVersioning"),
    **_bucket("PutBucketVersioning", "PutBucketVersioning"),
    **_bucket("GetBucketPolicy", "GetBucketPolicy"),
    **_bucket("PutBucketPolicy", "PutBucketPolicy"),
    **_bucket("GetEncryptionConfiguration", "GetBucketEncryption"),
    **_bucket("PutEncryptionConfiguration", "PutBucketEncryption"),
    **_bucket("GetLifecycleConfiguration", "GetBucketLifecycleConfiguration"),
    **_bucket("PutLifecycleConfiguration", "PutBucketLifecycleConfiguration", "DeleteBucketLifecycle"),
    **_bucket("GetBucketPublicAccessBlock", "GetPublicAccessBlock"),
    **_bucket("PutBucketPublicAccessBlock", "PutPublicAccessBlock"),
    # Without ListBucket a missing object is "denied" instead of "not found". Source: S3 API reference, HeadObject.
    # A node that looks for its model takes either for "not there".
    "s3:HeadObject": _READING,
    "s3:GetObject": _READING,
    "s3:PutObject": (Check("s3:PutObject", t.OBJECT, _objects),),
    # A large file is sent in parts. Source: S3 user guide, "Multipart upload API and permissions".
    "s3:CreateMultipartUpload": (Check("s3:PutObject", t.OBJECT, _objects),),
    "s3:UploadPart": (Check("s3:PutObject", t.OBJECT, _objects),),
    "s3:CompleteMultipartUpload": (Check("s3:PutObject", t.OBJECT, _objects),),
    **_bucket("ListBucket", "ListObjectsV2"),
    "s3:DeleteObjects": (
        Check("s3:DeleteObject", t.OBJECT, _current, "Delete.Objects[?!VersionId]"),
        Check("s3:DeleteObjectVersion", t.OBJECT, _versions, "Delete.Objects[?VersionId]"),
    ),
    "s3:AbortMultipartUpload": (Check("s3:AbortMultipartUpload", t.OBJECT, _objects),),
}

# --- the others ----------------------------------------------------------------------------------------------


def _secret(params: Params) -> list[str]:
    """AWS ends a secret's ARN with a dash and six characters of its own choice; a name stands for any."""
    named = str(params["SecretId"])
    return [named if named.startswith("arn:") else f"{named}-??????"]


DATA: Table = {
    **listing("dynamodb", "ListTables"),
    **same(
        "dynamodb",
        t.TABLE,
        "TableName",
        "DescribeTable DescribeTimeToLive DescribeContinuousBackups UpdateTable UpdateTimeToLive "
        "UpdateContinuousBackups DeleteTable GetItem PutItem UpdateItem DeleteItem Query",
    ),
    **same("dynamodb", t.TABLE, "keys(RequestItems)", "BatchGetItem"),
    **same("dynamodb", t.TABLE, "ResourceArn", "ListTagsOfResource TagResource"),
    "dynamodb:CreateTable": (
        Check("dynamodb:CreateTable", t.TABLE, "TableName"),
        tagging("dynamodb:TagResource", t.TABLE, "TableName", "Tags"),
    ),
    **listing("sqs", "ListQueues"),
    **same(
        "sqs",
        t.QUEUE,
        "QueueUrl",
        "GetQueueAttributes SetQueueAttributes ListQueueTags TagQueue DeleteQueue SendMessage ReceiveMessage "
        "DeleteMessage ChangeMessageVisibility",
    ),
    # The batch has no action of its own.
    "sqs:ChangeMessageVisibilityBatch": (Check("sqs:ChangeMessageVisibility", t.QUEUE, "QueueUrl"),),
    "sqs:CreateQueue": (
        Check("sqs:CreateQueue", t.QUEUE, "QueueName"),
        tagging("sqs:TagQueue", t.QUEUE, "QueueName", "tags"),
    ),
    # AWS's own parameters lie in no account, the ledger's in ours. A version may stand behind the name.
    "ssm:GetParameter": (
        Check("ssm:GetParameter", t.IMAGE_PARAMETER, "Name", "Name && starts_with(Name, '/aws/service/')"),
        Check("ssm:GetParameter", t.LEDGER, "Name", "Name && !starts_with(Name, '/aws/service/')", by="program"),
    ),
    "ssm:GetParameters": (
        Check("ssm:GetParameters", t.LEDGER, lambda params: [str(name).split(":")[0] for name in params["Names"]]),
    ),
    **same("ssm", t.LEDGER_PATH, "Path", "GetParametersByPath"),
    **same("ssm", t.LEDGER, "Names", "DeleteParameters"),
    "ssm:PutParameter": (
        Check("ssm:PutParameter", t.LEDGER, "Name"),
        tagging("ssm:AddTagsToResource", t.LEDGER, "Name", "Tags"),
    ),
    # Run Command knows no resource but for sending; a command's id is nobody's name.
    **listing("ssm", "DescribeInstanceInformation ListCommands GetCommandInvocation CancelCommand"),
    "ssm:SendCommand": (
        Check("ssm:SendCommand", t.RUN_SHELL_SCRIPT, "DocumentName"),
        Check("ssm:SendCommand", t.INSTANCE, "InstanceIds"),
        Check("ssm:SendCommand", t.BUCKET, "OutputS3BucketName", "OutputS3BucketName"),
    ),
    "ssm:StartSession": (
        Check("ssm:StartSession", t.START_SSH_SESSION, "DocumentName"),
        Check("ssm:StartSession", t.INSTANCE, "Target"),
    ),
    **listing("secretsmanager", "ListSecrets"),
    **same(
        "secretsmanager",
        t.SECRET,
        _secret,
        "DescribeSecret GetSecretValue PutSecretValue UpdateSecret DeleteSecret RestoreSecret TagResource "
        "ListSecretVersionIds",
    ),
    "secretsmanager:CreateSecret": (
        Check("secretsmanager:CreateSecret", t.SECRET, "Name"),
        tagging("secretsmanager:TagResource", t.SECRET, "Name", "Tags"),
    ),
}

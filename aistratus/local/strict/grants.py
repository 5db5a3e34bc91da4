"""Lambda: who may read a function's variables.

Lambda encrypts them with the account's own key, and grants the function's role to decrypt them: that very role, known
by its unique id, and not one that is made later under its name. The grant is renewed when the function gets another
role. Sources: AWS re:Post, knowledge center, "How do I resolve KMSAccessDeniedException errors from Lambda?";
terraform-provider-aws, documentation of `aws_lambda_function`, and its issue 9703.
"""

from __future__ import annotations

from typing import Any, Final

from moto.awslambda.exceptions import LambdaClientError
from moto.awslambda.models import LambdaBackend
from moto.awslambda.responses import LambdaResponse
from moto.iam.exceptions import NotFoundException
from moto.iam.models import iam_backends

from aistratus.local.shim.cloud import Cloud
from aistratus.local.shim.lambda_requests import plain_name
from aistratus.local.shim.patching import wrap
from aistratus.local.strict.rule import Book, Delays, Rule

book = Book()


@book.rule(
    "role-made-anew",
    code="KMSAccessDeniedException",
    source="https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html",
)
def role_made_anew(cloud: Cloud, delays: Delays) -> None:
    granted: dict[str, str] = {}

    def unique(backend: Any, role: str) -> str:
        try:
            return str(iam_backends[backend.account_id]["aws"].get_role(role.rsplit("/", 1)[-1]).id)
        except NotFoundException:
            return ""

    @wrap(LambdaBackend, "create_function")
    def create_function(original: Any, backend: Any, spec: dict[str, Any]) -> Any:
        function = original(backend, spec)
        granted[function.function_arn] = unique(backend, spec["Role"])
        return function

    @wrap(LambdaBackend, "update_function_configuration")
    def update(original: Any, backend: Any, function_name: str, qualifier: Any, body: dict[str, Any]) -> Any:
        before = backend.get_function(function_name, qualifier).role
        answer = original(backend, function_name, qualifier, body=body)
        if body.get("Role", before) != before:
            granted[backend.get_function(function_name).function_arn] = unique(backend, body["Role"])
        return answer

    @wrap(LambdaResponse, "invoke")
    def invoke(original: Any, self: Any) -> Any:
        name, _ = plain_name(self.path.split("/functions/")[1].split("/")[0].replace("%3A", ":"))
        function = self.backend.get_function(name)
        if function.environment_vars and granted.get(function.function_arn) != unique(self.backend, function.role):
            raise LambdaClientError(
                "KMSAccessDeniedException",
                "Lambda was unable to decrypt the environment variables because KMS access was denied. Please check "
                "the function's KMS key settings.",
            )
        return original(self)


RULES: Final[tuple[Rule, ...]] = tuple(book.rules)

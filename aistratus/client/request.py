"""The body of `POST /infer`, declared once.

This model is what a client fills in, and the only place where a field or a limit of the request is
written down. The router can't import Pydantic (it holds native code and costs a cold start), so
`scripts/generate_validator.py` turns the model's JSON schema into `aistratus/router/validator.py`;
a property test proves that both accept and refuse the same inputs.

What is decided here for both:

- Types are strict: `"5"` and `5.0` are not the integer 5, and `true` is no number. An integer is fine where a
  number is asked for.
- Text may hold any character but NUL (no model reads past it) and half a surrogate pair (it can't be encoded).
- A field whose default is null may be null, which is the same as leaving it out. Unknown fields are refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from aistratus import wire

TEXT_PATTERN: Final = r"^[^\x00\ud800-\udfff]*$"
"""For the generated validator, in Python's regular expressions. Pydantic refuses lone surrogates by itself."""

UUID_PATTERN: Final = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"

SEED_MAX: Final = 2**31 - 1
"""The engine's seed is a C `int`."""

CHARACTERS: Final = "characters, without NUL or half a surrogate pair"

TOTAL_CHARS: Final = "x-total-chars"
"""Schema keyword for a limit that JSON Schema has no word for: all `content` of a list of turns together."""


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("nul", "Text can't hold NUL")
    return text


Text = Annotated[str, AfterValidator(_without_nul), Field(json_schema_extra={"pattern": TEXT_PATTERN})]


StopText = Annotated[
    Text,
    Field(min_length=1, max_length=wire.STOP_CHARS, description=f"a text of 1 to {wire.STOP_CHARS} {CHARACTERS}"),
]


class Turn(BaseModel):
    """One earlier message of the conversation."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    role: Literal["user", "assistant"] = Field(description='"user" or "assistant"')
    content: Text = Field(
        min_length=1, max_length=wire.HISTORY_CHARS, description=f"a text of 1 to {wire.HISTORY_CHARS} {CHARACTERS}"
    )


class InferRequest(BaseModel):
    """One prompt, and how it should be answered. A field's `description` ends the sentence "must be …"."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    prompt: Text = Field(
        min_length=1, max_length=wire.PROMPT_CHARS, description=f"a text of 1 to {wire.PROMPT_CHARS} {CHARACTERS}"
    )
    conversation: Annotated[str, Field(pattern=UUID_PATTERN)] | None = Field(default=None, description="a UUID")
    history: tuple[Turn, ...] = Field(
        default=(),
        strict=False,  # a JSON array is a list, which a strict tuple would refuse
        max_length=wire.HISTORY_TURNS,
        description=f"a list of up to {wire.HISTORY_TURNS} turns of {wire.HISTORY_CHARS} characters in all",
        json_schema_extra={TOTAL_CHARS: wire.HISTORY_CHARS},
    )
    system: Annotated[Text, Field(max_length=wire.PROMPT_CHARS)] | None = Field(
        default=None, description=f"a text of up to {wire.PROMPT_CHARS} {CHARACTERS}"
    )
    max_tokens: int = Field(
        default=256, ge=1, le=wire.MAX_TOKENS, description=f"a whole number from 1 to {wire.MAX_TOKENS}"
    )
    temperature: float = Field(default=0.7, ge=0, le=2, allow_inf_nan=False, description="a number from 0 to 2")
    top_p: float = Field(default=0.95, ge=0, le=1, allow_inf_nan=False, description="a number from 0 to 1")
    seed: Annotated[int, Field(ge=0, le=SEED_MAX)] | None = Field(
        default=None, description=f"a whole number from 0 to {SEED_MAX}"
    )
    stop: tuple[StopText, ...] = Field(
        default=(),
        strict=False,
        max_length=wire.STOP_STRINGS,
        description=f"a list of up to {wire.STOP_STRINGS} texts",
    )

    @model_validator(mode="after")
    def _history_fits(self) -> InferRequest:
        if sum(len(turn.content) for turn in self.history) > wire.HISTORY_CHARS:
            raise PydanticCustomError("history", f"History can't be longer than {wire.HISTORY_CHARS} characters")
        return self

    def body(self) -> dict[str, Any]:
        """The JSON body: only the fields that were given."""
        return self.model_dump(mode="json", exclude_unset=True, exclude_none=True)

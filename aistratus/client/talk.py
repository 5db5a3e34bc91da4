"""A running conversation: asks, follows the reply, and stores both so that nothing gets lost.

    talk = Talk(archive, Conversation())
    asked = talk.ask("How do I stop the GPU?")
    for event in talk.follow(api, asked):
        ...

A question is in the archive before it is sent, under the id that its job will have. So however this program ends,
`reopen` finds the job again while the API still has it.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from aistratus import wire
from aistratus.client import conversations, events
from aistratus.client.api import Api, Submitted
from aistratus.client.conversation import Conversation, Window, chars_in
from aistratus.client.conversations import Archive, Exchange
from aistratus.client.errors import ApiError
from aistratus.client.request import InferRequest

SAID: Final = frozenset({conversations.ANSWERED, conversations.STOPPED})
"""Outcomes whose exchange belongs to the history that the model reads with the next question."""

GONE: Final = "the API has no such job any more"


@dataclass(frozen=True)
class LeftOut:
    """For the first time the oldest exchanges aren't sent: they don't fit the model's window."""

    exchanges: int
    window_tokens: int


TalkEvent = events.Event | LeftOut


@dataclass
class Asked:
    """One question and its job.

    Attributes:
        job_id: known before the API has answered, so that the job can be cancelled at any moment.
        request: `None` for a question that was sent by a program that has ended.
        written: the reply so far.
    """

    turn: int
    prompt: str
    job_id: str
    request: InferRequest | None
    submitted: Submitted | None = None
    written: str = ""
    left_out: int = 0


@dataclass
class Talk:
    """A conversation and its archive. Safe for two threads: one that follows, and one that stops.

    Attributes:
        choices: fields of each request beside prompt and history: `system`, `max_tokens`, `temperature`, `seed`.
    """

    archive: Archive
    conversation: Conversation = field(default_factory=Conversation)
    choices: dict[str, Any] = field(default_factory=dict)
    window: Window = field(default_factory=Window)
    _told_of_cut: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, archive: Archive, conversation: str, choices: Mapping[str, Any], window: Window) -> Talk:
        """A conversation from the archive; its system text counts unless another is chosen."""
        about = archive.about(conversation)
        kept = {"system": about.system} if about and about.system else {}
        said = [
            (one.prompt, one.reply)
            for one in archive.turns(conversation, latest=wire.HISTORY_TURNS)
            if one.state in SAID and one.reply
        ]
        return cls(archive, Conversation(conversation, tuple(said)), {**kept, **choices}, window)

    @property
    def last(self) -> Exchange | None:
        """The last question and its outcome."""
        turns = self.archive.turns(self.conversation.id, latest=1)
        return turns[0] if turns else None

    def ask(self, prompt: str) -> Asked:
        """Stores a question; `follow` sends it.

        Raises:
            pydantic.ValidationError: the API wouldn't take it; nothing is recorded.
            ConversationsUnusable: the record can't be written.
        """
        request, key = self.conversation.ask(prompt, window=self.window, **self.choices), uuid.uuid4().hex
        turn = self.archive.asked(self.conversation.id, prompt, key, system=self.choices.get("system"))
        return Asked(turn, prompt, key, request, left_out=self.conversation.left_out(request.history))

    def reopen(self) -> Asked | None:
        """The last question, if its outcome is unknown because the program or the network failed."""
        last = self.last
        if last is None or last.state != conversations.ASKED:
            return None
        sent = Submitted(last.job_id, wire.QUEUED, "", self.conversation.id, last.request_id)
        return Asked(last.id, last.prompt, last.job_id, None, sent)

    def follow(self, api: Api, asked: Asked) -> Iterator[TalkEvent]:
        """Sends the question, unless that was done, and yields the job's events until its end.

        The last event is `Done`, `Failed` or `Cancelled`. What is raised before leaves the question open, unless the
        API has refused it.

        Raises:
            ClientError: the API refused, or can't be reached.
            ConversationsUnusable: the record can't be written.
        """
        try:
            if asked.submitted is None:
                assert asked.request is not None
                yield from self._cut(asked)
                asked.submitted = api.submit(asked.request, asked.job_id)
                self.archive.accepted(asked.turn, asked.submitted.request_id)
            for event in api.stream(asked.submitted):
                self._recorded(asked, event)
                yield event
        except ApiError as error:
            if asked.submitted is None:
                self._end(asked, conversations.FAILED, reason=str(error))
            elif error.status == HTTPStatus.NOT_FOUND:
                self._end(asked, conversations.FAILED, asked.written, reason=GONE)
            raise

    def stop(self, asked: Asked) -> None:
        """Ends the reply at the user's wish; the text so far stays in the conversation."""
        self._end(asked, conversations.STOPPED, asked.written)

    def undo(self) -> Exchange | None:
        """Removes the last question and its reply, and returns them."""
        last = self.last
        if last is not None:
            self.archive.withdraw(last.id)
            if last.state in SAID and last.reply:
                self.conversation = self.conversation.without_last()
        return last

    def _cut(self, asked: Asked) -> Iterator[LeftOut]:
        if asked.left_out and not self._told_of_cut:
            self._told_of_cut = True
            yield LeftOut(asked.left_out, self.window.tokens)

    def _recorded(self, asked: Asked, event: events.Event) -> None:
        match event:
            case events.Piece(text):
                asked.written += text
            case events.Restarted():
                asked.written = ""
            case events.Done(text, model, usage, timings):
                self._end(asked, conversations.ANSWERED, text, model=model, usage=usage, timings=timings)
                if asked.request is not None:
                    self.window = self.window.learned(chars_in(asked.request), int(usage.get("prompt_tokens") or 0))
            case events.Failed(_, reason):
                self._end(asked, conversations.FAILED, asked.written, reason=reason)
            case events.Cancelled(text):
                self._end(asked, conversations.STOPPED, text)

    def _end(self, asked: Asked, state: str, reply: str = "", **more: Any) -> None:
        """Stores the outcome once: the follower of a reply that was stopped comes later and changes nothing."""
        with self._lock:
            if self.archive.ended(asked.turn, state, reply, **more) and state in SAID and reply:
                self.conversation = self.conversation.with_exchange(asked.prompt, reply)

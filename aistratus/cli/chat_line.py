"""Connects a conversation at the command line with its env's API and with the archive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aistratus.core.errors import UsageError

if TYPE_CHECKING:
    import httpx

    from aistratus.cli.options import Options
    from aistratus.client.conversation import Window
    from aistratus.client.conversations import Archive
    from aistratus.settings import ModelSettings


@dataclass(frozen=True)
class Line:
    """An open line.

    Attributes:
        url: where the API is.
        token: gives an access token that is valid now.
        http: connections to go over; else some are made.
    """

    url: str
    token: Callable[[], str]
    http: httpx.Client | None = None


def window_of(model: ModelSettings) -> Window:
    """How much the model can look at."""
    from aistratus.client.conversation import LARGEST_WINDOW, Window

    return Window(model.context_tokens or LARGEST_WINDOW)


def choices_of(model: ModelSettings, chosen: dict[str, Any]) -> dict[str, Any]:
    """What each request says beside the question, with the settings' own values where nothing was chosen."""
    return {"temperature": model.temperature, **chosen}


def earlier(archive: Archive, *, go_on: bool, conversation: str | None) -> str | None:
    """The id of the conversation to go on with; `None` for a new one.

    Raises:
        UsageError: there is no such conversation.
    """
    from aistratus.client.conversations import NoConversation

    try:
        return archive.find(conversation) if conversation is not None else archive.last() if go_on else None
    except NoConversation as error:
        raise UsageError(str(error)) from None


def connect(options: Options) -> Line:
    """Finds the env's API and signs in when the first request needs it.

    Raises:
        Failure: the stack isn't up, or nobody answers.
    """
    from aistratus.cli.door import knock

    door = knock(options)
    return Line(door.url, door.signed_in)


def file_of(env: str) -> Path:
    """Where an env's conversations are kept."""
    import platformdirs

    return platformdirs.user_data_path("aistratus") / "conversations" / f"{env}.sqlite3"


def archive_of(env: str) -> Archive:
    """An env's conversations.

    Raises:
        ConversationsUnusable: the file can't be used.
    """
    from aistratus.client.conversations import Archive

    return Archive(file_of(env))


def told_archive(env: str) -> tuple[Archive, str]:
    """The same for a conversation, which is possible without an archive, with a warning."""
    from aistratus.client.conversations import Archive, ConversationsUnusable

    try:
        return archive_of(env), ""
    except ConversationsUnusable as error:
        return Archive(None), f"this conversation won't be kept: {error}"

"""The archive of conversations on this machine: one SQLite file per env, readable by its user only.

A question is stored before it is sent, and its reply when it has come: if the program is killed between the two, the
question is there with the id of its job, whose reply the API keeps for some more minutes. Two programs may use one file
at once: each change is a transaction, and readers never wait (write-ahead log).

Search uses SQLite's full-text index where Python's SQLite has one (FTS5), else it scans the texts; what the index
doesn't cover (parts of words, scripts without spaces, emoji) is searched in the texts as well.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from aistratus.client.errors import ClientError
from aistratus.private import make_private

SCHEMA: Final = 1
"""Version of the file (`PRAGMA user_version`). A file with a newer one isn't touched."""

BUSY_MS: Final = 10_000
"""How long one program waits for another's transaction; each takes milliseconds."""

ASKED: Final = "asked"
ANSWERED: Final = "answered"
STOPPED: Final = "stopped"
FAILED: Final = "failed"

TITLE_CHARS: Final = 60

BOOTS_KEPT: Final = 9

_TABLES: Final = (
    """CREATE TABLE conversations (
        id TEXT PRIMARY KEY, title TEXT NOT NULL, system TEXT, created_at REAL NOT NULL, updated_at REAL NOT NULL)""",
    """CREATE TABLE turns (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        conversation TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
        prompt TEXT NOT NULL, reply TEXT NOT NULL DEFAULT '', state TEXT NOT NULL, reason TEXT NOT NULL DEFAULT '',
        job_id TEXT NOT NULL, request_id TEXT NOT NULL DEFAULT '', model TEXT NOT NULL DEFAULT '',
        usage TEXT NOT NULL DEFAULT '{}', timings TEXT NOT NULL DEFAULT '{}',
        asked_at REAL NOT NULL, ended_at REAL)""",
    "CREATE TABLE boots (at REAL NOT NULL, seconds REAL NOT NULL)",
    "CREATE INDEX turns_by_conversation ON turns (conversation, id)",
    "CREATE INDEX conversations_by_age ON conversations (updated_at)",
)

_INDEX: Final = (
    "CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(prompt, reply, content='turns', content_rowid='id')"
)
_FORGET: Final = "INSERT INTO words (words, rowid, prompt, reply) VALUES ('delete', old.id, old.prompt, old.reply);"
_LEARN: Final = "INSERT INTO words (rowid, prompt, reply) VALUES (new.id, new.prompt, new.reply);"
_TRIGGERS: Final[Mapping[str, str]] = {
    "words_added": f"AFTER INSERT ON turns BEGIN {_LEARN} END",
    "words_gone": f"AFTER DELETE ON turns BEGIN {_FORGET} END",
    "words_changed": f"AFTER UPDATE OF prompt, reply ON turns BEGIN {_FORGET} {_LEARN} END",
}
"""Keep the index in step with the table. Source: sqlite.org/fts5.html, "External Content Tables"."""


class ConversationsUnusable(ClientError):
    """The file can't be read or written, or a newer version of this program wrote it."""


class NoConversation(ClientError):
    """There is no such conversation, or more than one."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """One question and its outcome. Times are seconds since the epoch."""

    id: int
    conversation: str
    prompt: str
    reply: str
    state: str
    reason: str
    job_id: str
    request_id: str
    model: str
    usage: Mapping[str, Any]
    timings: Mapping[str, Any]
    asked_at: float
    ended_at: float | None


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One conversation, without its text."""

    id: str
    title: str
    system: str | None
    turns: int
    created_at: float
    updated_at: float


class Archive:
    """The conversations of one env. Safe for threads.

    Args:
        path: the file; made, with its folder, when it isn't there. `None` keeps everything in memory only.

    Raises:
        ConversationsUnusable: as every method here.
    """

    def __init__(self, path: Path | None, *, now: Callable[[], float] = time.time, indexed: bool = True) -> None:
        self._where = str(path or "memory")
        self._now = now
        self._lock = threading.RLock()
        with self._told():
            if path is not None:
                make_private(path.parent)
                os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # its log gets the same mode from SQLite
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
            self._db.row_factory = sqlite3.Row
            self._open(indexed)

    def close(self) -> None:
        """Ends the connection."""
        self._db.close()

    # --- writing ------------------------------------------------------------------------------------------------

    def asked(self, conversation: str, prompt: str, job_id: str, *, system: str | None = None) -> int:
        """Stores a question before it is sent; the first one creates the conversation. Returns the turn's id."""
        now = self._now()
        title = " ".join(_text(prompt).split())[:TITLE_CHARS]
        with self._changing() as db:
            db.execute(
                "INSERT INTO conversations VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE "
                "SET updated_at = excluded.updated_at, system = excluded.system",
                (conversation, title, system, now, now),
            )
            made = db.execute(
                "INSERT INTO turns (conversation, prompt, state, job_id, asked_at) VALUES (?, ?, ?, ?, ?)",
                (conversation, _text(prompt), ASKED, job_id, now),
            )
            return int(made.lastrowid or 0)

    def accepted(self, turn: int, request_id: str) -> None:
        """Marks a question as accepted by the API."""
        with self._changing() as db:
            db.execute("UPDATE turns SET request_id = ? WHERE id = ?", (request_id, turn))

    def ended(
        self,
        turn: int,
        state: str,
        reply: str = "",
        *,
        reason: str = "",
        model: str = "",
        usage: Mapping[str, Any] | None = None,
        timings: Mapping[str, Any] | None = None,
    ) -> bool:
        """Stores a question's outcome. If it has one already, changes nothing and returns false."""
        values = (state, _text(reply), reason, model, json.dumps(dict(usage or {})), json.dumps(dict(timings or {})))
        with self._changing() as db:
            changed = db.execute(
                "UPDATE turns SET state = ?, reply = ?, reason = ?, model = ?, usage = ?, timings = ?, ended_at = ? "
                "WHERE id = ? AND state = ?",
                (*values, self._now(), turn, ASKED),
            )
            return changed.rowcount == 1

    def withdraw(self, turn: int) -> None:
        """Removes a question and its reply; a conversation without any is removed too."""
        with self._changing() as db:
            db.execute("DELETE FROM turns WHERE id = ?", (turn,))
            db.execute("DELETE FROM conversations WHERE id NOT IN (SELECT conversation FROM turns)")

    def delete(self, conversation: str) -> None:
        """Removes a conversation, if it exists."""
        with self._changing() as db:
            db.execute("DELETE FROM turns WHERE conversation = ?", (conversation,))
            db.execute("DELETE FROM conversations WHERE id = ?", (conversation,))

    def booted(self, seconds: float) -> None:
        """Stores how long a question waited for the node to start (seconds)."""
        with self._changing() as db:
            db.execute("INSERT INTO boots VALUES (?, ?)", (self._now(), seconds))
            db.execute(
                "DELETE FROM boots WHERE rowid NOT IN (SELECT rowid FROM boots ORDER BY rowid DESC LIMIT ?)",
                (BOOTS_KEPT,),
            )

    # --- reading ------------------------------------------------------------------------------------------------

    def last(self) -> str | None:
        """The conversation with the latest question."""
        rows = self._read("SELECT conversation FROM turns ORDER BY asked_at DESC, id DESC LIMIT 1")
        return str(rows[0][0]) if rows else None

    def find(self, beginning: str) -> str:
        """The id with this prefix.

        Raises:
            NoConversation: none does, or several.
        """
        pattern = beginning.lower().replace("%", "").replace("_", "") + "%"
        found = [str(row[0]) for row in self._read("SELECT id FROM conversations WHERE id LIKE ?", pattern)]
        if len(found) == 1 and beginning.strip():
            return found[0]
        if not found or not beginning.strip():
            raise NoConversation(f"there is no conversation {beginning!r}; `aistratus chat list` shows those that are")
        raise NoConversation(f"{len(found)} conversations begin with {beginning!r}; give more of the id")

    def about(self, conversation: str) -> Kept | None:
        """One conversation."""
        rows = self._read(f"{_KEPT} WHERE c.id = ?", conversation)  # a constant of this module
        return _kept(rows[0]) if rows else None

    def all(self, most: int | None = None) -> list[Kept]:
        """All conversations, latest first."""
        return [_kept(row) for row in self._read(f"{_KEPT} ORDER BY c.updated_at DESC LIMIT ?", most or -1)]

    def usual_boot(self) -> float | None:
        """Seconds that a question waits for a sleeping node: the median of the latest waits, or None."""
        waited = [float(row[0]) for row in self._read("SELECT seconds FROM boots")]
        return median(waited) if waited else None

    def turns(self, conversation: str, latest: int | None = None) -> list[Exchange]:
        """A conversation's turns in order, or only the latest `last` of them."""
        rows = self._read(
            "SELECT * FROM turns WHERE conversation = ? ORDER BY id DESC LIMIT ?", conversation, latest or -1
        )
        return [_exchange(row) for row in reversed(rows)]

    def search(self, text: str, most: int = 50) -> list[Exchange]:
        """Turns that contain all the words, latest first."""
        words = text.split()
        if not words:
            return []
        found: dict[int, sqlite3.Row] = {}
        if self._indexed:
            wanted = " ".join(f'"{word}"*' for word in (word.replace('"', '""') for word in words))
            with suppress(sqlite3.OperationalError):  # nothing in it is a word to the index
                query = "SELECT turns.* FROM words JOIN turns ON turns.id = words.rowid WHERE words MATCH ?"
                found = {row["id"]: row for row in self._rows(f"{query} ORDER BY turns.id DESC LIMIT ?", wanted, most)}
        if not found:
            both = " AND ".join(["(prompt || char(10) || reply) LIKE ? ESCAPE '!'"] * len(words))
            patterns = ["%" + _escaped(word) + "%" for word in words]
            # No injection (S608, B608): what is put into the text is `both`, which has placeholders only.
            query = f"SELECT * FROM turns WHERE {both} ORDER BY id DESC LIMIT ?"  # noqa: S608  # nosec B608
            found = {row["id"]: row for row in self._read(query, *patterns, most)}
        return [_exchange(found[number]) for number in sorted(found, reverse=True)]

    # --- the file -----------------------------------------------------------------------------------------------

    def _open(self, indexed: bool) -> None:
        self._db.execute(f"PRAGMA busy_timeout = {BUSY_MS}")
        self._db.execute("PRAGMA foreign_keys = ON")
        if self._db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            with suppress(sqlite3.OperationalError):  # another program is switching right now
                self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")  # with WAL: survives a killed program
        self._indexed = indexed and _has_index(self._db)
        with self._changing() as db:
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if version > SCHEMA:
                raise ConversationsUnusable(
                    f"the conversations in {self._where} were written by a newer aistratus (form {version}); "
                    "install that one"
                )
            if version < SCHEMA:
                for statement in _TABLES:
                    db.execute(statement)
                db.execute(f"PRAGMA user_version = {SCHEMA}")
            self._keep_index(db)

    def _keep_index(self, db: sqlite3.Connection) -> None:
        """Creates the index, unless this Python's SQLite can't; one that can rebuilds it."""
        there = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'words_changed'").fetchone()
        if self._indexed and not there:
            db.execute(_INDEX)
            for name, what in _TRIGGERS.items():
                db.execute(f"CREATE TRIGGER {name} {what}")
            db.execute("INSERT INTO words (words) VALUES ('rebuild')")
        elif there and not self._indexed:
            for name in _TRIGGERS:
                db.execute(f"DROP TRIGGER {name}")

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, rolled back by any exception."""
        with self._lock, self._told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:  # Ctrl-C too: half a transaction must not stay open
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _read(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._told():
            return self._rows(query, *values)

    def _rows(self, query: str, *values: Any) -> list[sqlite3.Row]:
        with self._lock:
            return self._db.execute(query, values).fetchall()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise ConversationsUnusable(
                f"the conversations in {self._where} can't be used: {why}{_todo(why)}"
            ) from error


def _todo(why: str) -> str:
    """What to do about what SQLite says, where the words alone don't tell.

    Source: https://www.sqlite.org/rescode.html, SQLITE_CORRUPT, SQLITE_NOTADB, SQLITE_FULL.
    """
    if "malformed" in why or "not a database" in why:
        return "; move that file elsewhere, and the next question begins a new one"
    return "; make room there" if "full" in why else ""


_KEPT: Final = "SELECT c.*, (SELECT count(*) FROM turns WHERE conversation = c.id) AS turns FROM conversations AS c"


def _has_index(db: sqlite3.Connection) -> bool:
    """Whether this Python's SQLite has FTS5."""
    return db.execute("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'").fetchone() is not None


def _escaped(word: str) -> str:
    return word.replace("!", "!!").replace("%", "!%").replace("_", "!_")


def _text(text: str) -> str:
    """Text that SQLite can store: lone surrogates can't be encoded."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _kept(row: sqlite3.Row) -> Kept:
    return Kept(**dict(row))


def _exchange(row: sqlite3.Row) -> Exchange:
    values = dict(row)
    return Exchange(**values | {"usage": json.loads(values["usage"]), "timings": json.loads(values["timings"])})

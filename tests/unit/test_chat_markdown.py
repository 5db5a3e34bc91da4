"""Replies in Markdown, rendered while they are written: what is printed never changes, and copies out clean."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from aistratus.cli.chat_terminal.blocks import Blocks
from aistratus.cli.chat_terminal.markdown import MarkdownStream
from aistratus.cli.chat_terminal.talk_commands import code_blocks
from aistratus.cli.chat_terminal.text import clean

REPLY = """# Title
Some *text* with `code`
on two lines.

1. one
2. two
   - nested
3. three

```python
def f(x):
    return x


# end
```
Setext
---
- a
- b
> quote

| a | b |
|---|---|
| 1 | 2 |

    indented
in 1998. It was
1998. no list
~~~
plain
~~~"""


def shown(pieces: list[str], width: int = 60) -> str:
    stream = MarkdownStream()
    return "".join([stream.feed(piece, width) for piece in pieces] + [stream.end(width)])


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


lines = st.sampled_from([*REPLY.split("\n"), "", "```", "~~~~", "- ", "***", "语言 🙂", "\\", "|", "[a]: b"])


@settings(max_examples=40, deadline=None)
@given(st.lists(lines, max_size=12).map("\n".join), st.data())
@example(REPLY, None)
def test_it_is_the_same_however_it_is_cut_into_pieces(text: str, data: st.DataObject | None) -> None:
    if data is None:
        pieces = list(text)
    else:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert shown(pieces) == shown([text])


@settings(max_examples=40, deadline=None)
@given(st.lists(lines, max_size=12).map("\n".join))
def test_no_line_and_no_code_is_lost(text: str) -> None:
    blocks = Blocks()
    found = [block.text for block in [*blocks.feed(text), *blocks.end()]]
    fences = re.compile(r" *(`{3,}|~{3,})")
    kept = [line.strip() for block in found for line in block.split("\n") if line.strip()]
    wanted = [line.strip() for line in text.split("\n") if line.strip() and not fences.match(line)]
    assert [line for line in kept if not fences.match(line)] == wanted


def test_blocks_are_rendered_as_they_are_meant() -> None:
    assert plain(shown([REPLY])) == (
        "Title\nSome text with code on two lines.\n\n 1 one\n 2 two\n    • nested\n 3 three\n\n"
        "def f(x):\n    return x\n\n\n# end\n\nSetext\n • a\n • b\n▌ quote\n\n a  b\n ────\n 1  2\n\n"
        "indented\n\nin 1998. It was 1998. no list\nplain\n"
    )


def test_a_line_of_code_is_neither_broken_nor_padded() -> None:
    code = "x = " + "1 + " * 60 + "1"
    assert plain(shown([f"```py\n{code}\n\n  y\n```"], width=20)) == f"{code}\n\n  y\n"
    assert not re.search(r" (\x1b\[[0-9;]*m)*\n", shown([REPLY]))


def test_what_is_unfinished_is_shown_as_the_last_lines_that_fit() -> None:
    stream = MarkdownStream()
    assert stream.feed("done\n\nword " + "word " * 40, 20) == "done\n"
    tail = plain(stream.tail(20, 3))
    assert (tail.count("\n"), set(tail.split())) == (2, {"word"})
    assert stream.tail(20, 0) == ""


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("\x1b[2Jx\x07", "␛[2Jx␇"),
        ("a\r\nb\tc", "a\nb\tc"),
        ("\x9b31m \u202edrow", "\N{REPLACEMENT CHARACTER}31m \N{REPLACEMENT CHARACTER}drow"),
        ("👩‍👩‍👧 ünï", "👩‍👩‍👧 ünï"),
    ],
)
def test_a_terminal_is_sent_text_only(text: str, harmless: str) -> None:
    assert clean(text) == harmless


def test_code_is_found_in_a_reply() -> None:
    assert code_blocks("a\n```\n1\n\n2\n```\n```\n3\n```\nb") == ["1\n\n2\n", "3\n"]
    assert code_blocks("none") == []

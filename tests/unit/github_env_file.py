"""A reader of a workflow's $GITHUB_ENV file, written from its documented format.

`NAME=VALUE` sets a variable: everything behind the first equals sign is the value. `NAME<<DELIMITER` begins a value
of many lines, which ends before the first line that is the delimiter alone. Empty lines mean nothing. Lines end with a
line feed; a carriage return is a character like any other on Linux.

Source: GitHub's documentation, "Workflow commands for GitHub Actions", "Setting an environment variable" and "Multiline
strings"; which of the two a line is when it holds both signs, the one that comes first decides.
"""

from __future__ import annotations


class Malformed(ValueError):
    """The step that wrote this would fail."""


def read(text: str) -> dict[str, str]:
    """The variables that the file sets."""
    variables: dict[str, str] = {}
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    while lines:
        line = lines.pop(0)
        if line == "":
            continue
        equals, here = line.find("="), line.find("<<")
        if equals >= 0 and (here < 0 or equals < here):
            name, value = line[:equals], line[equals + 1 :]
        elif here >= 0:
            name, delimiter = line[:here], line[here + 2 :]
            if not delimiter:
                raise Malformed(line)
            value = "\n".join(_until(delimiter, lines))
        else:
            raise Malformed(line)
        if not name:
            raise Malformed(line)
        variables[name] = value
    return variables


def _until(delimiter: str, lines: list[str]) -> list[str]:
    """Takes the lines before the delimiter, and the delimiter, away."""
    taken: list[str] = []
    while lines:
        line = lines.pop(0)
        if line == delimiter:
            return taken
        taken.append(line)
    raise Malformed(f"{delimiter} doesn't come")

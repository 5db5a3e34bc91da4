"""The conversation at a terminal.

`screen.py` draws: finished text scrolls up, and below it are the unfinished end of the reply, the input line and the
bottom line. `program.py` controls: it handles one line after another, a question or a slash command, while the screen
continues. `plain.py` is a screen for terminals that can only print. They depend on each other only through the
interfaces in `parts.py`.

Nothing here uses the network or imports AWS's SDK before the prompt is shown.
"""

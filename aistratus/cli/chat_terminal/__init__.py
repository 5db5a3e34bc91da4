"""The conversation at a terminal.

`screen.py` draws: what was said scrolls away above, below stand the unfinished end of the reply, the line that is being
typed, and the bottom line. `program.py` talks: it takes one line after another, a question or a slash command, while
the screen goes on. `plain.py` is a screen for terminals that can only print. None of them knows how the others work;
what they expect of each other stands in `parts.py`.

Nothing here reaches for the network or for AWS's SDK before the prompt is on the screen.
"""

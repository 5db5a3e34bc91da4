"""The hosted pages as HTML: no script, nothing from elsewhere, every value escaped."""

from __future__ import annotations

import html
from typing import Final
from urllib.parse import urlsplit

STYLE: Final = (
    "body{font:16px/1.5 system-ui,sans-serif;margin:12vh auto;max-width:22em;padding:0 1em}"
    "label,input,button{display:block;width:100%;box-sizing:border-box}"
    "input,button{font:inherit;padding:.5em;margin:0 0 1em}"
    ".wrong{color:#a00}"
)
FRAME: Final = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{style}</style><body>{body}'
)


def sign_in(pool: str, declined: str, wrong: str = "") -> str:
    """Asks for name and password; `declined` is where the link for those who don't want to leads."""
    return _page(
        f"Sign in to {pool}",
        _wrong(wrong)
        + '<form method="post">'
        + '<label for="username">Username</label>'
        + '<input id="username" name="username" autocomplete="username" autofocus required>'
        + '<label for="password">Password</label>'
        + '<input id="password" name="password" type="password" autocomplete="current-password" required>'
        + '<button name="signInSubmitButton">Sign in</button></form>'
        + f'<a id="decline" href="{html.escape(declined)}">Cancel</a>',
    )


def new_password(session: str, wrong: str = "") -> str:
    """Asks whoever came with a first password for one of their own."""
    return _page(
        "Change password",
        _wrong(wrong)
        + "<p>Enter a new password for your account.</p>"
        + '<form method="post">'
        + f'<input type="hidden" name="session" value="{html.escape(session)}">'
        + '<label for="new_password">New password</label>'
        + '<input id="new_password" name="new_password" type="password" autocomplete="new-password" autofocus required>'
        + "<button>Send</button></form>",
    )


def failed(what: str) -> str:
    return _page("An error was encountered with the requested page.", f"<p class=wrong>{html.escape(what)}</p>")


def policy(redirect_uri: str) -> str:
    """Content-Security-Policy: a form is sent here, and leads back to the client."""
    parts = urlsplit(redirect_uri)
    back = f" {parts.scheme}://{parts.netloc}" if parts.netloc and not set(redirect_uri) & set("; ") else ""
    return f"default-src 'none'; style-src 'unsafe-inline'; form-action 'self'{back}; frame-ancestors 'none'"


def _wrong(what: str) -> str:
    return f'<p class="wrong" id="loginErrorMessage">{html.escape(what)}</p>' if what else ""


def _page(title: str, body: str) -> str:
    escaped = html.escape(title)
    return FRAME.format(title=escaped, style=STYLE, body=f"<h1>{escaped}</h1>{body}")

"""The hosted pages of every pool with a domain, at `/_hosted/<domain>/…` of the endpoint.

On AWS a domain is a host name; here it is a folder, because names below `localhost` aren't known to every resolver. The
pool's OpenID configuration tells the addresses, so nobody builds them by hand.

    GET  oauth2/authorize → login → back to the client with a code, or with an error
    POST oauth2/token       code and verifier, or a refresh token, for tokens
    POST oauth2/revoke      ends a refresh token
    GET  logout             ends the browser's own session

Sources: https://docs.aws.amazon.com/cognito/latest/developerguide/, the pages authorization-endpoint, login-endpoint,
token-endpoint, revocation-endpoint and logout-endpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

from moto.cognitoidp.exceptions import InvalidPasswordException, NotAuthorizedError
from moto.cognitoidp.models import CognitoIdpUserPool, CognitoIdpUserPoolClient, UserStatus

from aistratus.local.front import Answer, ServiceLocks, Wsgi, answer_with
from aistratus.local.hosted import page
from aistratus.local.hosted.exchange import COOKIE, Asked, asked_of, basic, document, error, page_of, pool_at, redirect
from aistratus.local.hosted.grants import BROWSER_S, CODE_S, Grant, Remembered, proves, tokens
from aistratus.local.shim.cognito import UnsupportedTokenType, revoke

PREFIX: Final = "/_hosted/"
WRONG: Final = "Incorrect username or password."


@dataclass(frozen=True)
class HostedPages:
    """WSGI: what isn't a hosted page goes to `behind`."""

    behind: Wsgi
    locks: ServiceLocks
    codes: Remembered[Grant] = field(default_factory=lambda: Remembered(CODE_S))
    browsers: Remembered[tuple[str, str]] = field(default_factory=lambda: Remembered(BROWSER_S))
    """Pool and user by cookie."""
    changing: Remembered[tuple[str, str]] = field(default_factory=lambda: Remembered(CODE_S))
    """Pool and user, who came with a first password."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if not environ.get("PATH_INFO", "").startswith(PREFIX):
            return self.behind(environ, start_response)
        with self.locks.of("cognito-idp"):
            answer = self._answer(environ)
        return answer_with(answer, start_response)

    def _answer(self, environ: dict[str, Any]) -> Answer:
        domain, _, path = environ["PATH_INFO"].removeprefix(PREFIX).partition("/")
        pool = pool_at(domain)
        if pool is None:
            return page_of(HTTPStatus.NOT_FOUND, page.failed("There is no such domain."))
        asked = asked_of(environ, pool, f"{PREFIX}{domain}/")
        routes: dict[tuple[str, str], Callable[[Asked], Answer]] = {
            ("GET", "oauth2/authorize"): self._authorize,
            ("GET", "login"): self._login,
            ("POST", "login"): self._signed_in,
            ("POST", "oauth2/token"): self._token,
            ("POST", "oauth2/revoke"): self._revoke,
            ("GET", "logout"): self._logout,
            ("GET", "error"): lambda asked: page_of(
                HTTPStatus.BAD_REQUEST, page.failed(asked.query.get("error", "unknown"))
            ),
        }
        known = routes.get((environ["REQUEST_METHOD"], path))
        if known is None:
            exists = any(path == one for _, one in routes)
            return page_of(HTTPStatus.METHOD_NOT_ALLOWED if exists else HTTPStatus.NOT_FOUND, page.failed("Not found"))
        return known(asked)

    # --- the browser's part -----------------------------------------------------------------------------------

    def _authorize(self, asked: Asked) -> Answer:
        if wrong := _refusal(asked):
            return wrong
        kept = self.browsers.get(asked.browser)
        if kept is not None and kept[0] == asked.pool.id and _may_sign_in(asked.pool, kept[1]):
            return self._back_with_code(asked, kept[1])
        return redirect(f"{asked.base}login?{asked.raw_query}")

    def _login(self, asked: Asked, wrong: str = "") -> Answer:
        if refused := _refusal(asked):
            return refused
        declined = _back(asked, error="access_denied", error_description="The user cancelled the sign-in.")
        status = HTTPStatus.BAD_REQUEST if wrong else HTTPStatus.OK
        return page_of(status, page.sign_in(asked.pool.name, declined, wrong), asked.query["redirect_uri"])

    def _signed_in(self, asked: Asked) -> Answer:
        if refused := _refusal(asked):
            return refused
        if "session" in asked.form:
            return self._changed(asked)
        name = asked.form.get("username", "")
        user = asked.pool._get_user(name)
        if user is None or not user.password or user.password != asked.form.get("password"):
            return self._login(asked, WRONG)
        if not user.enabled:
            return self._login(asked, "User is disabled.")
        if user.status is UserStatus.FORCE_CHANGE_PASSWORD:
            session = self.changing.add((asked.pool.id, user.username))
            return page_of(HTTPStatus.OK, page.new_password(session), asked.query["redirect_uri"])
        return self._remembered(asked, user.username)

    def _changed(self, asked: Asked) -> Answer:
        session = asked.form["session"]
        pool, username = self.changing.get(session) or ("", "")
        if pool != asked.pool.id:
            return self._login(asked, "Your session has expired, please sign in again.")
        new = asked.form.get("new_password", "")
        try:
            asked.pool.backend._validate_password(asked.pool.id, new)
        except InvalidPasswordException as unfit:
            return page_of(
                HTTPStatus.BAD_REQUEST, page.new_password(session, str(unfit.message)), asked.query["redirect_uri"]
            )
        self.changing.take(session)
        user = asked.pool._get_user(username)
        user.password, user.status = new, UserStatus.CONFIRMED
        return self._remembered(asked, username)

    def _remembered(self, asked: Asked, username: str) -> Answer:
        cookie = self.browsers.add((asked.pool.id, username))
        kept = f"{COOKIE}={cookie}; Path={asked.base}; Max-Age={BROWSER_S:.0f}; HttpOnly; SameSite=Lax"
        return self._back_with_code(asked, username, ("Set-Cookie", kept))

    def _back_with_code(self, asked: Asked, username: str, *headers: tuple[str, str]) -> Answer:
        query = asked.query
        client = asked.pool.clients[query["client_id"]]
        grant = Grant(
            pool=asked.pool.id,
            client=client.id,
            redirect_uri=query["redirect_uri"],
            username=username,
            scope=" ".join(query.get("scope", "").split() or _list(client, "AllowedOAuthScopes")),
            nonce=query.get("nonce", ""),
            challenge=query.get("code_challenge", ""),
        )
        return redirect(_back(asked, code=self.codes.add(grant)), *headers)

    def _logout(self, asked: Asked) -> Answer:
        client = asked.pool.clients.get(asked.query.get("client_id", ""))
        ended = ("Set-Cookie", f"{COOKIE}=; Path={asked.base}; Max-Age=0")
        self.browsers.take(asked.browser)
        if client is not None and asked.query.get("logout_uri") in _list(client, "LogoutURLs"):
            return redirect(asked.query["logout_uri"], ended)
        if client is not None and "logout_uri" not in asked.query and _refusal(asked) is None:
            return redirect(f"{asked.base}login?{asked.raw_query}", ended)
        return page_of(HTTPStatus.BAD_REQUEST, page.failed("Required String parameter 'logout_uri' is not right"))

    # --- the program's part -------------------------------------------------------------------------------------

    def _token(self, asked: Asked) -> Answer:
        client = asked.pool.clients.get(asked.form.get("client_id", "") or basic(asked)[0])
        if not asked.form.get("grant_type"):
            return error("invalid_request")
        if client is None or not _knows_secret(client, asked):
            return error("invalid_client")
        match asked.form["grant_type"]:
            case "authorization_code":
                return self._for_code(asked, client)
            case "refresh_token":
                return _for_refresh_token(asked, client)
            case _:
                return error("unsupported_grant_type")

    def _for_code(self, asked: Asked, client: CognitoIdpUserPoolClient) -> Answer:
        form = asked.form
        if not form.get("code") or not form.get("redirect_uri"):
            return error("invalid_request")
        if "code" not in _flows(client):
            return error("unauthorized_client")
        grant = self.codes.take(form["code"])  # good for one try, rightly or not
        if grant is None or (grant.pool, grant.client) != (asked.pool.id, client.id):
            return error("invalid_grant")
        if grant.redirect_uri != form["redirect_uri"] or not proves(form.get("code_verifier", ""), grant.challenge):
            return error("invalid_grant")
        if not _may_sign_in(asked.pool, grant.username):
            return error("invalid_grant")
        return document(HTTPStatus.OK, tokens(asked.pool, grant))

    @staticmethod
    def _revoke(asked: Asked) -> Answer:
        client = asked.pool.clients.get(asked.form.get("client_id", "") or basic(asked)[0])
        if not asked.form.get("token"):
            return error("invalid_request")
        if client is None or not _knows_secret(client, asked):
            return error("invalid_client", HTTPStatus.UNAUTHORIZED)
        try:
            revoke(asked.pool, asked.form["token"])
        except UnsupportedTokenType:
            return error("unsupported_token_type")
        return Answer("200 OK", (("Content-Type", "application/json"),), b"")


def _for_refresh_token(asked: Asked, client: CognitoIdpUserPoolClient) -> Answer:
    known = asked.pool.refresh_tokens.get(asked.form.get("refresh_token", ""))
    if "refresh_token" not in asked.form:
        return error("invalid_request")
    if known is None or known[0] != client.id:
        return error("invalid_grant")
    try:
        access, identity, expires_in = asked.pool.create_tokens_from_refresh_token(asked.form["refresh_token"])
    except NotAuthorizedError:
        return error("invalid_grant")
    made = {"access_token": access, "id_token": identity, "expires_in": expires_in, "token_type": "Bearer"}
    return document(HTTPStatus.OK, made)


def _refusal(asked: Asked) -> Answer | None:
    """What is wrong with a request for a code. Errors lead back only to an address that the client has named."""
    query = asked.query
    client = asked.pool.clients.get(query.get("client_id", ""))
    if client is None or query.get("redirect_uri") not in _list(client, "CallbackURLs"):
        wrong = "redirect_mismatch" if client is not None else "invalid_client"
        told = urlencode({"error": wrong, "client_id": query.get("client_id", "")})
        return redirect(f"{asked.base}error?{told}")
    challenged, method = query.get("code_challenge"), query.get("code_challenge_method")
    if not query.get("response_type") or bool(challenged) != bool(method) or method not in (None, "S256"):
        return redirect(_back(asked, error="invalid_request"))
    if query["response_type"] not in _flows(client):
        return redirect(_back(asked, error="unauthorized_client"))
    if not set(query.get("scope", "").split()) <= set(_list(client, "AllowedOAuthScopes")):
        return redirect(_back(asked, error="invalid_scope"))
    return None


def _back(asked: Asked, **told: str) -> str:
    """The client's address with an answer; `state` comes back as it was given."""
    state = {"state": asked.query["state"]} if "state" in asked.query else {}
    address = asked.query["redirect_uri"]
    return f"{address}{'&' if '?' in address else '?'}{urlencode({**told, **state})}"


def _may_sign_in(pool: CognitoIdpUserPool, username: str) -> bool:
    user = pool._get_user(username)
    return user is not None and user.enabled and user.status is UserStatus.CONFIRMED


def _flows(client: CognitoIdpUserPoolClient) -> list[str]:
    on = client.extended_config.get("AllowedOAuthFlowsUserPoolClient")
    return _list(client, "AllowedOAuthFlows") if on else []


def _list(client: CognitoIdpUserPoolClient, name: str) -> list[str]:
    return list(client.extended_config.get(name) or [])


def _knows_secret(client: CognitoIdpUserPoolClient, asked: Asked) -> bool:
    if not client.generate_secret:
        return True
    return client.secret in (basic(asked)[1], asked.form.get("client_secret"))

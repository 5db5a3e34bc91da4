"""A real browser, driven by W3C WebDriver over plain HTTP: Debian's chromium with its chromedriver."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from cli_parts import WITHIN_S, eventually

BINARIES = ("chromium", "chromium-browser", "google-chrome")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key under which WebDriver names an element. Source: https://www.w3.org/TR/webdriver2/#elements"""
STARTS = 5
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


def missing() -> str:
    """Why there is no browser here; empty if there is one."""
    if not shutil.which("chromedriver"):
        return "chromedriver isn't installed (Debian: chromium-driver)"
    return "" if any(map(shutil.which, BINARIES)) else "no chromium is installed"


class Chromium:
    """One window."""

    def __init__(self, http: httpx.Client, session: str) -> None:
        self._http = http
        self._session = session

    def open(self, address: str) -> None:
        self._post("url", url=address)

    def type(self, css: str, text: str) -> None:
        self._post(f"element/{self._find(css)}/value", text=text)

    def click(self, css: str) -> None:
        self._post(f"element/{self._find(css)}/click")

    def shows(self, words: str) -> bool:
        """Whether the page shows this, now or once it has been loaded."""
        return eventually(lambda: words in self._text())

    def _text(self) -> str:
        """What the page shows; nothing while one page makes room for another."""
        script = {"script": "return document.body ? document.body.innerText : ''", "args": []}
        answer = self._http.post(f"/session/{self._session}/execute/sync", json=script)
        return str(answer.json()["value"]) if answer.is_success else ""

    def _find(self, css: str) -> str:
        return str(self._post("element", using="css selector", value=css)[ELEMENT])

    def _post(self, command: str, **body: Any) -> Any:
        return self._value(self._http.post(f"/session/{self._session}/{command}", json=body))

    @staticmethod
    def _value(answer: httpx.Response) -> Any:
        value = answer.json()["value"]
        assert answer.is_success, value
        return value


def _started(driver: str) -> tuple[subprocess.Popen[str], str]:
    """A driver and its port. One that finds its port taken by somebody else in the meantime ends at once."""
    for _ in range(STARTS):
        process = subprocess.Popen([driver, "--port=0"], stdout=subprocess.PIPE, text=True)
        assert process.stdout
        for line in process.stdout:  # "ChromeDriver was started successfully on port 34567."
            if "successfully on port" in line:
                return process, line.rstrip(".\n").rsplit(" ", 1)[1]
        process.wait()
    raise AssertionError(f"{driver} ended {STARTS} times before it listened")


@contextmanager
def chromium() -> Iterator[Chromium]:
    """A browser that nobody has used before."""
    driver = shutil.which("chromedriver")
    binary = next(found for name in BINARIES if (found := shutil.which(name)))
    assert driver
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        process, port = _started(driver)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WITHIN_S, trust_env=False) as http:
                options = {"binary": binary, "args": [*FLAGS, f"--user-data-dir={profile}"]}
                wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
                session = Chromium._value(http.post("/session", json=wanted))["sessionId"]
                http.post(f"/session/{session}/timeouts", json={"implicit": WITHIN_S * 1000})
                try:
                    yield Chromium(http, session)
                finally:
                    http.delete(f"/session/{session}")
        finally:
            process.terminate()
            eventually(lambda: process.poll() is not None)

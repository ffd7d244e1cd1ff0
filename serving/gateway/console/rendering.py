"""Answers of the console: templates, and the headers that keep pages from doing or suffering harm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from core.clock import SystemClock
from core.settings import Settings
from serving.gateway.console import words
from serving.gateway.console.sessions import COOKIE, LOGIN_COOKIE
from serving.gateway.console.timeline import KINDS

_HERE = Path(__file__).parent
STATIC = _HERE / "static"
PATH = "/console"
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}


class Renderer:
    """Turns page models into answers.

    Args:
        settings: say whether cookies are for HTTPS alone.
    """

    def __init__(self, settings: Settings) -> None:
        self._is_secure = bool(settings.gateway.tls_cert) or settings.console.behind_tls
        self._session_s = settings.console.session_s
        self._templates = Environment(
            loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        for name in ("moment", "ago", "span", "seconds", "percent", "number", "count"):
            self._templates.filters[name] = getattr(words, name)
        self._templates.globals |= {"path": PATH, "kinds": KINDS}
        self._templates.globals["parts"] = self._templates.get_template("_parts.html").module

    def page(self, template: str, status: int = 200, **shown: Any) -> HTMLResponse:
        """A page."""
        now = SystemClock().now()
        return HTMLResponse(self._templates.get_template(template).render(now=now, **shown), status, dict(HEADERS))

    def set_session(self, response: Response, cookie: str) -> None:
        """Begin or prolong a session in the browser."""
        self._set(response, COOKIE, cookie, self._session_s)

    def set_login(self, response: Response, nonce: str) -> None:
        """Bind the log-in form to the browser."""
        self._set(response, LOGIN_COOKIE, nonce, 3600)

    def end_session(self, response: Response) -> None:
        """Forget the session in the browser."""
        self._set(response, COOKIE, "", 0)

    def _set(self, response: Response, name: str, value: str, lasts_s: int) -> None:
        response.set_cookie(
            name, value, max_age=lasts_s, path=PATH, secure=self._is_secure, httponly=True, samesite="strict"
        )

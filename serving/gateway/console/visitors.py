"""Who looks at the console, and what they may do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fastapi import Request

from core.errors import Forbidden, Unauthorized
from serving.gateway.access import Access
from serving.gateway.console.sessions import COOKIE, Claim, Sessions
from serving.gateway.exchange import header
from serving.gateway.problems import LogInFirst, StaleForm
from serving.keys.audit import Caller
from serving.keys.key import Key


@dataclass(frozen=True)
class Visitor:
    """Somebody who looks.

    Args:
        key: they logged in with; None if access is open.
        claim: of their session; None without one.
        token: what their forms carry.
        cookie: that prolongs the session; None if that is not due.
        address: where they come from.
    """

    key: Key | None
    claim: Claim | None
    token: str
    cookie: str | None
    address: str

    @property
    def name(self) -> str:
        """What they are called; empty if nobody is logged in."""
        if self.key is None or self.claim is None:
            return ""
        return self.key.name if self.key.id != "setting" else "key of the settings"

    @property
    def is_admin(self) -> bool:
        """Whether they may act."""
        return self.claim is not None and self.sees_administration

    @property
    def sees_administration(self) -> bool:
        """Whether they may see who administered what."""
        return self.key is not None and "admin" in self.key.scopes

    @property
    def actor(self) -> str:
        """What the ledger calls them."""
        return f"{self.name} (console)"

    @property
    def caller(self) -> Caller:
        """What the audit calls them."""
        return Caller(f"{self.key.id} {self.key.name}" if self.key else "nobody known", self.address)

    def sees(self, use_case: str) -> bool:
        """Whether the key is not limited to other use cases."""
        return self.key is None or not self.key.use_cases or use_case in self.key.use_cases

    def seen(self, names: Iterable[str]) -> list[str]:
        """Those of some use cases that may be looked at."""
        return [name for name in names if self.sees(name)]


class Visitors:
    """Tells who a request comes from.

    Args:
        access: knows the keys.
        sessions: knows who is logged in.
    """

    def __init__(self, access: Access, sessions: Sessions) -> None:
        self._access = access
        self._sessions = sessions

    def visitor(self, request: Request) -> Visitor:
        """Who it is: by cookie, by the key in the header, or anybody where access is open.

        Raises:
            LogInFirst: if a key is needed and there is none.
            RequestError: if the key in the header is refused.
            DependencyDown: if it is not known yet which keys there are.
        """
        address = request.client.host if request.client else ""
        found = self.of_cookie(request)
        if found is not None:
            key, claim = found
            return Visitor(key, claim, self._sessions.token(claim), self._sessions.renewed(claim), address)
        presented = header(request.scope["headers"], b"x-api-key")
        if presented is not None:
            return Visitor(self._access.check(presented, None, None), None, "", None, address)
        self._access.require_known()
        if self._access.is_closed():
            raise LogInFirst("The console needs an API key.")
        return Visitor(None, None, "", None, address)

    def of_cookie(self, request: Request) -> tuple[Key, Claim] | None:
        """The key and the session of a request's cookie; None if there is none, or it no longer counts."""
        claim = self._sessions.read(request.cookies.get(COOKIE))
        if claim is None:
            return None
        try:
            key = self._access.still_live(claim.key_id)
        except Unauthorized:
            return None
        return (key, claim) if self._sessions.mark(key) == claim.key_mark else None

    def acting(self, request: Request, token: str) -> Visitor:
        """Who wants to change something by a form that carried `token`.

        Raises:
            LogInFirst: if nobody is logged in.
            StaleForm: if the form is not one of their session's.
            Forbidden: if they may only look.
        """
        require_own_origin(request)
        visitor = self.visitor(request)
        if visitor.claim is None:
            raise LogInFirst("Log in with a key of the scope admin to act.")
        if not self._sessions.is_token(visitor.claim, token):
            raise StaleForm
        if not visitor.is_admin:
            raise Forbidden(
                f"The key {visitor.name} may look, and not act.", "Log in with a key that has the scope admin."
            )
        return visitor


def require_own_origin(request: Request) -> None:
    """Return unless a browser says that a form was sent from another site.

    Raises:
        StaleForm: if it was.
    """
    headers = request.headers
    site, origin = headers.get("sec-fetch-site", "same-origin"), headers.get("origin")
    is_foreign = origin is not None and origin.partition("://")[2] != headers.get("host", "")
    if site not in ("same-origin", "none") or is_foreign:
        raise StaleForm

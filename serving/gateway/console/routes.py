"""The console over HTTP: FastAPI, mounted in the gateway's pages."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from fastapi.routing import APIRoute

from core.errors import EvergreenError, InvalidField, RequestError, Unauthorized, Unavailable, UnknownUseCase
from serving.gateway.access import Access
from serving.gateway.console.acting import ACTIONS, Actions, Progress, Wish
from serving.gateway.console.asking import asking
from serving.gateway.console.decision_page import decision_page
from serving.gateway.console.forms import read_form
from serving.gateway.console.gathering import Gatherer
from serving.gateway.console.login_limit import LoginLimit
from serving.gateway.console.page import page
from serving.gateway.console.rendering import HEADERS, PATH, STATIC, Renderer
from serving.gateway.console.reports import SANDBOX, read_report
from serving.gateway.console.sessions import LOGIN_COOKIE, Sessions
from serving.gateway.console.state import LedgerFacts, State
from serving.gateway.console.timeline import KINDS, rows
from serving.gateway.console.visitors import Visitor, Visitors, require_own_origin
from serving.gateway.problems import LogInFirst, StaleForm, UnknownPath, problem_for
from serving.keys.audit import AdminAudit, Caller

_PAGE_ROWS = 50
_STATIC = {"console.css": "text/css; charset=utf-8", "console.js": "text/javascript; charset=utf-8",
           "leaf.svg": "image/svg+xml"}  # fmt: skip
_LONGEST_KEY = 256
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Console:
    """The pages of the console.

    Args:
        gatherer: knows what to show.
        actions: does what people ask for.
        access: knows the keys.
        audit: keeps who came and who acted.
        sessions: knows who is logged in.
        renderer: draws.
    """

    def __init__(
        self,
        gatherer: Gatherer,
        actions: Actions,
        access: Access,
        audit: AdminAudit,
        sessions: Sessions,
        renderer: Renderer,
    ) -> None:
        self._gatherer, self._actions, self._access, self._audit = gatherer, actions, access, audit
        self._sessions, self._renderer = sessions, renderer
        self._visitors, self._limit = Visitors(access, sessions), LoginLimit()

    def close(self) -> None:
        """Give the connections back."""
        self._gatherer.close()

    def routes(self) -> APIRouter:
        """The pages as FastAPI routes, the fixed paths before those that name a use case."""
        router = APIRouter(prefix=PATH, include_in_schema=False, route_class=_answering(self._refusal))
        get, post = router.get, router.post
        get("")(self.overview)
        get("/static/{name}")(self.static)
        get("/login")(self.login_form)
        post("/login")(self.log_in)
        post("/logout")(self.log_out)
        get("/decisions/{id}")(self.decision)
        get("/reports/{use_case}/{name}")(self.report)
        get("/{use_case}")(self.use_case)
        get("/{use_case}/decisions")(self.decisions)
        get("/{use_case}/progress")(self.progress)
        get("/{use_case}/progress.json")(self.progress_json)
        get("/{use_case}/{action}")(self.ask)
        post("/{use_case}/{action}")(self.act)
        return router

    async def overview(self, request: Request) -> Response:
        """All use cases."""
        visitor = self._visitors.visitor(request)
        names = visitor.seen(self._gatherer.use_cases)
        states = await asyncio.gather(*(self._gatherer.state(name) for name in names))
        pages = await self._gatherer.in_thread(lambda: [page(state) for state in states])
        return await self._page(visitor, "overview.html", pages=pages)

    async def use_case(self, request: Request, use_case: str) -> Response:
        """One use case."""
        visitor, state = await self._look(request, use_case)
        shown = await self._gatherer.in_thread(lambda: page(state))
        return await self._page(visitor, "use_case.html", page=shown, links=state.links)

    async def decisions(self, request: Request, use_case: str, kind: str = "", before: str = "") -> Response:
        """The timeline, page by page."""
        visitor = self._visitors.visitor(request)
        self._require_seen(visitor, use_case)
        kind, older = kind if kind in KINDS else "", int(before) if before.isdigit() and len(before) < 18 else None
        whose = use_case if kind != "admin" else "*"
        if whose == "*" and not visitor.sees_administration:
            raise LogInFirst("Who administered what is shown to those who may do so.")
        found = await self._gatherer.ask(
            lambda: self._gatherer.ledger.entries(whose, kind=kind or None, before=older, limit=_PAGE_ROWS + 1)
        )
        entries = found.value or []
        more = entries[_PAGE_ROWS - 1].id if len(entries) > _PAGE_ROWS else None
        return await self._page(
            visitor, "decisions.html", name=use_case, kind=kind, rows=rows(entries[:_PAGE_ROWS]), more=more,
            problem=found.problem, is_first=older is None,
        )  # fmt: skip

    async def decision(self, request: Request, id: str) -> Response:
        """One decision with its evidence."""
        visitor = self._visitors.visitor(request)
        number = int(id) if id.isdigit() and len(id) < 18 else 0
        found = await self._gatherer.ask(lambda: self._gatherer.ledger.entry(number))
        if found.problem:
            return await self._page(visitor, "error.html", 503, title="The ledger does not answer",
                                    detail=found.problem, remedy="Reload in a moment.")  # fmt: skip
        entry = found.value
        is_hidden = entry is not None and not visitor.sees(entry.use_case)
        if entry is None or is_hidden or (entry.kind == "admin" and not visitor.sees_administration):
            raise UnknownPath(f"The ledger has no decision {id[:20]}.", remedy="See the timeline of the use case.")
        reports = [each for each in (await self._reports(entry.use_case)) if each.at == entry.as_of]
        return await self._page(
            visitor, "decision.html", page=decision_page(entry), reports=reports, links=self._gatherer.links
        )

    async def ask(self, request: Request, use_case: str, action: str, version: str = "") -> Response:
        """The form before something is done."""
        visitor, state = await self._look(request, use_case)
        self._require_action(action)
        if not visitor.is_admin:
            raise LogInFirst("Log in with a key of the scope admin to act.")
        return await self._asked(visitor, state, action, Wish(action, use_case, version), "")

    async def act(self, request: Request, use_case: str, action: str) -> Response:
        """Do it, and show how it goes on."""
        form = await read_form(request)
        visitor = self._visitors.acting(request, form.get("token", ""))
        self._require_seen(visitor, use_case)
        self._require_action(action)
        wish = Wish(action, use_case, form.get("version", ""), form.get("reason", "").strip(),
                    form.get("force") == "yes", form.get("once", "")[:40])  # fmt: skip
        try:
            told = await self._gatherer.in_thread(lambda: self._actions.carry_out(wish, visitor))
        except EvergreenError as error:
            await self._refused(action, visitor.caller, error, use_case)
            self._gatherer.forget()
            return await self._asked(visitor, await self._gatherer.state(use_case), action, wish, f"{error}",
                                     problem_for(error).status)  # fmt: skip
        self._gatherer.forget()
        return _to(f"{PATH}/{quote(use_case)}/progress?{urlencode(told)}")

    async def progress(self, request: Request, use_case: str) -> Response:
        """How something goes on that was asked for."""
        visitor = self._visitors.visitor(request)
        progress = await self._progress(visitor, request, use_case)
        return await self._page(
            visitor, "progress.html", name=use_case, progress=progress, came=rows(progress.came),
            title=ACTIONS.get(request.query_params.get("action", ""), "Progress"), query=request.url.query,
            run=self._gatherer.links.flow_run(progress.link) if progress.link else "",
        )  # fmt: skip

    async def progress_json(self, request: Request, use_case: str) -> Response:
        """The same for scripts."""
        progress = await self._progress(self._visitors.visitor(request), request, use_case)
        came = [{"id": e.id, "kind": e.kind, "action": e.action, "reason": e.reason} for e in progress.came]
        told = {"is_over": progress.is_over, "has_failed": progress.has_failed, "says": progress.says, "came": came}
        return JSONResponse(told, headers=dict(HEADERS))

    async def report(self, request: Request, use_case: str, name: str) -> Response:
        """A page that a look or the gate left on disk."""
        visitor = self._visitors.visitor(request)
        self._require_seen(visitor, use_case)
        root = self._gatherer.settings.home / "reports"
        found = (await self._gatherer.ask(lambda: read_report(root, use_case, name))).value
        if found is None:
            raise UnknownPath("There is no such report.", remedy=f"See {PATH}/{use_case} for those there are.")
        content, media = found
        return Response(content, media_type=media, headers={**HEADERS, "Content-Security-Policy": SANDBOX})

    async def static(self, name: str) -> Response:
        """Style, script and icon; for everybody, as the log-in form needs them."""
        if name not in _STATIC:
            raise UnknownPath("There is no such file.", remedy=f"See {PATH}.")
        content = await self._gatherer.in_thread((STATIC / name).read_bytes)
        return Response(content, media_type=_STATIC[name], headers={**HEADERS, "Cache-Control": "max-age=3600"})

    async def login_form(self, request: Request, next: str = "") -> Response:
        """The form that takes a key."""
        return await self._login_page(next, "", 200)

    async def log_in(self, request: Request) -> Response:
        """Begin a session."""
        require_own_origin(request)
        form = await read_form(request)
        where = _own_path(form.get("next", ""))
        address = request.client.host if request.client else ""
        caller = Caller("nobody known", address)
        try:
            self._limit.require_room(address)
            if not self._sessions.is_login_token(request.cookies.get(LOGIN_COOKIE), form.get("token", "")):
                raise StaleForm
            presented = form.get("key", "").strip()[:_LONGEST_KEY].encode()
            key = self._access.check(presented, None, None) if presented else None
            if key is None:
                raise Unauthorized("No key was given, or there is none yet.")
        except RequestError as error:
            if isinstance(error, Unauthorized):
                self._limit.failed(address)
            await self._refused("log_in", caller, error, "")
            return await self._login_page(where, error.detail, problem_for(error).status)
        caller = Caller(f"{key.id} {key.name}", address)
        await self._gatherer.in_thread(lambda: self._audit.allow("log_in", caller, "logged in to the console", {}))
        response = _to(where)
        self._renderer.set_session(response, self._sessions.open(key))
        return response

    async def log_out(self, request: Request) -> Response:
        """End the session in this browser."""
        form = await read_form(request)
        found = self._visitors.of_cookie(request)
        if found is None or not self._sessions.is_token(found[1], form.get("token", "")):
            raise StaleForm
        response = _to(PATH)
        self._renderer.end_session(response)
        return response

    async def _look(self, request: Request, use_case: str) -> tuple[Visitor, State]:
        visitor = self._visitors.visitor(request)
        self._require_seen(visitor, use_case)
        return visitor, await self._gatherer.state(use_case)

    async def _reports(self, use_case: str) -> Any:
        return (await self._gatherer.state(use_case)).reports if use_case in self._gatherer.use_cases else ()

    async def _progress(self, visitor: Visitor, request: Request, use_case: str) -> Progress:
        self._require_seen(visitor, use_case)
        told = dict(request.query_params)
        if not told.get("after", "0").isdigit() or len(told.get("after", "")) > 18:
            raise InvalidField("It is no number.", field="after", remedy="Follow the link the console gave.")
        route = (await self._gatherer.state(use_case)).route
        found = await self._gatherer.ask(lambda: self._actions.progress(use_case, told, route))
        if found.value is not None and found.value.is_over:
            self._gatherer.forget()  # the page it leads back to must not show what was
        return found.value or Progress(is_over=False, has_failed=False, says=found.problem, came=())

    async def _asked(
        self, visitor: Visitor, state: State, action: str, wish: Wish, problem: str, status: int = 200
    ) -> Response:
        registry, facts = state.registry.value, state.ledger.value or LedgerFacts()
        shown = asking(action, wish.use_case, facts, registry.runs if registry else {}, wish.version)
        return await self._page(
            visitor, "ask.html", status, name=wish.use_case, asking=shown, wish=wish, problem=problem,
            once=wish.once or secrets.token_urlsafe(12),
        )  # fmt: skip

    async def _login_page(self, where: str, problem: str, status: int) -> Response:
        nonce = secrets.token_urlsafe(16)
        response = self._renderer.page(
            "login.html", status, visitor=None, where=_own_path(where), problem=problem,
            token=self._sessions.login_token(nonce), has_keys=self._access.is_closed(),
        )  # fmt: skip
        self._renderer.set_login(response, nonce)
        return response

    async def _page(self, visitor: Visitor, template: str, status: int = 200, **shown: Any) -> HTMLResponse:
        names = visitor.seen(self._gatherer.use_cases)
        response = await self._gatherer.in_thread(
            lambda: self._renderer.page(
                template, status, visitor=visitor, names=names, may_log_in=self._access.is_closed(), **shown
            )
        )
        if visitor.cookie is not None:
            self._renderer.set_session(response, visitor.cookie)
        return response

    async def _refused(self, action: str, caller: Caller, error: EvergreenError, use_case: str) -> None:
        """Record a refusal; one that cannot be recorded has had no effect, so that is all there is to it."""
        evidence = {"use_case": use_case, "by": "console"}
        await self._gatherer.ask(lambda: self._audit.refuse(action, caller, error, evidence))

    def _require_seen(self, visitor: Visitor, use_case: str) -> None:
        if use_case not in self._gatherer.use_cases or not visitor.sees(use_case):
            raise UnknownUseCase(use_case[:60], visitor.seen(self._gatherer.use_cases))

    def _require_action(self, action: str) -> None:
        if action not in ACTIONS:
            raise UnknownPath(f"Nothing can be done by {action[:30]!r}.", remedy=f"Use: {', '.join(ACTIONS)}.")

    async def _refusal(self, request: Request, error: EvergreenError) -> Response:
        """An error as a page; the log-in form if that is what is missing."""
        if isinstance(error, LogInFirst) and request.method == "GET":
            if request.url.path.endswith(".json"):
                return JSONResponse({"detail": error.detail}, 401, headers=dict(HEADERS))
            where = request.url.path + (f"?{request.url.query}" if request.url.query else "")
            return _to(f"{PATH}/login?{urlencode({'next': where})}")
        status = problem_for(error).status
        if isinstance(error, RequestError):
            detail, remedy = error.detail, error.remedy
        elif isinstance(error, Unavailable):
            detail, remedy = f"{error}", "Try again in a moment."
        else:
            raise error
        return self._renderer.page(
            "error.html", status, visitor=None, title="That did not work", detail=detail, remedy=remedy
        )


def _answering(refusal: Callable[[Request, EvergreenError], Coroutine[Any, Any, Response]]) -> type[APIRoute]:
    """Routes whose errors are pages for people."""

    class PageRoute(APIRoute):
        def get_route_handler(self) -> Handler:
            handle = super().get_route_handler()

            async def handled(request: Request) -> Response:
                try:
                    return await handle(request)
                except EvergreenError as error:
                    return await refusal(request, error)

            return handled

    return PageRoute


def _own_path(where: str) -> str:
    """A path of the console to go on to; the overview in place of anything else."""
    is_own = where == PATH or where.startswith((f"{PATH}/", f"{PATH}?"))
    return where if is_own and where.isprintable() and "\\" not in where and "/login" not in where else PATH


def _to(where: str) -> RedirectResponse:
    return RedirectResponse(where, 303, headers=dict(HEADERS))

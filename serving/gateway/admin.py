"""The admin calls: API keys over HTTP. FastAPI, mounted in the pages."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.clock import Clock, from_us
from core.errors import InvalidField, RequestError
from serving.gateway.access import Access
from serving.gateway.exchange import header
from serving.gateway.json_body import ClientGone, parse_object, read_body
from serving.gateway.problems import MalformedBody
from serving.gateway.pydantic_faults import invalid_fields
from serving.gateway.validation import Rejected, moment_us
from serving.keys.audit import AdminAudit, Caller
from serving.keys.issuer import OVERLAP, Issued, Issuer, Wish, described
from serving.keys.key import LONGEST_NAME, MOST_PER_DAY, MOST_PER_S, Key, Scope, State
from serving.keys.store import KeyStore

_MOST_BODY_BYTES = 65_536
_OVERLAP_S = int(OVERLAP.total_seconds())
_MOST_OVERLAP_S = 366 * 86_400
_Result = TypeVar("_Result")
_Body = TypeVar("_Body", bound=BaseModel)


class KeyWish(BaseModel):
    """An API key that is asked for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str = Field(min_length=1, max_length=LONGEST_NAME, description="Who or what it is for.", examples=["shop"])
    scopes: list[Scope] = Field(min_length=1, max_length=16, description="What it may be used for.")
    use_cases: list[str] = Field([], max_length=1000, description="The use cases it is limited to; empty: all.")
    rate_per_s: int | None = Field(None, ge=1, le=MOST_PER_S, description="Most calls in a second; null: no limit.")
    quota_per_day: int | None = Field(None, ge=1, le=MOST_PER_DAY, description="Most calls in a day (UTC).")
    expires_at: str | None = Field(
        None, description="When it ends by itself; null: never.", json_schema_extra={"format": "date-time"}
    )


class Overlap(BaseModel):
    """How a key is rotated."""

    model_config = ConfigDict(extra="forbid", strict=True)

    overlap_s: int = Field(
        _OVERLAP_S, ge=0, le=_MOST_OVERLAP_S, description="Seconds for which the old key goes on to count."
    )


class KeyPage(BaseModel):
    """An API key, without its secret."""

    id: str
    name: str
    state: State
    scopes: list[Scope]
    use_cases: list[str]
    rate_per_s: int | None
    quota_per_day: int | None
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    replaced_by: str | None = Field(description="Id of its successor.")


class IssuedKey(KeyPage):
    """An API key that was just issued."""

    api_key: str = Field(description="To be sent in X-API-Key. It is shown this once.")


class KeyList(BaseModel):
    """All keys, oldest first."""

    keys: list[KeyPage]


@dataclass(frozen=True)
class Admin:
    """What the admin calls work on.

    Args:
        access: admits callers.
        store: where keys are kept.
        audit: where calls are recorded, refused ones too.
        declared: the use cases there are.
        clock: tells now.
    """

    access: Access
    store: KeyStore
    audit: AdminAudit
    declared: Collection[str]
    clock: Clock

    async def carry_out(
        self, request: Request, action: str, work: Callable[[Issuer, Caller, bytes], _Result]
    ) -> _Result:
        """Admit the caller, do the work in a thread, and record what is refused.

        Raises:
            RequestError: if the caller or what it sent is refused.
            DependencyDown: if the database does not answer; nothing goes unrecorded.
        """
        address = request.client.host if request.client else ""
        by = Caller("nobody known", address)
        try:
            key = self.access.check(header(request.scope["headers"], b"x-api-key"), "admin", None)
            if key is not None:
                by = Caller(f"{key.id} {key.name}", address)
            body = await _body(request)
            return await run_in_threadpool(self._work, work, by, body)
        except RequestError as error:
            await run_in_threadpool(self.audit.refuse, action, by, error)
            raise

    def _work(self, work: Callable[[Issuer, Caller, bytes], _Result], by: Caller, body: bytes) -> _Result:
        done = work(Issuer(self.store, self.audit, self.declared, self.clock), by, body)
        self.access.adopt(self.store.read())  # here at once; the other gateways see it within a second
        return done


def admin_routes(admin: Admin) -> APIRouter:
    """The admin calls as FastAPI routes."""
    router = APIRouter(prefix="/v1/admin/keys", tags=["admin"])
    keyed: dict[str, Any] = {"security": [{"key": []}]}

    @router.get("", summary="All API keys, ended ones included", openapi_extra=keyed)
    async def list_keys(request: Request) -> KeyList:
        keys = await admin.carry_out(request, "list_keys", lambda issuer, by, _: issuer.keys(by))
        return KeyList(keys=[_page(key, admin.clock.now()) for key in keys])

    @router.post("", status_code=201, summary="Issue an API key", openapi_extra=keyed | _takes(KeyWish, required=True))
    async def create_key(request: Request, response: Response) -> IssuedKey:
        def create(issuer: Issuer, by: Caller, body: bytes) -> Issued:
            return issuer.create(_wish(_read(KeyWish, body)), by)

        return _issued(await admin.carry_out(request, "create_key", create), admin, response)

    @router.post(
        "/{id}/rotate",
        status_code=201,
        summary="Issue a successor; the old key goes on for a while",
        openapi_extra=keyed | _takes(Overlap, required=False),
    )
    async def rotate_key(id: str, request: Request, response: Response) -> IssuedKey:
        def rotate(issuer: Issuer, by: Caller, body: bytes) -> Issued:
            overlap = _read(Overlap, body or b"{}").overlap_s
            return issuer.rotate(id, timedelta(seconds=overlap), by)

        return _issued(await admin.carry_out(request, "rotate_key", rotate), admin, response)

    @router.delete("/{id}", summary="Revoke an API key, within a second", openapi_extra=keyed)
    async def revoke_key(id: str, request: Request) -> KeyPage:
        key = await admin.carry_out(request, "revoke_key", lambda issuer, by, _: issuer.revoke(id, by))
        return _page(key, admin.clock.now())

    return router


async def _body(request: Request) -> bytes:
    try:
        return await read_body(request.scope["headers"], request.receive, _MOST_BODY_BYTES)
    except ClientGone as error:
        raise MalformedBody("The connection was closed before all of it came.", remedy="Send it again.") from error


def _takes(body: type[BaseModel], *, required: bool) -> dict[str, Any]:
    """The body of a call for the OpenAPI document; it is read by hand, bounded and strictly."""
    return {
        "requestBody": {"required": required, "content": {"application/json": {"schema": body.model_json_schema()}}}
    }


def _read(kind: type[_Body], body: bytes) -> _Body:
    try:
        return kind.model_validate(parse_object(body))
    except ValidationError as error:
        raise invalid_fields(error.errors(include_url=False, include_context=False)) from error


def _wish(asked: KeyWish) -> Wish:
    expires_at = None
    if asked.expires_at is not None:
        try:
            expires_at = from_us(moment_us(asked.expires_at))
        except Rejected as rejected:
            raise InvalidField(rejected.detail, field="expires_at", remedy=rejected.remedy) from rejected
    return Wish(asked.name, asked.scopes, asked.use_cases, asked.rate_per_s, asked.quota_per_day, expires_at)


def _page(key: Key, now: datetime) -> KeyPage:
    return KeyPage.model_validate(described(key, now))


def _issued(issued: Issued, admin: Admin, response: Response) -> IssuedKey:
    response.headers["Cache-Control"] = "no-store"
    return IssuedKey.model_validate({**described(issued.key, admin.clock.now()), "api_key": issued.secret})

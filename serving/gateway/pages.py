"""Everything a person or a probe looks at: health, metrics, docs and the list of models. FastAPI."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from core.errors import DependencyDown, EvergreenError, UnknownUseCase
from core.use_case import Field as DeclaredField
from core.use_case import UseCase
from serving.gateway.access_control import AccessControl
from serving.gateway.metrics import GatewayMetrics
from serving.gateway.openapi import example_of
from serving.gateway.problems import (
    PROBLEM_TYPE,
    MalformedBody,
    Problem,
    UnknownPath,
    WrongMethod,
    internal_problem,
    problem_for,
    shown,
)
from serving.gateway.pydantic_faults import invalid_fields
from serving.gateway.route_table import RouteTable
from serving.gateway.store import Store

logger = logging.getLogger(__name__)

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class Health(BaseModel):
    """A probe's answer."""

    status: Literal["ok"] = "ok"


class FieldPage(BaseModel):
    """One field of a request."""

    name: str
    dtype: Literal["int", "float", "str"]
    nullable: bool
    ge: float | None = Field(description="Smallest value accepted.")
    le: float | None = Field(description="Largest value accepted.")
    description: str
    example: int | float | str | None
    entity: bool = Field(description="Whether features are looked up by it.")


class ModelSummary(BaseModel):
    """A use case and what answers for it."""

    name: str
    description: str
    version: str | None = Field(description="The live version; null if there is none yet.")
    generation: int | None = Field(description="Number of the deployment.")
    since: str | None = Field(description="When that version went live, ISO 8601.")


class ModelPage(ModelSummary):
    """A use case in full."""

    label: str
    fields: list[FieldPage]


class ModelList(BaseModel):
    """All use cases."""

    models: list[ModelSummary]


def build_pages(
    use_cases: Mapping[str, UseCase],
    store: Store,
    routes: RouteTable,
    metrics: GatewayMetrics,
    control: AccessControl,
    lifespan: Lifespan,
) -> FastAPI:
    """The FastAPI application; its lifespan is the gateway's."""
    app = FastAPIOffline(title="Evergreen", version="1", lifespan=lifespan, redirect_slashes=False, redoc_url=None)
    _answer_errors(app)
    _add_probes(app, store, routes, metrics, control)
    _add_models(app, use_cases, routes)
    app.include_router(control.routes())
    return app


async def require_ready(store: Store, routes: RouteTable) -> None:
    """Return if requests can be answered.

    Raises:
        DependencyDown: if Redis does not answer, or the routes were never read.
    """
    await store.ping()
    if not routes.was_read:
        raise DependencyDown("Redis", "the route table was not read yet")


def _add_probes(
    app: FastAPI, store: Store, routes: RouteTable, metrics: GatewayMetrics, control: AccessControl
) -> None:
    @app.get("/healthz", tags=["operation"], summary="Whether the process lives")
    async def healthz() -> Health:
        return Health()

    @app.get("/readyz", tags=["operation"], summary="Whether requests can be answered")
    async def readyz() -> Health:
        await require_ready(store, routes)
        control.access.require_known()
        return Health()

    @app.get("/metrics", tags=["operation"], summary="Prometheus metrics", response_class=Response)
    async def scrape() -> Response:
        control.metrics.look()
        return Response(metrics.page(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_models(app: FastAPI, use_cases: Mapping[str, UseCase], routes: RouteTable) -> None:
    @app.get("/v1/models", tags=["models"], summary="All use cases and what answers for them")
    async def models() -> ModelList:
        return ModelList(models=[ModelSummary(**_summary(use_case, routes)) for use_case in use_cases.values()])

    @app.get("/v1/models/{use_case}", tags=["models"], summary="One use case: its fields and what answers for it")
    async def model(use_case: str) -> ModelPage:
        declared = use_cases.get(use_case)
        if declared is None:
            raise UnknownUseCase(use_case[:60], list(use_cases))
        fields = [_field_page(field, entity=True) for field in declared.entities]
        fields += [_field_page(field, entity=False) for field in declared.request]
        return ModelPage(**_summary(declared, routes), label=declared.label.name, fields=fields)


def _summary(use_case: UseCase, routes: RouteTable) -> dict[str, Any]:
    route = routes.find(use_case.name)
    live = {"version": route.version, "generation": route.generation, "since": route.at} if route else _NOTHING_LIVE
    return {"name": use_case.name, "description": use_case.description, **live}


_NOTHING_LIVE = {"version": None, "generation": None, "since": None}


def _field_page(field: DeclaredField, *, entity: bool) -> FieldPage:
    return FieldPage(
        name=field.name,
        dtype=field.dtype,
        nullable=field.nullable,
        ge=field.ge,
        le=field.le,
        description=field.description,
        example=example_of(field),
        entity=entity,
    )


def _answer_errors(app: FastAPI) -> None:
    async def expected(request: Request, error: Exception) -> Response:
        assert isinstance(error, EvergreenError)
        return _response(problem_for(error))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 405:
            allowed = _allowed(error)
            if request.method == "OPTIONS":
                return Response(status_code=204, headers={"Allow": ", ".join(allowed)})
            return _response(problem_for(WrongMethod(request.method, allowed)))
        if error.status_code != 404:
            return _response(problem_for(MalformedBody(f"{error.detail}.", remedy="Send what /docs says.")))
        path = shown(request.url.path)
        return _response(problem_for(UnknownPath(f"Nothing is served at {path}.", remedy="See /docs for what is.")))

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return _response(problem_for(invalid_fields(error.errors())))

    async def unexpected(request: Request, error: Exception) -> Response:
        return _response(internal_problem())

    app.add_exception_handler(EvergreenError, expected)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, unexpected)


def _allowed(error: HTTPException) -> list[str]:
    declared = (error.headers or {}).get("Allow", "GET")
    return sorted({*declared.replace(" ", "").split(","), "HEAD", "OPTIONS"})


def _response(problem: Problem) -> Response:
    headers = {name.decode(): value.decode() for name, value in problem.headers}
    return Response(problem.body, problem.status, headers, media_type=PROBLEM_TYPE.decode())

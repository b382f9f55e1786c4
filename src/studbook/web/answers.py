"""Refusals of a service as JSON, and as its OpenAPI schema shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

from studbook.web.examiner import IN_THE_LOG
from studbook.web.limits import Problem, RefusedError
from studbook.web.schema import ProblemForm

_WORDS = {400: "bad-request", 404: "not-found", 405: "method-not-allowed", 415: "media-type"}


def add_handlers(app: FastAPI, *, invalid_status: int = 422) -> None:
    """Answer whatever goes wrong in a service with a problem.

    Args:
        app: The service.
        invalid_status: Of HTTP, for what isn't of the documented form.
    """

    @app.exception_handler(RefusedError)
    def refused(_request: Request, error: RefusedError) -> Response:
        return answer(error.status, error.problem, error.headers)

    @app.exception_handler(RequestValidationError)
    def invalid(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])[:200]
        return answer(invalid_status, Problem("invalid", f"{place}: {first['msg']}", "the forms are in /openapi.json"))

    @app.exception_handler(HTTPException)
    def failed(request: Request, error: HTTPException) -> Response:
        code = _WORDS.get(error.status_code, f"http-{error.status_code}")
        headers = {"Allow": _allowed(app, request)} if error.status_code == 405 else error.headers
        return answer(error.status_code, Problem(code, str(error.detail), "the routes are in /openapi.json"), headers)

    @app.exception_handler(Exception)
    def unexpected(_request: Request, _error: Exception) -> Response:
        return answer(500, Problem("internal", "the node met something unexpected", IN_THE_LOG))


def _allowed(app: FastAPI, request: Request) -> str:
    """The methods of every route with this path; the framework names those of the first."""
    fitting = (route for route in app.routes if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE)
    return ", ".join(sorted({method for route in fitting for method in route.methods or ()}))


def answer(status: int, problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """A problem as an answer of HTTP."""
    return Response(problem.body(), status, dict(headers or {}), "application/json")


def responses(why: Mapping[int, str], *statuses: int) -> dict[int | str, dict[str, Any]]:
    """The refusals of a route for the schema, by status, with why there is each."""
    after = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
    return {
        status: {"model": ProblemForm, "description": why[status], **({"headers": after} if status in {429, 503} else {})}
        for status in sorted(statuses)
    }

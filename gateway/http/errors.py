"""Errors of the HTTP API: every one is a JSON body with a `code` for programs and a `message` for people.

    {"code": "bad_request", "message": "...", "faults": [{"where": "query", "message": "..."}]}

The message names the mend. What a caller said is never in it, nor in our log: a validation fault tells what is wrong
with a field, not what stood there. `faults` is there where the body of the request is at fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

__all__ = ["ApiError", "Problem", "add_error_handlers", "error_response"]

_MAX_WHERE_CHARS = 60  # an unknown key's name is the client's own

_MENDS = {  # of errors that the framework raises itself
    HTTPStatus.BAD_REQUEST: "the body cannot be read; send one JSON object in UTF-8, not nested deeply",
    HTTPStatus.NOT_FOUND: "there is no such path; /docs lists them",
    HTTPStatus.METHOD_NOT_ALLOWED: "this path takes another method; /docs lists them",
}


class Fault(BaseModel):
    """One thing wrong with a request's body."""

    where: Annotated[str, Field(description="The key, or `body`.")]
    message: str


class Problem(BaseModel):
    """What every error says."""

    code: Annotated[str, Field(description="For programs; docs/http-api.md lists them.")]
    message: Annotated[str, Field(description="For people: what is wrong, and the mend.")]
    faults: Annotated[list[Fault] | None, Field(description="Where the body is at fault: all of its faults.")] = None


class ApiError(HTTPException):
    """A request that is answered with an error. An HTTPException, so that FastAPI lets it through wherever it is
    raised, the reading of a body included."""

    def __init__(
        self, status: HTTPStatus, code: str, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, message, dict(headers or {}))
        self.code = code


def error_response(error: HTTPException) -> JSONResponse:
    """The answer to a request that ended in `error`."""
    status = HTTPStatus(error.status_code)
    if isinstance(error, ApiError):
        code, message = error.code, str(error.detail)
    else:
        code, message = status.phrase.lower().replace(" ", "_"), _MENDS.get(status, str(error.detail))
    return JSONResponse(
        Problem(code=code, message=message).model_dump(exclude_none=True), status, headers=dict(error.headers or {})
    )


def add_error_handlers(app: FastAPI) -> None:
    """Have every error of the application answered in the one form."""

    async def told(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return error_response(error)

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        faults = [Fault(where=_where(one["loc"]), message=_what(one)) for one in error.errors()]
        many = f"{len(faults)} faults in the request" if len(faults) > 1 else "a fault in the request"
        told = "; ".join(f"{fault.where}: {fault.message}" for fault in faults)
        problem = Problem(code="bad_request", message=f"{many}: {told}", faults=faults)
        return JSONResponse(problem.model_dump(), HTTPStatus.UNPROCESSABLE_ENTITY)

    app.add_exception_handler(HTTPException, told)
    app.add_exception_handler(RequestValidationError, invalid)


def _where(location: tuple[int | str, ...]) -> str:
    """("body", "query") -> "query"; the place in a broken document is a number and says nothing."""
    return ".".join(part for part in location[1:] if isinstance(part, str))[:_MAX_WHERE_CHARS] or "body"


def _what(fault: Mapping[str, Any]) -> str:
    """Pydantic's words without the value it met, which may be what a caller said."""
    match fault["type"]:
        case "json_invalid":
            return "is not JSON; send one JSON object"
        case "model_attributes_type" | "dict_type" | "model_type":
            return "must be one JSON object, sent with Content-Type: application/json"
        case "missing":
            return "is missing" if len(fault["loc"]) > 1 else "is missing; send one JSON object"
        case "extra_forbidden":
            return "is no key of this request; remove it, or correct its name"
        case "string_pattern_mismatch":
            return "may hold letters, digits and . _ : @ + - only"
    message: str = fault["msg"]
    return message[:1].lower() + message[1:]

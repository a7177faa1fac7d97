"""What can go wrong, as exceptions."""

from __future__ import annotations

from typing import Any


class NetraError(Exception):
    """The base of all errors of this package."""


class ApiError(NetraError):
    """The server refused a request; the codes are in docs/errors of the server."""

    def __init__(
        self,
        status: int | None,
        code: str,
        message: str,
        *,
        request_id: str | None = None,
        details: Any = None,
        docs: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.request_id = request_id
        self.details = details
        self.docs = docs
        self.retry_after = retry_after


class CursorExpired(ApiError):
    """The log does not hold what follows the cursor.

    Read threads, messages and runs anew, and subscribe after their `as_of`.
    """

    @property
    def epoch(self) -> str:
        """The log that there is now."""
        return str(self.details["epoch"])

    @property
    def oldest_seq(self) -> int:
        """The oldest event that it holds."""
        return int(self.details["oldest_seq"])

    @property
    def latest_seq(self) -> int:
        """The newest event that it holds."""
        return int(self.details["latest_seq"])


class TooManySockets(NetraError):
    """The user has as many open sockets as the limit allows; close another one first."""


class ProtocolError(NetraError):
    """Server and client do not understand each other; trying again would not help."""


class ConnectionLost(NetraError):
    """The server could not be reached, and as many attempts as were allowed are used up."""


def from_body(body: Any, status: int | None = None, retry_after: float | None = None) -> ApiError:
    """The error of a body `{"error": {…}}`; any other body is an error without a known code."""
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("code"), str):
        return ApiError(status, "unknown", f"HTTP status {status}", retry_after=retry_after)
    details = error.get("details")
    # A refused cursor without its details would be an exception whose attributes do not work.
    named = isinstance(details, dict) and {"epoch", "oldest_seq", "latest_seq"} <= details.keys()
    kind = CursorExpired if error["code"] == "cursor_expired" and named else ApiError
    return kind(
        status,
        error["code"],
        str(error.get("message", "")),
        request_id=error.get("request_id"),
        details=details,
        docs=error.get("docs"),
        retry_after=retry_after,
    )

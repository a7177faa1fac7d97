"""REST over httpx: authorisation, repetition, errors."""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, cast

import httpx

from .core import Backoff, Repeat
from .credentials import Credentials
from .errors import ApiError, ConnectionLost, from_body
from .types import Tokens

IDEMPOTENCY_KEY = "Idempotency-Key"


def new_key() -> str:
    """A key for one request that makes something."""
    return str(uuid.uuid4())


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds, as the server writes them."""
    try:
        return max(0.0, float(headers.get("Retry-After", "")))
    except ValueError:
        return None


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """The error of an answer that is none of success."""
    try:
        read = json.loads(body)
    except ValueError:
        read = None
    return from_body(read, status, retry_after(headers))


class Transport:
    """Sends requests as one user."""

    def __init__(
        self,
        base_url: str,
        credentials: Credentials,
        *,
        attempts: int,
        timeout: float,
        http: httpx.AsyncClient | None,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.credentials = credentials
        self._attempts = attempts
        self._random = random
        self._owned = http is None
        self.http = http or httpx.AsyncClient(timeout=timeout)

    def url(self, path: str) -> str:
        """The whole address of a path."""
        return self.base_url + path

    async def close(self) -> None:
        """Closes the connections, when they are ours."""
        if self._owned:
            await self.http.aclose()

    async def token(self, refused: str | None = None) -> str | None:
        """A good access token."""
        return await self.credentials.token(self._refresh, refused=refused)

    async def call(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        authorised: bool = True,
        repeat: bool | None = None,
        **request: Any,
    ) -> httpx.Response:
        """Sends a request until it has an answer that stands, within the attempts."""
        keyed = IDEMPOTENCY_KEY in (headers or {})
        rule = Repeat(method == "GET" or keyed if repeat is None else repeat)
        backoff = Backoff(self._random, attempts=self._attempts - 1, cap=8.0)
        while True:
            least = 0.0
            try:
                answer = await self._once(method, path, dict(headers or {}), authorised, request)
                if answer.is_success:
                    return answer
                error: Exception = error_of(answer.status_code, answer.headers, answer.content)
                wait = rule.after_error(cast(ApiError, error))
                if wait is None:
                    raise error
                least = wait
            except httpx.TransportError as broken:
                if not (rule.safe or isinstance(broken, httpx.ConnectError)):
                    raise ConnectionLost(f"{method} {path}: {broken!r}") from broken
                error = ConnectionLost(f"{method} {path}: {broken!r}")
            delay = backoff.delay(time.monotonic(), least)
            if delay is None:
                raise error
            await asyncio.sleep(delay)

    async def _once(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        authorised: bool,
        request: dict[str, Any],
    ) -> httpx.Response:
        token = await self.token() if authorised else None
        answer = await self._send(method, path, headers, token, request)
        if answer.status_code == 401 and token and self.credentials.renewable:
            token = await self.token(refused=token)
            answer = await self._send(method, path, headers, token, request)
        return answer

    async def _send(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        token: str | None,
        request: dict[str, Any],
    ) -> httpx.Response:
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return await self.http.request(method, self.url(path), headers=headers, **request)

    async def _refresh(self, refresh_token: str) -> Tokens:
        # Never sent twice: the second use of a refresh token ends its session.
        answer = await self.call(
            "POST",
            "/api/auth/refresh",
            json={"refresh_token": refresh_token},
            authorised=False,
            repeat=False,
        )
        return cast(Tokens, answer.json())

"""Access tokens: where they come from, when they end, and how the next one is had."""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import time
from collections.abc import Awaitable, Callable
from typing import Union

from .errors import ApiError, ConnectionLost, NetraError
from .types import Tokens

TokenSource = Callable[[], Union[str, Awaitable[str]]]
"""Gives a fresh access token; one that blocks is called in a thread of its own."""

Refresh = Callable[[str], Awaitable[Tokens]]

LONGEST_ASKING = 30.0
"""A source that takes longer has given no token: all requests wait for it."""

LONGEST_MARGIN = 60.0
"""A token is renewed so many seconds before its end, a short one at the half of its life."""


def claim(token: str | None, name: str) -> float | None:
    """A number that a JWT claims of itself; None for a token that is none or does not say."""
    try:
        payload = (token or "").split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims[name])
    except (IndexError, KeyError, TypeError, ValueError):
        return None


def _is_away(error: NetraError) -> bool:
    return isinstance(error, ApiError) and (error.status == 429 or (error.status or 0) >= 500)


class Credentials:
    """One access token at a time, renewed before it ends where that is possible."""

    def __init__(
        self,
        *,
        token: str | TokenSource | None = None,
        refresh_token: str | None = None,
        on_tokens: Callable[[Tokens], None] | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._source = token if callable(token) else None
        self._token = token if isinstance(token, str) else None
        self._refresh_token = refresh_token
        self._on_tokens = on_tokens
        self._now = now
        self._ends: float | None = claim(self._token, "exp")
        self._margin = self._margin_of(self._token)
        self._renewal: asyncio.Task[None] | None = None

    @property
    def renewable(self) -> bool:
        """Whether another token can be had."""
        return self._source is not None or self._refresh_token is not None

    @property
    def refresh_token(self) -> str | None:
        """The refresh token that is good now; each one can be used once."""
        return self._refresh_token

    def keep(self, tokens: Tokens) -> None:
        """Goes on with what a sign-in or a refresh gave."""
        self._token = tokens["access_token"]
        self._refresh_token = tokens["refresh_token"]
        life = tokens["expires_in_ms"] / 1000
        # The server's span by our clock, so that a clock that is wrong does no harm.
        self._ends = self._now() + life
        self._margin = min(LONGEST_MARGIN, life / 2)
        if self._on_tokens is not None:
            self._on_tokens(tokens)

    def forget(self) -> None:
        """Signed out."""
        self._token = self._refresh_token = self._ends = None

    def seconds_left(self) -> float | None:
        """Seconds until a renewal is due; None when it never is."""
        if self._ends is None or not self.renewable:
            return None
        return max(0.0, self._ends - self._margin - self._now())

    async def token(self, refresh: Refresh, *, refused: str | None = None) -> str | None:
        """A good access token, renewed first when it is about to end or is the refused one."""
        if not self.renewable or (self._is_good() and self._token != refused):
            return self._token
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.ensure_future(self._renew(refresh))
        # A refresh token is used once. A caller that is cancelled must not lose what its use
        # gave, and two callers must not use the same one.
        try:
            await asyncio.shield(self._renewal)
        except NetraError as error:
            # The margin is there for this: the old token is good for a while.
            away = isinstance(error, ConnectionLost) or _is_away(error)
            if not (away and self._token != refused and self._is_not_over()):
                raise
        return self._token

    async def _renew(self, refresh: Refresh) -> None:
        if self._source is not None:
            self._take(await self._ask(self._source))
        elif self._refresh_token is not None:
            self.keep(await refresh(self._refresh_token))

    def _is_good(self) -> bool:
        if self._token is None:
            return False
        left = self.seconds_left()
        return left is None or left > 0

    def _is_not_over(self) -> bool:
        return self._token is not None and (self._ends is None or self._now() < self._ends)

    def _take(self, token: str) -> None:
        self._token = token
        self._margin = self._margin_of(token)
        # A source may keep its tokens for a while, so that only the claim tells the end.
        self._ends = claim(token, "exp")

    @staticmethod
    def _margin_of(token: str | None) -> float:
        ends, begins = claim(token, "exp"), claim(token, "iat")
        if ends is None or begins is None:
            return LONGEST_MARGIN
        return min(LONGEST_MARGIN, (ends - begins) / 2)

    @classmethod
    async def _ask(cls, source: TokenSource) -> str:
        try:
            return await asyncio.wait_for(cls._given(source), LONGEST_ASKING)
        except asyncio.TimeoutError:
            message = f"the source of tokens gave none in {LONGEST_ASKING:.0f} s"
            raise ConnectionLost(message) from None

    @staticmethod
    async def _given(source: TokenSource) -> str:
        if inspect.iscoroutinefunction(source):
            return str(await source())
        given = await asyncio.to_thread(source)
        return str(await given) if inspect.isawaitable(given) else str(given)

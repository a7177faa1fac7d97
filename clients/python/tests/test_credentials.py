"""Tokens: when they are renewed, and how often."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any, cast

import pytest

from netra_client import ApiError, ConnectionLost
from netra_client import credentials as module
from netra_client.credentials import Credentials, claim
from netra_client.types import Tokens


def jwt(**claims: Any) -> str:
    def part(value: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    return f"{part({'alg': 'EdDSA'})}.{part(claims)}.c2ln"


def tokens(number: int, life_ms: int = 900_000) -> Tokens:
    pair = {"access_token": f"a{number}", "refresh_token": f"r{number}", "expires_in_ms": life_ms}
    return cast(Tokens, pair)


class Server:
    """Gives the next pair; counts."""

    def __init__(self) -> None:
        self.used: list[str] = []

    async def refresh(self, refresh_token: str) -> Tokens:
        self.used.append(refresh_token)
        await asyncio.sleep(0)
        return tokens(len(self.used))


def test_claims_are_read_and_other_tokens_claim_nothing() -> None:
    assert claim(jwt(exp=1000, iat=100), "exp") == 1000
    for strange in (None, "", "ntr_x", "a.b.c", "a.!!.c", jwt()):
        assert claim(strange, "exp") is None


def test_a_token_is_renewed_before_its_end_and_not_sooner() -> None:
    now = [0.0]
    server = Server()
    kept: list[str] = []
    credentials = Credentials(
        on_tokens=lambda pair: kept.append(pair["refresh_token"]), now=lambda: now[0]
    )
    credentials.keep(tokens(0))

    async def ask() -> str | None:
        return await credentials.token(server.refresh)

    assert credentials.seconds_left() == 840.0
    assert asyncio.run(ask()) == "a0"
    now[0] = 840.0
    assert credentials.seconds_left() == 0.0
    assert asyncio.run(ask()) == "a1"
    assert server.used == ["r0"] and kept == ["r0", "r1"]


def test_many_who_ask_at_once_use_a_refresh_token_once() -> None:
    server = Server()
    credentials = Credentials(refresh_token="r0")

    async def ask() -> list[str | None]:
        return await asyncio.gather(*(credentials.token(server.refresh) for _ in range(10)))

    assert asyncio.run(ask()) == ["a1"] * 10
    assert server.used == ["r0"]


def test_a_caller_that_is_cancelled_does_not_lose_the_new_pair() -> None:
    server = Server()
    credentials = Credentials(refresh_token="r0")

    async def ask() -> str | None:
        first = asyncio.ensure_future(credentials.token(server.refresh))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        first.cancel()
        return await credentials.token(server.refresh)

    assert asyncio.run(ask()) == "a1"
    assert server.used == ["r0"] and credentials.refresh_token == "r1"


def test_a_refused_token_is_replaced_once() -> None:
    server = Server()
    credentials = Credentials(refresh_token="r0")

    async def ask() -> tuple[str | None, str | None]:
        token = await credentials.token(server.refresh)
        new = await credentials.token(server.refresh, refused=token)
        # Another one whom the old token was refused gets what there is by now.
        return new, await credentials.token(server.refresh, refused=token)

    assert asyncio.run(ask()) == ("a2", "a2")


def test_sources_may_be_plain_or_async() -> None:
    async def later() -> str:
        return "async"

    async def ask(credentials: Credentials) -> str | None:
        return await credentials.token(Server().refresh)

    assert asyncio.run(ask(Credentials(token=lambda: "plain"))) == "plain"
    assert asyncio.run(ask(Credentials(token=later))) == "async"


def test_a_source_that_hangs_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_ASKING", 0.01)
    asked: list[None] = []

    async def source() -> str:
        asked.append(None)
        if len(asked) == 1:
            await asyncio.Event().wait()
        return "late"

    credentials = Credentials(token=source)

    async def ask() -> str | None:
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(credentials.token(Server().refresh), 5)
        return await credentials.token(Server().refresh)

    assert asyncio.run(ask()) == "late"


def test_a_server_that_is_away_does_not_end_a_token_that_is_still_good() -> None:
    now = [0.0]
    failure: list[Exception] = [ConnectionLost("away")]

    async def away(_: str) -> Tokens:
        raise failure[0]

    credentials = Credentials(now=lambda: now[0])
    credentials.keep(tokens(0))

    async def ask(refused: str | None = None) -> str | None:
        return await credentials.token(away, refused=refused)

    now[0] = 850.0
    assert asyncio.run(ask()) == "a0"
    with pytest.raises(ConnectionLost):
        asyncio.run(ask(refused="a0"))
    failure[0] = ApiError(503, "draining", "later")
    assert asyncio.run(ask()) == "a0"
    failure[0] = ApiError(401, "unauthenticated", "signed out")
    with pytest.raises(ApiError):
        asyncio.run(ask())
    failure[0], now[0] = ConnectionLost("away"), 900.0
    with pytest.raises(ConnectionLost):
        asyncio.run(ask())


def test_a_fixed_token_is_never_due() -> None:
    credentials = Credentials(token=jwt(exp=1000, iat=100), now=lambda: 5000.0)
    assert credentials.seconds_left() is None and not credentials.renewable
    assert asyncio.run(credentials.token(Server().refresh)) is not None

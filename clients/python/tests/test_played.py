"""A server that a test plays, which does what a real one seldom does."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from netra_client import AsyncClient, ConnectionLost
from netra_client import client as rest
from netra_client import stream as streams

EPOCH = "9f86d081884c7d65"


class Asked:
    """A request."""

    def __init__(self, head: str, body: bytes) -> None:
        self.line, *headers = head.split("\r\n")
        named = (header.partition(": ") for header in headers)
        self.headers = {name.lower(): value for name, _, value in named}
        self.body = body


Play = Callable[[Asked, asyncio.StreamWriter], None]


def whole(status: str, body: Any) -> Play:
    def play(_: Asked, writer: asyncio.StreamWriter) -> None:
        text = json.dumps(body)
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
        writer.write((head + text).encode())

    return play


def cut(_: Asked, writer: asyncio.StreamWriter) -> None:
    """An answer that breaks off in the middle of its body."""
    writer.write(b'HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\n{"id":')


async def played(
    plays: list[Play], act: Callable[[AsyncClient], Awaitable[None]]
) -> list[Asked]:
    """Answers one request after the other, each on a connection of its own; gives them."""
    asked: list[Asked] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().removesuffix("\r\n\r\n")
        request = Asked(head, b"")
        request.body = await reader.readexactly(int(request.headers.get("content-length", "0")))
        asked.append(request)
        plays[len(asked) - 1](request, writer)
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server, AsyncClient(url, token="t") as client:
        await act(client)
    return asked


def finish(work: Coroutine[Any, Any, Any]) -> Any:
    """Runs a test; one that waits for what never comes has failed."""
    return asyncio.run(asyncio.wait_for(work, 30))


def test_an_answer_that_breaks_off_in_the_middle_is_asked_for_again_with_the_same_key() -> None:
    async def act(client: AsyncClient) -> None:
        assert (await client.start_run("echo", "hello"))["id"] == "run_1"
        assert (await client.run("run_1"))["id"] == "run_1"

    run = {"id": "run_1"}
    plays = [cut, whole("202 Accepted", run), cut, whole("200 OK", run)]
    asked = finish(played(plays, act))
    keys = [request.headers.get("idempotency-key") for request in asked]
    assert keys[0] is not None and keys == [keys[0], keys[0], None, None]
    assert asked[0].body == asked[1].body != b""


def test_what_may_not_be_done_twice_is_not_sent_twice_when_its_answer_breaks_off() -> None:
    async def act(client: AsyncClient) -> None:
        with pytest.raises(ConnectionLost):
            await client.cancel_run("run_1")

    assert len(finish(played([cut], act))) == 1


def test_a_server_that_drains_is_not_asked_in_a_tight_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rest, "AGAIN", 0.2)
    times: list[float] = []

    def timed(play: Play) -> Play:
        def noted(asked: Asked, writer: asyncio.StreamWriter) -> None:
            times.append(time.monotonic())
            play(asked, writer)

        return noted

    async def act(client: AsyncClient) -> None:
        assert (await client.wait_run("run_1"))["status"] == "completed"

    running = whole("202 Accepted", {"status": "running"})
    ended = whole("200 OK", {"status": "completed"})
    finish(played([timed(running), timed(ended)], act))
    assert times[1] - times[0] >= 0.2


def test_a_subscription_that_is_never_accepted_is_asked_for_on_another_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "OPENING", 0.2)
    wishes: list[dict[str, Any]] = []

    async def accept(socket: ServerConnection) -> None:
        ready = {"type": "connection_ready", "protocol": "netra.v1", "epoch": EPOCH}
        await socket.send(json.dumps({**ready, "latest_seq": 4}))
        wishes.append(json.loads(await socket.recv()))
        if len(wishes) > 1:
            ack = {"type": "ack", "id": wishes[-1]["id"], "epoch": EPOCH, "after": 4}
            await socket.send(json.dumps({**ack, "latest_seq": 5}))
            event = {"type": "agent_thinking", "event_id": "evt_5", "prev": 4, "seq": 5}
            await socket.send(json.dumps(event))
        await socket.wait_closed()

    async def follow() -> None:
        async with serve(accept, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            url = f"http://127.0.0.1:{port}"
            async with AsyncClient(url, token="t") as client, client.events() as events:
                assert (await anext(events))["seq"] == 5

    finish(follow())
    assert [(wish["after"], wish["epoch"]) for wish in wishes] == [(4, EPOCH)] * 2

"""The asyncio client against a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from server import PASSWORD, Network, Server
from websockets.asyncio.client import connect

from netra_client import (
    ApiError,
    AsyncClient,
    Cursor,
    CursorExpired,
    Event,
    EventStream,
    TooManySockets,
)

ENDS = {"run_completed", "run_failed", "run_cancelled", "run_timed_out"}


def finish(work: Coroutine[Any, Any, None]) -> None:
    """Runs a test; one that waits for what never comes has failed."""
    asyncio.run(asyncio.wait_for(work, 60))


def without_prev(event: Any) -> dict[str, Any]:
    """The event itself: `prev` belongs to a subscription."""
    return {name: value for name, value in event.items() if name != "prev"}


async def whole_log(server: Server, token: str) -> list[dict[str, Any]]:
    """The log as plain `websockets` reads it, up to the present."""
    headers = {"Authorization": f"Bearer {token}"}
    address = server.url.replace("http", "ws") + "/ws"
    async with connect(address, additional_headers=headers) as socket:
        latest = json.loads(await socket.recv())["latest_seq"]
        await socket.send(json.dumps({"type": "subscribe", "id": 1, "after": 0}))
        events: list[dict[str, Any]] = []
        while not events or events[-1]["seq"] < latest:
            frame = json.loads(await socket.recv())
            if "event_id" in frame:
                events.append(without_prev(frame))
        return events


async def until_end(events: EventStream, run_id: str) -> list[Event]:
    got: list[Event] = []
    async for event in events:
        got.append(event)
        if event["run_id"] == run_id and event["type"] in ENDS:
            return got
    raise AssertionError("the stream ended before the run")


def test_plain_websockets_can_follow_a_run(shared: Server, user: str) -> None:
    """No client of ours: what docs/websocket-events.md says is enough."""

    async def follow() -> None:
        headers = {"Authorization": f"Bearer {shared.token(user)}"}
        address = shared.url.replace("http", "ws") + "/ws"
        async with connect(address, additional_headers=headers) as socket:
            ready = json.loads(await socket.recv())
            assert ready["type"] == "connection_ready" and ready["protocol"] == "netra.v1"
            await socket.send(json.dumps({"type": "subscribe", "id": "s", "after": 0}))
            assert json.loads(await socket.recv())["after"] == 0
            start = {"type": "run.start", "id": "r", "agent": "echo", "input": "hello"}
            await socket.send(json.dumps(start))
            last = 0
            kinds: list[str] = []
            while not kinds or kinds[-1] != "run_completed":
                frame = json.loads(await socket.recv())
                if frame["type"] == "position":
                    last = frame["seq"]
                elif "event_id" in frame:
                    assert frame["prev"] == last
                    last = frame["seq"]
                    kinds.append(frame["type"])
            assert kinds[0] == "run_started" and "message_completed" in kinds

    finish(follow())


def test_a_run_is_followed_to_its_end(shared: Server, user: str) -> None:
    async def follow() -> None:
        async with AsyncClient(shared.url) as client:
            await client.login(user, PASSWORD)
            async with client.events(after=0) as events:
                run = await client.start_run("echo", "hello")
                got = await until_end(events, run["id"])
                last = got[-1]
                assert last["type"] == "run_completed"
                assert last["data"]["result"] == {"text": "hello"}
                assert events.cursor is not None and events.cursor.seq == last["seq"]
            assert [without_prev(event) for event in got] == await whole_log(
                shared, shared.token(user)
            )

    finish(follow())


def test_a_cut_socket_loses_nothing_and_repeats_nothing(shared: Server, user: str) -> None:
    async def follow() -> None:
        token = shared.token(user)
        async with (
            Network(shared.port) as network,
            AsyncClient(network.url, token=token) as client,
            client.events(after=0) as events,
        ):
            network.longest_answer = 40_000
            run = await client.start_run("long", "go")
            got = await until_end(events, run["id"])
            assert got[-1]["type"] == "run_completed"
            assert network.sockets >= 3
            assert [without_prev(event) for event in got] == await whole_log(shared, token)

    finish(follow())


def test_a_killed_server_loses_nothing_and_the_run_goes_on(serve: Callable[..., Server]) -> None:
    async def follow() -> None:
        server = serve()
        token = server.token("ada")
        async with (
            AsyncClient(server.url, token=token) as client,
            client.events(after=0) as events,
        ):
            run = await client.start_run("long", "go")
            got: list[Event] = []
            async for event in events:
                got.append(event)
                if len(got) == 40:
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)
                if event["type"] in ENDS:
                    break
            kinds = [event["type"] for event in got]
            assert kinds[-1] == "run_completed" and "run_resumed" in kinds
            thoughts = [
                event["data"]["message"] for event in got if event["type"] == "agent_thinking"
            ]
            assert thoughts == [f"thought {n}" for n in range(400)]
            assert [without_prev(event) for event in got] == await whole_log(server, token)
            ended = await client.wait_run(run["id"])
            assert (ended["status"], ended["attempt"]) == ("completed", 2)

    finish(follow())


def test_a_run_over_sse_resumes_after_cuts_and_ends_with_it(shared: Server, user: str) -> None:
    async def follow() -> None:
        token = shared.token(user)
        async with Network(shared.port) as network, AsyncClient(network.url, token=token) as client:
            network.longest_answer = 40_000
            run = await client.start_run("long", "go")
            async with client.run_events(run["id"]) as events:
                got = [event async for event in events]
                cursor = events.cursor
            assert sum("/events" in line for line in network.requests) >= 3
            network.longest_answer = 0
            assert [without_prev(event) for event in got] == await whole_log(shared, token)
            # Behind its end there is nothing more, and the server says so by 204.
            assert [event async for event in client.run_events(run["id"], after=cursor)] == []
            assert [
                event["seq"] async for event in client.run_events(run["id"], after=got[-3]["seq"])
            ] == [event["seq"] for event in got[-2:]]

    finish(follow())


def test_all_events_over_sse(shared: Server, user: str) -> None:
    async def follow() -> None:
        async with (
            AsyncClient(shared.url, token=shared.token(user)) as client,
            client.sse_events(after=0, deltas=False) as events,
        ):
            # What Python takes for the end of a line, and server-sent events do not.
            run = await client.start_run("echo", "hello\u2028there\x85")
            got = await until_end(events, run["id"])
            assert got[-1]["type"] == "run_completed"
            assert got[-1]["data"]["result"] == {"text": "hello\u2028there\x85"}
            kinds = [event["type"] for event in got]
            assert kinds[-1] == "run_completed" and "message_delta" not in kinds

    finish(follow())


def test_a_live_socket_goes_on_with_new_tokens(serve: Callable[..., Server]) -> None:
    async def follow() -> None:
        server = serve({"AUTH__ACCESS_TTL_MS": "3000"})
        renewed: asyncio.Queue[str] = asyncio.Queue()
        async with Network(server.port) as network:
            client = AsyncClient(
                network.url, on_tokens=lambda tokens: renewed.put_nowait(tokens["access_token"])
            )
            async with client, client.events(after=0) as events:
                await client.login("ada", PASSWORD)
                first = asyncio.ensure_future(anext(events))
                # Each pair comes 1.5 s after the one before it; a token lives for 3 s.
                for _ in range(4):
                    await renewed.get()
                run = await client.start_run("echo", "hello")
                assert (await first)["run_id"] == run["id"]
                assert (await until_end(events, run["id"]))[-1]["type"] == "run_completed"
                assert network.sockets == 1

    finish(follow())


def test_a_token_that_ended_while_nobody_could_renew_it_is_replaced(
    serve: Callable[..., Server],
) -> None:
    async def follow() -> None:
        server = serve()
        given: list[str] = []

        def source() -> str:
            given.append("not a token" if not given else server.token("ada"))
            return given[-1]

        async with AsyncClient(server.url, token=source) as client, client.events() as events:
            first = asyncio.ensure_future(anext(events))
            while not (events.cursor is not None or first.done()):
                await asyncio.sleep(0)
            run = await client.start_run("echo", "hello")
            assert (await first)["run_id"] == run["id"]
            assert len(given) == 2

    finish(follow())


def test_a_token_that_nobody_can_renew_is_an_error(shared: Server) -> None:
    async def follow() -> None:
        async with AsyncClient(shared.url, token="not a token") as client:
            with pytest.raises(ApiError) as refused:
                await anext(client.events())
            assert refused.value.status == 401
            with pytest.raises(ApiError):
                await client.me()

    finish(follow())


def test_a_socket_may_be_opened_by_a_ticket(shared: Server, user: str) -> None:
    async def follow() -> None:
        async with Network(shared.port) as network:
            token = shared.token(user)
            async with (
                AsyncClient(network.url, token=token, ticket=True) as client,
                client.events(after=0) as events,
            ):
                run = await client.start_run("echo", "hello")
                assert (await until_end(events, run["id"]))[-1]["type"] == "run_completed"
            assert any(line.startswith("GET /ws?ticket=") for line in network.requests)

    finish(follow())


def test_a_run_whose_answer_was_lost_is_started_once(shared: Server, user: str) -> None:
    async def start() -> None:
        token = shared.token(user)
        async with Network(shared.port) as network, AsyncClient(network.url, token=token) as client:
            network.swallow_answers = 2
            run = await client.start_run("echo", "hello")
            assert network.swallow_answers == 0
            assert [one["id"] for one in (await client.runs())["items"]] == [run["id"]]
            # What must not be done twice is not sent twice.
            network.cut()
            network.swallow_answers = 1
            with pytest.raises(Exception, match="cancel"):
                await client.cancel_run(run["id"])

    finish(start())


def test_a_cursor_of_another_log_is_an_error(shared: Server, user: str) -> None:
    async def follow() -> None:
        async with AsyncClient(shared.url, token=shared.token(user)) as client:
            with pytest.raises(CursorExpired) as expired:
                await anext(client.events(after=Cursor(1, "another")))
            with pytest.raises(CursorExpired) as over_sse:
                await anext(client.sse_events(after=Cursor(1, "another")))
            assert expired.value.epoch == over_sse.value.epoch != "another"
            assert expired.value.latest_seq == 0

    finish(follow())


def test_one_socket_too_many_is_an_error(serve: Callable[..., Server]) -> None:
    async def follow() -> None:
        server = serve({"LIMITS__SOCKETS": "1"})
        async with (
            AsyncClient(server.url, token=server.token("ada")) as client,
            client.events(after=0) as events,
        ):
            run = await client.start_run("echo", "hello")
            await until_end(events, run["id"])
            with pytest.raises(TooManySockets):
                await anext(client.events())

    finish(follow())


def test_a_cancelled_next_loses_nothing(shared: Server, user: str) -> None:
    async def follow() -> None:
        token = shared.token(user)
        async with AsyncClient(shared.url, token=token) as client:
            run = await client.start_run("long", "go")
            for events in (client.events(after=0), client.run_events(run["id"])):
                got: list[Event] = []
                while not got or got[-1]["type"] not in ENDS:
                    try:
                        got.append(await asyncio.wait_for(anext(events), 0.01))
                    except asyncio.TimeoutError:
                        continue
                await events.aclose()
                assert [without_prev(event) for event in got] == await whole_log(shared, token)

    finish(follow())

"""Streams of events: iterators that connect, follow, and connect again."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import AsyncIterator
from types import TracebackType

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidMessage,
    InvalidStatus,
    InvalidURI,
)

from .core import (
    Action,
    Backoff,
    Cursor,
    Deliver,
    Fail,
    Feed,
    Plan,
    Reconnect,
    Send,
    SseMessage,
    SseParser,
    Subscription,
    after_close,
    after_refusal,
)
from .errors import ApiError, ConnectionLost, NetraError, ProtocolError
from .transport import Transport, error_of
from .types import Event

LARGEST_FRAME = 1024 * 1024
HEARTBEAT = 20.0
"""Seconds between our own pings, by which a dead connection is noticed."""

OPENING = 30.0
"""Seconds for the server to accept a subscription."""

QUIET = 45.0
"""Seconds without a byte after which an event stream is dead: a comment comes every 15."""


class Ended(Exception):
    """A connection ended; the plan says how to go on."""

    def __init__(self, plan: Plan, cause: Exception | None = None) -> None:
        super().__init__(plan)
        self.plan = plan
        self.cause = cause


class EventStream(AsyncIterator[Event]):
    """Events in the order of the log, each once, over as many connections as it takes.

    Close it, by `async with` or `aclose`. A `next` that is cancelled loses nothing.
    """

    def __init__(self, transport: Transport, backoff: Backoff | None = None) -> None:
        self._transport = transport
        self._backoff = backoff or Backoff(random.random)
        self._ready: deque[Event] = deque()
        self._token: str | None = None
        self._refused: str | None = None
        self._renewals = 0
        self._pause = 0.0
        self._open = False
        self._closed = False

    @property
    def cursor(self) -> Cursor | None:
        """Behind the last event that was handed out; begin a later stream with it."""
        raise NotImplementedError

    async def __aenter__(self) -> EventStream:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Event:
        while not self._ready:
            if self._closed:
                raise StopAsyncIteration
            try:
                await self._step()
            except Ended as ended:
                await self._lost(ended.plan, ended.cause)
            except NetraError:
                await self.aclose()
                raise
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Closes the connection; the iterator ends."""
        self._closed = True
        self._open = False
        await self._disconnect()

    async def _step(self) -> None:
        if not self._open:
            await asyncio.sleep(self._pause)
            await self._reach()
            self._pause, self._open = 0.0, True
            self._backoff.opened(time.monotonic())
        for action in await self._receive():
            await self._do(action)

    async def _reach(self) -> None:
        # One that was being made when the caller was cancelled.
        await self._disconnect()
        try:
            self._token = await self._transport.token(refused=self._refused)
            await self._connect()
        except ApiError as error:
            raise Ended(after_refusal(error), error) from error
        except (ConnectionLost, httpx.TransportError, OSError, TimeoutError) as error:
            raise Ended(Plan(), error) from error

    async def _do(self, action: Action) -> None:
        if isinstance(action, Deliver):
            self._backoff.progressed()
            self._ready.append(action.event)
        elif isinstance(action, Send):
            await self._send(json.dumps(action.frame))
        elif isinstance(action, Reconnect):
            raise Ended(action.plan)
        elif isinstance(action, Fail):
            raise action.error

    async def _lost(self, plan: Plan, cause: Exception | None) -> None:
        self._open = False
        error = plan.error
        if plan.renew:
            self._renewals += 1
            self._refused = self._token
            if self._renewals > 1 or not self._transport.credentials.renewable:
                message = "the access token is refused, and there is no other one"
                error = cause if isinstance(cause, ApiError) else None
                error = error or ApiError(401, "token_expired", message)
        if error is None:
            delay = self._backoff.delay(time.monotonic(), plan.wait)
            if delay is not None:
                self._pause = delay
                await self._disconnect()
                return
            error = ConnectionLost(f"no connection: {cause!r}")
        await self.aclose()
        raise error from cause

    def _accepted(self) -> None:
        """The server has taken the token."""
        self._renewals, self._refused = 0, None

    async def _connect(self) -> None:
        raise NotImplementedError

    async def _receive(self) -> list[Action]:
        raise NotImplementedError

    async def _send(self, text: str) -> None:
        raise NotImplementedError

    async def _disconnect(self) -> None:
        raise NotImplementedError


class SocketStream(EventStream):
    """Events over the WebSocket."""

    def __init__(
        self,
        transport: Transport,
        subscription: Subscription,
        *,
        ticket: bool = False,
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__(transport, backoff)
        self._subscription = subscription
        self._ticket = ticket
        self._socket: ClientConnection | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._accept_by: float | None = None

    @property
    def cursor(self) -> Cursor | None:
        return self._subscription.cursor

    async def _connect(self) -> None:
        address = "ws" + self._transport.url("/ws").removeprefix("http")
        headers = {}
        if self._ticket:
            answer = await self._transport.call("POST", "/api/auth/ws-ticket")
            address += "?ticket=" + answer.json()["ticket"]
        elif self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        try:
            self._socket = await connect(
                address,
                additional_headers=headers,
                max_size=LARGEST_FRAME,
                ping_interval=HEARTBEAT,
                ping_timeout=HEARTBEAT,
                close_timeout=2.0,
            )
        except InvalidStatus as refused:
            answer_to = refused.response
            raise error_of(
                answer_to.status_code, answer_to.headers, bytes(answer_to.body or b"")
            ) from refused
        except (InvalidMessage, EOFError) as broken:
            raise Ended(Plan(), broken) from broken
        except (InvalidHandshake, InvalidURI) as wrong:
            raise ProtocolError(f"{self._transport.base_url} has no WebSocket: {wrong}") from wrong
        self._subscription.opened()
        self._accept_by = None
        self._renewing = asyncio.ensure_future(self._keep_renewed(self._socket))

    async def _receive(self) -> list[Action]:
        socket = self._socket
        if socket is None:
            raise Ended(Plan())
        try:
            frame = json.loads(await self._next(socket))
        except ConnectionClosed as closed:
            raise self._ended(closed) from closed
        except ValueError as error:
            raise ProtocolError(f"a frame that is no JSON: {error}") from error
        actions = self._subscription.receive(frame)
        if self._subscription.live:
            self._accepted()
        return actions

    async def _next(self, socket: ClientConnection) -> str | bytes:
        if self._subscription.live:
            self._accept_by = None
            return await socket.recv()
        # Answered pings show that the line is alive, not that there will be an answer.
        now = time.monotonic()
        if self._accept_by is None:
            self._accept_by = now + OPENING
        try:
            return await asyncio.wait_for(socket.recv(), max(0.0, self._accept_by - now))
        except asyncio.TimeoutError as late:
            raise Ended(Plan(), late) from late

    async def _send(self, text: str) -> None:
        if self._socket is None:
            return
        try:
            await self._socket.send(text)
        except ConnectionClosed as closed:
            raise self._ended(closed) from closed

    def _ended(self, closed: ConnectionClosed) -> Ended:
        code = closed.rcvd.code if closed.rcvd is not None else None
        reason = closed.rcvd.reason if closed.rcvd is not None else ""
        return Ended(after_close(code, reason, resuming=self._subscription.seen), closed)

    async def _keep_renewed(self, socket: ClientConnection) -> None:
        """Sends the next access token before the one that the socket has ends."""
        used = self._token
        while (left := self._transport.credentials.seconds_left()) is not None:
            await asyncio.sleep(left)
            try:
                token = await self._transport.token()
                if token is None or token == used:
                    # A source that keeps its tokens for longer than we would.
                    await asyncio.sleep(1.0)
                    continue
                await socket.send(json.dumps(self._subscription.refresh(token).frame))
            except (NetraError, httpx.TransportError, ConnectionClosed, OSError):
                # The socket ends with its token; then the reader asks again and tells of it.
                return
            used = self._token = token

    async def _disconnect(self) -> None:
        socket, self._socket = self._socket, None
        renewing, self._renewing = self._renewing, None
        if renewing is not None:
            renewing.cancel()
        if socket is not None:
            await socket.close()


class SseStream(EventStream):
    """Events of one run, or of all, over plain HTTP."""

    def __init__(
        self,
        transport: Transport,
        path: str,
        feed: Feed,
        *,
        parameters: dict[str, str],
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__(transport, backoff)
        self._path = path
        self._feed = feed
        self._parameters = parameters
        self._answer: httpx.Response | None = None
        self._bytes: AsyncIterator[bytes] | None = None
        self._parser = SseParser()
        self._messages: deque[SseMessage] = deque()

    @property
    def cursor(self) -> Cursor | None:
        return self._feed.cursor

    async def _connect(self) -> None:
        headers = {"Accept": "text/event-stream"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if self._feed.cursor is not None:
            headers["Last-Event-ID"] = str(self._feed.cursor)
        http = self._transport.http
        request = http.build_request(
            "GET",
            self._transport.url(self._path),
            params=self._parameters,
            headers=headers,
            timeout=httpx.Timeout(10.0, read=QUIET),
        )
        answer = await http.send(request, stream=True)
        if answer.status_code != 200:
            body = await answer.aread()
            await answer.aclose()
            if answer.status_code == 204:
                self._closed = True
                return
            raise error_of(answer.status_code, answer.headers, body)
        self._accepted()
        self._feed.opened()
        self._answer, self._bytes, self._parser = answer, answer.aiter_bytes(), SseParser()

    async def _receive(self) -> list[Action]:
        # One message at a time, so that the cursor never passes what was handed out.
        while not self._messages and self._bytes is not None:
            self._messages.extend(self._parser.feed(await self._more(self._bytes)))
        if not self._messages:
            return []
        message = self._messages.popleft()
        try:
            frame = None if message.data is None else json.loads(message.data)
        except ValueError as error:
            raise ProtocolError(f"an event that is no JSON: {error}") from error
        return self._feed.receive(message, frame)

    async def _more(self, received: AsyncIterator[bytes]) -> bytes:
        try:
            return await received.__anext__()
        except StopAsyncIteration:
            raise Ended(Plan()) from None
        except httpx.TransportError as error:
            raise Ended(Plan(), error) from error
        except asyncio.CancelledError:
            # The answer cannot be read on after this; the next call resumes.
            self._open = False
            self._answer = self._bytes = None
            raise

    async def _do(self, action: Action) -> None:
        await super()._do(action)
        if self._feed.ended:
            await self.aclose()

    async def _send(self, text: str) -> None:
        raise ProtocolError("an event stream takes no frames")

    async def _disconnect(self) -> None:
        answer, self._answer, self._bytes = self._answer, None, None
        self._messages.clear()
        if answer is not None:
            await answer.aclose()

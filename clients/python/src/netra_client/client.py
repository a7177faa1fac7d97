"""The client for asyncio."""

from __future__ import annotations

import asyncio
import os
import pathlib
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar, Union, cast
from urllib.parse import quote

import httpx

from .core import After, Cursor, Feed, Subscription
from .credentials import Credentials, TokenSource
from .stream import EventStream, SocketStream, SseStream
from .transport import IDEMPOTENCY_KEY, Transport, new_key
from .types import (
    Agent,
    Approval,
    Decision,
    File,
    OnBusy,
    OnLimit,
    PageAgent,
    PageApproval,
    PageFile,
    PageMessage,
    PageRun,
    PageSession,
    PageThread,
    PageTool,
    Run,
    Thread,
    Tokens,
    Usage,
    User,
)

Content = Union[bytes, str, "os.PathLike[str]"]
"""Bytes, or the path of a file."""

ENDED = frozenset({"completed", "failed", "cancelled", "timed_out"})
LONGEST_WAIT_MS = 60_000

AGAIN = 1.0
"""Seconds before a server is asked again that did not hold the request."""

Stream = TypeVar("Stream", bound=EventStream)


def _given(**fields: Any) -> dict[str, Any]:
    """The fields that the caller has given; the server has its own defaults for the others."""
    return {name: value for name, value in fields.items() if value is not None}


def _path(*parts: str) -> str:
    return "/api/" + "/".join(quote(part, safe="") for part in parts)


class AsyncClient:
    """One user of a Netra server.

    `token` is an access token, or a function that gives a fresh one. With `refresh_token` the
    client renews by itself and tells `on_tokens` of each new pair: keep it, the old one is void.
    Close the client, by `async with` or `aclose`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | TokenSource | None = None,
        refresh_token: str | None = None,
        on_tokens: Callable[[Tokens], None] | None = None,
        ticket: bool = False,
        attempts: int = 5,
        timeout: float = 30.0,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self.credentials = Credentials(
            token=token, refresh_token=refresh_token, on_tokens=on_tokens
        )
        self._transport = Transport(
            base_url, self.credentials, attempts=attempts, timeout=timeout, http=http
        )
        self._ticket = ticket
        self._timeout = timeout
        self._streams: weakref.WeakSet[EventStream] = weakref.WeakSet()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Ends all streams and closes all connections."""
        for stream in list(self._streams):
            await stream.aclose()
        await self._transport.close()

    async def _read(self, *parts: str, **parameters: Any) -> Any:
        answer = await self._transport.call("GET", _path(*parts), params=_given(**parameters))
        return answer.json()

    async def _make(
        self, *parts: str, body: Mapping[str, Any] | None, idempotency_key: str | None
    ) -> Any:
        headers = {IDEMPOTENCY_KEY: idempotency_key or new_key()}
        request: dict[str, Any] = {} if body is None else {"json": body}
        answer = await self._transport.call("POST", _path(*parts), headers=headers, **request)
        return answer.json()

    async def _sign_in(self, step: str, body: Mapping[str, Any]) -> Tokens:
        answer = await self._transport.call(
            "POST", _path("auth", step), json=body, authorised=False, repeat=False
        )
        tokens = cast(Tokens, answer.json())
        self.credentials.keep(tokens)
        return tokens

    # Accounts

    async def login(self, name: str, password: str) -> Tokens:
        """Signs in; from now on the client renews its token by itself."""
        return await self._sign_in("login", {"name": name, "password": password})

    async def register(self, name: str, password: str, *, invite: str | None = None) -> Tokens:
        """Makes an account, where the server lets people do so, and signs in."""
        body = _given(name=name, password=password, invite=invite)
        return await self._sign_in("register", body)

    async def refresh(self) -> str | None:
        """Gets a new access token now."""
        token = await self._transport.token()
        return await self._transport.token(refused=token)

    async def logout(self) -> None:
        """Ends the session on the server and forgets its tokens."""
        body = _given(refresh_token=self.credentials.refresh_token)
        await self._transport.call("POST", _path("auth", "logout"), json=body)
        self.credentials.forget()

    async def me(self) -> User:
        """Whose token this is."""
        return cast(User, await self._read("auth", "me"))

    async def sessions(self, *, limit: int | None = None, cursor: str | None = None) -> PageSession:
        """The user's sessions, newest first."""
        page = await self._read("auth", "sessions", limit=limit, cursor=cursor)
        return cast(PageSession, page)

    async def end_session(self, session_id: str) -> None:
        """Ends a session: its tokens are refused and its sockets closed."""
        await self._transport.call("DELETE", _path("auth", "sessions", session_id))

    async def end_sessions(self) -> None:
        """Ends all of the user's sessions, this one too."""
        await self._transport.call("DELETE", _path("auth", "sessions"))

    # Agents and tools

    async def agents(self, *, limit: int | None = None, cursor: str | None = None) -> PageAgent:
        """The agents that this user may run."""
        return cast(PageAgent, await self._read("agents", limit=limit, cursor=cursor))

    async def agent(self, name: str) -> Agent:
        """One agent."""
        return cast(Agent, await self._read("agents", name))

    async def tools(self, *, limit: int | None = None, cursor: str | None = None) -> PageTool:
        """The tools, and why this user may not call some."""
        return cast(PageTool, await self._read("tools", limit=limit, cursor=cursor))

    # Files

    async def upload(
        self,
        content: Content,
        *,
        name: str | None = None,
        media_type: str = "application/octet-stream",
        idempotency_key: str | None = None,
    ) -> File:
        """Stores a file; a path gives its own name."""
        if not isinstance(content, bytes):
            path = pathlib.Path(content)
            name = name or path.name
            content = await asyncio.to_thread(path.read_bytes)
        if name is None:
            raise ValueError("bytes need a name")
        headers = {"Content-Type": media_type, IDEMPOTENCY_KEY: idempotency_key or new_key()}
        answer = await self._transport.call(
            "POST", _path("files"), params={"name": name}, headers=headers, content=content
        )
        return cast(File, answer.json())

    async def files(self, *, limit: int | None = None, cursor: str | None = None) -> PageFile:
        """The user's files, newest first."""
        return cast(PageFile, await self._read("files", limit=limit, cursor=cursor))

    async def file(self, file_id: str) -> File:
        """A file without its content."""
        return cast(File, await self._read("files", file_id))

    async def download(self, file_id: str) -> bytes:
        """The content of a file."""
        answer = await self._transport.call("GET", _path("files", file_id, "content"))
        return answer.content

    async def delete_file(self, file_id: str) -> None:
        """Deletes a file."""
        await self._transport.call("DELETE", _path("files", file_id))

    # Threads

    async def threads(
        self, *, q: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> PageThread:
        """The conversations, last changed first; `q` searches titles and messages."""
        return cast(PageThread, await self._read("threads", q=q, limit=limit, cursor=cursor))

    async def create_thread(
        self,
        *,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Thread:
        """Makes a conversation."""
        body = _given(title=title, metadata=metadata)
        made = await self._make("threads", body=body, idempotency_key=idempotency_key)
        return cast(Thread, made)

    async def thread(self, thread_id: str) -> Thread:
        """One conversation, with `as_of`."""
        return cast(Thread, await self._read("threads", thread_id))

    async def update_thread(
        self,
        thread_id: str,
        *,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Thread:
        """Changes what is given."""
        body = _given(title=title, metadata=metadata)
        answer = await self._transport.call("PATCH", _path("threads", thread_id), json=body)
        return cast(Thread, answer.json())

    async def delete_thread(self, thread_id: str) -> None:
        """Deletes a conversation with its messages, runs and events."""
        await self._transport.call("DELETE", _path("threads", thread_id))

    async def fork_thread(
        self,
        thread_id: str,
        *,
        after_message_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Thread:
        """A new conversation with the messages up to that one, or with all."""
        body = _given(after_message_id=after_message_id)
        made = await self._make(
            "threads", thread_id, "fork", body=body, idempotency_key=idempotency_key
        )
        return cast(Thread, made)

    async def messages(
        self, thread_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> PageMessage:
        """The messages of a conversation, oldest first; the first page has `as_of`."""
        page = await self._read("threads", thread_id, "messages", limit=limit, cursor=cursor)
        return cast(PageMessage, page)

    # Runs

    async def start_run(
        self,
        agent: str,
        input: str | Mapping[str, Any],
        *,
        thread_id: str | None = None,
        files: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        timeout_ms: int | None = None,
        on_limit: OnLimit | None = None,
        on_busy: OnBusy | None = None,
        idempotency_key: str | None = None,
    ) -> Run:
        """Starts a run, once, however often the request has to be sent."""
        body = _given(
            agent=agent,
            input=input,
            files=files,
            metadata=metadata,
            timeout_ms=timeout_ms,
            on_limit=on_limit,
            on_busy=on_busy,
        )
        parts = ("runs",) if thread_id is None else ("threads", thread_id, "runs")
        return cast(Run, await self._make(*parts, body=body, idempotency_key=idempotency_key))

    async def runs(self, *, limit: int | None = None, cursor: str | None = None) -> PageRun:
        """The user's runs, newest first."""
        return cast(PageRun, await self._read("runs", limit=limit, cursor=cursor))

    async def run(self, run_id: str) -> Run:
        """A run as it is now, with `as_of`."""
        return cast(Run, await self._read("runs", run_id))

    async def wait_run(self, run_id: str, *, timeout: float | None = None) -> Run:
        """The run once it has ended; after `timeout` seconds the run as it then is."""
        ends = None if timeout is None else time.monotonic() + timeout
        while True:
            left = LONGEST_WAIT_MS if ends is None else int((ends - time.monotonic()) * 1000)
            asked = max(1, min(left, LONGEST_WAIT_MS))
            begun = time.monotonic()
            answer = await self._transport.call(
                "GET",
                _path("runs", run_id, "wait"),
                params={"timeout_ms": asked},
                timeout=asked / 1000 + self._timeout,
            )
            run = cast(Run, answer.json())
            if run["status"] in ENDED or (ends is not None and time.monotonic() >= ends):
                return run
            held = time.monotonic() - begun
            if held < asked / 2000:
                # A server that drains answers at once, and must not be asked in a tight loop.
                await asyncio.sleep(min(AGAIN, asked / 1000))

    async def cancel_run(self, run_id: str) -> Run:
        """Tells a run to stop."""
        # A second one changes nothing, but one that comes after the end is refused.
        answer = await self._transport.call("POST", _path("runs", run_id, "cancel"))
        return cast(Run, answer.json())

    async def retry_run(self, run_id: str, *, idempotency_key: str | None = None) -> Run:
        """A new run with the thread, input and files of one that has ended."""
        made = await self._make("runs", run_id, "retry", body=None, idempotency_key=idempotency_key)
        return cast(Run, made)

    # Approvals and usage

    async def approvals(
        self, *, limit: int | None = None, cursor: str | None = None
    ) -> PageApproval:
        """The questions to this user, newest first."""
        return cast(PageApproval, await self._read("approvals", limit=limit, cursor=cursor))

    async def resolve_approval(
        self,
        approval_id: str,
        decision: Decision,
        *,
        note: str | None = None,
        arguments: Any = None,
    ) -> Approval:
        """Answers a question; it can be answered once."""
        body = _given(decision=decision, note=note, arguments=arguments)
        answer = await self._transport.call("POST", _path("approvals", approval_id), json=body)
        return cast(Approval, answer.json())

    async def usage(self) -> Usage:
        """What the user has used, and the slots now."""
        return cast(Usage, await self._read("usage"))

    # Events

    def events(
        self,
        *,
        after: After = "now",
        threads: Sequence[str] | None = None,
        deltas: bool = True,
    ) -> EventStream:
        """The user's events over the WebSocket, each once and in order, until it is closed.

        A bare `seq` is good for the present log; a `Cursor` with its epoch notices another one.
        """
        subscription = Subscription(after, threads, deltas)
        return self._opened(SocketStream(self._transport, subscription, ticket=self._ticket))

    def run_events(
        self, run_id: str, *, after: Cursor | int | None = None, deltas: bool = True
    ) -> EventStream:
        """The events of one run over SSE, from its start to its end."""
        return self._sse(_path("runs", run_id, "events"), after, deltas, of_run=True)

    def sse_events(
        self,
        *,
        after: After = "now",
        threads: Sequence[str] | None = None,
        deltas: bool = True,
    ) -> EventStream:
        """As `events`, over SSE, where WebSockets do not pass."""
        begin = None if after == "now" else after
        return self._sse(_path("events"), begin, deltas, of_run=False, threads=threads)

    def _sse(
        self,
        path: str,
        after: Cursor | int | None,
        deltas: bool,
        *,
        of_run: bool,
        threads: Sequence[str] | None = None,
    ) -> EventStream:
        cursor = Cursor(after) if isinstance(after, int) else after
        parameters = {} if deltas else {"deltas": "false"}
        if threads is not None:
            parameters["threads"] = ",".join(threads)
        feed = Feed(cursor, of_run=of_run)
        return self._opened(SseStream(self._transport, path, feed, parameters=parameters))

    def _opened(self, stream: Stream) -> Stream:
        self._streams.add(stream)
        return stream

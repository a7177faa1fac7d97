"""The client for plain code: `AsyncClient` on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from .client import AsyncClient, Content
from .core import After, Cursor
from .credentials import TokenSource
from .errors import NetraError
from .stream import EventStream
from .types import (
    Agent,
    Approval,
    Decision,
    Event,
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

T = TypeVar("T")


class Loop:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="netra-client", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Does the work there and waits for it here; what interrupts the wait ends the work."""
        if not self._thread.is_alive():
            work.close()
            raise NetraError("the client is closed")
        if threading.current_thread() is self._thread:
            work.close()
            raise NetraError("a callback of the client must not wait for the client")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Ends what is still going on, then the thread."""
        if not self._thread.is_alive():
            return
        self.wait(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


async def _made(make: Callable[[], T]) -> T:
    return make()


class EventIterator(Iterator[Event]):
    """Events as `EventStream` gives them; close it, by `with` or `close`."""

    def __init__(self, loop: Loop, stream: EventStream) -> None:
        self._loop = loop
        self._stream = stream

    @property
    def cursor(self) -> Cursor | None:
        """Behind the last event that was handed out; begin a later stream with it."""
        return self._stream.cursor

    def __enter__(self) -> EventIterator:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __next__(self) -> Event:
        event = self._loop.wait(self._next())
        if event is None:
            raise StopIteration
        return event

    async def _next(self) -> Event | None:
        # An exception that ends iterations cannot leave a coroutine.
        return await anext(self._stream, None)

    def close(self) -> None:
        """Closes the connection; the iterator ends."""
        self._loop.wait(self._stream.aclose())


class Client:
    """One user of a Netra server; the arguments are those of `AsyncClient`.

    Close it, by `with` or `close`.
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
    ) -> None:
        self._loop = Loop()
        self._client = self._loop.wait(
            _made(
                lambda: AsyncClient(
                    base_url,
                    token=token,
                    refresh_token=refresh_token,
                    on_tokens=on_tokens,
                    ticket=ticket,
                    attempts=attempts,
                    timeout=timeout,
                )
            )
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends all streams, closes all connections, and ends the thread."""
        try:
            self._loop.wait(self._client.aclose())
        finally:
            self._loop.close()

    # Accounts

    def login(self, name: str, password: str) -> Tokens:
        """Signs in; from now on the client renews its token by itself."""
        return self._loop.wait(self._client.login(name, password))

    def register(self, name: str, password: str, *, invite: str | None = None) -> Tokens:
        """Makes an account, where the server lets people do so, and signs in."""
        return self._loop.wait(self._client.register(name, password, invite=invite))

    def refresh(self) -> str | None:
        """Gets a new access token now."""
        return self._loop.wait(self._client.refresh())

    def logout(self) -> None:
        """Ends the session on the server and forgets its tokens."""
        self._loop.wait(self._client.logout())

    def me(self) -> User:
        """Whose token this is."""
        return self._loop.wait(self._client.me())

    def sessions(self, *, limit: int | None = None, cursor: str | None = None) -> PageSession:
        """The user's sessions, newest first."""
        return self._loop.wait(self._client.sessions(limit=limit, cursor=cursor))

    def end_session(self, session_id: str) -> None:
        """Ends a session: its tokens are refused and its sockets closed."""
        self._loop.wait(self._client.end_session(session_id))

    def end_sessions(self) -> None:
        """Ends all of the user's sessions, this one too."""
        self._loop.wait(self._client.end_sessions())

    # Agents and tools

    def agents(self, *, limit: int | None = None, cursor: str | None = None) -> PageAgent:
        """The agents that this user may run."""
        return self._loop.wait(self._client.agents(limit=limit, cursor=cursor))

    def agent(self, name: str) -> Agent:
        """One agent."""
        return self._loop.wait(self._client.agent(name))

    def tools(self, *, limit: int | None = None, cursor: str | None = None) -> PageTool:
        """The tools, and why this user may not call some."""
        return self._loop.wait(self._client.tools(limit=limit, cursor=cursor))

    # Files

    def upload(
        self,
        content: Content,
        *,
        name: str | None = None,
        media_type: str = "application/octet-stream",
        idempotency_key: str | None = None,
    ) -> File:
        """Stores a file; a path gives its own name."""
        return self._loop.wait(
            self._client.upload(
                content,
                name=name,
                media_type=media_type,
                idempotency_key=idempotency_key,
            )
        )

    def files(self, *, limit: int | None = None, cursor: str | None = None) -> PageFile:
        """The user's files, newest first."""
        return self._loop.wait(self._client.files(limit=limit, cursor=cursor))

    def file(self, file_id: str) -> File:
        """A file without its content."""
        return self._loop.wait(self._client.file(file_id))

    def download(self, file_id: str) -> bytes:
        """The content of a file."""
        return self._loop.wait(self._client.download(file_id))

    def delete_file(self, file_id: str) -> None:
        """Deletes a file."""
        self._loop.wait(self._client.delete_file(file_id))

    # Threads

    def threads(
        self, *, q: str | None = None, limit: int | None = None, cursor: str | None = None
    ) -> PageThread:
        """The conversations, last changed first; `q` searches titles and messages."""
        return self._loop.wait(self._client.threads(q=q, limit=limit, cursor=cursor))

    def create_thread(
        self,
        *,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Thread:
        """Makes a conversation."""
        return self._loop.wait(
            self._client.create_thread(
                title=title,
                metadata=metadata,
                idempotency_key=idempotency_key,
            )
        )

    def thread(self, thread_id: str) -> Thread:
        """One conversation, with `as_of`."""
        return self._loop.wait(self._client.thread(thread_id))

    def update_thread(
        self,
        thread_id: str,
        *,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Thread:
        """Changes what is given."""
        return self._loop.wait(
            self._client.update_thread(thread_id, title=title, metadata=metadata)
        )

    def delete_thread(self, thread_id: str) -> None:
        """Deletes a conversation with its messages, runs and events."""
        self._loop.wait(self._client.delete_thread(thread_id))

    def fork_thread(
        self,
        thread_id: str,
        *,
        after_message_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Thread:
        """A new conversation with the messages up to that one, or with all."""
        return self._loop.wait(
            self._client.fork_thread(
                thread_id,
                after_message_id=after_message_id,
                idempotency_key=idempotency_key,
            )
        )

    def messages(
        self, thread_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> PageMessage:
        """The messages of a conversation, oldest first; the first page has `as_of`."""
        return self._loop.wait(self._client.messages(thread_id, limit=limit, cursor=cursor))

    # Runs

    def start_run(
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
        return self._loop.wait(
            self._client.start_run(
                agent,
                input,
                thread_id=thread_id,
                files=files,
                metadata=metadata,
                timeout_ms=timeout_ms,
                on_limit=on_limit,
                on_busy=on_busy,
                idempotency_key=idempotency_key,
            )
        )

    def runs(self, *, limit: int | None = None, cursor: str | None = None) -> PageRun:
        """The user's runs, newest first."""
        return self._loop.wait(self._client.runs(limit=limit, cursor=cursor))

    def run(self, run_id: str) -> Run:
        """A run as it is now, with `as_of`."""
        return self._loop.wait(self._client.run(run_id))

    def wait_run(self, run_id: str, *, timeout: float | None = None) -> Run:
        """The run once it has ended; after `timeout` seconds the run as it then is."""
        return self._loop.wait(self._client.wait_run(run_id, timeout=timeout))

    def cancel_run(self, run_id: str) -> Run:
        """Tells a run to stop."""
        return self._loop.wait(self._client.cancel_run(run_id))

    def retry_run(self, run_id: str, *, idempotency_key: str | None = None) -> Run:
        """A new run with the thread, input and files of one that has ended."""
        return self._loop.wait(self._client.retry_run(run_id, idempotency_key=idempotency_key))

    # Approvals and usage

    def approvals(self, *, limit: int | None = None, cursor: str | None = None) -> PageApproval:
        """The questions to this user, newest first."""
        return self._loop.wait(self._client.approvals(limit=limit, cursor=cursor))

    def resolve_approval(
        self,
        approval_id: str,
        decision: Decision,
        *,
        note: str | None = None,
        arguments: Any = None,
    ) -> Approval:
        """Answers a question; it can be answered once."""
        return self._loop.wait(
            self._client.resolve_approval(
                approval_id,
                decision,
                note=note,
                arguments=arguments,
            )
        )

    def usage(self) -> Usage:
        """What the user has used, and the slots now."""
        return self._loop.wait(self._client.usage())

    # Events

    def events(
        self,
        *,
        after: After = "now",
        threads: Sequence[str] | None = None,
        deltas: bool = True,
    ) -> EventIterator:
        """The user's events over the WebSocket, each once and in order, until it is closed.

        A bare `seq` is good for the present log; a `Cursor` with its epoch notices another one.
        """
        return self._stream(
            lambda: self._client.events(after=after, threads=threads, deltas=deltas)
        )

    def run_events(
        self, run_id: str, *, after: Cursor | int | None = None, deltas: bool = True
    ) -> EventIterator:
        """The events of one run over SSE, from its start to its end."""
        return self._stream(lambda: self._client.run_events(run_id, after=after, deltas=deltas))

    def sse_events(
        self,
        *,
        after: After = "now",
        threads: Sequence[str] | None = None,
        deltas: bool = True,
    ) -> EventIterator:
        """As `events`, over SSE, where WebSockets do not pass."""
        return self._stream(
            lambda: self._client.sse_events(after=after, threads=threads, deltas=deltas)
        )

    def _stream(self, make: Callable[[], EventStream]) -> EventIterator:
        return EventIterator(self._loop, self._loop.wait(_made(make)))

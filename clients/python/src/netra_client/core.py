"""The protocol without I/O: cursors, subscriptions, and what to do when something ends.

Both clients drive these objects. Nothing here waits, reads a clock or draws a random number of
its own, so that tests decide all three.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Union, cast

from .errors import ApiError, NetraError, ProtocolError, TooManySockets, from_body
from .types import Event

Frame = dict[str, Any]

TERMINAL = frozenset({"run_completed", "run_failed", "run_cancelled", "run_timed_out"})
"""The types of which each run has exactly one, as its last event."""

LONGEST_FRAME = 64 * 1024
"""The longest frame that the server reads, in bytes."""

PASSING = frozenset({"draining", "internal", "overloaded", "rate_limited", "store_unavailable"})
"""Error codes after which the same request may succeed."""


class Cursor(NamedTuple):
    """A place in a user's log: everything up to `seq` is known. Keep both to resume."""

    seq: int
    epoch: str | None = None

    def __str__(self) -> str:
        return str(self.seq) if self.epoch is None else f"{self.epoch}:{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Reads `seq` or `epoch:seq`, the form of an SSE id."""
        epoch, _, seq = text.rpartition(":")
        return cls(int(seq), epoch or None)


After = Union[Cursor, int, Literal["now"]]
"""Where to begin: after a cursor, after a `seq` (0 for all), or with what comes from now on."""


# What a frame leads to.


@dataclass(frozen=True)
class Send:
    """Send this frame."""

    frame: Frame


@dataclass(frozen=True)
class Deliver:
    """Hand this event out."""

    event: Event


@dataclass(frozen=True)
class Reconnect:
    """Close the connection and make a new one, by the plan."""

    plan: Plan


@dataclass(frozen=True)
class Fail:
    """Stop with this error."""

    error: NetraError


Action = Union[Send, Deliver, Reconnect, Fail]


@dataclass(frozen=True)
class Plan:
    """How to go on after a connection ended."""

    wait: float = 0.0
    """At least so many seconds, whatever the backoff says."""
    renew: bool = False
    """The access token is refused: get another one first."""
    error: NetraError | None = None
    """Going on makes no sense."""


class Subscription:
    """One subscription over all its connections: no event is lost, none comes twice.

    `opened` begins a connection, `receive` takes each frame of it. `cursor` is where the next
    connection resumes.
    """

    def __init__(
        self, after: After = "now", threads: Sequence[str] | None = None, deltas: bool = True
    ) -> None:
        self.cursor: Cursor | None = None
        if isinstance(after, Cursor):
            self.cursor = after
        elif after != "now":
            self.cursor = Cursor(after)
        self._threads = None if threads is None else list(threads)
        self._deltas = deltas
        self._next_id = 0
        self.seen = False
        """Whether the server has ever accepted this subscription."""
        self._opened = False
        self._subscribing: int | None = None
        self._refreshing: int | None = None
        self._previous: int | None = None
        self._moved = False
        self._told = -1

    @property
    def live(self) -> bool:
        """Whether the server has accepted the subscription on this connection."""
        return self._previous is not None

    def opened(self) -> None:
        """A new connection: whatever was asked on the old one is void."""
        self._opened = False
        self._subscribing = self._refreshing = self._previous = None

    def refresh(self, token: str) -> Send:
        """Goes on with another access token on this connection."""
        self._refreshing = self._id()
        return Send({"type": "auth.refresh", "id": self._refreshing, "token": token})

    def receive(self, frame: Frame) -> list[Action]:
        """Takes one frame of the server and says what it leads to."""
        kind = frame.get("type")
        if not self._opened:
            return self._ready(frame)
        if kind == "ack":
            return self._ack(frame)
        if kind == "error":
            return self._error(frame)
        if kind == "position":
            return self._position(frame)
        if "event_id" in frame and "seq" in frame:
            return self._event(frame)
        return []

    def _ready(self, frame: Frame) -> list[Action]:
        if frame.get("type") != "connection_ready" or frame.get("protocol") != "netra.v1":
            return [Fail(ProtocolError("the server does not speak netra.v1"))]
        self._opened = True
        if self.cursor is None:
            # "now" becomes a number at once, so that a cut before the answer loses nothing.
            self.cursor = Cursor(int(frame["latest_seq"]), str(frame["epoch"]))
        return [self._subscribe()]

    def _subscribe(self) -> Send | Fail:
        cursor = self.cursor or Cursor(0)
        self._subscribing, self._previous, self._moved = self._id(), None, False
        frame: Frame = {"type": "subscribe", "id": self._subscribing, "after": cursor.seq}
        if cursor.epoch is not None:
            frame["epoch"] = cursor.epoch
        if self._threads is not None:
            frame["threads"] = self._threads
        if not self._deltas:
            frame["deltas"] = False
        if len(json.dumps(frame)) > LONGEST_FRAME:
            # It would cost the connection, and the next one as well.
            return Fail(ProtocolError("a subscription of more than 64 KiB: name fewer threads"))
        return Send(frame)

    def _ack(self, frame: Frame) -> list[Action]:
        if frame.get("id") == self._refreshing:
            self._refreshing = None
        if frame.get("id") != self._subscribing:
            return []
        self._subscribing, self.seen = None, True
        self._previous = int(frame["after"])
        self.cursor = Cursor(self._previous, str(frame["epoch"]))
        return []

    def _error(self, frame: Frame) -> list[Action]:
        error = from_body(frame)
        if frame.get("id") is not None and frame.get("id") == self._refreshing:
            self._refreshing = None
            # The old token is good for a while; when it is not, the server says so.
            return [] if error.code in PASSING else [Reconnect(Plan(renew=True))]
        about_us = frame.get("id") is None or frame.get("id") == self._subscribing
        if not about_us:
            return []
        if error.code in PASSING:
            return [Reconnect(Plan())]
        return [Fail(error)]

    def _event(self, frame: Frame) -> list[Action]:
        if self._previous is None or frame["seq"] <= self._previous:
            # Of a subscription that was replaced, or a repetition.
            return []
        if frame["prev"] != self._previous:
            return self._gap()
        self._advance(frame["seq"])
        return [Deliver(cast(Event, frame))]

    def _position(self, frame: Frame) -> list[Action]:
        if self._previous is None or frame["seq"] < self._previous:
            return []
        self._advance(frame["seq"])
        if frame["seq"] <= self._told:
            return []
        self._told = frame["seq"]
        return [Send({"type": "delivered", "seq": self._told})]

    def _gap(self) -> list[Action]:
        # A subscription that begins with a gap again would do so for ever: back off instead.
        return [self._subscribe()] if self._moved else [Reconnect(Plan())]

    def _advance(self, seq: int) -> None:
        self._previous = seq
        self._moved = True
        self.cursor = Cursor(seq, self.cursor.epoch if self.cursor else None)

    def _id(self) -> int:
        self._next_id += 1
        return self._next_id


def after_close(code: int | None, reason: str = "", *, resuming: bool = True) -> Plan:
    """What to do after the server closed with this code; None when it broke without one."""
    if code in (1002, 1003, 1007, 1009, 1010):
        return Plan(error=ProtocolError(f"the server closed with {code} {reason}".rstrip()))
    if code == 4001:
        return Plan(renew=True)
    if code == 4003:
        # The window in which frames are counted.
        return Plan(wait=10.0)
    if code == 4009:
        # The server may still count the socket that we have just lost, but not at first.
        message = "too many sockets of this user are open; close another one first"
        return Plan(wait=5.0) if resuming else Plan(error=TooManySockets(message))
    return Plan()


def after_refusal(error: ApiError) -> Plan:
    """What to do when opening a connection or a stream was answered with an HTTP error."""
    if error.status == 401:
        return Plan(renew=True)
    if error.status in (408, 429) or (error.status or 0) >= 500:
        return Plan(wait=error.retry_after or 0.0)
    return Plan(error=error)


class Backoff:
    """Exponential backoff with full jitter: up to `base`, then twice that, up to `cap` seconds.

    It begins anew once a connection has carried an event or has lasted for `cap` seconds; an
    accepted connection alone proves nothing.
    """

    def __init__(
        self,
        random: Callable[[], float],
        *,
        base: float = 0.5,
        cap: float = 30.0,
        attempts: int | None = None,
    ) -> None:
        self._random = random
        self._base = base
        self._cap = cap
        self._attempts = attempts
        self._failures = 0
        self._since: float | None = None

    def opened(self, now: float) -> None:
        """A connection was accepted."""
        self._since = now

    def progressed(self) -> None:
        """An event came."""
        self._failures = 0

    def delay(self, now: float, at_least: float = 0.0) -> float | None:
        """Seconds to wait before the next attempt; None when they are used up."""
        if self._since is not None and now - self._since >= self._cap:
            self._failures = 0
        self._since = None
        if self._attempts is not None and self._failures >= self._attempts:
            return None
        # 2.0 ** 64 is beyond every cap; a larger power would be beyond floats some day.
        ceiling = min(self._cap, self._base * 2.0 ** min(self._failures, 64))
        self._failures += 1
        return at_least + self._random() * ceiling


class Repeat(NamedTuple):
    """Which failures of a REST call may be followed by the same call again."""

    safe: bool
    """Whether doing it twice equals doing it once: it reads, or it has an idempotency key."""
    longest_wait: float = 60.0

    def after_error(self, error: ApiError) -> float | None:
        """The least number of seconds to wait before a repetition; None for no repetition."""
        refused = error.code in ("rate_limited", "draining", "overloaded")
        unknown = error.status in (502, 503, 504)
        if not (refused or (unknown and self.safe)):
            return None
        wait = error.retry_after or 0.0
        return wait if wait <= self.longest_wait else None


# A carriage return at the end may be the first half of a line's end.
_LINE_END = re.compile(rb"\r\n|\n|\r(?!\Z)")


class SseMessage(NamedTuple):
    """One block of an event stream."""

    id: str | None
    event: str | None
    data: str | None


class SseParser:
    """Cuts a stream into messages. An `id` without data is a message too: a position."""

    def __init__(self) -> None:
        self._id: str | None = None
        self._event: str | None = None
        self._data: list[str] = []
        self._rest = b""
        self._begun = False

    def feed(self, received: bytes) -> list[SseMessage]:
        """Takes what was received; gives the messages that it completes."""
        # Of bytes: texts also have ends of lines that stand in JSON and are none here.
        *lines, self._rest = _LINE_END.split(self._rest + received)
        messages = (self._line(line.decode(errors="replace")) for line in lines)
        return [message for message in messages if message is not None]

    def _line(self, line: str) -> SseMessage | None:
        if not self._begun:
            self._begun, line = True, line.removeprefix("\ufeff")
        if not line:
            data = "\n".join(self._data) if self._data else None
            message = SseMessage(self._id, self._event, data)
            self._id, self._event, self._data = None, None, []
            return message if any(part is not None for part in message) else None
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
        elif field == "id" and "\0" not in value:
            # The standard has no id with a NUL in it: no header could carry it back.
            self._id = value
        elif field == "event":
            self._event = value
        return None


class Feed:
    """The events of one run, or of all, over several streams of server-sent events."""

    def __init__(self, after: Cursor | None = None, *, of_run: bool = True) -> None:
        self.cursor = after
        self.ended = False
        self._of_run = of_run
        self._previous: int | None = None

    def opened(self) -> None:
        """A new stream, which resumes at `cursor`."""
        self._previous = None if self.cursor is None else self.cursor.seq

    def receive(self, message: SseMessage, frame: Frame | None) -> list[Action]:
        """Takes a message and its data, read as JSON."""
        if message.event == "error":
            error = from_body(frame)
            return [Reconnect(Plan())] if error.code in PASSING else [Fail(error)]
        if frame is not None:
            return self._event(message, frame)
        if message.id is not None:
            self._advance(message.id)
        return []

    def _event(self, message: SseMessage, frame: Frame) -> list[Action]:
        seq = int(frame["seq"])
        if self.cursor is not None and seq <= self.cursor.seq:
            return []
        if self._previous is not None and frame["prev"] != self._previous:
            return [Reconnect(Plan())]
        self._advance(message.id or str(seq))
        self.ended = self._of_run and frame["type"] in TERMINAL
        return [Deliver(cast(Event, frame))]

    def _advance(self, text: str) -> None:
        cursor = Cursor.parse(text)
        if cursor.epoch is None and self.cursor is not None:
            cursor = Cursor(cursor.seq, self.cursor.epoch)
        if self.cursor is None or cursor.seq >= self.cursor.seq:
            self.cursor = cursor
            self._previous = cursor.seq

"""Client of a Netra server: runs, and their events without loss or repetition."""

from .client import AsyncClient
from .core import After, Cursor
from .errors import (
    ApiError,
    ConnectionLost,
    CursorExpired,
    NetraError,
    ProtocolError,
    TooManySockets,
)
from .stream import EventStream
from .sync import Client, EventIterator
from .types import Event, EventType

__all__ = [
    "After",
    "ApiError",
    "AsyncClient",
    "Client",
    "ConnectionLost",
    "Cursor",
    "CursorExpired",
    "Event",
    "EventIterator",
    "EventStream",
    "EventType",
    "NetraError",
    "ProtocolError",
    "TooManySockets",
]

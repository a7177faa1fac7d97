"""Servers for the end-to-end tests."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Callable, Iterator, Mapping

import pytest
from server import Server

_names = (f"user{number}" for number in itertools.count())


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("shared"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def user(shared: Server) -> str:
    """A user of the shared server whom no other test knows."""
    name = next(_names)
    shared.add_user(name)
    return name


@pytest.fixture
def serve(tmp_path: pathlib.Path) -> Iterator[Callable[..., Server]]:
    """Starts a server of the test's own, with settings of its own and the user `ada`."""
    servers: list[Server] = []

    def start(settings: Mapping[str, str] | None = None) -> Server:
        server = Server(tmp_path / str(len(servers)), settings)
        servers.append(server)
        server.start()
        server.add_user("ada")
        return server

    yield start
    for server in servers:
        server.kill()

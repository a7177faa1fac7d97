"""A real server, and a network between it and a client that a test can cut."""

from __future__ import annotations

import asyncio
import os
import pathlib
import subprocess
from collections.abc import Mapping

PASSWORD = "correct horse battery"

LONG_AGENT = {
    "agent.toml": 'description = "Thinks for a while."\nkind = "script"\nscript = "agent.py"\n',
    "agent.py": 'for n in range(400):\n    think(f"thought {n}")\n\n{"thoughts": 400}\n',
}


def binary() -> str:
    """The server under test."""
    path = os.environ.get("NETRA_BINARY")
    if not path:
        raise RuntimeError(
            "NETRA_BINARY is not set: `cargo build -p netra`, then NETRA_BINARY=target/debug/netra;"
            " `cargo xtask test clients` does both"
        )
    return str(pathlib.Path(path).resolve())


class Server:
    """One server on a data folder and a port of its own, with the agent `long`."""

    def __init__(self, folder: pathlib.Path, settings: Mapping[str, str] | None = None) -> None:
        self._data = folder / "data"
        self._agents = folder / "agents"
        self._log = folder / "server.log"
        (self._agents / "long").mkdir(parents=True)
        for name, text in LONG_AGENT.items():
            (self._agents / "long" / name).write_text(text)
        self._settings = {f"NETRA__{key}": value for key, value in (settings or {}).items()}
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it, on the same port as before; returns when it is ready."""
        command = [binary(), "serve", "--listen", f"127.0.0.1:{self.port}"]
        command += ["--data", str(self._data), "--agents", str(self._agents)]
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, **self._settings},
            )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("ready "):
                self.port = int(line.strip().rpartition(":")[2])
                return
        raise RuntimeError(f"the server did not start:\n{self._log.read_text()}")

    def kill(self) -> None:
        """SIGKILL: nothing is tidied up."""
        self._end(subprocess.Popen.kill)

    def stop(self) -> None:
        """SIGTERM: the server drains."""
        self._end(subprocess.Popen.terminate)

    def _end(self, how: object) -> None:
        process, self._process = self._process, None
        if process is not None:
            assert callable(how)
            how(process)
            process.wait()
            if process.stdout is not None:
                process.stdout.close()

    def add_user(self, name: str) -> None:
        """Makes an account with `PASSWORD`."""
        self._command("user", "add", name, "--password-stdin", input=PASSWORD + "\n")

    def token(self, name: str) -> str:
        """An access token."""
        return self._command("token", name)

    def _command(self, *args: str, input: str | None = None) -> str:
        done = subprocess.run(
            [binary(), *args, "--data", str(self._data)],
            input=input,
            capture_output=True,
            text=True,
            env={**os.environ, **self._settings},
        )
        if done.returncode != 0:
            raise RuntimeError(f"netra {' '.join(args)}: {done.stderr}")
        return done.stdout.strip()


class Network:
    """A TCP proxy in front of a port, for use within one event loop."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._copying: set[asyncio.Task[None]] = set()
        self.requests: list[str] = []
        """The first line of each connection."""
        self.longest_answer = 0
        """After so many bytes from the server each connection is cut, within a frame or not."""
        self.swallow_answers = 0
        """So many connections are cut when their first answer comes."""

    async def __aenter__(self) -> Network:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.gather(*self._copying, return_exceptions=True)

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def sockets(self) -> int:
        """How many WebSockets were opened through it."""
        return sum(line.startswith("GET /ws") for line in self.requests)

    def cut(self) -> None:
        """Breaks all connections, without a word."""
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, to_writer}
        for copy in (self._there(reader, to_writer), self._back(to_reader, writer)):
            task = asyncio.ensure_future(copy)
            self._copying.add(task)
            task.add_done_callback(self._copying.discard)

    async def _there(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = True
        while received := await _read(reader):
            if first:
                self.requests.append(received.split(b"\r\n", 1)[0].decode())
            first = False
            writer.write(received)
        writer.close()

    async def _back(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while received := await _read(reader):
            passed += len(received)
            if self.longest_answer and passed > self.longest_answer:
                writer.write(received[: self.longest_answer - passed])
                writer.close()
                return
            if self.swallow_answers:
                self.swallow_answers -= 1
                writer.transport.abort()
                return
            writer.write(received)
        writer.close()


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(65_536)
    except ConnectionError:
        return b""

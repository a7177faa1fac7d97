"""A tool server that tries to get out: what succeeds says so."""

import json
import os
import signal
import socket
import sys
import time


def read(path):
    with open(path) as file:
        return file.read()


def overwrite(path):
    with open(path, "w") as file:
        file.write("of a stranger")


def connect(port):
    socket.create_connection(("127.0.0.1", port), timeout=5).close()


def children(count):
    for _ in range(count):
        if os.fork() == 0:
            time.sleep(600)


def fork_without_end():
    """Each child goes on with it, whatever it is told."""
    while True:
        if os.fork() == 0:
            while True:
                try:
                    os.fork()
                except OSError:
                    time.sleep(0.01)


def allocate(mib):
    held = bytearray(mib << 20)
    for at in range(0, len(held), 4096):
        held[at] = 1
    # Longer than whoever watches takes to look.
    time.sleep(1)


def write(mib):
    with open("much", "wb") as file:
        for _ in range(mib):
            file.write(bytes(1 << 20))
        file.flush()
        time.sleep(1)
    os.remove("much")


def stay():
    if os.fork() == 0:
        os.setsid()
        for ignored in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(ignored, signal.SIG_IGN)
        for descriptor in (0, 1, 2):
            os.close(descriptor)
        time.sleep(600)


def wait():
    time.sleep(600)


every = (read, overwrite, connect, children, fork_without_end, allocate, write, stay, wait)
attempts = {one.__name__: one for one in every}


def answer(request):
    if request["method"] == "initialize":
        info = {"name": "escape", "version": "1"}
        return {"protocolVersion": "2025-11-25", "serverInfo": info, "capabilities": {"tools": {}}}
    if request["method"] == "tools/list":
        schema = {"type": "object"}
        return {"tools": [{"name": name, "inputSchema": schema} for name in attempts]}
    params = request["params"]
    try:
        attempts[params["name"]](**params["arguments"])
    except (OSError, MemoryError) as error:
        return {"content": [{"type": "text", "text": repr(error)}], "isError": True}
    return {"content": [{"type": "text", "text": "out"}]}


for line in sys.stdin:
    request = json.loads(line)
    if "id" in request:
        message = {"jsonrpc": "2.0", "id": request["id"]}
        known = request["method"] in ("initialize", "tools/list", "tools/call")
        if known:
            message["result"] = answer(request)
        else:
            message["error"] = {"code": -32601, "message": "no such method"}
        print(json.dumps(message), flush=True)

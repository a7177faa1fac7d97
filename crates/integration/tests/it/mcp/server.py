"""A tool server that does what it is told: answer, hang, fall over, flood."""

import json
import os
import sys
import time
import uuid

folder = sys.argv[1]
# Each instance may be another user, and all write into one file.
os.umask(0)
# Numbers of processes say nothing: each may have its own.
own = uuid.uuid4().hex
tools = {
    "echo": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    "who": {"type": "object"},
    "progress": {"type": "object"},
    "wrong": {"type": "object"},
    "picture": {"type": "object"},
    "hang": {"type": "object"},
    "fall": {"type": "object"},
    "flood": {"type": "object"},
    "long-line": {"type": "object"},
    "long_line": {"type": "object"},
    "grow": {"type": "object"},
    "sprout": {"type": "object"},
    "token": {"type": "object"},
    "hoard": {"type": "object", "properties": {"mib": {"type": "integer"}}, "required": ["mib"]},
    "bad": {"type": "object", "properties": {"text": {"type": 7}}},
}
calls = 0
hoard = []
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
if os.path.exists(os.path.join(folder, "broken")):
    sys.stderr.write(f"the folder is broken for {os.environ.get('TOKEN')}\n")
    sys.exit(3)


def send(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def note(line):
    with open(os.path.join(folder, "notes"), "a") as notes:
        notes.write(line + "\n")


def text(words, **more):
    return {"content": [{"type": "text", "text": words}], **more}


def call(request, name, arguments):
    global calls
    calls += 1
    if name == "echo":
        return text(arguments["text"], structuredContent={"length": len(arguments["text"])})
    if name == "who":
        return text(f"{own} {calls}")
    if name == "token":
        return text(f"{os.environ.get('TOKEN')}")
    if name == "hoard":
        # Written to, so that it is there and not only promised.
        hoard.extend(b"x" * (1 << 20) for _ in range(arguments["mib"]))
        return text(f"{len(hoard)} MiB are held")
    if name == "progress":
        token = request["params"]["_meta"]["progressToken"]
        for done in (1, 2):
            told = {"progressToken": token, "progress": done, "total": 4, "message": f"step {done}"}
            send({"method": "notifications/progress", "params": told})
        # An answer may overtake what was said before it.
        while not os.path.exists(os.path.join(folder, "heard")):
            time.sleep(0.01)
        return text("done")
    if name == "wrong":
        return text("there is no such thing", isError=True)
    if name == "picture":
        return {"content": [{"type": "image", "mimeType": "image/png", "data": PIXEL}]}
    if name == "fall":
        os._exit(9)
    if name == "flood":
        while True:
            sys.stdout.write("{}\n" * 1000)
    if name == "long-line":
        sys.stdout.write("x" * (9 << 20))
        sys.stdout.flush()
    if name == "grow":
        tools["late"] = {"type": "object"}
        # Instances that come later have it too.
        open(os.path.join(folder, "grown"), "w").close()
        send({"method": "notifications/tools/list_changed"})
        return text("grown")
    if name == "sprout":
        # No other instance has it.
        tools["leaf"] = {"type": "object"}
        send({"method": "notifications/tools/list_changed"})
        return text("sprouted")
    note(f"began {name}")
    return None


def answer(request):
    method = request["method"]
    if method == "initialize":
        name = {"name": "scripted", "version": "1"}
        return {"protocolVersion": "2025-11-25", "serverInfo": name, "capabilities": {"tools": {}}}
    if method == "tools/list":
        if os.path.exists(os.path.join(folder, "grown")):
            tools["late"] = {"type": "object"}
        return {"tools": [{"name": name, "inputSchema": schema} for name, schema in tools.items()]}
    if method == "tools/call":
        params = request["params"]
        return call(request, params["name"], params.get("arguments") or {})
    raise LookupError(method)


print("a greeting that is no message", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        note(request["method"])
        continue
    try:
        result = answer(request)
        if result is not None:
            send({"id": request["id"], "result": result})
    except LookupError as missing:
        send({"id": request["id"], "error": {"code": -32601, "message": f"no {missing}"}})

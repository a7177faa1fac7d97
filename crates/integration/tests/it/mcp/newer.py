"""A tool server of 2026-07-28: every request stands by itself, and changes are told to whoever listens."""

import json
import os
import sys

folder = sys.argv[1]
os.umask(0)
listening = []
ID = "io.modelcontextprotocol/subscriptionId"


def send(message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)


def tell(method, subscription, **more):
    send({"method": method, "params": {**more, "_meta": {ID: subscription}}})


def tools():
    names = ["grow"] + (["late"] if os.path.exists(os.path.join(folder, "grown")) else [])
    return [{"name": name, "inputSchema": {"type": "object"}} for name in names]


def answer(request):
    method = request["method"]
    kept = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    if method == "server/discover":
        info = {"io.modelcontextprotocol/serverInfo": {"name": "newer", "version": "1"}}
        can = {"tools": {"listChanged": True}}
        return {**kept, "supportedVersions": ["2026-07-28"], "capabilities": can, "_meta": info}
    if method == "tools/list":
        return {**kept, "tools": tools()}
    if method == "tools/call":
        open(os.path.join(folder, "grown"), "w").close()
        for subscription in listening:
            tell("notifications/tools/list_changed", subscription)
        return {"resultType": "complete", "content": [{"type": "text", "text": str(len(listening))}]}
    if method == "subscriptions/listen":
        listening.append(request["id"])
        wanted = request["params"]["notifications"]
        tell("notifications/subscriptions/acknowledged", request["id"], notifications=wanted)
        return None
    raise LookupError(method)


for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    try:
        result = answer(request)
        if result is not None:
            send({"id": request["id"], "result": result})
    except LookupError as missing:
        send({"id": request["id"], "error": {"code": -32601, "message": f"no {missing}"}})

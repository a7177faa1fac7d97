"""A tool server over HTTP that tells whoever calls what it was sent, secrets too."""

import json
import sys
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

guarded = "guarded" in sys.argv
tools = ["who", "mirror", "count", "wrong", "shape", "misshape", "grow"]
counts = {}
SHAPE = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def text(words, **more):
    return {"content": [{"type": "text", "text": words}], **more}


def call(name, key, session):
    if name == "who":
        return text(key, structuredContent={"key": key, key: True})
    if name == "mirror":
        return text(key[::-1])
    if name == "count":
        counts[session] = counts.get(session, 0) + 1
        return text(str(counts[session]))
    if name == "shape":
        return text("7", structuredContent={"n": 7})
    if name == "misshape":
        return text("seven", structuredContent={"n": key})
    if name == "grow":
        tools.append("late")
        return text("grown")
    return text(f"no {key}", isError=True)


def described(name, key):
    tool = {"name": name, "description": f"for {key}", "inputSchema": {"type": "object"}}
    return {**tool, "outputSchema": SHAPE} if name.endswith("shape") else tool


class Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=None, **headers):
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if body is not None:
            self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        self.answer(405)

    def do_DELETE(self):
        self.answer(204)

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        key = self.headers.get("authorization") or "none"
        if guarded and key == "none":
            return self.answer(401)
        if "id" not in message:
            return self.answer(202)
        session = self.headers.get("mcp-session-id") or uuid.uuid4().hex
        result = self.result(message, key, session)
        if result is None:
            error = {"code": -32601, "message": f"no method for {key}"}
            return self.answer(200, {"jsonrpc": "2.0", "id": message["id"], "error": error})
        body = {"jsonrpc": "2.0", "id": message["id"], "result": result}
        self.answer(200, body, mcp_session_id=session)

    def result(self, message, key, session):
        if message["method"] == "initialize":
            name = {"name": f"scripted for {key}", "version": "1"}
            can = {"tools": {"listChanged": True}}
            return {"protocolVersion": "2025-11-25", "serverInfo": name, "capabilities": can}
        if message["method"] == "tools/list":
            return {"tools": [described(name, key) for name in tools]}
        if message["method"] == "tools/call":
            return call(message["params"]["name"], key, session)
        return None


server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
print(server.server_address[1], flush=True)
server.serve_forever()

"""A tool server over HTTP that tells whoever calls what it was sent, secrets too."""

import base64
import json
import sys
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

guarded = "guarded" in sys.argv
# Where tokens are to be had: none are asked for, here, or with somebody else.
tokens_of = next((word.split("=")[1] for word in sys.argv if word.startswith("tokens=")), None)
issued = []
tools = ["who", "mirror", "count", "wrong", "shape", "misshape", "grow", "forget", "traced"]
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
    if name == "forget":
        issued.append("of nobody")
        return text("forgotten")
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
        here = f"http://{self.headers['host']}"
        if tokens_of and self.path == "/.well-known/oauth-protected-resource":
            issuer = here if tokens_of == "here" else tokens_of
            return self.answer(200, {"resource": f"{here}/mcp", "authorization_servers": [issuer]})
        if tokens_of and self.path == "/.well-known/oauth-authorization-server":
            return self.answer(200, {"issuer": here, "token_endpoint": f"{here}/token"})
        self.answer(404 if "well-known" in self.path else 405)

    def token(self, form):
        pair = base64.b64decode(self.headers["authorization"].removeprefix("Basic ")).decode()
        name, secret = (urllib.parse.unquote(part) for part in pair.split(":"))
        fields = urllib.parse.parse_qs(form)
        good = fields["grant_type"] == ["client_credentials"] and fields["scope"] == ["tools"]
        if name != "netra" or secret != sys.argv[-1] or not good:
            return self.answer(401, {"error": "invalid_client", "error_description": secret})
        issued.append(f"canary-of-token-{len(issued)}")
        self.answer(200, {"access_token": issued[-1], "token_type": "Bearer", "expires_in": 3600})

    def do_DELETE(self):
        self.answer(204)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        if self.path == "/token":
            return self.token(body)
        message = json.loads(body)
        key = self.headers.get("authorization") or "none"
        if guarded and key == "none":
            return self.answer(401)
        # Some services want to know who one is only when it comes to their tools.
        free = tokens_of == "here" and not message["method"].startswith("tools/")
        if tokens_of and not free and (not issued or key != f"Bearer {issued[-1]}"):
            return self.answer(401, www_authenticate='Bearer error="invalid_token", scope="tools"')
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
            params = message["params"]
            if params["name"] == "traced":
                return text(params.get("_meta", {}).get("traceparent", "none"))
            return call(params["name"], key, session)
        return None


server = ThreadingHTTPServer(("127.0.0.1", 0), Requests)
print(server.server_address[1], flush=True)
server.serve_forever()

"""An agent of Netra as a program of its own: `python3 endpoint.py 8001`.

Netra posts a turn; the answer is what the agent wants done, or its result. What was done comes with the
next turn, and so does `state`.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def turn(asked):
    if asked["turn"] == 1:
        calls = [{"type": "tool", "id": "clock", "name": "time_now"}]
        return {"type": "calls", "calls": calls, "state": {"question": asked["input"]["text"]}}
    clock = asked["results"][0]
    if "error" in clock:
        return {"type": "error", "message": clock["error"]["message"]}
    question = asked["state"]["question"]
    return {"type": "result", "result": f"You said: {question}\n\nIt is {clock['result']['now']}."}


class Endpoint(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        step = json.dumps(turn(asked)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(step)))
        self.end_headers()
        self.wfile.write(step)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Endpoint)
    print(f"ready http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()

"""An agent made with PydanticAI, as an agent of Netra: `python agent.py 8001`.

Netra's tools are the agent's tools. A turn ends when the model wants some of them; the conversation
so far goes out as the state and comes back with what the tools gave, so this program keeps nothing.
"""

import asyncio
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, ToolDefinition
from pydantic_ai.messages import (
    ModelMessagesTypeAdapter, ModelRequest, ModelResponse, TextPart, UserPromptPart,
)
from pydantic_ai.toolsets import ExternalToolset

# The model of the tests, which calls every tool once. Yours is `openai:gpt-5-mini` or the like.
agent = Agent("test", instructions="Be brief.", output_type=[str, DeferredToolRequests])


def said(message):
    if message["role"] == "user":
        return ModelRequest(parts=[UserPromptPart(message["text"])])
    return ModelResponse(parts=[TextPart(message["text"])])


async def turn(asked):
    tools = ExternalToolset([
        ToolDefinition(
            name=tool["name"],
            description=tool["description"],
            parameters_json_schema=tool["input_schema"],
        )
        for tool in asked["tools"]
    ])
    if asked["turn"] == 1:
        prompt, results = asked["input"]["text"], None
        history = [said(message) for message in asked["messages"]]
    else:
        given = {one["id"]: one.get("result", one.get("error")) for one in asked["results"]}
        prompt, results = None, DeferredToolResults(calls=given)
        history = ModelMessagesTypeAdapter.validate_python(asked["state"])
    done = await agent.run(
        prompt, message_history=history, deferred_tool_results=results, toolsets=[tools]
    )
    if not isinstance(done.output, DeferredToolRequests):
        return {"type": "result", "result": done.output}
    calls = [
        {
            "type": "tool",
            "id": call.tool_call_id,
            "name": call.tool_name,
            "arguments": call.args_as_dict(),
        }
        for call in done.output.calls
    ]
    return {"type": "calls", "calls": calls, "state": json.loads(done.all_messages_json())}


class Endpoint(BaseHTTPRequestHandler):
    def do_POST(self):
        key = os.environ.get("AGENT_KEY")
        if key and self.headers["Authorization"] != f"Bearer {key}":
            return self.send_error(401)
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        step = json.dumps(asyncio.run(turn(asked))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(step)))
        self.end_headers()
        self.wfile.write(step)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Endpoint)
    print(f"ready http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()

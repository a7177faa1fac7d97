"""The plain client against a real server."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import pytest
from server import PASSWORD, Server

from netra_client import ApiError, Client, Cursor, NetraError


def test_files_threads_and_runs(shared: Server, user: str, tmp_path: pathlib.Path) -> None:
    kept: list[str] = []
    with Client(shared.url, on_tokens=lambda pair: kept.append(pair["refresh_token"])) as client:
        tokens = client.login(user, PASSWORD)
        assert client.me()["name"] == tokens["user"]["name"] == user
        assert client.refresh() is not None
        assert kept[1:] and kept[0] == tokens["refresh_token"] != kept[1]
        assert "echo" in {agent["name"] for agent in client.agents()["items"]}
        assert client.agent("echo")["ready"]
        assert client.tools()["items"]

        source = tmp_path / "note.txt"
        source.write_bytes(b"a note")
        file = client.upload(source, media_type="text/plain")
        assert (file["name"], file["media_type"]) == ("note.txt", "text/plain")
        assert client.download(file["id"]) == b"a note"

        thread = client.create_thread(title="Costs", metadata={"team": "red"})
        run = client.start_run("echo", "hello", thread_id=thread["id"], files=[file["id"]])
        assert client.wait_run(run["id"], timeout=30)["status"] == "completed"
        page = client.messages(thread["id"])
        assert [message["role"] for message in page["items"]] == ["user", "assistant"]
        assert client.update_thread(thread["id"], title="Cost")["title"] == "Cost"
        assert [one["id"] for one in client.threads(q="Cost")["items"]] == [thread["id"]]
        assert client.fork_thread(thread["id"])["id"] != thread["id"]

        again = client.retry_run(run["id"])
        assert client.wait_run(again["id"])["result"] == {"text": "hello"}
        assert client.run(again["id"])["thread_id"] == thread["id"]
        with pytest.raises(ApiError) as refused:
            client.cancel_run(run["id"])
        assert (refused.value.status, refused.value.code) == (409, "run_ended")
        assert client.approvals()["items"] == []
        with pytest.raises(ApiError) as missing:
            client.resolve_approval("apr_01kanqxh3v7c2m9r4t6w8y0a1b", "approve")
        assert missing.value.code == "not_found"
        assert client.usage()["days"][0]["runs"] == 2

        client.delete_file(file["id"])
        assert client.files()["items"] == []
        client.delete_thread(thread["id"])
        client.logout()
        with pytest.raises(ApiError):
            client.me()


def test_an_idempotency_key_of_ones_own_makes_one_run(shared: Server, user: str) -> None:
    with Client(shared.url, token=shared.token(user)) as client:
        first = client.start_run("echo", "hello", idempotency_key="once")
        assert client.start_run("echo", "hello", idempotency_key="once")["id"] == first["id"]
        with pytest.raises(ApiError) as reused:
            client.start_run("echo", "other", idempotency_key="once")
        assert reused.value.code == "idempotency_key_reused"


def test_events_survive_a_killed_server(serve: Callable[..., Server]) -> None:
    server = serve()
    with Client(server.url, token=server.token("ada")) as client:
        run = client.start_run("long", "go")
        with client.events(after=0) as events:
            got = []
            for event in events:
                got.append(event)
                if len(got) == 40:
                    server.kill()
                    server.start()
                if event["type"] == "run_completed":
                    break
        assert [event["seq"] for event in got] == list(range(1, len(got) + 1))
        over_sse = list(client.run_events(run["id"]))
        assert [event["event_id"] for event in over_sse] == [event["event_id"] for event in got]


def test_a_stored_cursor_resumes(shared: Server, user: str) -> None:
    with Client(shared.url, token=shared.token(user)) as client:
        first = client.start_run("echo", "one")
        client.wait_run(first["id"])
        with client.events(after=0) as events:
            for event in events:
                if event["type"] == "run_completed":
                    break
            stored = str(events.cursor)
        second = client.start_run("echo", "two")
        with client.events(after=Cursor.parse(stored)) as events:
            assert next(events)["run_id"] == second["id"]
        as_of = client.run(second["id"])["as_of"]
        assert as_of is not None and Cursor(**as_of).seq > Cursor.parse(stored).seq


def test_a_closed_client_says_so(shared: Server) -> None:
    client = Client(shared.url)
    client.close()
    with pytest.raises(NetraError, match="closed"):
        client.me()

"""The protocol without I/O: frames in, actions out."""

from __future__ import annotations

import random
from typing import Any

import pytest

from netra_client.core import (
    Action,
    Backoff,
    Cursor,
    Deliver,
    Fail,
    Feed,
    Frame,
    Plan,
    Reconnect,
    Repeat,
    Send,
    SseMessage,
    SseParser,
    Subscription,
    after_close,
    after_refusal,
)
from netra_client.errors import ApiError, CursorExpired, ProtocolError, TooManySockets, from_body

EPOCH = "9f86d081884c7d65"


def ready(latest: int = 0, epoch: str = EPOCH) -> Frame:
    return {
        "type": "connection_ready",
        "protocol": "netra.v1",
        "epoch": epoch,
        "latest_seq": latest,
    }


def ack(subscribe: Frame, epoch: str = EPOCH) -> Frame:
    return {
        "type": "ack",
        "id": subscribe["id"],
        "epoch": epoch,
        "after": subscribe["after"],
        "latest_seq": 99,
    }


def event(prev: int, seq: int, kind: str = "agent_thinking") -> Frame:
    return {"type": kind, "prev": prev, "seq": seq, "event_id": f"evt_{seq}", "data": {}}


def refusal(code: str, id: int | None = None, **details: Any) -> Frame:
    error = {"code": code, "message": "no", "request_id": "req_1", "details": details}
    return {"type": "error", "id": id, "error": error}


def sent(actions: list[Action]) -> Frame:
    (action,) = actions
    assert isinstance(action, Send)
    return action.frame


def followed(after: Any = 0, **options: Any) -> Subscription:
    """A subscription that the server has accepted."""
    subscription = Subscription(after, **options)
    subscription.opened()
    assert subscription.receive(ack(sent(subscription.receive(ready())))) == []
    return subscription


def seqs(actions: list[Action]) -> list[int]:
    return [action.event["seq"] for action in actions if isinstance(action, Deliver)]


def test_what_is_asked_for_is_in_subscribe() -> None:
    subscription = Subscription(Cursor(7, EPOCH), ["thr_1"], deltas=False)
    subscription.opened()
    frame = sent(subscription.receive(ready(9)))
    assert frame == {
        "type": "subscribe",
        "id": 1,
        "after": 7,
        "epoch": EPOCH,
        "threads": ["thr_1"],
        "deltas": False,
    }


def test_a_bare_seq_names_no_epoch_until_the_server_has_told_it() -> None:
    subscription = Subscription(0)
    subscription.opened()
    frame = sent(subscription.receive(ready(9)))
    assert "epoch" not in frame and frame["after"] == 0
    subscription.receive(ack(frame))
    assert subscription.cursor == Cursor(0, EPOCH)


def test_now_is_fixed_when_the_connection_is_ready() -> None:
    subscription = Subscription("now")
    subscription.opened()
    assert sent(subscription.receive(ready(41)))["after"] == 41
    # The answer is lost with the connection; what comes until the next one is not.
    subscription.opened()
    frame = sent(subscription.receive(ready(50)))
    assert (frame["after"], frame["epoch"]) == (41, EPOCH)


def test_events_move_the_cursor_and_repetitions_are_dropped() -> None:
    subscription = followed()
    assert seqs(subscription.receive(event(0, 1))) == [1]
    assert subscription.receive(event(0, 1)) == []
    assert seqs(subscription.receive(event(1, 4))) == [4]
    assert subscription.cursor == Cursor(4, EPOCH)


def test_events_before_the_answer_belong_to_no_subscription() -> None:
    subscription = Subscription(0)
    subscription.opened()
    frame = sent(subscription.receive(ready()))
    assert subscription.receive(event(0, 1)) == []
    subscription.receive(ack(frame))
    assert seqs(subscription.receive(event(0, 1))) == [1]


def test_a_gap_subscribes_anew_behind_the_last_event() -> None:
    subscription = followed()
    subscription.receive(event(0, 1))
    again = sent(subscription.receive(event(2, 3)))
    assert (again["type"], again["after"], again["epoch"]) == ("subscribe", 1, EPOCH)
    # What still comes of the old subscription is not taken.
    assert subscription.receive(event(3, 4)) == []
    subscription.receive(ack(again))
    assert seqs(subscription.receive(event(1, 2))) == [2]


def test_a_subscription_that_begins_with_a_gap_is_not_repeated_at_once() -> None:
    subscription = followed()
    assert subscription.receive(event(5, 6)) == [Reconnect(Plan())]


def test_a_position_is_a_cursor_and_is_confirmed_once() -> None:
    subscription = followed()
    position = {"type": "position", "seq": 8}
    assert sent(subscription.receive(position)) == {"type": "delivered", "seq": 8}
    assert subscription.receive(position) == []
    assert subscription.cursor == Cursor(8, EPOCH)
    assert seqs(subscription.receive(event(8, 9))) == [9]


def test_an_expired_cursor_is_an_error_with_its_numbers() -> None:
    subscription = Subscription(Cursor(7, "another"))
    subscription.opened()
    frame = sent(subscription.receive(ready()))
    answer = refusal("cursor_expired", frame["id"], epoch=EPOCH, oldest_seq=3, latest_seq=9)
    (action,) = subscription.receive(answer)
    assert isinstance(action, Fail) and isinstance(action.error, CursorExpired)
    error = action.error
    assert (error.epoch, error.oldest_seq, error.latest_seq) == (EPOCH, 3, 9)


def test_a_subscription_that_ends_for_a_while_is_made_again() -> None:
    assert followed().receive(refusal("store_unavailable")) == [Reconnect(Plan())]
    (action,) = followed().receive(refusal("cursor_expired", epoch="x", oldest_seq=1, latest_seq=2))
    assert isinstance(action, Fail)


def test_a_refused_token_is_renewed_and_an_accepted_one_changes_nothing() -> None:
    subscription = followed()
    frame = subscription.refresh("token").frame
    assert (frame["type"], frame["token"]) == ("auth.refresh", "token")
    assert subscription.receive({"type": "ack", "id": frame["id"]}) == []
    frame = subscription.refresh("token").frame
    answer = refusal("token_expired", frame["id"])
    assert subscription.receive(answer) == [Reconnect(Plan(renew=True))]


def test_a_refresh_that_is_refused_for_a_while_keeps_the_connection() -> None:
    subscription = followed()
    frame = subscription.refresh("token").frame
    assert subscription.receive(refusal("store_unavailable", frame["id"])) == []
    assert seqs(subscription.receive(event(0, 1))) == [1]


def test_a_subscription_too_long_for_a_socket_is_an_error_at_once() -> None:
    threads = [f"thr_{n:026}" for n in range(1_000)]
    subscription = Subscription(0, threads * 3)
    subscription.opened()
    (action,) = subscription.receive(ready())
    assert isinstance(action, Fail) and isinstance(action.error, ProtocolError)
    fitting = Subscription(0, threads)
    fitting.opened()
    assert sent(fitting.receive(ready()))["threads"] == threads


def test_unknown_types_are_handed_out_and_unknown_frames_passed_over() -> None:
    subscription = followed()
    assert seqs(subscription.receive(event(0, 1, "something_new"))) == [1]
    assert subscription.receive({"type": "weather", "sun": True}) == []
    assert subscription.receive({"type": "pong", "id": 3}) == []


def test_another_protocol_is_refused() -> None:
    subscription = Subscription()
    subscription.opened()
    (action,) = subscription.receive({**ready(), "protocol": "netra.v2"})
    assert isinstance(action, Fail) and isinstance(action.error, ProtocolError)


@pytest.mark.parametrize(
    ("code", "plan"),
    [
        (None, Plan()),
        (1000, Plan()),
        (1001, Plan()),
        (1006, Plan()),
        (1011, Plan()),
        (4001, Plan(renew=True)),
        (4003, Plan(wait=10.0)),
        (4008, Plan()),
        (4009, Plan(wait=5.0)),
    ],
)
def test_after_these_codes_a_stream_goes_on(code: int | None, plan: Plan) -> None:
    assert after_close(code) == plan


def test_after_these_codes_it_does_not() -> None:
    for code in (1002, 1007, 1009):
        assert isinstance(after_close(code).error, ProtocolError)
    assert isinstance(after_close(4009, resuming=False).error, TooManySockets)


def test_what_a_refused_connection_means() -> None:
    def error(status: int, retry_after: float | None = None) -> ApiError:
        return ApiError(status, "x", "x", retry_after=retry_after)

    assert after_refusal(error(401)) == Plan(renew=True)
    assert after_refusal(error(503, 7.0)) == Plan(wait=7.0)
    assert after_refusal(error(429, 3.0)) == Plan(wait=3.0)
    assert after_refusal(error(502)) == Plan()
    for status in (403, 404, 410):
        assert after_refusal(error(status)).error is not None


def test_waits_double_up_to_the_cap_and_have_full_jitter() -> None:
    backoff = Backoff(lambda: 1.0, base=0.5, cap=4.0)
    assert [backoff.delay(0.0) for _ in range(6)] == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    assert Backoff(lambda: 0.0).delay(0.0) == 0.0
    assert Backoff(lambda: 0.5).delay(0.0, at_least=7.0) == 7.25


def test_waits_begin_anew_after_an_event_or_a_long_connection_only() -> None:
    backoff = Backoff(lambda: 1.0, base=1.0, cap=8.0)
    assert [backoff.delay(0.0), backoff.delay(0.0)] == [1.0, 2.0]
    backoff.opened(10.0)
    assert backoff.delay(11.0) == 4.0, "an accepted connection alone proves nothing"
    backoff.opened(20.0)
    assert backoff.delay(28.0) == 1.0
    backoff.progressed()
    assert backoff.delay(28.0) == 1.0


def test_attempts_are_counted() -> None:
    backoff = Backoff(lambda: 1.0, attempts=2)
    assert [backoff.delay(0.0) is None for _ in range(3)] == [False, False, True]


def test_only_what_is_safe_or_was_not_done_is_repeated() -> None:
    def wait(safe: bool, status: int, code: str, retry_after: float | None = None) -> float | None:
        return Repeat(safe).after_error(ApiError(status, code, "", retry_after=retry_after))

    assert wait(False, 429, "rate_limited", 2.0) == 2.0
    assert wait(False, 503, "draining") == 0.0
    assert wait(False, 503, "store_unavailable") is None
    assert wait(True, 503, "store_unavailable") == 0.0
    assert wait(True, 429, "slots_exhausted") is None
    assert wait(True, 429, "rate_limited", 3600.0) is None
    assert wait(True, 404, "not_found") is None


def test_an_error_body_of_a_proxy_is_an_error_without_a_known_code() -> None:
    error = from_body(None, 502)
    assert (error.status, error.code) == (502, "unknown")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_ends_where_the_format_says_and_nowhere_else(end: str) -> None:
    # What `splitlines` takes for ends.
    text = '{"a":"b\u2028c\u2029d\x85e\x0bf\x0cg\x1ch\x1d\x1e"}'
    lines = ["\ufeffid: e:1", f"data: {text}", "data: z", "", "id: e:2", "", ": end"]
    stream = end.join(lines).encode()
    whole = [SseMessage("e:1", None, f"{text}\nz"), SseMessage("e:2", None, None)]
    for at in range(len(stream)):
        parser = SseParser()
        assert parser.feed(stream[:at]) + parser.feed(stream[at:]) == whole, at


def test_an_id_that_no_header_could_carry_back_is_none() -> None:
    stream = b"id: e\0:1\ndata: x\n\nid: e\0:1\n\nid: e:2\ndata\n\ndata: \xff\n\n"
    assert SseParser().feed(stream) == [
        SseMessage(None, None, "x"),
        # Empty data is data: no position.
        SseMessage("e:2", None, ""),
        SseMessage(None, None, "\ufffd"),
    ]


def test_blocks_may_come_in_pieces() -> None:
    stream = (
        ": keep-alive\n\nid: e:1\nevent: agent_thinking\n"
        'data: {"a":"x\u2028y"}\n\nid: e:2\r\n\r\ndata: 1\ndata: 2\n\n'
    ).encode()
    whole = [
        SseMessage("e:1", "agent_thinking", '{"a":"x\u2028y"}'),
        SseMessage("e:2", None, None),
        SseMessage(None, None, "1\n2"),
    ]
    assert SseParser().feed(stream) == whole
    parser = SseParser()
    pieces = [parser.feed(stream[at : at + 1]) for at in range(len(stream))]
    assert [message for piece in pieces for message in piece] == whole


def test_a_feed_resumes_drops_repetitions_and_ends_with_its_run() -> None:
    feed = Feed()
    feed.opened()
    first = SseMessage(f"{EPOCH}:3", "run_started", "")
    assert seqs(feed.receive(first, event(0, 3, "run_started"))) == [3]
    feed.opened()
    assert feed.cursor == Cursor(3, EPOCH)
    assert feed.receive(first, event(0, 3, "run_started")) == []
    assert feed.receive(SseMessage(f"{EPOCH}:5", None, ""), event(4, 5)) == [Reconnect(Plan())]
    feed.opened()
    assert feed.receive(SseMessage(f"{EPOCH}:4", None, None), None) == []
    last = SseMessage(f"{EPOCH}:5", "run_completed", "")
    assert seqs(feed.receive(last, event(4, 5, "run_completed"))) == [5]
    assert feed.ended and feed.cursor == Cursor(5, EPOCH)


class Log:
    """A server of the contract over one log, with a network that chance has its way with."""

    def __init__(self, chance: random.Random, length: int) -> None:
        self.chance = chance
        self.seqs: list[int] = []
        seq = 0
        for _ in range(length):
            seq += chance.choice([1, 1, 1, 2, 5])
            self.seqs.append(seq)

    def frames(self, after: int) -> list[Frame]:
        """What a subscription after this gets, with positions here and there."""
        frames: list[Frame] = []
        prev = after
        for seq in (seq for seq in self.seqs if seq > after):
            if seq - 1 > prev and self.chance.random() < 0.3:
                frames.append({"type": "position", "seq": seq - 1})
                prev = seq - 1
            frames.append(event(prev, seq))
            prev = seq
        frames.append({"type": "position", "seq": self.seqs[-1]})
        return frames

    def disturbed(self, frames: list[Frame]) -> list[Frame]:
        """The frames with some doubled and some lost.

        A lost event in front of a position is left out: a position has no `prev`, so nothing
        could tell. The order of TCP rules it out.
        """
        kept: list[Frame] = []
        for at, frame in enumerate(frames):
            follower = frames[at + 1]["type"] if at + 1 < len(frames) else "position"
            if follower != "position" and self.chance.random() < 0.03:
                continue
            kept += [frame] * (2 if self.chance.random() < 0.05 else 1)
        return kept


@pytest.mark.parametrize("seed", range(200))
def test_whatever_is_cut_doubled_or_lost_the_list_equals_the_log(seed: int) -> None:
    chance = random.Random(seed)
    log = Log(chance, length=60)
    subscription = Subscription(0)
    got: list[int] = []
    connections = 0
    while got != log.seqs:
        connections += 1
        assert connections < 1_000, f"no end; got {got}"
        subscription.opened()
        waiting = [ready(log.seqs[-1])]
        until_cut = chance.randrange(1, 40)
        while waiting and until_cut:
            until_cut -= 1
            actions = subscription.receive(waiting.pop(0))
            got += seqs(actions)
            if any(isinstance(action, Reconnect) for action in actions):
                break
            for action in actions:
                assert not isinstance(action, Fail)
                if isinstance(action, Send) and action.frame["type"] == "subscribe":
                    # Some of the old subscription is still under way.
                    old = waiting[: chance.randrange(3)]
                    new = log.disturbed(log.frames(action.frame["after"]))
                    waiting = [*old, ack(action.frame), *new]
    assert got == log.seqs
    assert subscription.cursor is not None and subscription.cursor.seq >= log.seqs[-1]

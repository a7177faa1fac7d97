"""The contract's types, made from openapi/netra.json by `cargo xtask openapi`.

Do not change by hand.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict, Union


class _AdminAuditEntryRequired(TypedDict):
    #: What was done, such as `tool.call`.
    action: str
    #: Who did it: a user's id, or a part of the server.
    actor: str
    #: When.
    at: Timestamp
    #: What else belongs to it; never content.
    details: Any
    #: Never changes.
    id: AuditId
    #: To what: a name or an id.
    object: str
    #: How it ended, such as `completed`, `denied` or `failed`.
    outcome: str
    #: The request that it belongs to.
    request_id: RequestId
    #: In whose audit it stands. The account may be gone.
    user_id: UserId


class AdminAuditEntry(_AdminAuditEntryRequired, total=False):
    """An audit record of anybody."""

    #: The keyed hash over this record and the one before, in hexadecimal.
    hash: str | None
    #: The number in the user's chain, from 1; absent in records from before there was one.
    seq: int | None


class _AdminRunRequired(TypedDict):
    #: The agent that answers.
    agent: str
    #: Rises only after a crash or a lost lease.
    attempt: int
    #: When it was asked for.
    created_at: Timestamp
    #: Never changes.
    id: RunId
    #: Where it stands.
    status: RunStatus
    #: Its conversation.
    thread_id: ThreadId
    #: What it has used.
    usage: RunUsage
    #: Whose it is.
    user_id: UserId


class AdminRun(_AdminRunRequired, total=False):
    """Somebody's run as admins see it: whose it is and how it goes, and nothing of what it is about."""

    #: When it ends by itself.
    deadline: Timestamp | None
    #: When it ended.
    ended_at: Timestamp | None
    #: Why it failed, without the words, which may tell of its content.
    error_code: ErrorCode | None
    #: The place in its user's queue, from 1, while it is queued on this node.
    queue_position: int | None
    #: When its first engine began.
    started_at: Timestamp | None


After = Union[int, Literal["now"]]
"""Where a subscription begins."""


class _AgentRequired(TypedDict):
    #: For people.
    description: str
    #: JSON Schema of the input. A text input stands for `{"text": …}`.
    input_schema: Any
    #: How it is made.
    kind: AgentKind
    #: To start it by.
    name: str
    #: Whether it can run now.
    ready: bool
    #: Names of the tools that it may call.
    tools: list[str]


class Agent(_AgentRequired, total=False):
    """An agent that this user may run."""

    #: JSON Schema of the result.
    output_schema: Any
    #: Why it cannot; of one that can, what is wrong with its newest files, which have not taken its place.
    problem: str | None


AgentKind = Literal["model", "script", "native", "http"]
"""How an agent is made."""


class Approval(TypedDict):
    """A tool call that waits for a person."""

    #: What it would be called with.
    arguments: Any
    #: When it is denied by itself.
    expires_at: Timestamp
    #: To answer it by.
    id: ApprovalId
    #: Why a person is asked.
    reason: str
    #: The run that waits.
    run_id: RunId
    #: Where it stands.
    state: ApprovalState
    #: The call that waits.
    tool_call_id: ToolCallId
    #: The tool's name.
    tool_name: str


ApprovalId = str


class _ApprovalRespondRequired(TypedDict):
    #: Yes or no.
    decision: Decision
    #: The approval.
    approval_id: ApprovalId


class ApprovalRespond(_ApprovalRespondRequired, total=False):
    """Fields of `approval.respond`."""

    #: Other arguments than asked for; validated again.
    arguments: Any
    #: For the audit and the agent; at most 2,000 characters.
    note: str | None


ApprovalState = Literal["pending", "approved", "denied"]
"""Where an approval stands."""


class AsOf(TypedDict):
    """A position in a user's log. Subscribing after it misses nothing and repeats nothing."""

    #: Names the log; changes when the log is another than the client knew.
    epoch: str
    #: The last event's number in the snapshot.
    seq: int


class _AuditEntryRequired(TypedDict):
    #: What was done, such as `tool.call`.
    action: str
    #: Who did it: a user's id, or a part of the server.
    actor: str
    #: When.
    at: Timestamp
    #: What else belongs to it; never content.
    details: Any
    #: Never changes.
    id: AuditId
    #: To what: a name or an id.
    object: str
    #: How it ended, such as `completed`, `denied` or `failed`.
    outcome: str
    #: The request that it belongs to.
    request_id: RequestId


class AuditEntry(_AuditEntryRequired, total=False):
    """Something that was done in a user's name or to what is the user's."""

    #: The keyed hash over this record and the one before, in hexadecimal.
    hash: str | None
    #: The number in the user's chain, from 1; absent in records from before there was one.
    seq: int | None


AuditId = str


class AuthRefresh(TypedDict):
    """Fields of `auth.refresh`."""

    #: The new access token, of the same user.
    token: str


class _ChangedUserRequired(TypedDict):
    #: When the account was made.
    created_at: Timestamp
    #: A disabled user can do nothing.
    disabled: bool
    #: Never changes.
    id: UserId
    #: The limits in force.
    limits: Limits
    #: The name to sign in with.
    name: str
    #: From the database, never from the caller.
    plan: Plan
    #: From the database, never from the caller.
    role: Role


class ChangedUser(_ChangedUserRequired, total=False):
    """An account as an admin has made or changed it."""

    #: The groups that admins have put the user into, for policies; absent where there are none.
    groups: list[str]
    #: Who the user is elsewhere; absent for who has an account here only.
    identity: Identity | None
    #: Where one was asked for.
    reset_link: Link | None


class _ClientFrameRunStartRequired(TypedDict):
    #: The answer carries it back; at most 128 bytes.
    id: int | str
    #: The agent's name.
    agent: str
    #: A text, or an object that fits the agent's schema.
    input: Any
    type: Literal["run.start"]


class ClientFrameRunStart(_ClientFrameRunStartRequired, total=False):
    """Starts a run."""

    #: Files of this user for the run, at most 50.
    files: list[FileId]
    #: What the client keeps with it; at most 16 KiB.
    metadata: dict[str, Any] | None
    #: What to do when the thread has an active run.
    on_busy: OnBusy
    #: What to do when all slots are in use.
    on_limit: OnLimit
    #: Queued and running time, in milliseconds; at most the user's limit `run_timeout_max_ms`.
    timeout_ms: int | None
    #: As the header of the same name.
    idempotency_key: str | None
    #: The conversation; a new one when absent.
    thread_id: ThreadId | None


class ClientFrameRunCancel(TypedDict):
    """Cancels a run."""

    #: The answer carries it back; at most 128 bytes.
    id: int | str
    #: The run.
    run_id: RunId
    type: Literal["run.cancel"]


class _ClientFrameApprovalRespondRequired(TypedDict):
    #: The answer carries it back; at most 128 bytes.
    id: int | str
    #: Yes or no.
    decision: Decision
    #: The approval.
    approval_id: ApprovalId
    type: Literal["approval.respond"]


class ClientFrameApprovalRespond(_ClientFrameApprovalRespondRequired, total=False):
    """Answers an approval."""

    #: Other arguments than asked for; validated again.
    arguments: Any
    #: For the audit and the agent; at most 2,000 characters.
    note: str | None


class _ClientFrameSubscribeRequired(TypedDict):
    #: The answer carries it back; at most 128 bytes.
    id: int | str
    type: Literal["subscribe"]


class ClientFrameSubscribe(_ClientFrameSubscribeRequired, total=False):
    """Asks for events; replaces the subscription before it."""

    #: Where to begin.
    after: After
    #: Whether `message_delta` is wanted.
    deltas: bool
    #: The log that `after` belongs to; unchecked when absent.
    epoch: str | None
    #: Only events of these threads; all when absent.
    threads: list[ThreadId] | None


class _ClientFrameDeliveredRequired(TypedDict):
    #: The client has this event and all before.
    seq: int
    type: Literal["delivered"]


class ClientFrameDelivered(_ClientFrameDeliveredRequired, total=False):
    """The client has this event and all before; for metrics only, not answered."""

    #: The answer carries it back; at most 128 bytes.
    id: int | str


class ClientFrameAuthRefresh(TypedDict):
    """Goes on with a new access token."""

    #: The answer carries it back; at most 128 bytes.
    id: int | str
    #: The new access token, of the same user.
    token: str
    type: Literal["auth.refresh"]


class ClientFramePing(TypedDict):
    """Asks for a `pong`."""

    #: The answer carries it back; at most 128 bytes.
    id: int | str
    type: Literal["ping"]


ClientFrame = Union[
    "ClientFrameRunStart",
    "ClientFrameRunCancel",
    "ClientFrameApprovalRespond",
    "ClientFrameSubscribe",
    "ClientFrameDelivered",
    "ClientFrameAuthRefresh",
    "ClientFramePing",
]
"""What a client sends, after `id` has been taken off."""

ConnectionId = str


class ContentText(TypedDict):
    """Text, Markdown in answers."""

    #: The text.
    text: str
    type: Literal["text"]


class ContentFile(TypedDict):
    """A file that belongs to the message."""

    #: Its size in bytes.
    bytes: int
    #: The file.
    file_id: FileId
    #: Its media type.
    media_type: str
    #: Its name.
    name: str
    type: Literal["file"]


class ContentToolCall(TypedDict):
    """The agent calls a tool."""

    #: The arguments.
    arguments: Any
    #: The call.
    tool_call_id: ToolCallId
    #: The tool's name.
    tool_name: str
    type: Literal["tool_call"]


class _ContentToolResultRequired(TypedDict):
    #: The result; null after a failure.
    result: Any
    #: The call.
    tool_call_id: ToolCallId
    type: Literal["tool_result"]


class ContentToolResult(_ContentToolResultRequired, total=False):
    """What the tool answered."""

    #: The failure.
    error: Failure | None


Content = Union[
    "ContentText",
    "ContentFile",
    "ContentToolCall",
    "ContentToolResult",
]
"""A part of a message."""


class CreateInvite(TypedDict, total=False):
    """Makes an invitation."""

    #: How long it is good, in milliseconds, at most 90 days; 7 days when absent.
    expires_in_ms: int | None
    #: What they have booked; `free` when absent.
    plan: Plan
    #: What whoever takes it may do; `user` when absent.
    role: Role


class _CreateKeyRequired(TypedDict):
    #: For people: 1 to 100 characters.
    name: str
    #: What the key may do: at least one scope, and none that its maker lacks.
    scopes: list[Literal[
    "read",
    "run",
    "files",
    "account",
    "approve",
    "admin",
    "metrics",
    "service",
]]


class CreateKey(_CreateKeyRequired, total=False):
    """Makes an API key."""

    #: When it ends, in the future; never when absent.
    expires_at: Timestamp | None


class CreateThread(TypedDict, total=False):
    """Makes a thread."""

    #: At most 16 KiB.
    metadata: dict[str, Any] | None
    #: At most 200 characters.
    title: str | None


class _CreateUserRequired(TypedDict):
    #: The name to sign in with: 1 to 64 letters, digits, `.`, `_`, `-`, `@`; none that begins like an id.
    name: str


class CreateUser(_CreateUserRequired, total=False):
    """Makes an account."""

    #: 12 to 128 characters, none of the common ones. Absent: the answer has a link by which the user sets one.
    password: str | None
    #: What the user has booked; `free` when absent.
    plan: Plan
    #: What the user may do; `user` when absent.
    role: Role


class _DayUsageRequired(TypedDict):
    #: The day in UTC, as `2026-11-22`.
    day: str
    #: Tokens given to models.
    input_tokens: int
    #: Model calls made.
    model_calls: int
    #: Tokens that models gave.
    output_tokens: int
    #: Runs that ended on this day.
    runs: int
    #: Tool calls made.
    tool_calls: int


class DayUsage(_DayUsageRequired, total=False):
    """What a user used in a day."""

    #: Cost in US dollars; null where a price is not known.
    cost_usd: float | None


Decision = Literal["approve", "deny"]
"""An answer."""


class Delivered(TypedDict):
    """Fields of `delivered`."""

    #: The client has this event and all before.
    seq: int


class Dependencies(TypedDict):
    """All things that the server needs."""

    #: One by one.
    dependencies: list[Dependency]
    #: `ok` when all are.
    status: str


class _DependencyRequired(TypedDict):
    #: How long the probe took, in milliseconds.
    duration_ms: int
    #: `store`, `redis` where it is configured, `workers`, `models`, or `tool_server NAME` for each that is configured.
    name: str
    #: `ok` or `failed`.
    status: str


class Dependency(_DependencyRequired, total=False):
    """One thing that the server needs."""

    #: What the probe said when it failed.
    problem: str | None


Empty = dict[str, Any]
"""No fields."""


class ErrorBody(TypedDict):
    """The body of every error answer."""

    #: What went wrong.
    error: ErrorDetail


ErrorCode = Literal[
    "invalid_request",
    "unknown_field",
    "invalid_input",
    "unauthenticated",
    "token_expired",
    "forbidden",
    "origin_refused",
    "not_found",
    "conflict",
    "thread_busy",
    "approval_resolved",
    "run_ended",
    "idempotency_key_reused",
    "cursor_expired",
    "too_large",
    "unsupported_media_type",
    "agent_not_ready",
    "rate_limited",
    "slots_exhausted",
    "queue_full",
    "internal",
    "overloaded",
    "draining",
    "store_unavailable",
    "memory_limit_exceeded",
    "budget_exceeded",
    "step_limit_exceeded",
    "tool_call_limit_exceeded",
    "depth_limit_exceeded",
    "deadline_exceeded",
    "cancelled",
    "agent_failed",
    "model_unavailable",
    "model_not_configured",
    "output_invalid",
    "interrupted",
    "attempts_exhausted",
    "outcome_unknown",
    "tool_failed",
    "tool_timeout",
    "tool_denied",
]
"""A stable error code. Each has a page in `docs/errors/`."""


class _ErrorDetailRequired(TypedDict):
    #: The stable code.
    code: ErrorCode
    #: Where the code is explained.
    docs: str
    #: What happened and what to do, for the caller.
    message: str
    #: To be named when asking the operator.
    request_id: RequestId


class ErrorDetail(_ErrorDetailRequired, total=False):
    """What went wrong, for people and programs."""

    #: The field, the limit, or what else belongs to the code.
    details: Any


EventId = str


class _FailureRequired(TypedDict):
    #: The stable code.
    code: ErrorCode
    #: What happened, for the user.
    message: str


class Failure(_FailureRequired, total=False):
    """The error of a run or of a tool call."""

    #: What else belongs to the code.
    details: Any


class _FileRequired(TypedDict):
    #: Size in bytes.
    bytes: int
    #: When it was stored.
    created_at: Timestamp
    #: Never changes.
    id: FileId
    #: The media type, such as `text/csv`.
    media_type: str
    #: For people; not unique.
    name: str
    #: SHA-256 of the content, in hexadecimal.
    sha256: str


class File(_FileRequired, total=False):
    """A file, without its content."""

    #: The run that made it.
    run_id: RunId | None


FileId = str


class ForkThread(TypedDict, total=False):
    """Makes a new thread of an old one's messages."""

    #: The last message to take; all when absent.
    after_message_id: MessageId | None


class Form(TypedDict):
    """What a form has: one file, in a field of any name."""

    #: With the file's name.
    file: str


class Health(TypedDict):
    """The state and nothing else."""

    #: `live` or `ready`.
    status: str


class Identity(TypedDict):
    """Who a user is elsewhere: whoever is known there is one user here, whatever names they have."""

    #: Who knows them: the id of the user whose service token named them, or the address of an issuer of tokens.
    issuer: str
    #: Their id there.
    subject: str


class _InviteRequired(TypedDict):
    #: When it was made.
    created_at: Timestamp
    #: When it ends.
    expires_at: Timestamp
    #: To take it back.
    id: InviteId
    #: What they have booked.
    plan: Plan
    #: What whoever takes it may do.
    role: Role


class Invite(_InviteRequired, total=False):
    """An invitation that nobody has taken yet."""

    #: In the answer to making it only.
    link: Link | None


InviteId = str


class Isolation(TypedDict):
    """What everybody holds on this node now, and what must be nothing."""

    #: When this was looked at.
    at: Timestamp
    #: What must be 0.
    must_be_zero: MustBeZero
    #: All of them together.
    node: NodeHoldings
    #: The users who hold anything, or have reached a limit since the start; who holds the most memory is first.
    users: list[UserHoldings]


class _KeyRequired(TypedDict):
    #: When it was made.
    created_at: Timestamp
    #: Never changes.
    id: KeyId
    #: For people.
    name: str
    #: What the key may do.
    scopes: list[str]


class Key(_KeyRequired, total=False):
    """An API key, without its secret."""

    #: When it ends.
    expires_at: Timestamp | None
    #: When it was last used, to about a minute.
    last_used_at: Timestamp | None
    #: The secret, `ntr_…`; in the answer to making it only.
    secret: str | None


KeyId = str


class Leave(TypedDict, total=False):
    """Deletes the account of who asks."""

    #: Needed where the account has one and the sign-in is older than ten minutes, or there is none.
    password: str | None


class LimitOverrides(TypedDict, total=False):
    """Limits in place of others: what is absent stays as it is below."""

    #: How long an approval may be answered, in milliseconds.
    approval_ttl_ms: int | None
    #: Attempts of a run after crashes.
    attempts: int | None
    #: Tokens of models per day; none: without a bound.
    budget_tokens: int | None
    #: Money for models per day, in US dollars; none: without a bound.
    budget_usd: float | None
    #: Concurrent executions over all threads and nodes.
    concurrent_runs: int | None
    #: Nesting of sub-agents.
    depth: int | None
    #: HTTP requests per minute of each API key; of a service token those for all whom it acts for together.
    key_requests_per_minute: int | None
    #: Memory of all the user's runs, workers and children on one node, in MiB.
    memory_mib: int | None
    #: The longest text of a message, in characters.
    message_chars: int | None
    #: WebSocket messages per socket in ten seconds.
    messages_per_10s: int | None
    #: One model call, in milliseconds.
    model_call_ms: int | None
    #: Runs that may wait for a slot.
    queued_runs: int | None
    #: HTTP requests per minute.
    requests_per_minute: int | None
    #: The longest deadline that a run may ask for, in milliseconds.
    run_timeout_max_ms: int | None
    #: Deadline of a run that names none: queued and running time, in milliseconds.
    run_timeout_ms: int | None
    #: Open WebSockets.
    sockets: int | None
    #: Steps of a run.
    steps: int | None
    #: One tool call, in milliseconds.
    tool_call_ms: int | None
    #: Tool calls of a run.
    tool_calls: int | None
    #: The largest upload, in MiB.
    upload_mib: int | None


class Limits(TypedDict):
    """What one user may use. Defaults are the contract's, section 4."""

    #: How long an approval may be answered, in milliseconds.
    approval_ttl_ms: int
    #: Attempts of a run after crashes.
    attempts: int
    #: Tokens of models per day; none: without a bound.
    budget_tokens: int | None
    #: Money for models per day, in US dollars; none: without a bound.
    budget_usd: float | None
    #: Concurrent executions over all threads and nodes.
    concurrent_runs: int
    #: Nesting of sub-agents.
    depth: int
    #: HTTP requests per minute of each API key; of a service token those for all whom it acts for together.
    key_requests_per_minute: int
    #: Memory of all the user's runs, workers and children on one node, in MiB.
    memory_mib: int
    #: The longest text of a message, in characters.
    message_chars: int
    #: WebSocket messages per socket in ten seconds.
    messages_per_10s: int
    #: One model call, in milliseconds.
    model_call_ms: int
    #: Runs that may wait for a slot.
    queued_runs: int
    #: HTTP requests per minute.
    requests_per_minute: int
    #: The longest deadline that a run may ask for, in milliseconds.
    run_timeout_max_ms: int
    #: Deadline of a run that names none: queued and running time, in milliseconds.
    run_timeout_ms: int
    #: Open WebSockets.
    sockets: int
    #: Steps of a run.
    steps: int
    #: One tool call, in milliseconds.
    tool_call_ms: int
    #: Tool calls of a run.
    tool_calls: int
    #: The largest upload, in MiB.
    upload_mib: int


class Link(TypedDict):
    """A link that is good once. It is in this answer and nowhere else."""

    #: When it ends.
    expires_at: Timestamp
    #: What the link carries.
    token: str
    #: For a person's browser.
    url: str


class Login(TypedDict):
    """Signs in."""

    #: The account's name.
    name: str
    #: Its password.
    password: str


class _MemoryHoldingsRequired(TypedDict):
    #: The most that the user may hold.
    limit_bytes: int
    #: Bytes in worker processes.
    worker_bytes: int


class MemoryHoldings(_MemoryHoldingsRequired, total=False):
    """Memory of one user."""

    #: Bytes in the server; none where the server does not count them.
    heap_bytes: int | None
    #: The most bytes of all three since the user's memory was last empty; none as above.
    peak_bytes: int | None
    #: Bytes in programs of tool servers.
    program_bytes: int


class _MessageRequired(TypedDict):
    #: False while it is being written, or when it was cut off.
    complete: bool
    #: What is said.
    content: list[Content]
    #: When it began.
    created_at: Timestamp
    #: Never changes.
    id: MessageId
    #: Who speaks.
    role: MessageRole
    #: The conversation.
    thread_id: ThreadId


class Message(_MessageRequired, total=False):
    """One message."""

    #: The agent that speaks.
    agent: str | None
    #: The run that it started or came from.
    run_id: RunId | None


MessageId = str

MessageRole = Literal["user", "assistant", "tool"]
"""Who speaks."""


class MetricsHistory(TypedDict):
    """How the server's figures were, at most an hour back."""

    #: Between two points, in milliseconds.
    interval_ms: int
    #: What was measured at each point, oldest first. A figure that was not there yet is absent.
    points: list[MetricsPoint]


class MetricsPoint(TypedDict):
    """The figures of one moment."""

    #: When.
    at: Timestamp
    #: By the metric's name, over all of its labels together.
    values: dict[str, float]


class _ModelRequired(TypedDict):
    #: Whether agents that name no model get this one.
    default: bool
    #: Whether it is shown pictures.
    images: bool
    #: How the provider is spoken to: `openai`, `azure`, `anthropic`, `gemini` or `ollama`.
    kind: str
    #: As agents name it, `provider/model`; `provider/*` stands for every name that a provider has.
    name: str
    #: Whether it holds its answers to a JSON Schema itself.
    native_schema: bool


class Model(_ModelRequired, total=False):
    """A model that is configured."""

    #: What it costs; absent where no price is known.
    price: ModelPrice | None
    #: Why it cannot be used; absent when it can, as far as is known without a call.
    problem: str | None


class _ModelPriceRequired(TypedDict):
    #: Of requests.
    input: float
    #: Of answers.
    output: float


class ModelPrice(_ModelPriceRequired, total=False):
    """Prices in US dollars per million tokens, for prompts of usual length."""

    #: Of the part of requests that the provider had in its cache.
    cached_input: float | None
    #: The price list that names it, with its date.
    source: str | None


class MustBeZero(TypedDict):
    """What must be 0. Looked at several times, and the least of it counts, because runs come and go
meanwhile: what stays above 0 is a defect."""

    #: Engines that were made and not released, and that no run has: created − cleaned − active.
    engines_lost: int
    #: Events that were about to reach another user, and were stopped, since the start.
    foreign_events: int
    #: Slots and places in queues that no run has.
    seats_without_run: int
    #: Tasks that drive a run which is not there any more.
    tasks_without_run: int
    #: Worker processes that are neither ready for a run nor known to one.
    workers_without_run: int


class _NodeHoldingsRequired(TypedDict):
    #: Open WebSockets and event streams.
    connections: int
    #: Slots of the node; `allowed` is the most engines at once.
    slots: Slots
    #: Tasks that have not ended.
    tasks: int
    #: Worker processes with a run.
    workers: int


class NodeHoldings(_NodeHoldingsRequired, total=False):
    """What all users hold together."""

    #: Bytes in the server that are accounted for; none where the server does not count them.
    heap_bytes: int | None
    #: Bytes in programs of tool servers, those included that serve everybody.
    program_bytes: int
    #: Those of them that belong to no user; none as above.
    system_bytes: int | None


OnBusy = Literal["queue", "reject", "interrupt"]
"""What to do when the thread has an active run."""

OnLimit = Literal["queue", "reject"]
"""What to do when all slots are in use."""


class _OwnToolServerRequired(TypedDict):
    #: When the name came up.
    created_at: Timestamp
    #: The headers that are sent, with the names of their secrets.
    headers: dict[str, SecretUse]
    #: Tools that it offers and Netra does not take, each with the reason.
    left_out: list[str]
    #: As the user has named it; its tools are named `my_NAME__tool`.
    name: str
    #: Where it stands.
    state: ToolServerState
    #: The names of its tools.
    tools: list[str]
    #: When it was put.
    updated_at: Timestamp
    #: Where it answers.
    url: str


class OwnToolServer(_OwnToolServerRequired, total=False):
    """A tool server that a user has added for the own agents."""

    #: Why it is away.
    problem: str | None
    #: The version of the protocol that is spoken with it, once it has answered.
    protocol: str | None
    #: How it names itself and its version, once it has answered.
    title: str | None


class _PageAdminAuditEntryRequired(TypedDict):
    #: The items, newest first unless the operation says otherwise.
    items: list[AdminAuditEntry]


class PageAdminAuditEntry(_PageAdminAuditEntryRequired, total=False):
    """One page of a list."""

    #: The log's position of this snapshot, where the operation promises one.
    as_of: AsOf | None
    #: Give this as `?cursor=` for the next page; null at the end.
    next_cursor: str | None


class _PageAdminRunRequired(TypedDict):
    #: The items, newest first unless the operation says otherwise.
    items: list[AdminRun]


class PageAdminRun(_PageAdminRunRequired, total=False):
    """One page of a list."""

    #: The log's position of this snapshot, where the operation promises one.
    as_of: AsOf | None
    #: Give this as `?cursor=` for the next page; null at the end.
    next_cursor: str | None


class _PageAgentRequired(TypedDict):
    #: The items, newest first unless the operation says otherwise.
    items: list[Agent]


class PageAgent(_PageAgentRequired, total=False):
    """One page of a list."""

    #: The log's position of this snapshot, where the operation promises one.
    as_of: AsOf | None
    #: Give this as `?cursor=` for the next page; null at the end.
    next_cursor: str | None


class _PageApprovalRequired(TypedDict):
    #: The items, newest first unless the operation says otherwise.
    items: list[Approval]


class PageApproval(_PageApprovalRequired, total=False):
    """One page of a list."""

    #: The log's position of this snapshot, where the operation promises one.
    as_of: AsOf | None
    #: Give this as `?cursor=` for the next page; null at the end.
    next_cursor: str | None


class _PageAuditEntryRequired(TypedDict):
    #: The items, newest first unless the operation says otherwise.
    items: list[AuditEntry]


class PageAuditEntry(_PageAuditEntryRequired, total=False):
    """One page of a list."""

    #: The log's position of this snapshot, where the operation promises one.
    as_of: AsOf | None
    #: Give this as `?cursor=` for the next page; null at the end.
    next_cursor: str | None


class _PageFileRequired(TypedDict):
    #: The items, newest first unless the operation says otherwise.
    items: list[File]


class PageFile(_PageFileRequired, total=False):
    """One page of a list."""

    #: The log's position of this snapshot, where the operation promises one.
    as_of: AsOf | None
    #: Give this as `?cursor=` for the next page; null at the end.
    next_cursor: str | None


class _PageInviteRequired(TypedDict):
    #: The items, newest first unless the operation says otherwise.
    items: list[Invite]


class PageInvite(_PageInviteRequired, total=False):
    """One page of a list."""

    #: The log's position of this snapshot, where the operation promises one.
    as_of: AsOf | None
    #: Give this as `?cursor=` for the next page; null at the end.
    next_cursor: str | None


class _PageKeyRequired(TypedDict):
    #: The items, newest first unless the operation says otherwise.
    items: list[Key]


class PageKey(_PageKeyRequired, total=False):
    """One page of a list."""

    #: The log's position of this snapshot, where the operation promises one.
    as_of: AsOf | None
    #: Give this as `?cursor=` for the next page; null at the end.
    next_cursor: str | None


class _PageMessageRequired(TypedDict):
    #: The items, newest first unless the operation says otherwise.
    items: list[Message]


class PageMessage(_PageMessageRequired, total=False):
    """One page of a list."""

    #: The log's position of this snapshot, where the operation promises one.
    as_of: AsOf | None
    #: Give this as `?cursor=` for the next page; null at the end.
    next_cursor: str | None


class _PageModelRequired(TypedDict):
    #: The items, newest first unless the operation says otherwise.
    items: list[Model]


class PageModel(_PageModelRequired, total=False):
    """One page of a list."""

    #: The log's position of this snapshot, where the operation promises one.
    as_of: AsOf | None
    #: Give this as `?cursor=` for the next page; null at the end.
    next_cursor: str | None


class _PageOwnToolServerRequired(TypedDict):
    #: The items, newest first unless the operation says otherwise.
    items: list[OwnToolServer]


class PageOwnToolServer(_PageOwnToolServerRequired, total=False):
    """One page of a list."""

    #: The log's position of this snapshot, where the operation promises one.
    as_of: AsOf | None
    #: Give this as `?cursor=` for the next page; null at the end.
    next_cursor: str | None


class _PageRunRequired(TypedDict):
    #: The items, newest first unless the operation says otherwise.
    items: list[Run]


class PageRun(_PageRunRequired, total=False):
    """One page of a list."""

    #: The log's position of this snapshot, where the operation promises one.
    as_of: AsOf | None
    #: Give this as `?cursor=` for the next page; null at the end.
    next_cursor: str | None


class _PageSessionRequired(TypedDict):
    #: The items, newest first unless the operation says otherwise.
    items: list[Session]


class PageSession(_PageSessionRequired, total=False):
    """One page of a list."""

    #: The log's position of this snapshot, where the operation promises one.
    as_of: AsOf | None
    #: Give this as `?cursor=` for the next page; null at the end.
    next_cursor: str | None


class _PageThreadRequired(TypedDict):
    #: The items, newest first unless the operation says otherwise.
    items: list[Thread]


class PageThread(_PageThreadRequired, total=False):
    """One page of a list."""

    #: The log's position of this snapshot, where the operation promises one.
    as_of: AsOf | None
    #: Give this as `?cursor=` for the next page; null at the end.
    next_cursor: str | None


class _PageToolRequired(TypedDict):
    #: The items, newest first unless the operation says otherwise.
    items: list[Tool]


class PageTool(_PageToolRequired, total=False):
    """One page of a list."""

    #: The log's position of this snapshot, where the operation promises one.
    as_of: AsOf | None
    #: Give this as `?cursor=` for the next page; null at the end.
    next_cursor: str | None


class _PageToolServerRequired(TypedDict):
    #: The items, newest first unless the operation says otherwise.
    items: list[ToolServer]


class PageToolServer(_PageToolServerRequired, total=False):
    """One page of a list."""

    #: The log's position of this snapshot, where the operation promises one.
    as_of: AsOf | None
    #: Give this as `?cursor=` for the next page; null at the end.
    next_cursor: str | None


class _PageUserRequired(TypedDict):
    #: The items, newest first unless the operation says otherwise.
    items: list[User]


class PageUser(_PageUserRequired, total=False):
    """One page of a list."""

    #: The log's position of this snapshot, where the operation promises one.
    as_of: AsOf | None
    #: Give this as `?cursor=` for the next page; null at the end.
    next_cursor: str | None


Plan = Literal["free", "pro", "enterprise"]
"""What a user has booked; limits follow from it."""


class Plans(TypedDict):
    """The limits of each plan, where they are not those of the configuration. A change holds from then on, without a restart."""

    #: Of `enterprise`.
    enterprise: LimitOverrides
    #: Of `free`.
    free: LimitOverrides
    #: Of `pro`.
    pro: LimitOverrides


class _PutSecretRequired(TypedDict):
    #: The secret itself: 8 to 16,384 bytes, none of them a control character.
    value: str


class PutSecret(_PutSecretRequired, total=False):
    """Keeps a secret, in place of the one that had the name."""

    #: The hosts that tools may send it to, at most 20: `api.example.com`, or `wiki.intranet:8080` where the port is not 443. Nowhere when there are none.
    hosts: list[str]


class _PutToolServerRequired(TypedDict):
    #: Where it answers: `https://`, a public host, without user and password.
    url: str


class PutToolServer(_PutToolServerRequired, total=False):
    """A tool server of the user's own is to be there, in place of the one that had the name."""

    #: Headers that are sent with every request, at most 10; their values are secrets.
    headers: dict[str, SecretUse]


QueueReason = Literal["slots", "thread_busy", "engines"]
"""Why a run waits in the queue."""


class Refresh(TypedDict, total=False):
    """Asks for a new access token."""

    #: Absent where the browser's cookie carries it.
    refresh_token: str | None


class _RegisterRequired(TypedDict):
    #: The name to sign in with: 1 to 64 letters, digits, `.`, `_`, `-`, `@`; none that begins like an id.
    name: str
    #: 12 to 128 characters.
    password: str


class Register(_RegisterRequired, total=False):
    """Makes an account."""

    #: Where registration is by invitation.
    invite: str | None


RequestId = str


class Reset(TypedDict):
    """Sets a new password by a one-time token."""

    #: 12 to 128 characters.
    password: str
    #: From the link that an admin made.
    token: str


class _ResolveApprovalRequired(TypedDict):
    #: Yes or no.
    decision: Decision


class ResolveApproval(_ResolveApprovalRequired, total=False):
    """The answer to an approval."""

    #: Other arguments than asked for; validated again.
    arguments: Any
    #: For the audit and the agent; at most 2,000 characters.
    note: str | None


ResolvedBy = str
"""Who answered an approval."""

Risk = Literal["low", "medium", "high"]
"""How much harm a tool can do."""

Role = Literal["user", "developer", "admin"]
"""What a user may do on the server."""


class _RunRequired(TypedDict):
    #: The agent's name.
    agent: str
    #: From 1; rises after a crash or a lost lease only.
    attempt: int
    #: When it was accepted.
    created_at: Timestamp
    #: Never changes.
    id: RunId
    #: What the client keeps with it.
    metadata: dict[str, Any]
    #: Where it stands.
    status: RunStatus
    #: Its conversation.
    thread_id: ThreadId
    #: What it used.
    usage: RunUsage


class Run(_RunRequired, total=False):
    """A run."""

    #: The log's position of this snapshot, when one run was read.
    as_of: AsOf | None
    #: When it ends by itself.
    deadline: Timestamp | None
    #: When it ended.
    ended_at: Timestamp | None
    #: Why it failed.
    error: Failure | None
    #: From 1, while it is queued.
    queue_position: int | None
    #: What it gave.
    result: Any
    #: The same, in the answer to starting it.
    run_id: RunId | None
    #: When its engine began.
    started_at: Timestamp | None


class RunCancel(TypedDict):
    """Fields of `run.cancel`."""

    #: The run.
    run_id: RunId


RunId = str


class _RunStartRequired(TypedDict):
    #: The agent's name.
    agent: str
    #: A text, or an object that fits the agent's schema.
    input: Any


class RunStart(_RunStartRequired, total=False):
    """Fields of `run.start`."""

    #: Files of this user for the run, at most 50.
    files: list[FileId]
    #: What the client keeps with it; at most 16 KiB.
    metadata: dict[str, Any] | None
    #: What to do when the thread has an active run.
    on_busy: OnBusy
    #: What to do when all slots are in use.
    on_limit: OnLimit
    #: Queued and running time, in milliseconds; at most the user's limit `run_timeout_max_ms`.
    timeout_ms: int | None
    #: As the header of the same name.
    idempotency_key: str | None
    #: The conversation; a new one when absent.
    thread_id: ThreadId | None


RunStatus = Literal[
    "queued",
    "running",
    "waiting",
    "completed",
    "failed",
    "cancelled",
    "timed_out",
]
"""Where a run stands: `queued → running ⇄ waiting → completed | failed | cancelled | timed_out`."""


class _RunUsageRequired(TypedDict):
    #: Cost of the models in US dollars; null where a price is not known.
    cost_usd: float | None
    #: From acceptance to end, in milliseconds.
    duration_ms: int
    #: Tokens given to models.
    input_tokens: int
    #: Model calls made.
    model_calls: int
    #: Tokens that models gave.
    output_tokens: int
    #: The most memory that it held, in bytes; null where the server does not count it.
    peak_memory_bytes: int | None
    #: Tool calls made.
    tool_calls: int


class RunUsage(_RunUsageRequired, total=False):
    """What one run used. Absent numbers were not measured."""

    #: The price lists that `cost_usd` is by, with their dates; absent where no price is known.
    price_sources: list[str]


class SecretInfo(TypedDict):
    """A secret without its value."""

    #: When the name came up.
    created_at: Timestamp
    #: The hosts that tools may send it to.
    hosts: list[str]
    #: Stands for it in the arguments of tools.
    name: str
    #: When the value was put.
    updated_at: Timestamp


class _SecretUseRequired(TypedDict):
    #: The name of the secret.
    secret: str


class SecretUse(_SecretUseRequired, total=False):
    """A secret by its name, where its value is to stand."""

    #: What stands before the value, such as `Bearer ` with the blank.
    prefix: str


class ServerFrameConnectionReady(TypedDict):
    """The first frame."""

    #: This socket.
    connection_id: ConnectionId
    #: Names the log.
    epoch: str
    #: Between two pings, in milliseconds.
    heartbeat_interval_ms: int
    #: The last event's number.
    latest_seq: int
    #: `netra.v1`.
    protocol: str
    #: The server's version.
    server_version: str
    type: Literal["connection_ready"]
    #: Whose it is.
    user_id: UserId


class ServerFrameAck(TypedDict):
    """The frame with this id was carried out."""

    #: The client's.
    id: Any
    type: Literal["ack"]


class ServerFrameError(TypedDict):
    """The frame with this id was refused; null for one that could not be read."""

    #: Why.
    error: ErrorDetail
    #: The client's.
    id: Any
    type: Literal["error"]


class ServerFramePong(TypedDict):
    """The answer to `ping`."""

    #: The client's.
    id: Any
    type: Literal["pong"]


class ServerFramePosition(TypedDict):
    """The cursor moves on without an event."""

    #: Everything up to here was sent or does not pass the filter.
    seq: int
    type: Literal["position"]


ServerFrame = Union[
    "ServerFrameConnectionReady",
    "ServerFrameAck",
    "ServerFrameError",
    "ServerFramePong",
    "ServerFramePosition",
]
"""What the server sends besides events."""


class Session(TypedDict):
    """One sign-in that is still good."""

    #: When it began.
    created_at: Timestamp
    #: Whether the asking request belongs to it.
    current: bool
    #: When it ends if it is not refreshed.
    expires_at: Timestamp
    #: To revoke it.
    id: SessionId
    #: When it was last refreshed.
    last_used_at: Timestamp


SessionId = str


class Setup(TypedDict):
    """Makes the first admin."""

    #: The name to sign in with: 1 to 64 letters, digits, `.`, `_`, `-`, `@`; none that begins like an id.
    name: str
    #: 12 to 128 characters.
    password: str
    #: From the set-up link that the server printed.
    token: str


class SlotUsage(TypedDict):
    """Slots of a user, now."""

    #: Slots that the user has.
    allowed: int
    #: Runs that wait for a slot.
    queued: int
    #: Runs that execute.
    running: int


class Slots(TypedDict):
    """Execution slots."""

    #: How many may execute at once.
    allowed: int
    #: Runs that wait for a slot.
    queued: int
    #: Runs that execute.
    running: int
    #: Runs that wait for a person; they hold no slot.
    waiting: int


class _StartRunRequired(TypedDict):
    #: The agent's name.
    agent: str
    #: A text, or an object that fits the agent's schema.
    input: Any


class StartRun(_StartRunRequired, total=False):
    """Starts a run."""

    #: Files of this user for the run, at most 50.
    files: list[FileId]
    #: What the client keeps with it; at most 16 KiB.
    metadata: dict[str, Any] | None
    #: What to do when the thread has an active run.
    on_busy: OnBusy
    #: What to do when all slots are in use.
    on_limit: OnLimit
    #: Queued and running time, in milliseconds; at most the user's limit `run_timeout_max_ms`.
    timeout_ms: int | None


class Subscribe(TypedDict, total=False):
    """Asks for events."""

    #: Where to begin.
    after: After
    #: Whether `message_delta` is wanted.
    deltas: bool
    #: The log that `after` belongs to; unchecked when absent.
    epoch: str | None
    #: Only events of these threads; all when absent.
    threads: list[ThreadId] | None


class _ThreadRequired(TypedDict):
    #: When it was made.
    created_at: Timestamp
    #: Never changes.
    id: ThreadId
    #: What the client keeps with it.
    metadata: dict[str, Any]
    #: For people; at first the beginning of the first message.
    title: str
    #: When it or one of its messages last changed.
    updated_at: Timestamp


class Thread(_ThreadRequired, total=False):
    """A conversation."""

    #: The run that is queued, running or waiting on it.
    active_run_id: RunId | None
    #: The log's position of this snapshot, when one thread was read.
    as_of: AsOf | None


ThreadId = str


class Ticket(TypedDict):
    """A ticket that opens one WebSocket."""

    #: Life of the ticket, in milliseconds.
    expires_in_ms: int
    #: To be sent as `/ws?ticket=…`, once.
    ticket: str


Timestamp = str


class Tokens(TypedDict):
    """The answer to signing in and to refreshing."""

    #: A JWT, to be sent as `Authorization: Bearer …`.
    access_token: str
    #: Life of the access token, in milliseconds.
    expires_in_ms: int
    #: Opaque; each can be used once.
    refresh_token: str
    #: Who has signed in.
    user: User


class _ToolRequired(TypedDict):
    #: Whether this user may call it.
    allowed: bool
    #: For people and models.
    description: str
    #: Whether calling it twice does no harm.
    idempotent: bool
    #: JSON Schema of the arguments.
    input_schema: Any
    #: To call it by.
    name: str
    #: Whether a person is asked before each call.
    needs_approval: bool
    #: The named permission that it needs.
    permission: str
    #: How much harm it can do.
    risk: Risk


class Tool(_ToolRequired, total=False):
    """A tool that this user may call or not, and why."""

    #: Why not.
    reason: str | None


ToolCallId = str


class _ToolServerRequired(TypedDict):
    #: How many instances have ended by themselves since the start.
    crashes: int
    #: How many instances of it run now.
    instances: int
    #: Tools that it offers and Netra does not take, each with the reason.
    left_out: list[str]
    #: As it is configured; its tools are named `NAME__tool`.
    name: str
    #: Whom one instance of it serves.
    scope: ToolServerScope
    #: Where it stands.
    state: ToolServerState
    #: The names of its tools.
    tools: list[str]
    #: How it is reached.
    transport: ToolServerTransport


class ToolServer(_ToolServerRequired, total=False):
    """A server that tools come from, as admins see it."""

    #: Why it is away.
    problem: str | None
    #: The version of the protocol that is spoken with it, once it has answered.
    protocol: str | None
    #: How it names itself and its version, once it has answered.
    title: str | None


ToolServerScope = Literal["user", "run", "shared"]
"""Whom one instance of a tool server serves."""

ToolServerState = Literal["starting", "ready", "away", "per_user"]
"""Where a tool server stands."""

ToolServerTransport = Literal["stdio", "http"]
"""How a tool server is reached."""


class ToolUsage(TypedDict):
    """What a user's calls of one tool used. Each call counts when it ends, once."""

    #: Calls that ran.
    calls: int
    #: Calls that were refused, and did not run.
    denied: int
    #: How long the calls took together, in milliseconds.
    duration_ms: int
    #: Those of them that gave no result.
    failed: int
    #: What they gave together, in bytes of JSON.
    result_bytes: int
    #: The tool's name; empty for calls of what the agent does not have, whatever they named.
    tool: str


class UpdateThread(TypedDict, total=False):
    """Changes a thread; what is absent stays."""

    #: Replaces the whole map; at most 16 KiB.
    metadata: dict[str, Any] | None
    #: At most 200 characters.
    title: str | None


class UpdateUser(TypedDict, total=False):
    """Changes an account. What is absent stays as it is."""

    #: A disabled user can do nothing: sessions and API keys end for good, sockets close, runs are cancelled.
    disabled: bool | None
    #: The groups that the user is in from now on, for policies: at most 32, each of 1 to 64 letters, digits, `.`, `_` or `-`.
    groups: list[str] | None
    #: The user's own limits from now on, in place of those of the plan; `{}` takes all away.
    limits: LimitOverrides | None
    #: What the user has booked.
    plan: Plan | None
    #: Makes a link by which the user can set a new password, once. Links of before are no longer good.
    reset_link: bool | None
    #: What the user may do.
    role: Role | None


class _UsageRequired(TypedDict):
    #: The last 90 days on which something was used, newest first.
    days: list[DayUsage]
    #: Slots in use and allowed, now.
    slots: SlotUsage


class Usage(_UsageRequired, total=False):
    """A user's own figures."""

    #: The tools that were called in the last 90 days, the most called first; at most 100.
    tools: list[ToolUsage]


class _UserRequired(TypedDict):
    #: When the account was made.
    created_at: Timestamp
    #: A disabled user can do nothing.
    disabled: bool
    #: Never changes.
    id: UserId
    #: The limits in force.
    limits: Limits
    #: The name to sign in with.
    name: str
    #: From the database, never from the caller.
    plan: Plan
    #: From the database, never from the caller.
    role: Role


class User(_UserRequired, total=False):
    """A user, as the user and admins see it."""

    #: The groups that admins have put the user into, for policies; absent where there are none.
    groups: list[str]
    #: Who the user is elsewhere; absent for who has an account here only.
    identity: Identity | None


class _UserHoldingsRequired(TypedDict):
    #: How often the user has reached each limit since the start, by its key in the configuration. Limits that were never reached are absent.
    limits_hit: dict[str, int]
    #: Execution slots.
    slots: Slots
    #: Open WebSockets.
    sockets: int
    #: Open event streams.
    streams: int
    #: Who.
    user_id: UserId
    #: Worker processes.
    workers: int


class UserHoldings(_UserHoldingsRequired, total=False):
    """What one user holds."""

    #: Memory; none where the user has no request, socket, run or program here.
    memory: MemoryHoldings | None
    #: Whose name it is; none where the account is gone.
    name: str | None


UserId = str


class _EventEnvelopeRequired(TypedDict):
    #: Never changes.
    event_id: EventId
    #: The run.
    run_id: RunId
    #: The conversation.
    thread_id: ThreadId
    #: When it happened.
    ts: Timestamp
    #: The number of what was sent before it on this subscription.
    prev: int
    #: Its number in the user's log, from 1, in commit order.
    seq: int


class EventEnvelope(_EventEnvelopeRequired, total=False):
    """What every event carries besides `type` and `data`."""

    #: The agent that acts; absent in events of the run itself.
    agent: str | None
    #: The step of the run in which it acts, from 1; absent in events of the run itself.
    step: int | None


class RunQueuedData(TypedDict):
    """`data` of `run_queued`."""

    #: From 1, in the user's own queue.
    queue_position: int
    #: What it waits for.
    reason: QueueReason


class RunQueuedEvent(EventEnvelope):
    """It has to wait: no free slot, a busy thread, or a full node."""

    type: Literal["run_queued"]
    data: RunQueuedData


class RunStartedData(TypedDict):
    """`data` of `run_started`."""

    #: The agent's name.
    agent: str
    #: From 1.
    attempt: int
    #: When the run ends by itself.
    deadline: Timestamp
    #: The message that asked.
    input_message_id: MessageId


class RunStartedEvent(EventEnvelope):
    """The engine exists."""

    type: Literal["run_started"]
    data: RunStartedData


class RunWaitingData(TypedDict):
    """`data` of `run_waiting`."""

    #: For what.
    reason: str


class RunWaitingEvent(EventEnvelope):
    """A person is asked, and the slot is given back until the answer."""

    type: Literal["run_waiting"]
    data: RunWaitingData


class RunResumedData(TypedDict):
    """`data` of `run_resumed`."""

    #: From 1.
    attempt: int
    #: When the run ends by itself.
    deadline: Timestamp
    #: After what: `approval`, `crash` or `drain`.
    reason: str


class RunResumedEvent(EventEnvelope):
    """The run goes on, after a person, a crash or a drain."""

    type: Literal["run_resumed"]
    data: RunResumedData


class _AgentStartedDataRequired(TypedDict):
    #: The agent's name.
    agent: str
    #: What it is to do, in short.
    task: str


class AgentStartedData(_AgentStartedDataRequired, total=False):
    """`data` of `agent_started`."""

    #: The step of the agent that called it; absent for the run's own agent.
    parent_step: int | None


class AgentStartedEvent(EventEnvelope):
    """An agent (the run's own or a sub-agent) begins."""

    type: Literal["agent_started"]
    data: AgentStartedData


class _AgentThinkingDataRequired(TypedDict):
    #: In words.
    message: str


class AgentThinkingData(_AgentThinkingDataRequired, total=False):
    """`data` of `agent_thinking`."""

    #: From 0 to 1.
    progress: float | None


class AgentThinkingEvent(EventEnvelope):
    """A reasoning step, progress, or plan."""

    type: Literal["agent_thinking"]
    data: AgentThinkingData


class MessageDeltaData(TypedDict):
    """`data` of `message_delta`."""

    #: What is added.
    delta: str
    #: The message that grows.
    message_id: MessageId


class MessageDeltaEvent(EventEnvelope):
    """Text of the answer, as it is written."""

    type: Literal["message_delta"]
    data: MessageDeltaData


class _MessageCompletedDataRequired(TypedDict):
    #: What is said, in parts as in REST.
    content: list[Content]
    #: The message.
    message_id: MessageId
    #: Who speaks.
    role: MessageRole


class MessageCompletedData(_MessageCompletedDataRequired, total=False):
    """`data` of `message_completed`."""

    #: True when it was cut off.
    incomplete: bool


class MessageCompletedEvent(EventEnvelope):
    """A whole message of the assistant; one for each that had a delta."""

    type: Literal["message_completed"]
    data: MessageCompletedData


class _ToolExecutingDataRequired(TypedDict):
    #: What it is called with, in short form.
    arguments: Any
    #: The call.
    tool_call_id: ToolCallId
    #: The tool's name.
    tool_name: str


class ToolExecutingData(_ToolExecutingDataRequired, total=False):
    """`data` of `tool_executing`."""

    #: Why, in words.
    purpose: str | None


class ToolExecutingEvent(EventEnvelope):
    """All checks passed; the tool is about to run."""

    type: Literal["tool_executing"]
    data: ToolExecutingData


class _ToolProgressDataRequired(TypedDict):
    #: The call.
    tool_call_id: ToolCallId


class ToolProgressData(_ToolProgressDataRequired, total=False):
    """`data` of `tool_progress`."""

    #: In words.
    message: str | None
    #: From 0 to 1.
    progress: float | None


class ToolProgressEvent(EventEnvelope):
    """A long tool goes on."""

    type: Literal["tool_progress"]
    data: ToolProgressData


class _ToolCompletedDataRequired(TypedDict):
    #: From call to end, in milliseconds.
    duration_ms: int
    #: The result in short form.
    result: Any
    #: Size of the whole result, in bytes of JSON.
    result_bytes: int
    #: Whether it gave a result.
    success: bool
    #: The call.
    tool_call_id: ToolCallId
    #: The tool's name.
    tool_name: str


class ToolCompletedData(_ToolCompletedDataRequired, total=False):
    """`data` of `tool_completed`."""

    #: Why it failed.
    error: Failure | None


class ToolCompletedEvent(EventEnvelope):
    """Once for every `tool_executing`."""

    type: Literal["tool_completed"]
    data: ToolCompletedData


class ToolDeniedData(TypedDict):
    """`data` of `tool_denied`."""

    #: Which: `agent_list`, `policy`, `schema`, `limits`, `rate`, or `approval` where a person said no.
    layer: str
    #: Why.
    reason: str
    #: The call.
    tool_call_id: ToolCallId
    #: The tool's name.
    tool_name: str


class ToolDeniedEvent(EventEnvelope):
    """A check said no; the tool did not run."""

    type: Literal["tool_denied"]
    data: ToolDeniedData


class ApprovalRequestedData(TypedDict):
    """`data` of `approval_requested`."""

    #: To answer it by.
    approval_id: ApprovalId
    #: What the tool would be called with, in short form.
    arguments: Any
    #: When it is denied by itself.
    expires_at: Timestamp
    #: The call that waits.
    tool_call_id: ToolCallId


class ApprovalRequestedEvent(EventEnvelope):
    """A person is asked about a tool call."""

    type: Literal["approval_requested"]
    data: ApprovalRequestedData


class ApprovalResolvedData(TypedDict):
    """`data` of `approval_resolved`."""

    #: The question.
    approval_id: ApprovalId
    #: A user's id, `expiry` or `cancel`.
    by: ResolvedBy
    #: Yes or no.
    decision: Decision
    #: The call that waited.
    tool_call_id: ToolCallId


class ApprovalResolvedEvent(EventEnvelope):
    """The question is answered, once."""

    type: Literal["approval_resolved"]
    data: ApprovalResolvedData


class ArtifactCreatedData(TypedDict):
    """`data` of `artifact_created`."""

    #: Its size in bytes.
    bytes: int
    #: The file.
    file_id: FileId
    #: Its media type.
    media_type: str
    #: Its name.
    name: str


class ArtifactCreatedEvent(EventEnvelope):
    """A file or a chart for the user was made."""

    type: Literal["artifact_created"]
    data: ArtifactCreatedData


class AgentCompletedData(TypedDict):
    """`data` of `agent_completed`."""

    #: The agent's name.
    agent: str
    #: From start to end, in milliseconds.
    duration_ms: int
    #: The result in short form; null on failure.
    result: Any
    #: Whether it gave a result.
    success: bool


class AgentCompletedEvent(EventEnvelope):
    """An agent ends."""

    type: Literal["agent_completed"]
    data: AgentCompletedData


class _RunCompletedDataRequired(TypedDict):
    #: From acceptance to end, in milliseconds.
    duration_ms: int
    #: The result; null where it is over 128 KiB.
    result: Any
    #: What the run used.
    usage: RunUsage


class RunCompletedData(_RunCompletedDataRequired, total=False):
    """`data` of `run_completed`."""

    #: True where the result stands in the run alone.
    result_truncated: bool


class RunCompletedEvent(EventEnvelope):
    """The run has ended with a result."""

    type: Literal["run_completed"]
    data: RunCompletedData


class RunFailedData(TypedDict):
    """`data` of `run_failed`."""

    #: From acceptance to end, in milliseconds.
    duration_ms: int
    #: Why.
    error: Failure
    #: What the run used.
    usage: RunUsage


class RunFailedEvent(EventEnvelope):
    """The run has ended with an error."""

    type: Literal["run_failed"]
    data: RunFailedData


class RunCancelledData(TypedDict):
    """`data` of `run_cancelled`."""

    #: From acceptance to end, in milliseconds.
    duration_ms: int
    #: By whom or what.
    error: Failure
    #: What the run used.
    usage: RunUsage


class RunCancelledEvent(EventEnvelope):
    """A person or a later run stopped it."""

    type: Literal["run_cancelled"]
    data: RunCancelledData


class RunTimedOutData(TypedDict):
    """`data` of `run_timed_out`."""

    #: From acceptance to end, in milliseconds.
    duration_ms: int
    #: Which.
    error: Failure
    #: What the run used.
    usage: RunUsage


class RunTimedOutEvent(EventEnvelope):
    """The run's deadline has passed."""

    type: Literal["run_timed_out"]
    data: RunTimedOutData


class LimitWarningData(TypedDict):
    """`data` of `limit_warning`."""

    #: What is allowed.
    allowed: float
    #: The limit's key: `run_timeout_ms` (in milliseconds), `memory_mib` (in MiB, over all runs of the user), `budget_usd` or `budget_tokens` (over the user's day), `run_budget_usd` or `run_budget_tokens`.
    limit: str
    #: What is used.
    used: float


class LimitWarningEvent(EventEnvelope):
    """80 % of a limit are used; at most once for each limit of a run."""

    type: Literal["limit_warning"]
    data: LimitWarningData


Event = Union[
    "RunQueuedEvent",
    "RunStartedEvent",
    "RunWaitingEvent",
    "RunResumedEvent",
    "AgentStartedEvent",
    "AgentThinkingEvent",
    "MessageDeltaEvent",
    "MessageCompletedEvent",
    "ToolExecutingEvent",
    "ToolProgressEvent",
    "ToolCompletedEvent",
    "ToolDeniedEvent",
    "ApprovalRequestedEvent",
    "ApprovalResolvedEvent",
    "ArtifactCreatedEvent",
    "AgentCompletedEvent",
    "RunCompletedEvent",
    "RunFailedEvent",
    "RunCancelledEvent",
    "RunTimedOutEvent",
    "LimitWarningEvent",
]
"""An event as a socket or an SSE stream carries it; `type` tells what `data` is.

A server that is newer may send types that are not listed: pass them over."""

EventType = Literal[
    "run_queued",
    "run_started",
    "run_waiting",
    "run_resumed",
    "agent_started",
    "agent_thinking",
    "message_delta",
    "message_completed",
    "tool_executing",
    "tool_progress",
    "tool_completed",
    "tool_denied",
    "approval_requested",
    "approval_resolved",
    "artifact_created",
    "agent_completed",
    "run_completed",
    "run_failed",
    "run_cancelled",
    "run_timed_out",
    "limit_warning",
]
"""The types of events."""

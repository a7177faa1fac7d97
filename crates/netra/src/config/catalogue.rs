//! Every key, with what it means. `*` stands for a name of the operator's choice.

/// How the text of an environment variable is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As it is, even where it looks like a number.
    Text,
    /// As a number, truth value or list; `""` leaves the key unset.
    Value,
    /// Texts, separated by commas or as `["a", "b"]`.
    Texts,
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// With dots; `*` for a name of the operator's choice.
    pub path: &'static str,
    /// How it is read from the environment.
    pub kind: Kind,
    /// Whether its value is never shown.
    pub secret: bool,
    /// What it does.
    pub meaning: &'static str,
}

impl Key {
    /// The key at this path.
    pub fn find(path: &str) -> Option<&'static Key> {
        CATALOGUE.iter().find(|key| key.matches(path))
    }

    fn matches(&self, path: &str) -> bool {
        let mut wanted = self.path.split('.');
        let mut given = path.split('.');
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return true,
                (Some(part), Some(found)) if part == "*" || part == found => {}
                _ => return false,
            }
        }
    }
}

const fn text(path: &'static str, meaning: &'static str) -> Key {
    Key {
        path,
        kind: Kind::Text,
        secret: false,
        meaning,
    }
}

const fn value(path: &'static str, meaning: &'static str) -> Key {
    Key {
        path,
        kind: Kind::Value,
        secret: false,
        meaning,
    }
}

const fn texts(path: &'static str, meaning: &'static str) -> Key {
    Key {
        path,
        kind: Kind::Texts,
        secret: false,
        meaning,
    }
}

const fn secret(path: &'static str, meaning: &'static str) -> Key {
    Key {
        path,
        kind: Kind::Text,
        secret: true,
        meaning,
    }
}

/// All keys, by section.
pub const CATALOGUE: &[Key] = &[
    text(
        "server.listen",
        "address and port to listen on; port 0 takes a free one",
    ),
    text(
        "server.socket",
        "path of a Unix socket to listen on, besides the address",
    ),
    text(
        "server.tls_certificate",
        "PEM file with the chain of certificates; with it the server speaks TLS",
    ),
    text("server.tls_key", "PEM file with its private key"),
    text(
        "server.public_origin",
        "where browsers reach the server, such as https://netra.example",
    ),
    texts(
        "server.allowed_origins",
        "browsers' origins besides the server's own; SIGHUP takes another list over",
    ),
    texts(
        "server.trusted_proxies",
        "addresses or networks of proxies whose X-Forwarded-For is believed",
    ),
    value(
        "server.dev",
        "sign a browser on the loopback address in as `local`",
    ),
    value(
        "server.drain_ms",
        "how long runs may go on after the server was told to stop",
    ),
    value(
        "server.heartbeat_ms",
        "between two pings of a WebSocket, and two signs of life of an event stream; at least 1000",
    ),
    text(
        "server.environment",
        "what policies know this server as: development, staging or production",
    ),
    text("data.dir", "folder of the database, files and keys"),
    value(
        "data.events_days",
        "days that events stay after their run's end; unset: as long as their thread",
    ),
    secret(
        "database.url",
        "PostgreSQL in place of the database in the data folder: postgres://user:password@host:port/database",
    ),
    secret(
        "database.owner_url",
        "the same as the role that owns the tables, which the server takes to bring them up to date at its start",
    ),
    value(
        "database.connections",
        "connections to PostgreSQL at the most, half of them for writing; at least 2",
    ),
    value(
        "database.lease_ms",
        "how long a node is taken for alive after it was last seen, before others take its runs; at least 1000",
    ),
    secret(
        "redis.url",
        "Redis between nodes over one PostgreSQL: redis://user:password@host:port/database, with rediss for TLS",
    ),
    value("limits.concurrent_runs", "concurrent executions per user"),
    value("limits.queued_runs", "queued runs per user"),
    value(
        "limits.engines",
        "active engines of the node; unset: by its memory",
    ),
    value(
        "limits.node_memory_mib",
        "memory of the node; unset: what the machine or its control group has",
    ),
    value(
        "limits.requests_per_minute_and_address",
        "requests without good credentials per address; unset: 3000",
    ),
    value(
        "limits.turn_wait_ms",
        "how long everybody may wait for a turn, on a processor or at the database, before new work is refused",
    ),
    value(
        "limits.memory_mib",
        "memory per user over all runs, workers, requests and sockets",
    ),
    value("limits.run_timeout_ms", "deadline of a run that names none"),
    value(
        "limits.run_timeout_max_ms",
        "the longest deadline that a run may ask for",
    ),
    value(
        "limits.approval_ttl_ms",
        "how long an approval may be answered",
    ),
    value("limits.model_call_ms", "one model call"),
    value("limits.tool_call_ms", "one tool call"),
    value("limits.steps", "steps of a run"),
    value("limits.tool_calls", "tool calls of a run"),
    value("limits.depth", "nesting of sub-agents"),
    value("limits.attempts", "attempts of a run after crashes"),
    value("limits.sockets", "open WebSockets per user"),
    value(
        "limits.logins_per_minute",
        "sign-ins per pair of account and address",
    ),
    value("limits.requests_per_minute", "requests per user"),
    value(
        "limits.key_requests_per_minute",
        "requests per API key; of a service token for all whom it acts for",
    ),
    value("limits.messages_per_10s", "WebSocket messages per socket"),
    value(
        "limits.budget_usd",
        "money for models per user and day, in US dollars; unset: without a bound",
    ),
    value(
        "limits.budget_tokens",
        "tokens of models per user and day; unset: without a bound",
    ),
    value("limits.upload_mib", "the largest upload"),
    value("limits.message_chars", "the longest text of a message"),
    text(
        "auth.registration",
        "who may make an account: open, invite or closed",
    ),
    value("auth.access_ttl_ms", "life of an access token"),
    value(
        "auth.refresh_ttl_ms",
        "life of a sign-in that is not refreshed",
    ),
    text(
        "auth.algorithm",
        "what access tokens are signed with: EdDSA, with the server's own key, or HS256",
    ),
    text(
        "auth.hs256_secret_file",
        "file with the secret of HS256, mode 0600, at least 32 bytes",
    ),
    text(
        "auth.issuer.url",
        "issuer whose tokens are taken besides the server's own: what their `iss` is",
    ),
    text("auth.issuer.audience", "what their `aud` has to hold"),
    text(
        "auth.issuer.jwks_url",
        "where its keys are; unset: where its openid-configuration says",
    ),
    text("auth.issuer.subject_claim", "claim that names the user"),
    text(
        "auth.issuer.role_claim",
        "claim with the role; unset: everybody is `user`",
    ),
    text(
        "auth.issuer.plan_claim",
        "claim with the plan; unset: `free`, or what an admin sets",
    ),
    value("auth.issuer.skew_ms", "how far the clocks may be apart"),
    text(
        "models.default",
        "model of agents that name none, as provider/model",
    ),
    texts(
        "models.fallback",
        "models that answer where another one does not, as provider/model, for agents that name none",
    ),
    value(
        "models.retries",
        "how often a call is made again that failed before its answer began",
    ),
    value(
        "models.cache_mib",
        "memory for answers that agents with a cache give again; 0: none",
    ),
    text(
        "models.price_file",
        "prices of your own, for models of the built-in list and others",
    ),
    text(
        "models.providers.*.kind",
        "how it is spoken to: openai, azure, anthropic, gemini or ollama",
    ),
    text(
        "models.providers.*.base_url",
        "address up to, and without, what its kind calls itself, such as /chat/completions; unset: the maker's own",
    ),
    text(
        "models.providers.*.api_version",
        "Azure's version, for addresses by deployment",
    ),
    secret(
        "models.providers.*.api_key",
        "key that is sent to the provider",
    ),
    text("models.providers.*.api_key_file", "file that holds the key"),
    texts(
        "models.providers.*.models",
        "models to list; others are refused when there are any",
    ),
    value(
        "models.providers.*.context_tokens",
        "tokens that its models take, question and answer together",
    ),
    value(
        "models.providers.*.max_output_tokens",
        "tokens of the longest answer, where an agent names none",
    ),
    secret("models.providers.*.headers.*", "a further header"),
    secret(
        "models.providers.*.proxy",
        "proxy's URL, which may contain credentials",
    ),
    text(
        "models.providers.*.max_tokens_field",
        "max_tokens or max_completion_tokens",
    ),
    value(
        "models.providers.*.usage_in_stream",
        "ask for usage in the stream",
    ),
    value(
        "models.providers.*.native_schema",
        "whether its models hold answers to a JSON Schema; unset: what the address is known for",
    ),
    value(
        "models.providers.*.images",
        "whether its models are shown pictures",
    ),
    text(
        "models.providers.*.body",
        "further fields of each request, as a JSON object",
    ),
    text(
        "models.providers.*.prices",
        "whose prices of the list hold; unset: what the address is known for",
    ),
    value(
        "models.providers.*.user_keys",
        "send a user's own key in place of the server's, for users who have one",
    ),
    value(
        "models.providers.*.trace_context",
        "tell the provider which trace a call belongs to (traceparent)",
    ),
    text("agents.dir", "folder of agents besides the built-in ones"),
    value(
        "agents.watch",
        "whether new runs take changed files of agents at once; unset: with --dev only",
    ),
    text(
        "policy.dir",
        "folder of policy files, *.cedar, in place of the built-in ones",
    ),
    texts(
        "tools.fetch.allow",
        "hosts of the own network, as host:port, that http_fetch may reach besides public addresses",
    ),
    text(
        "sandbox.require",
        "the least that must hold programs from outside: basic, namespaces or full",
    ),
    text(
        "sandbox.temp",
        "where such programs get folders of their own; unset: the system's folder for that",
    ),
    text(
        "sandbox.cgroup",
        "folder of cgroup v2 that was delegated to the server",
    ),
    text(
        "secrets.key_file",
        "key file of users' secrets; unset: `secret-keys` in the data folder",
    ),
    text(
        "secrets.server_file",
        "TOML file with secrets of the server for its users' tools",
    ),
    value(
        "mcp.instances",
        "instances of tool servers at the same time",
    ),
    value(
        "mcp.instances_per_user",
        "instances of tool servers of one user at the same time",
    ),
    text(
        "mcp.servers.*.command",
        "program of a tool server: a path, or a name that is looked for in PATH",
    ),
    texts("mcp.servers.*.args", "its arguments"),
    secret("mcp.servers.*.env.*", "a variable of its environment"),
    text(
        "mcp.servers.*.env.*.secret",
        "the same, with the value of this secret",
    ),
    text(
        "mcp.servers.*.env.*.prefix",
        "what stands before that value",
    ),
    texts(
        "mcp.servers.*.env_from",
        "variables that it gets from the server's environment",
    ),
    texts("mcp.servers.*.read", "files and folders that it may read"),
    texts("mcp.servers.*.write", "files and folders that it may write"),
    value("mcp.servers.*.network", "whether it may reach the network"),
    value("mcp.servers.*.memory_mib", "its memory"),
    text(
        "mcp.servers.*.url",
        "address of a tool server that speaks streamable HTTP",
    ),
    secret("mcp.servers.*.headers.*", "a header that is sent to it"),
    text(
        "mcp.servers.*.headers.*.secret",
        "the same, with the value of this secret",
    ),
    text(
        "mcp.servers.*.headers.*.prefix",
        "what stands before that value",
    ),
    text(
        "mcp.servers.*.oauth.client_id",
        "name by which Netra signs in there (OAuth, client credentials)",
    ),
    secret(
        "mcp.servers.*.oauth.client_secret",
        "the secret that belongs to it",
    ),
    text(
        "mcp.servers.*.oauth.client_secret.secret",
        "the same, with the value of this secret",
    ),
    text(
        "mcp.servers.*.oauth.scope",
        "what the token is to be good for; unset: what the server asks for",
    ),
    text(
        "mcp.servers.*.oauth.token_url",
        "where tokens are had; unset: the server says it, for its own host",
    ),
    text("mcp.servers.*.protocol", "newest, 2025-11-25 or 2026-07-28"),
    text(
        "mcp.servers.*.scope",
        "whom one instance serves: user, run or shared",
    ),
    value(
        "mcp.servers.*.trust_hints",
        "believe what the server says of its tools: read-only, destructive, idempotent",
    ),
    value("mcp.servers.*.start_ms", "how long its start may take"),
    value("mcp.servers.*.call_ms", "how long one call may take"),
    value(
        "mcp.servers.*.idle_ms",
        "how long an instance stays that nobody calls",
    ),
    text("mcp.servers.*.permission", "permission that its tools need"),
    text(
        "mcp.servers.*.risk",
        "risk of its tools: low, medium or high",
    ),
    value(
        "mcp.servers.*.needs_approval",
        "whether a person is asked before each call",
    ),
    value(
        "mcp.servers.*.idempotent",
        "whether its calls may be made again after a crash without asking",
    ),
    text("mcp.servers.*.tools.*.permission", "the same for one tool"),
    text("mcp.servers.*.tools.*.risk", "the same for one tool"),
    value(
        "mcp.servers.*.tools.*.needs_approval",
        "the same for one tool",
    ),
    value("mcp.servers.*.tools.*.idempotent", "the same for one tool"),
    value(
        "mcp.servers.*.tools.*.offered",
        "whether the tool is there at all",
    ),
    text("log.format", "text or json"),
    text(
        "log.level",
        "error, warn, info, debug, trace, or directives by module",
    ),
    secret("metrics.token", "bearer token that may read /api/metrics"),
    text(
        "telemetry.endpoint",
        "collector that traces and metrics go to by OTLP over HTTP, such as http://127.0.0.1:4318; unset: none",
    ),
    secret("telemetry.headers.*", "a header that is sent to it"),
    text("telemetry.service_name", "what the server is called there"),
    value("telemetry.traces", "whether traces go there"),
    value("telemetry.metrics", "whether metrics go there"),
    value(
        "telemetry.sample",
        "part of the traces that begin here which go there, from 0 to 1",
    ),
    value(
        "telemetry.content",
        "whether what users, models and tools say goes there too",
    ),
    value(
        "telemetry.metrics_interval_ms",
        "between two exports of the metrics; at least 1000",
    ),
    text(
        "workers.program",
        "program of the worker processes; unset: this one",
    ),
    value(
        "workers.scripts",
        "script processes at the same time; unset: two per core",
    ),
    value("workers.warm", "script processes that wait ready"),
    value(
        "workers.analyses",
        "analysis processes at the same time; unset: one per core and one more",
    ),
];

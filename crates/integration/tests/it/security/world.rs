//! A server, and users who have one of everything that there is.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use futures::StreamExt as _;
use netra_client::{Client, Method, Received, Socket, Upload};
use netra_integration::{Options, TestServer, TestTool, TestUser, soon, start_with_files};
use netra_protocol::account::{CreateKey, Role};
use netra_protocol::frame::{After, Subscribe};
use netra_tools::Policy;
use serde_json::Value;

use super::contract::{Operation, Place, put};
use super::table::Row;
use crate::expect::until;
use netra_integration::script;

pub(super) const PASSWORD: &str = "correct horse battery";

/// Options under which nobody meets a limit of the rate.
pub(super) fn unlimited() -> Options {
    Options::new()
        .set("limits.requests_per_minute", 10_000_000)
        .set("limits.messages_per_10s", 10_000_000)
        .set("limits.logins_per_minute", 10_000)
}

/// A server with an agent that asks a person.
pub(super) struct World {
    pub(super) server: TestServer,
    _agents: tempfile::TempDir,
}

/// One user's objects: ids by kind, such as `RunId`.
#[derive(Debug, Clone)]
pub(super) struct Objects(BTreeMap<String, Vec<String>>);

impl World {
    pub(super) async fn start() -> Result<Self> {
        let agents = tempfile::tempdir()?;
        let asks = "consent(question=input['text'])\n";
        script(agents.path(), "asker", "tools = [\"consent\"]\n", asks)?;
        // Everybody may have tool servers of one's own.
        let policies = agents.path().join("policies");
        std::fs::create_dir(&policies)?;
        let connect = "permit (principal, action == Netra::Action::\"connect\", resource);";
        let policy = format!("{}\n{connect}\n", Policy::shipped_text());
        std::fs::write(policies.join("all.cedar"), policy)?;
        let options = unlimited()
            .agents(agents.path())
            .set("policy.dir", policies.display())
            .set("tools.fetch.allow", "127.0.0.1:9")
            .tool(TestTool::consent());
        Ok(Self {
            server: TestServer::start_with(options).await?,
            _agents: agents,
        })
    }

    /// A user of this role who can sign in.
    pub(super) async fn user(&self, role: Role) -> Result<TestUser> {
        self.server.user_as(role, Some(PASSWORD)).await
    }

    /// An API key of this user with these scopes: its id, and a client that uses it.
    pub(super) async fn key(&self, user: &TestUser, scopes: &[&str]) -> Result<(String, Client)> {
        let new = CreateKey {
            name: "of a test".into(),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            expires_at: None,
        };
        let made = user.client.key_create(&new).await?;
        let secret = made.secret.context("the secret is told once")?;
        Ok((made.id.to_string(), user.client.with_token(secret)))
    }

    /// An invitation, which an admin has made: it is the server's.
    async fn invite(&self) -> Result<String> {
        let admin = self.server.user_as(Role::Admin, None).await?.client;
        let request = admin.request(Method::POST, "/api/admin/invites");
        let made: Value = serde_json::from_str(&admin.send(request).await?.text().await?)?;
        Ok(crate::expect::text(&made, "/id")?.to_owned())
    }

    /// Puts a secret and a tool server under the name that `attempt` asks for.
    pub(super) async fn name_things(&self, user: &TestUser) -> Result<()> {
        let secret = serde_json::json!({"value": "secret of the owner"});
        let server = serde_json::json!({"url": "http://127.0.0.1:9/of-the-owner"});
        for (path, body) in [
            ("/api/secrets/echo", secret),
            ("/api/tool-servers/echo", server),
        ] {
            let request = user.client.request(Method::PUT, path);
            user.client.send(request.json(&body)).await?;
        }
        Ok(())
    }

    /// Disables a user, as an admin does.
    pub(super) async fn disable(&self, user: &TestUser) -> Result<()> {
        let admin = self.user(Role::Admin).await?.client;
        let path = format!("/api/admin/users/{}", user.id);
        let request = admin.request(Method::PATCH, &path);
        let disabled = serde_json::json!({"disabled": true});
        admin.send(request.json(&disabled)).await?;
        Ok(())
    }

    /// Makes one of everything: an ended run and one that waits for a person, their threads, a
    /// message, a file, an approval, a sign-in, a key. All hold the word.
    pub(super) async fn furnish(&self, user: &TestUser, word: &str) -> Result<Objects> {
        let client = &user.client;
        let content = Upload::Bytes(word.to_owned().into());
        let file = client.file_upload(&format!("{word}.txt"), content).await?;
        let start = start_with_files("echo", word, vec![file.id]);
        let ended = client.run_start(None, &start, None).await?;
        let ended = client.run_end(ended.id).await?;
        let message = client.messages(ended.thread_id, None, None).await?;
        let message = message.items.first().context("the run has messages")?.id;

        let mut socket = user.socket().await?;
        let waiting = user.start("asker", word).await?;
        until(&mut socket, "run_waiting").await?;
        let approvals = client.request(Method::GET, "/api/approvals");
        let approvals: Value = serde_json::from_str(&client.send(approvals).await?.text().await?)?;
        let own = waiting.id.to_string();
        let asked = approvals["items"].as_array().into_iter().flatten();
        let mut asked = asked.filter(|approval| approval["run_id"] == own.as_str());
        let approval = crate::expect::text(asked.next().context("it asks")?, "/id")?.to_owned();

        let signed_in = client.login(&user.name, PASSWORD).await?;
        let sessions = client.with_token(signed_in.access_token).sessions().await?;
        let session = sessions.items.iter().find(|session| session.current);
        let session = session.context("the sign-in is listed")?.id;
        let key = self.key(user, &["read"]).await?.0;
        let invite = self.invite().await?;
        Ok(Objects(BTreeMap::from([
            ("RunId".into(), vec![ended.id.to_string(), own]),
            (
                "ThreadId".into(),
                vec![ended.thread_id.to_string(), waiting.thread_id.to_string()],
            ),
            ("FileId".into(), vec![file.id.to_string()]),
            ("MessageId".into(), vec![message.to_string()]),
            ("SessionId".into(), vec![session.to_string()]),
            ("ApprovalId".into(), vec![approval]),
            ("KeyId".into(), vec![key]),
            ("InviteId".into(), vec![invite]),
            ("UserId".into(), vec![user.id.to_string()]),
        ])))
    }
}

impl Objects {
    /// All ids of a kind; a kind that nobody has an object of is a hole in the tests.
    pub(super) fn of_kind(&self, kind: &str) -> Result<&[String]> {
        let ids = self.0.get(kind);
        ids.map(Vec::as_slice)
            .with_context(|| format!("let `furnish` in `security/world.rs` make a {kind}"))
    }

    /// The one that an owner can do this operation with.
    pub(super) fn fit_for(&self, operation: &str, kind: &str) -> Result<&str> {
        let ids = self.of_kind(kind)?;
        let active = operation.ends_with("run_cancel");
        Ok(if active { &ids[ids.len() - 1] } else { &ids[0] })
    }

    /// Every id.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.values().flatten().map(String::as_str)
    }
}

/// An id of the same kind that no object has.
pub(super) fn missing(id: &str) -> String {
    let prefix = id.split('_').next().unwrap_or_default();
    format!("{prefix}_{}1", "0".repeat(25))
}

/// An answer, without what differs from request to request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<String>,
    pub(super) text: String,
}

impl Answer {
    /// The error's code; empty where it is none.
    pub(super) fn code(&self) -> String {
        if self.status < 400 {
            return String::new();
        }
        let body: Value = serde_json::from_str(&self.text).unwrap_or_default();
        let code = body["error"]["code"].as_str();
        code.unwrap_or_default().to_owned()
    }

    /// As people write it down.
    pub(super) fn in_short(&self) -> String {
        format!("{} {}", self.status, self.code())
            .trim_end()
            .to_owned()
    }
}

/// Does an operation on the object `own` of the path, with `at` in one place of it.
pub(super) async fn attempt(
    client: &Client,
    (row, operation): (Row, &Operation),
    own: &str,
    at: Option<(&Place, &str)>,
) -> Result<Answer> {
    let mut object = own;
    let mut body: Value = match row.body {
        "" => Value::Null,
        text => serde_json::from_str(text)?,
    };
    let mut query = row.query.to_owned();
    match at {
        None => {}
        Some((Place::Path, id)) => object = id,
        Some((Place::Query(name), id)) => query = format!("{query}&{name}={id}"),
        Some((Place::Body(pointer), id)) => put(&mut body, pointer, id),
    }
    let path = operation.path.replace("{id}", object);
    let path = path.replace("{name}", "echo");
    let path = format!("{path}?{}", query.trim_start_matches('&'));
    let path = path.trim_end_matches('?');
    let mut request = client.request(operation.method.clone(), path);
    if operation.name == "socket_open" {
        request = upgrading(request);
    }
    if !body.is_null() {
        request = request.json(&body);
    }
    answered(request)
        .await
        .with_context(|| format!("{} {path}", operation.name))
}

/// The same request as a browser's for a WebSocket.
pub(super) fn upgrading(request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    request
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
}

async fn answered(request: reqwest::RequestBuilder) -> Result<Answer> {
    let answer = soon("an answer", request.send()).await?;
    let status = answer.status().as_u16();
    let mut headers: Vec<_> = answer.headers().keys().map(ToString::to_string).collect();
    headers.sort();
    let kind = answer.headers().get("content-type");
    let endless = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let text = match (status, endless) {
        (101, _) => String::new(),
        (_, true) => beginning(answer).await?,
        (_, false) => answer.text().await?,
    };
    let body: Value = serde_json::from_str(&text).unwrap_or_default();
    let text = match body["error"]["request_id"].as_str() {
        Some(id) => text.replace(id, "REQUEST"),
        None => text,
    };
    Ok(Answer {
        status,
        headers,
        text,
    })
}

/// The first block of a stream that has a place in the log; comments come when they come.
async fn beginning(answer: reqwest::Response) -> Result<String> {
    let mut pieces = answer.bytes_stream();
    let mut text = String::new();
    loop {
        let (whole, _) = text.rsplit_once("\n\n").unwrap_or_default();
        if let Some(block) = whole.split("\n\n").find(|block| block.starts_with("id:")) {
            return Ok(block.to_owned());
        }
        let Some(piece) = soon("the stream's first block", pieces.next()).await else {
            return Ok(text);
        };
        text.push_str(&String::from_utf8_lossy(&piece?));
    }
}

/// All that a user can read, in every list and of every object, an answer per line. `as_of` in them
/// tells how far the user's log is.
pub(super) async fn everything(user: &TestUser, objects: &Objects) -> Result<String> {
    let mut paths: Vec<String> = [
        "auth/me",
        "auth/sessions?limit=100",
        "files?limit=100",
        "threads?limit=100",
        "runs?limit=100",
        "approvals?limit=100",
        "keys?limit=100",
        "usage",
    ]
    .map(str::to_owned)
    .to_vec();
    for (kind, path) in [
        ("RunId", "runs"),
        ("ThreadId", "threads"),
        ("FileId", "files"),
    ] {
        paths.extend(
            objects
                .of_kind(kind)?
                .iter()
                .map(|id| format!("{path}/{id}")),
        );
    }
    for thread in objects.of_kind("ThreadId")? {
        paths.push(format!("threads/{thread}/messages?limit=100"));
    }
    for file in objects.of_kind("FileId")? {
        paths.push(format!("files/{file}/content"));
    }
    let mut all = String::new();
    for path in paths {
        let request = user.client.request(Method::GET, &format!("/api/{path}"));
        let text = user.client.send(request).await?.text().await?;
        all.push_str(&format!("{path}: {text}\n"));
    }
    Ok(all)
}

/// Fails, and says where, unless the user has everything as it was.
pub(super) async fn unchanged(user: &TestUser, objects: &Objects, before: &str) -> Result<()> {
    let now = everything(user, objects).await?;
    for (before, now) in before.lines().zip(now.lines()) {
        anyhow::ensure!(before == now, "before: {before}\nnow: {now}");
    }
    anyhow::ensure!(
        before.len() == now.len(),
        "there is more or less than before"
    );
    Ok(())
}

/// All events of a user's log so far.
pub(super) async fn log_of(client: &Client) -> Result<Vec<Received>> {
    let mut socket = Socket::connect(client).await?;
    let latest = socket.ready().latest_seq;
    let all = Subscribe {
        after: After::Seq(0),
        epoch: None,
        threads: None,
        deltas: true,
    };
    socket.subscribe(all).await?;
    let mut events = Vec::new();
    while socket.position().unwrap_or(0) < latest {
        events.push(soon("an event", socket.next_event()).await?);
    }
    Ok(events)
}

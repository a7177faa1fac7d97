//! The operations of the contract over REST, typed.

use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use netra_protocol::Page;
use netra_protocol::account::{
    CreateKey, Key, Login, Refresh, Register, Session, Setup, Ticket, Tokens, User,
};
use netra_protocol::agent::Agent;
use netra_protocol::approval::{Approval, ResolveApproval};
use netra_protocol::file::File;
use netra_protocol::id::{ApprovalId, FileId, KeyId, RunId, SessionId, ThreadId};
use netra_protocol::isolation::Isolation;
use netra_protocol::message::Message;
use netra_protocol::model::Model;
use netra_protocol::run::{Run, StartRun};
use netra_protocol::thread::{CreateThread, ForkThread, Thread, UpdateThread};
use netra_protocol::tool::{Tool, ToolServer};
use netra_protocol::usage::Usage;
use reqwest::Method;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::io::ReaderStream;

use crate::client::{ANSWER, Client, KEY, new_key};
use crate::error::Error;
use crate::stream::EventStream;

/// How long `run_wait` asks the server to hold one request.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Before a server is asked again that did not hold the request.
const AGAIN: Duration = Duration::from_secs(1);

/// What an upload is made of.
#[derive(Debug, Clone)]
pub enum Upload<'a> {
    /// From memory.
    Bytes(Bytes),
    /// From a file, read as it is sent.
    Path(&'a Path),
}

impl Upload<'_> {
    /// What to send, from its beginning, and how long it is.
    async fn body(&self) -> Result<(reqwest::Body, u64), Error> {
        let path = match self {
            Self::Bytes(bytes) => return Ok((bytes.clone().into(), bytes.len() as u64)),
            Self::Path(path) => path,
        };
        let unreadable = |source| Error::File {
            path: path.display().to_string(),
            source,
        };
        let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
        let bytes = file.metadata().await.map_err(unreadable)?.len();
        let pieces = ReaderStream::with_capacity(file, 64 * 1024);
        Ok((reqwest::Body::wrap_stream(pieces), bytes))
    }
}

/// How long so many bytes may take: a line that carries less than 16 KiB a second is as good as
/// dead.
fn time_for(bytes: u64) -> Duration {
    ANSWER + Duration::from_secs(bytes / (16 * 1024))
}

/// Accounts and sessions.
impl Client {
    /// Makes the first admin with the token of the set-up link.
    pub async fn setup(&self, setup: &Setup) -> Result<Tokens, Error> {
        self.post("/api/auth/setup", setup).await
    }

    /// Makes an account, where registration allows it.
    pub async fn register(&self, register: &Register) -> Result<Tokens, Error> {
        self.post("/api/auth/register", register).await
    }

    /// Signs in.
    pub async fn login(&self, name: &str, password: &str) -> Result<Tokens, Error> {
        let login = Login {
            name: name.to_owned(),
            password: password.to_owned(),
        };
        self.post("/api/auth/login", &login).await
    }

    /// Trades a refresh token for new tokens; the old one is used up.
    pub async fn refresh(&self, refresh_token: &str) -> Result<Tokens, Error> {
        let refresh = Refresh {
            refresh_token: Some(refresh_token.to_owned()),
        };
        self.post("/api/auth/refresh", &refresh).await
    }

    /// Ends this session.
    pub async fn logout(&self) -> Result<(), Error> {
        let body = serde_json::json!({});
        self.unit(self.ask(Method::POST, "/api/auth/logout").json(&body))
            .await
    }

    /// A ticket that opens one WebSocket within 30 s.
    pub async fn ws_ticket(&self) -> Result<Ticket, Error> {
        self.json(self.ask(Method::POST, "/api/auth/ws-ticket"))
            .await
    }

    /// Who asks.
    pub async fn me(&self) -> Result<User, Error> {
        self.get("/api/auth/me").await
    }

    /// The sign-ins that are still good.
    pub async fn sessions(&self) -> Result<Page<Session>, Error> {
        self.get("/api/auth/sessions").await
    }

    /// Ends a sign-in.
    pub async fn session_revoke(&self, id: SessionId) -> Result<(), Error> {
        self.unit(self.ask(Method::DELETE, &format!("/api/auth/sessions/{id}")))
            .await
    }

    /// Ends all sign-ins, the one that asks too.
    pub async fn sessions_revoke(&self) -> Result<(), Error> {
        self.unit(self.ask(Method::DELETE, "/api/auth/sessions"))
            .await
    }

    /// Makes an API key. Its secret is in this answer alone.
    pub async fn key_create(&self, key: &CreateKey) -> Result<Key, Error> {
        self.post("/api/keys", key).await
    }

    /// The user's API keys.
    pub async fn keys(&self, limit: Option<u32>, cursor: Option<&str>) -> Result<Page<Key>, Error> {
        self.list("/api/keys", limit, cursor).await
    }

    /// Revokes an API key.
    pub async fn key_delete(&self, id: KeyId) -> Result<(), Error> {
        self.unit(self.request(Method::DELETE, &format!("/api/keys/{id}")))
            .await
    }

    /// Own figures.
    pub async fn usage(&self) -> Result<Usage, Error> {
        self.get("/api/usage").await
    }

    /// What every user holds on the server. For admins.
    pub async fn isolation(&self) -> Result<Isolation, Error> {
        self.get("/api/admin/isolation").await
    }

    /// What agents ask a person, newest first, answered or not.
    pub async fn approvals(
        &self,
        limit: Option<u32>,
        cursor: Option<&str>,
    ) -> Result<Page<Approval>, Error> {
        self.list("/api/approvals", limit, cursor).await
    }

    /// Answers what an agent asks, once.
    pub async fn approval_resolve(
        &self,
        id: ApprovalId,
        answer: &ResolveApproval,
    ) -> Result<Approval, Error> {
        self.json(
            self.ask(Method::POST, &format!("/api/approvals/{id}"))
                .json(answer),
        )
        .await
    }

    /// The language models. For admins.
    pub async fn models(&self) -> Result<Page<Model>, Error> {
        self.list("/api/admin/models", Some(100), None).await
    }

    /// The tool servers. For admins.
    pub async fn tool_servers(&self) -> Result<Page<ToolServer>, Error> {
        self.list("/api/admin/tool-servers", Some(100), None).await
    }
}

/// Agents, tools and files.
impl Client {
    /// The agents that this user may run.
    pub async fn agents(&self) -> Result<Page<Agent>, Error> {
        self.list("/api/agents", Some(100), None).await
    }

    /// One agent.
    pub async fn agent(&self, name: &str) -> Result<Agent, Error> {
        self.get(&format!("/api/agents/{name}")).await
    }

    /// The tools, and whether this user may call them.
    pub async fn tools(&self) -> Result<Page<Tool>, Error> {
        self.list("/api/tools", Some(100), None).await
    }

    /// Stores a file, once: what is sent again has the same key.
    pub async fn file_upload(&self, name: &str, upload: Upload<'_>) -> Result<File, Error> {
        let key = new_key();
        self.repeated(|| async {
            let (body, bytes) = upload.body().await?;
            let request = self
                .request(Method::POST, "/api/files")
                .query(&[("name", name)])
                .header("content-type", media_type(name))
                .header("content-length", bytes)
                .header(KEY, &key);
            Ok(request.timeout(time_for(bytes)).body(body))
        })
        .await
    }

    /// A file, without its content.
    pub async fn file(&self, id: FileId) -> Result<File, Error> {
        self.get(&format!("/api/files/{id}")).await
    }

    /// A page of the user's files.
    pub async fn files(
        &self,
        limit: Option<u32>,
        cursor: Option<&str>,
    ) -> Result<Page<File>, Error> {
        self.list("/api/files", limit, cursor).await
    }

    /// The content of a file.
    pub async fn file_content(&self, id: FileId) -> Result<Bytes, Error> {
        let request = self.request(Method::GET, &format!("/api/files/{id}/content"));
        let late = |late| Error::Unreachable(Box::new(late));
        let head = timeout(ANSWER, self.send(request)).await.map_err(late)?;
        let mut answer = head?;
        let mut content = BytesMut::new();
        // However long it is: what must not be long is the wait for the next piece.
        while let Some(piece) = timeout(ANSWER, answer.chunk()).await.map_err(late)?? {
            content.extend_from_slice(&piece);
        }
        Ok(content.freeze())
    }

    /// Deletes a file.
    pub async fn file_delete(&self, id: FileId) -> Result<(), Error> {
        self.unit(self.ask(Method::DELETE, &format!("/api/files/{id}")))
            .await
    }
}

/// Threads and messages.
impl Client {
    /// Makes a thread.
    pub async fn thread_create(&self, thread: &CreateThread) -> Result<Thread, Error> {
        self.create("/api/threads", Some(thread), None).await
    }

    /// One thread.
    pub async fn thread(&self, id: ThreadId) -> Result<Thread, Error> {
        self.get(&format!("/api/threads/{id}")).await
    }

    /// A page of the user's threads, those that match `q` where it is given.
    pub async fn threads(
        &self,
        q: Option<&str>,
        limit: Option<u32>,
        cursor: Option<&str>,
    ) -> Result<Page<Thread>, Error> {
        let query = [
            ("q", q.map(str::to_owned)),
            ("cursor", cursor.map(str::to_owned)),
        ]
        .into_iter()
        .chain([("limit", limit.map(|limit| limit.to_string()))])
        .filter_map(|(name, value)| Some((name, value?)))
        .collect::<Vec<_>>();
        self.find("/api/threads", &query).await
    }

    /// Changes a thread.
    pub async fn thread_update(
        &self,
        id: ThreadId,
        update: &UpdateThread,
    ) -> Result<Thread, Error> {
        self.json(
            self.ask(Method::PATCH, &format!("/api/threads/{id}"))
                .json(update),
        )
        .await
    }

    /// Deletes a thread with its messages, runs and events.
    pub async fn thread_delete(&self, id: ThreadId) -> Result<(), Error> {
        self.unit(self.ask(Method::DELETE, &format!("/api/threads/{id}")))
            .await
    }

    /// A new thread with the old one's messages.
    pub async fn thread_fork(&self, id: ThreadId, fork: &ForkThread) -> Result<Thread, Error> {
        self.create(&format!("/api/threads/{id}/fork"), Some(fork), None)
            .await
    }

    /// A page of a thread's messages, oldest first.
    pub async fn messages(
        &self,
        id: ThreadId,
        limit: Option<u32>,
        cursor: Option<&str>,
    ) -> Result<Page<Message>, Error> {
        self.list(&format!("/api/threads/{id}/messages"), limit, cursor)
            .await
    }
}

/// Runs.
impl Client {
    /// Starts a run, on `thread` or on a new one, once: a lost answer is asked for again with the
    /// same key. With an `idempotency_key` of the caller's that holds over calls and programs too.
    pub async fn run_start(
        &self,
        thread: Option<ThreadId>,
        start: &StartRun,
        idempotency_key: Option<&str>,
    ) -> Result<Run, Error> {
        let path = match thread {
            Some(thread) => format!("/api/threads/{thread}/runs"),
            None => "/api/runs".to_owned(),
        };
        self.create(&path, Some(start), idempotency_key).await
    }

    /// One run.
    pub async fn run(&self, id: RunId) -> Result<Run, Error> {
        self.get(&format!("/api/runs/{id}")).await
    }

    /// A page of the user's runs.
    pub async fn runs(&self, limit: Option<u32>, cursor: Option<&str>) -> Result<Page<Run>, Error> {
        self.list("/api/runs", limit, cursor).await
    }

    /// Asks once, and lets the server hold the answer until the run has ended or `timeout`, at
    /// most 60 s, is over.
    pub async fn run_wait(&self, id: RunId, timeout: Duration) -> Result<Run, Error> {
        let timeout_ms = timeout.min(LONGEST_WAIT).as_millis();
        let path = format!("/api/runs/{id}/wait?timeout_ms={timeout_ms}");
        let held = timeout.min(LONGEST_WAIT) + ANSWER;
        self.json(self.request(Method::GET, &path).timeout(held))
            .await
    }

    /// Asks until the run has ended, also over a restart of the server.
    pub async fn run_end(&self, id: RunId) -> Result<Run, Error> {
        let mut backoff = self.backoff();
        loop {
            let asked = Instant::now();
            match self.run_wait(id, LONGEST_WAIT).await {
                Ok(run) if run.status.is_terminal() => return Ok(run),
                Ok(_) => {
                    backoff.reset();
                    // A server that drains answers at once, and must not be asked in a tight loop.
                    if asked.elapsed() < LONGEST_WAIT / 2 {
                        sleep(AGAIN).await;
                    }
                }
                Err(error) if error.is_unanswered() => backoff.pause(error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks a run to end.
    pub async fn run_cancel(&self, id: RunId) -> Result<(), Error> {
        self.unit(self.ask(Method::POST, &format!("/api/runs/{id}/cancel")))
            .await
    }

    /// A new run with the thread, input and files of one that has ended.
    pub async fn run_retry(&self, id: RunId) -> Result<Run, Error> {
        self.create(&format!("/api/runs/{id}/retry"), None::<&()>, None)
            .await
    }
}

/// Events over SSE.
impl Client {
    /// The events of a run from its start to its last. Takes a lost connection up again.
    pub fn run_events(&self, id: RunId) -> EventStream {
        EventStream::of_run(self.clone(), id)
    }

    /// All events of the user, from now on unless told otherwise. Takes a lost connection up again.
    pub fn events(&self) -> EventStream {
        EventStream::of_user(self.clone())
    }
}

/// The media type by the name's ending; the server looks at the content itself.
fn media_type(name: &str) -> &'static str {
    let ending = name
        .rsplit_once('.')
        .map(|(_, ending)| ending.to_ascii_lowercase());
    match ending.as_deref() {
        Some("csv") => "text/csv",
        Some("tsv") => "text/tab-separated-values",
        Some("json") => "application/json",
        Some("jsonl" | "ndjson") => "application/x-ndjson",
        Some("md") => "text/markdown",
        Some("txt" | "log") => "text/plain",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("parquet") => "application/vnd.apache.parquet",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_follows_the_ending() {
        assert_eq!(media_type("a.CSV"), "text/csv");
        assert_eq!(media_type("csv"), "application/octet-stream");
        assert_eq!(media_type("a.b.jsonl"), "application/x-ndjson");
    }
}

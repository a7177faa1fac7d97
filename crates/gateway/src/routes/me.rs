//! All that is the user's: taken along, or taken away.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures::StreamExt as _;
use netra_context::UserExecutionContext;
use netra_context::memory::{self, Reservation};
use netra_protocol::account::Leave;
use netra_protocol::file::File;
use netra_protocol::id::UserId;
use netra_store::{Grant, Left, MAX_NOTES};
use serde_json::json;
use tokio::io::AsyncReadExt as _;

use crate::archive::Archive;
use crate::auth::session;
use crate::auth::verifier::Revoked;
use crate::charge;
use crate::error::Error;
use crate::extract::{Caller, Visitor};
use crate::json::Payload;
use crate::routes::account::throttle;
use crate::state::Gateway;

/// What an export may hold at once: a page of rows as objects and as text, and a piece of a file.
const ROOM: usize = 8 * 1024 * 1024;
/// Rows that are read at once, and of messages and runs, which may be long.
const PAGE: u32 = 100;
const PAGE_OF_LONG: u32 = 10;
/// Events that are read at once, and bytes of them.
const EVENTS: usize = 1_000;
const EVENT_BYTES: usize = 1024 * 1024;
/// Bytes of rows whose size nothing else bounds: their JSON takes many times that when it is read.
const ROW_BYTES: usize = 256 * 1024;
/// Pieces in which files are read, in bytes.
const PIECE: usize = 64 * 1024;
/// A sign-in that is not older needs no password again, in milliseconds.
const FRESH_MS: u64 = 10 * 60 * 1_000;
/// How long the answer waits for runs to end; what is left then goes within a minute.
const RUNS_END: Duration = Duration::from_secs(10);

/// Gives all of the user's data
///
/// A tar archive, made while it is sent: `account.json`, lines of JSON by kind, and the content of files under their
/// ids. It is no snapshot: what changes meanwhile may or may not be in it.
#[utoipa::path(get, path = "/api/me/export", tag = "accounts", operation_id = "me_export",
    responses((status = 200, description = "The archive", content_type = "application/x-tar",
        body = Vec<u8>)))]
pub(crate) async fn me_export(
    State(gateway): State<Gateway>,
    caller: Caller,
) -> Result<Response, Error> {
    let room = memory::reserve(ROOM).map_err(charge::refusal)?;
    let now = gateway.runtime.now();
    let (archive, pieces) = Archive::new(now.as_millis() / 1_000);
    let export = Export {
        gateway,
        ctx: caller.ctx,
        archive,
        _room: room,
    };
    // Made as the body is read, on the user's account, and dropped with it. An error cuts the connection: half an
    // archive must not look like a whole one.
    let written = futures::stream::once(export.write());
    let failed = written.filter_map(|written| async move {
        let error = written.err()?;
        tracing::warn!(%error, "an export broke off");
        Some(Err(std::io::Error::other("the export broke off")))
    });
    let body = futures::stream::select(failed, pieces.map(Ok::<Bytes, std::io::Error>));
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-tar"),
        ),
        (
            header::CONTENT_DISPOSITION,
            HeaderValue::from_static("attachment; filename=\"netra-export.tar\""),
        ),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

struct Export {
    gateway: Gateway,
    ctx: UserExecutionContext,
    archive: Archive,
    _room: Reservation,
}

/// Writes every page of a list as an entry of its own.
macro_rules! pages {
    ($export:expr, $folder:expr, |$cursor:ident| $read:expr, |$items:ident| $each:block) => {{
        let (mut next, mut number) = (None::<String>, 0_u32);
        loop {
            let $cursor = next.as_deref();
            let page = $read.await?;
            let $items = page.items;
            number += 1;
            let name = format!("{}/{number:06}.jsonl", $folder);
            $export.archive.lines(&name, &$items).await?;
            $each
            next = page.next_cursor;
            if next.is_none() {
                break;
            }
        }
    }};
}

impl Export {
    async fn write(self) -> Result<(), Error> {
        let (store, ctx) = (self.gateway.store.clone(), &self.ctx);
        self.account().await?;
        pages!(
            self,
            "keys",
            |cursor| store.keys(ctx, PAGE, cursor),
            |_items| {}
        );
        pages!(
            self,
            "threads",
            |cursor| store.threads(ctx, None, PAGE, cursor),
            |threads| {
                for thread in &threads {
                    self.messages(thread.id).await?;
                }
            }
        );
        pages!(
            self,
            "runs",
            |cursor| store.runs(ctx, PAGE_OF_LONG, cursor),
            |_items| {}
        );
        pages!(
            self,
            "approvals",
            |cursor| store.approvals_within(ctx, (PAGE, ROW_BYTES), cursor),
            |_items| {}
        );
        self.events().await?;
        pages!(
            self,
            "files",
            |cursor| store.files(ctx, PAGE, cursor),
            |files| {
                for file in &files {
                    self.content(file).await?;
                }
            }
        );
        pages!(
            self,
            "audit",
            |cursor| store.audit(ctx, PAGE, cursor),
            |_items| {}
        );
        self.archive.end().await
    }

    async fn account(&self) -> Result<(), Error> {
        let (store, ctx) = (&self.gateway.store, &self.ctx);
        let id = ctx.user_id().ok_or_else(Error::forbidden)?;
        let user = store.user_by_id(ctx, id).await?;
        self.archive.lines("account.json", &[user]).await?;
        let sessions = store.sessions(ctx).await?;
        self.archive.lines("sessions.jsonl", &sessions).await?;
        let secrets = store.secret_list(ctx).await?;
        self.archive.lines("secrets.jsonl", &secrets).await?;
        let servers = store.tool_servers(ctx).await?.into_iter().map(|server| {
            json!({
                "name": server.name, "url": server.url, "headers": server.headers,
                "created_at": server.created_at, "updated_at": server.updated_at,
            })
        });
        let servers: Vec<_> = servers.collect();
        self.archive.lines("tool-servers.jsonl", &servers).await?;
        let days = store.usage(ctx).await?;
        self.archive.lines("usage.jsonl", &days).await?;
        let tools = store.tool_usage(ctx).await?;
        self.archive.lines("tool-usage.jsonl", &tools).await?;
        let (notes, _) = store.notes(ctx, None, MAX_NOTES as usize).await?;
        let notes: Vec<_> = notes
            .into_iter()
            .map(|note| {
                json!({
                    "name": note.name, "text": note.text,
                    "created_at": note.created_at, "updated_at": note.updated_at,
                })
            })
            .collect();
        self.archive.lines("notes.jsonl", &notes).await
    }

    async fn messages(&self, thread: netra_protocol::id::ThreadId) -> Result<(), Error> {
        let (store, ctx) = (&self.gateway.store, &self.ctx);
        let thread = match store.thread(ctx, thread).for_read().await {
            // Deleted meanwhile.
            Err(netra_store::Error::NotFound) => return Ok(()),
            found => found?,
        };
        let folder = format!("messages/{}", thread.id);
        pages!(
            self,
            folder,
            |cursor| store.messages(ctx, &thread, PAGE_OF_LONG, cursor),
            |_items| {}
        );
        Ok(())
    }

    async fn events(&self) -> Result<(), Error> {
        let (mut after, mut number) = (0, 0_u32);
        loop {
            let store = &self.gateway.store;
            let read = store.events_within(&self.ctx, after, EVENTS, EVENT_BYTES);
            let entries = read.await?;
            let Some(last) = entries.last() else {
                return Ok(());
            };
            (after, number) = (last.seq, number + 1);
            let mut content = String::new();
            for entry in &entries {
                content.push_str(&entry.json());
                content.push('\n');
            }
            let name = format!("events/{number:06}.jsonl");
            self.archive.entry(&name, content.into_bytes()).await?;
        }
    }

    async fn content(&self, file: &File) -> Result<(), Error> {
        let found = match self.gateway.store.file(&self.ctx, file.id).for_read().await {
            // Deleted meanwhile.
            Err(netra_store::Error::NotFound) => return Ok(()),
            found => found?,
        };
        let path = self.gateway.store.file_path(&found);
        let mut content = match tokio::fs::File::open(path).await {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(Error::internal)?,
        };
        let name = format!("content/{}", file.id);
        let mut entry = self.archive.begin(&name, file.bytes).await?;
        loop {
            let mut piece = vec![0; PIECE];
            let read = content.read(&mut piece).await.map_err(Error::internal)?;
            if read == 0 {
                return entry.end().await;
            }
            piece.truncate(read);
            entry.add(piece).await?;
        }
    }
}

/// Deletes the account and all that is the user's
///
/// For good. From the answer on no credential is good and the name is free; running runs are cancelled; threads,
/// messages, runs, events, files, keys, secrets, notes and figures are deleted. Audit records stay, under an id that
/// nobody has any more. A sign-in that is older than ten minutes, and an API key, needs the account's password. The
/// last admin stays: 409.
#[utoipa::path(delete, path = "/api/me", tag = "accounts", operation_id = "me_delete",
    request_body = Option<Leave>, responses((status = 204, description = "Deleted")))]
pub(crate) async fn me_delete(
    State(gateway): State<Gateway>,
    caller: Caller,
    visitor: Visitor,
    body: Payload,
) -> Result<StatusCode, Error> {
    let Leave { password } = body.read_or_default().await?;
    confirm(&gateway, &caller, &visitor, password).await?;
    let id = caller.verified.principal.user_id;
    gateway.store.user_leave(&caller.ctx).await?;
    gateway.verifier.revoke(Revoked::User(id));
    gateway.engine.end_runs_of(id).await;
    gateway.tool_servers.forget(id);
    erase(&gateway, id).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Deletes what can be deleted now. What cannot, goes with the next sweep: the user has left all the same.
async fn erase(gateway: &Gateway, id: UserId) {
    let ended = tokio::time::timeout(RUNS_END, gateway.engine.runs_gone(id));
    if ended.await.is_err() {
        tracing::warn!(user.id = %id, "runs of a user who has left go on");
    }
    let ctx = session::looking_up(gateway);
    match gateway.store.user_erase(&ctx, id).await {
        Ok(Left::Gone) => {}
        Ok(Left::RunsGoOn) => tracing::warn!(user.id = %id, "is not all deleted yet"),
        Err(error) => tracing::warn!(user.id = %id, %error, "is not all deleted yet"),
    }
}

/// Refuses whoever may have found a token lying about.
async fn confirm(
    gateway: &Gateway,
    caller: &Caller,
    visitor: &Visitor,
    password: Option<String>,
) -> Result<(), Error> {
    let (store, looking_up) = (&gateway.store, session::looking_up(gateway));
    let id = caller.verified.principal.user_id;
    let user = store.user_by_id(&caller.ctx, id).await?;
    let known = store.user_by_name(&looking_up, &user.name).await?;
    let hash = known.and_then(|known| known.password_hash);
    if let Some(password) = password {
        throttle(gateway, &user.name, visitor).await?;
        if gateway.passwords.check(password, hash).await? {
            return Ok(());
        }
        let message = "The password is not right.";
        return Err(Error::new(netra_protocol::ErrorCode::Forbidden, message));
    }
    let is_fresh = match caller.verified.grant {
        Grant::Console | Grant::Issuer => true,
        Grant::Session(session) => {
            let began = store.session_began(&looking_up, session).await?;
            gateway.runtime.now().millis_since(began) < FRESH_MS
        }
        Grant::Key(_) | Grant::Service { .. } => false,
    };
    if hash.is_none() || is_fresh {
        return Ok(());
    }
    let message = "Say the account's `password`, or sign in anew and ask again within ten minutes.";
    Err(Error::invalid(message).breaks("password", "required"))
}

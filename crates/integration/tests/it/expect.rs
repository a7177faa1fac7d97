//! What several tests look for in answers and events.

use anyhow::{Context as _, Result, bail, ensure};
use netra_client::{Error, Received, Socket};
use netra_integration::{FakeModel, Options, Reply, TestProcess, TestUser, soon};
use netra_protocol::ErrorCode;
use netra_protocol::event::EventKind;
use netra_protocol::id::RunId;

/// Fails unless the call was refused with this status and code.
pub(crate) fn refused<T>(result: Result<T, Error>, status: u16, code: ErrorCode) -> Result<Error> {
    match result {
        Ok(_) => bail!("expected {status} {code}, but it was accepted"),
        Err(error) => {
            ensure!(
                error.status() == Some(status) && error.code() == Some(code),
                "expected {status} {code}, got {error:?}"
            );
            Ok(error)
        }
    }
}

/// The names of events without the pieces of messages.
pub(crate) fn names(events: &[Received]) -> Vec<&'static str> {
    let kinds = events.iter().map(|received| &received.event.event.kind);
    kinds
        .filter(|kind| !kind.is_delta())
        .map(|kind| kind.name())
        .collect()
}

/// The events of a run, up to its last, as they come on a socket.
pub(crate) async fn until_end(socket: &mut Socket, run: RunId) -> Result<Vec<Received>> {
    let mut all = Vec::new();
    loop {
        let received = soon("the run's last event", socket.next_event()).await?;
        if received.event.event.run_id != run {
            continue;
        }
        let last = received.event.event.kind.is_terminal();
        all.push(received);
        if last {
            return Ok(all);
        }
    }
}

/// Waits for an event of this name.
pub(crate) async fn until(socket: &mut Socket, name: &str) -> Result<Received> {
    loop {
        let received = soon(name, socket.next_event()).await?;
        if received.event.event.kind.name() == name {
            return Ok(received);
        }
    }
}

/// Waits until the run of this socket asks its user, and allows what it asks.
pub(crate) async fn approve(user: &TestUser, socket: &mut Socket) -> Result<()> {
    let asked = until(socket, "approval_requested").await?;
    until(socket, "run_waiting").await?;
    approve_as(user, &asked).await
}

/// Says yes to what this event asks.
pub(crate) async fn approve_as(user: &TestUser, asked: &Received) -> Result<()> {
    let EventKind::ApprovalRequested { approval_id, .. } = &asked.event.event.kind else {
        bail!("{asked:?}");
    };
    let path = format!("/api/approvals/{approval_id}");
    let answer = user.client.request(reqwest::Method::POST, &path);
    let answer = answer.json(&serde_json::json!({"decision": "approve"}));
    user.client.send(answer).await?;
    Ok(())
}

/// Waits for the log to say this.
pub(crate) async fn until_logged(server: &TestProcess, words: &str) -> Result<()> {
    let logged = async {
        while !server.log()?.contains(words) {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    soon(words, logged).await
}

/// A model that begins an answer and never ends it, and the options of a server that uses it.
pub(crate) async fn hanging_model() -> Result<(FakeModel, Options)> {
    let model = FakeModel::start(|_| Reply::Hang("thinking".into())).await?;
    let options = with_model(&model);
    Ok((model, options))
}

/// Options of a server that uses this model by default.
pub(crate) fn with_model(model: &FakeModel) -> Options {
    Options::new()
        .set("models.providers.fake.base_url", model.url())
        .set("models.default", "fake/small")
}

/// A string field of JSON.
pub(crate) fn text<'a>(value: &'a serde_json::Value, pointer: &str) -> Result<&'a str> {
    let found = value.pointer(pointer).and_then(serde_json::Value::as_str);
    found.with_context(|| format!("no text at {pointer} of {value}"))
}

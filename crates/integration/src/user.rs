//! A user of a test's server, and the short ways to start runs.

use netra_client::{Client, Error, Feed, Received, Socket};
use netra_protocol::frame::{After, Subscribe};
use netra_protocol::id::{FileId, RunId, UserId};
use netra_protocol::message::{Content, Message};
use netra_protocol::run::{Run, StartRun};
use serde_json::Value;

/// A user with a token.
#[derive(Debug, Clone)]
pub struct TestUser {
    /// The id.
    pub id: UserId,
    /// The name.
    pub name: String,
    /// Asks as this user.
    pub client: Client,
}

impl TestUser {
    /// Starts a run on a new thread.
    pub async fn start(&self, agent: &str, input: impl Into<Value>) -> Result<Run, Error> {
        self.client
            .run_start(None, &start(agent, input), None)
            .await
    }

    /// Starts a run and waits for its end.
    pub async fn run(&self, agent: &str, input: impl Into<Value>) -> Result<Run, Error> {
        let run = self.start(agent, input).await?;
        self.client.run_end(run.id).await
    }

    /// A socket that gets all events from now on.
    pub async fn socket(&self) -> Result<Socket, Error> {
        let mut socket = Box::pin(Socket::connect(&self.client)).await?;
        socket.subscribe(from(After::Now)).await?;
        Ok(socket)
    }

    /// A feed of all events from the first one on.
    pub async fn feed(&self) -> Result<Feed, Error> {
        Box::pin(Feed::open(&self.client, from(After::Seq(0)))).await
    }

    /// The events of a run over SSE, from its start to its last.
    pub async fn events(&self, run: RunId) -> Result<Vec<Received>, Error> {
        let mut events = self.client.run_events(run);
        let mut all = Vec::new();
        while let Some(received) = events.next().await? {
            all.push(received);
        }
        Ok(all)
    }
}

fn from(after: After) -> Subscribe {
    Subscribe {
        after,
        epoch: None,
        threads: None,
        deltas: true,
    }
}

/// The start of a run with nothing but agent and input.
pub fn start(agent: &str, input: impl Into<Value>) -> StartRun {
    start_with_files(agent, input, Vec::new())
}

/// The same with files.
pub fn start_with_files(agent: &str, input: impl Into<Value>, files: Vec<FileId>) -> StartRun {
    StartRun {
        files,
        ..StartRun::new(agent, input)
    }
}

/// The text of a message.
pub fn text_of(message: &Message) -> String {
    let texts = message.content.iter().filter_map(|part| match part {
        Content::Text { text } => Some(text.as_str()),
        Content::File { .. } | Content::ToolCall { .. } | Content::ToolResult { .. } => None,
    });
    texts.collect()
}

//! One running instance of a tool server: the connection, the program, and whose memory it is.

use std::sync::Arc;
use std::time::Duration;

use netra_context::Secret;
use netra_context::memory::Scope;
use netra_context::programs::{Charged, Owner, Program as Counted, Shortage};
use netra_tools::{Redaction, cut_text};
use netra_worker::sandbox::Processes;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::config::{Address, Command, Era, Place};
use crate::connection::Connection;
use crate::ending::{Ending, Why};
use crate::lines::{Lines, MAX_MESSAGE_BYTES};
use crate::opened::Opened;
use crate::program::{Program, Started};
use crate::server::Server;
use crate::sign_in::SignIn;
use crate::web::Web;
use crate::words;

/// How long a program has to end by itself after its input was closed, and to tell how it ended.
const GRACE: Duration = Duration::from_secs(2);
/// The longest words about a start that failed, in bytes.
const MAX_WORDS: usize = 1024;
/// How many lines are kept of what a program wrote that did not start.
const LAST_LINES: usize = 12;

/// What stands in the place of a token of OAuth.
pub(crate) const TOKEN: &str = "token";

/// An instance that answers. Dropping it ends it.
pub(crate) struct Instance {
    pub(crate) connection: Connection,
    ending: Ending,
    /// None for a server of HTTP.
    program: Option<Arc<dyn Program>>,
    /// Its memory.
    charged: Option<Arc<Charged>>,
    /// The processes that it had before a run began to use it; none while no run does.
    pub(crate) kept: Mutex<Option<Processes>>,
    /// Ends with it, which is what others wait for.
    life: watch::Sender<()>,
    /// What it was given.
    pub(crate) opened: Opened,
    sign_in: Option<Arc<SignIn>>,
}

/// A program whose memory is counted, and that ends where it holds the most.
struct Held {
    program: Arc<dyn Program>,
    ending: Ending,
}

impl Counted for Held {
    fn memory_bytes(&self) -> u64 {
        self.program.memory_bytes()
    }

    fn end(&self, why: Shortage) {
        // First, so that whoever finds the connection closed is told of this.
        self.ending.note(Why::Shortage(why));
        self.program.end();
    }
}

impl Instance {
    /// Starts one, on its owner's account where it is a user's.
    ///
    /// # Errors
    /// In words.
    pub(crate) async fn start(
        server: &Server,
        owner: Option<Owner>,
        opened: &Opened,
    ) -> Result<Self, String> {
        let era = server.era();
        // One time for both askings: whoever waits was told of one.
        let end = Instant::now() + server.config.start;
        let why = match Self::start_as(server, owner.clone(), opened, (era, end)).await {
            Ok(started) => return Ok(started),
            Err(why) => why,
        };
        if era != Era::Newest || Instant::now() >= end {
            return Err(why);
        }
        // Some servers of the older era stumble over the question which eras they know.
        match Self::start_as(server, owner, opened, (Era::Sessions, end)).await {
            Ok(started) => {
                server.note_older();
                Ok(started)
            }
            Err(older) if older == why => Err(why),
            Err(older) => Err(format!("{why}; asked as an older server: {older}")),
        }
    }

    async fn start_as(
        server: &Server,
        owner: Option<Owner>,
        opened: &Opened,
        (era, end): (Era, Instant),
    ) -> Result<Self, String> {
        let started = async {
            match &server.config.place {
                Place::Stdio(command) => {
                    Self::of_program(server, command, owner, (opened, era)).await
                }
                Place::Http(address) => Self::of_address(server, address, (opened, era)).await,
            }
        };
        let started = tokio::time::timeout_at(end, started).await;
        let limit = server.config.start.as_millis();
        let late = |_| format!("it did not answer within {limit} ms");
        let started = started.map_err(late)?;
        let redaction = opened.redaction();
        started.map_err(|words| cut_text(&redaction.text(words), MAX_WORDS))
    }

    async fn of_program(
        server: &Server,
        command: &Command,
        owner: Option<Owner>,
        (opened, era): (&Opened, Era),
    ) -> Result<Self, String> {
        let Started {
            read,
            write,
            program,
        } = server
            .programs
            .start(&with_secrets(command, opened)?)
            .await?;
        let (program, ending) = (Arc::<dyn Program>::from(program), Ending::default());
        let scope = owner
            .as_ref()
            .map_or_else(Scope::system, |owner| owner.account.scope());
        let held = Held {
            program: Arc::clone(&program),
            ending: ending.clone(),
        };
        let most = command.memory_mib.saturating_mul(1024 * 1024);
        let charged = server.runtime().charge_program(owner, most, Box::new(held));
        let lines = Lines::new((read, write), scope, ending.clone());
        match server.connect(lines, era).await {
            Ok(connection) => Ok(Self {
                connection,
                ending,
                program: Some(program),
                charged: Some(charged),
                kept: Mutex::default(),
                life: watch::Sender::default(),
                opened: opened.clone(),
                sign_in: None,
            }),
            Err(error) => {
                let why = why(&ending, Some(&*program)).await;
                let why = why.map_or_else(|| words::of_start(&error), |why| why.to_string());
                // For the operator's eyes: what it wrote may tell what no user may know.
                let said = opened.redaction().text(last_lines(&program.said()));
                if !said.is_empty() {
                    tracing::warn!(
                        mcp.server = server.name,
                        why,
                        said,
                        "a tool server did not start"
                    );
                    server.note_said(said);
                }
                Err(why)
            }
        }
    }

    async fn of_address(
        server: &Server,
        address: &Address,
        (opened, era): (&Opened, Era),
    ) -> Result<Self, String> {
        let web = Web::new(address, opened)?;
        let sign_in = web.sign_in.clone();
        let mut config = StreamableHttpClientTransportConfig::with_uri(address.url.clone());
        config.max_sse_event_size = MAX_MESSAGE_BYTES;
        config.max_json_response_size = MAX_MESSAGE_BYTES;
        let transport = StreamableHttpClientTransport::with_client(web, config);
        let connection = server
            .connect(transport, era)
            .await
            .map_err(|error| words::of_start(&error))?;
        Ok(Self {
            connection,
            ending: Ending::default(),
            program: None,
            charged: None,
            kept: Mutex::default(),
            life: watch::Sender::default(),
            opened: opened.clone(),
            sign_in,
        })
    }

    /// Why it is no longer there, as far as that can be known.
    pub(crate) async fn why(&self) -> Why {
        let why = why(&self.ending, self.program.as_deref()).await;
        why.unwrap_or(Why::Closed)
    }

    /// Takes out what it was given, and what it was given for that.
    pub(crate) async fn redaction(&self) -> Redaction {
        let redaction = self.opened.redaction();
        if let Some(token) = self.token().await {
            redaction.add(TOKEN, &token);
        }
        redaction
    }

    /// The token that it was signed in with.
    pub(crate) async fn token(&self) -> Option<Secret> {
        self.sign_in.as_ref()?.token().await
    }

    /// Waits until it is gone, without being what keeps it.
    pub(crate) fn gone(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut life = self.life.subscribe();
        async move {
            // Nothing is ever sent there: it ends with the instance.
            life.changed().await.ok();
        }
    }

    /// Notes why it is going to be ended.
    pub(crate) fn note(&self, why: Why) {
        self.ending.note(why);
    }

    /// Whether it is a program whose user holds more memory than allowed.
    pub(crate) fn is_over(&self) -> bool {
        self.charged.as_ref().is_some_and(|held| held.is_over())
    }

    /// A run is going to use it. Whether it is the first of those that do is asked when nobody else is at it: else what
    /// another one has begun meanwhile would be ended.
    pub(crate) async fn begin_use(&self, is_first: impl FnOnce() -> bool + Send) {
        let Some(program) = &self.program else { return };
        let mut kept = self.kept.lock().await;
        if !is_first() && kept.is_some() {
            return;
        }
        // What the runs before have left, if nobody had the time to look.
        if let Some(before) = kept.take() {
            program.end_others(&before).await;
        }
        *kept = Some(program.processes());
    }

    /// Ends what runs have left, unless one of them goes on.
    pub(crate) async fn end_use(&self, is_used: impl Fn() -> bool + Send) {
        let Some(program) = &self.program else { return };
        let mut kept = self.kept.lock().await;
        if !is_used()
            && let Some(before) = kept.take()
        {
            program.end_others(&before).await;
        }
    }

    /// Closes the connection, gives the program time to end, and ends it.
    pub(crate) async fn stop(self) {
        self.connection.close().await;
        if let Some(program) = self.program {
            // What has not ended by then is ended by being dropped.
            tokio::time::timeout(GRACE, program.ended()).await.ok();
        }
    }
}

/// The command with the secrets in its environment.
fn with_secrets(command: &Command, opened: &Opened) -> Result<Command, String> {
    let mut command = command.clone();
    for (variable, used) in &command.secrets {
        let value = opened.text(used)?;
        command
            .environment
            .insert(variable.clone(), (*value).clone());
    }
    Ok(command)
}

/// The last of what a program wrote, which is where it says why it failed.
fn last_lines(said: &str) -> String {
    let lines: Vec<&str> = said.trim().lines().collect();
    let mut kept = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
    if kept.len() > MAX_WORDS {
        let from = kept.ceil_char_boundary(kept.len() - MAX_WORDS);
        kept.drain(..from);
    }
    kept
}

async fn why(ending: &Ending, program: Option<&dyn Program>) -> Option<Why> {
    let noted = ending.why();
    let (None | Some(Why::Closed), Some(program)) = (&noted, program) else {
        return noted;
    };
    match tokio::time::timeout(GRACE, program.ended()).await {
        Ok(how) => Some(Why::Ended(how)),
        Err(_) => noted,
    }
}

/// An error with its causes, each said once.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use netra_context::Runtime;
    use netra_protocol::tool::ToolServerScope;

    use super::*;
    use crate::scripted_tests;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_is_given_up_after_one_time_for_both_eras() {
        let runtime = Runtime::new();
        let (mut config, programs, scripted) =
            scripted_tests::server(&runtime, ToolServerScope::User);
        config.era = Era::Newest;
        scripted.fall_silent();
        let most = config.start + Duration::from_secs(1);
        let server = Server::new(&runtime, "mute".into(), config, programs);
        let begun = Instant::now();
        let started = server.start(None, &Opened::default()).await;
        let why = started.err().unwrap();
        assert!(why.contains("did not answer within 30000 ms"), "{why}");
        assert!(begun.elapsed() < most, "{:?}", begun.elapsed());
    }

    #[test]
    fn of_a_long_complaint_the_end_is_kept() {
        let long: String = (0..100).map(|n| format!("line {n}\n")).collect();
        let kept = last_lines(&long);
        assert!(
            kept.starts_with("line 88") && kept.ends_with("line 99"),
            "{kept}"
        );
        let wide = last_lines(&"é".repeat(2_000));
        assert!(wide.len() <= MAX_WORDS && wide.ends_with('é'), "{wide}");
        assert_eq!(last_lines(" \n"), "");
    }
}

//! One configured tool server: what is known of it, and how it is asked what it offers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use netra_context::programs::Owner;
use netra_context::{Runtime, Secret};
use netra_protocol::tool::{OwnToolServer, ToolServer, ToolServerState};
use netra_store::UserToolServer;
use netra_tools::{OF_USERS, bytes_of, cut_text};
use parking_lot::Mutex;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, ClientRequest, JsonObject, ListToolsRequest,
    PaginatedRequestParams, ProtocolVersion, ServerPeerInfo, ServerResult,
};
use rmcp::service::{ClientInitializeError, RoleClient};
use rmcp::transport::IntoTransport;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::config::{Era, Place, ServerConfig};
use crate::connection::Connection;
use crate::ending::Why;
use crate::instance::{Instance, TOKEN};
use crate::offer::{Asks, MAX_TOOLS, Offers};
use crate::opened::Opened;
use crate::program::Programs;
use crate::words;

/// The most pages that a list of tools may have.
const MAX_PAGES: usize = 64;

/// One configured tool server.
pub(crate) struct Server {
    pub(crate) name: String,
    /// Whether a user has added it.
    is_own: bool,
    /// The names of the secrets that an instance is given, each with what it is bound to.
    secrets: BTreeSet<(String, String)>,
    /// What it is given besides that nobody is to see.
    plain: Arc<[(String, Secret)]>,
    pub(crate) config: ServerConfig,
    pub(crate) programs: Arc<dyn Programs>,
    runtime: Runtime,
    /// Told when an instance says that its tools are others now.
    pub(crate) changed: Arc<Notify>,
    crashes: AtomicU64,
    is_older: AtomicBool,
    known: Mutex<Known>,
    /// The last that a program wrote to its standard error which did not start.
    said: Mutex<Option<String>>,
}

/// What is known of a server.
pub(crate) struct Known {
    state: ToolServerState,
    problem: Option<String>,
    title: Option<String>,
    protocol: Option<String>,
    tools: Vec<String>,
    left_out: Vec<String>,
}

impl Known {
    /// Of one that has answered.
    pub(crate) fn of(offers: &Offers) -> Self {
        let names = offers.taken.iter().map(|offer| offer.spec.name.clone());
        Self {
            state: ToolServerState::Ready,
            problem: None,
            title: offers.title.clone(),
            protocol: offers.protocol.clone(),
            tools: names.collect(),
            left_out: offers.left_out.clone(),
        }
    }
}

impl Server {
    pub(crate) fn new(
        runtime: &Runtime,
        name: String,
        config: ServerConfig,
        programs: Arc<dyn Programs>,
    ) -> Self {
        let secrets = config.place.secrets(&name);
        let plain = config.place.plain_values().into();
        let is_own = matches!(&config.place, Place::Http(address) if address.judged.is_some());
        Self {
            name,
            is_own,
            secrets,
            plain,
            config,
            programs,
            runtime: runtime.clone(),
            changed: Arc::default(),
            crashes: AtomicU64::new(0),
            is_older: AtomicBool::new(false),
            known: Mutex::new(Known {
                state: ToolServerState::Starting,
                ..Known::of(&Offers::default())
            }),
            said: Mutex::default(),
        }
    }

    pub(crate) fn note_said(&self, said: String) {
        *self.said.lock() = Some(said);
    }

    /// What it is called where all users' own servers are one, so that users cannot make up names there.
    pub(crate) fn label(&self) -> &str {
        if self.is_own { OF_USERS } else { &self.name }
    }

    /// Whether a user has brought it.
    pub(crate) fn is_of_user(&self) -> bool {
        self.is_own
    }

    /// The names of the secrets that an instance is given, each with what it has to be bound to.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = (&str, &str)> {
        self.secrets
            .iter()
            .map(|(name, place)| (name.as_str(), place.as_str()))
    }

    /// What an instance is given as it stands in the configuration, which nobody is to see.
    pub(crate) fn plain(&self) -> Arc<[(String, Secret)]> {
        Arc::clone(&self.plain)
    }

    /// The era that is spoken first.
    pub(crate) fn era(&self) -> Era {
        match self.config.era {
            Era::Newest if self.is_older.load(Ordering::Relaxed) => Era::Sessions,
            era => era,
        }
    }

    /// It speaks the older era only, and does not know how to say so.
    pub(crate) fn note_older(&self) {
        self.is_older.store(true, Ordering::Relaxed);
    }

    pub(crate) const fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Opens a connection over this transport.
    pub(crate) async fn connect<T, E, A>(
        &self,
        transport: T,
        era: Era,
    ) -> Result<Connection, ClientInitializeError>
    where
        T: IntoTransport<RoleClient, E, A>,
        E: std::error::Error + Send + Sync + 'static,
    {
        let changed = Arc::clone(&self.changed);
        Connection::open(&self.runtime, transport, era, changed).await
    }

    /// Starts an instance.
    ///
    /// # Errors
    /// In words.
    pub(crate) async fn start(
        &self,
        owner: Option<Owner>,
        opened: &Opened,
    ) -> Result<Instance, String> {
        let started = Box::pin(Instance::start(self, owner, opened)).await;
        let outcome = if started.is_ok() { "ok" } else { "failed" };
        metrics::counter!("netra_mcp_starts_total",
            "server" => self.label().to_owned(), "outcome" => outcome)
        .increment(1);
        started
    }

    /// Starts an instance that will be called.
    ///
    /// # Errors
    /// In words.
    pub(crate) async fn start_for_calls(
        &self,
        owner: Option<Owner>,
        opened: &Opened,
    ) -> Result<Instance, String> {
        let instance = self.start(owner, opened).await?;
        // In the newer era some arguments go into headers too. The transport makes them from the
        // list of tools that the same connection has seen.
        let wants_list = |info: &ServerPeerInfo| {
            info.protocol_version >= ProtocolVersion::V_2026_07_28
                && info.capabilities.tools.is_some()
        };
        let is_http = matches!(self.config.place, Place::Http(_));
        if is_http
            && instance
                .connection
                .server()
                .as_deref()
                .is_some_and(wants_list)
        {
            let listed = tools_of(&instance.connection, self.config.list_bytes);
            let listed = tokio::time::timeout(self.config.start, listed);
            listed
                .await
                .map_err(|_| "it did not list its tools in time".to_owned())??;
        }
        instance.connection.listen();
        Ok(instance)
    }

    /// An instance has ended by itself.
    pub(crate) fn crashed(&self, why: &Why) {
        self.crashes.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("netra_mcp_crashes_total", "server" => self.label().to_owned())
            .increment(1);
        tracing::warn!(mcp.server = self.name, %why, "an instance of a tool server has ended");
    }

    /// Asks the server what it offers: the instance that serves its owner now, as a server may keep for each which tools
    /// it has; where there is none, or it does not say, one that is there for this question only.
    ///
    /// # Errors
    /// In words.
    pub(crate) async fn offers(
        &self,
        seated: Option<Arc<Instance>>,
        owner: Option<Owner>,
        opened: &Opened,
    ) -> Result<Offers, String> {
        let is_good =
            |one: &Arc<Instance>| !one.connection.is_closed() && one.opened.is_same_as(opened);
        if let Some(instance) = seated.filter(is_good)
            && let Ok(offers) = self.offers_now(&instance).await
        {
            return Ok(offers);
        }
        // Starting it and listing its tools share one time.
        let end = Instant::now() + self.config.start;
        let instance = self.start(owner, opened).await?;
        let offers = self.offers_until(&instance, end).await;
        instance.stop().await;
        offers
    }

    /// Asks an instance that is there already what it offers now.
    ///
    /// # Errors
    /// In words.
    pub(crate) async fn offers_now(&self, instance: &Instance) -> Result<Offers, String> {
        let end = Instant::now() + self.config.start;
        self.offers_until(instance, end).await
    }

    async fn offers_until(&self, instance: &Instance, end: Instant) -> Result<Offers, String> {
        let asked = tokio::time::timeout_at(end, self.offers_of(instance)).await;
        asked.map_err(|_| "it did not list its tools in time".to_owned())?
    }

    /// Starts an instance, asks it what it offers, makes calls, and gives the answers as they came.
    ///
    /// # Errors
    /// In words.
    pub(crate) async fn tried(
        &self,
        calls: Vec<(String, Option<JsonObject>)>,
        opened: &Opened,
    ) -> Result<(Offers, Vec<Result<Value, String>>), String> {
        let started = self.start(None, opened).await;
        // Whoever tries a server out is its operator, who may read what it wrote.
        let instance = started.map_err(|why| match self.said.lock().take() {
            Some(said) => format!("{why}\nit wrote to its standard error:\n{said}"),
            None => why,
        })?;
        let offers = self.offers_of(&instance).await;
        let redaction = instance.redaction().await;
        let mut answers = Vec::new();
        for (name, arguments) in calls {
            let mut params = CallToolRequestParams::new(name);
            params.arguments = arguments;
            let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
            let asked = instance.connection.ask(request, None);
            answers.push(match tokio::time::timeout(self.config.call, asked).await {
                Ok(Ok(answer)) => json(&answer).map(|answer| redaction.value(answer)),
                Ok(Err(error)) => Err(redaction.text(words::of_question(&error))),
                Err(_) => Err("no answer in time".to_owned()),
            });
        }
        instance.stop().await;
        Ok((offers?, answers))
    }

    async fn offers_of(&self, instance: &Instance) -> Result<Offers, String> {
        let connection = &instance.connection;
        let redaction = instance.redaction().await;
        let info = connection.server();
        let can = info.as_deref().map(|info| &info.capabilities);
        let mut further = Vec::new();
        if can.is_some_and(|can| can.resources.is_some()) {
            further.extend([Asks::ListResources, Asks::ReadResource]);
        }
        if can.is_some_and(|can| can.prompts.is_some()) {
            further.extend([Asks::ListPrompts, Asks::GetPrompt]);
        }
        let listed = match can {
            Some(can) if can.tools.is_none() => Ok(Vec::new()),
            _ => tools_of(connection, self.config.list_bytes).await,
        };
        // It may have been signed in for that, or anew.
        let token = instance.token().await;
        token.iter().for_each(|token| redaction.add(TOKEN, token));
        let tools = listed.map_err(|words| redaction.text(words))?;
        // A server can write what it was given into what it says of its tools.
        let tools: Vec<Value> = tools
            .into_iter()
            .map(|tool| redaction.value(tool))
            .collect();
        let own = info.as_deref().and_then(|info| info.server_info.as_ref());
        let title = own.map(|own| redaction.text(format!("{} {}", own.name, own.version)));
        Ok(Offers {
            title: title.map(|title| cut_text(&title, 256)),
            protocol: info.map(|info| info.protocol_version.to_string()),
            ..Offers::of(&self.name, &self.config, &tools, further)
        })
    }

    /// This is there now, but for what was refused. Not to be said before: whoever hears of it looks for the tools.
    pub(crate) fn note_known(
        &self,
        mut known: Known,
        refused: impl IntoIterator<Item = (String, String)>,
    ) {
        for (name, why) in refused {
            known.tools.retain(|tool| *tool != name);
            known.left_out.push(cut_text(&why, 512));
        }
        *self.known.lock() = known;
    }

    /// What it has said still holds.
    pub(crate) fn note_here(&self) {
        let mut known = self.known.lock();
        known.state = ToolServerState::Ready;
        known.problem = None;
    }

    /// It does not say what it offers.
    pub(crate) fn note_away(&self, why: &str) {
        let mut known = self.known.lock();
        known.state = ToolServerState::Away;
        known.problem = Some(why.to_owned());
    }

    /// As its user sees it.
    pub(crate) fn shown_own(&self, put: UserToolServer) -> OwnToolServer {
        let known = self.known.lock();
        OwnToolServer {
            name: put.name,
            url: put.url,
            headers: put.headers,
            state: known.state,
            problem: known.problem.clone(),
            title: known.title.clone(),
            protocol: known.protocol.clone(),
            tools: known.tools.clone(),
            left_out: known.left_out.clone(),
            created_at: put.created_at,
            updated_at: put.updated_at,
        }
    }

    pub(crate) fn shown(&self, instances: usize) -> ToolServer {
        let known = self.known.lock();
        ToolServer {
            name: self.name.clone(),
            transport: self.config.place.transport(),
            scope: self.config.scope,
            state: known.state,
            problem: known.problem.clone(),
            title: known.title.clone(),
            protocol: known.protocol.clone(),
            tools: known.tools.clone(),
            left_out: known.left_out.clone(),
            instances: u32::try_from(instances).unwrap_or(u32::MAX),
            crashes: self.crashes.load(Ordering::Relaxed),
        }
    }
}

/// All tools as the server lists them. They are read as JSON, so that one that is malformed does
/// not hide the others.
async fn tools_of(connection: &Connection, most_bytes: usize) -> Result<Vec<Value>, String> {
    let (mut tools, mut bytes, mut cursor) = (Vec::new(), 0, None);
    for _ in 0..MAX_PAGES {
        let params = PaginatedRequestParams::default().with_cursor(cursor.take());
        let request = ClientRequest::ListToolsRequest(ListToolsRequest {
            params: Some(params),
            ..ListToolsRequest::default()
        });
        let answer = connection
            .ask(request, None)
            .await
            .map_err(|error| words::of_question(&error))?;
        let mut page = json(&answer)?;
        bytes += bytes_of(&page);
        let Some(Value::Array(listed)) = page.get_mut("tools").map(Value::take) else {
            return Err("its list of tools is none".to_owned());
        };
        tools.extend(listed);
        cursor = page
            .get("nextCursor")
            .and_then(Value::as_str)
            .map(str::to_owned);
        if bytes > most_bytes {
            return Err(format!(
                "its list of tools has more than {most_bytes} bytes"
            ));
        }
        if cursor.is_none() || tools.len() > MAX_TOOLS {
            return Ok(tools);
        }
    }
    Err(format!("its list of tools has more than {MAX_PAGES} pages"))
}

fn json(answer: &ServerResult) -> Result<Value, String> {
    serde_json::to_value(answer).map_err(|error| error.to_string())
}

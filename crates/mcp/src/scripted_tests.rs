//! Tool servers of tests that run in memory: each instance keeps which tools it has, and says so when they change.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use netra_context::runtime::TaskKind;
use netra_context::{Principal, Rights, Runtime, UserExecutionContext};
use netra_protocol::account::{Plan, Role};
use netra_protocol::id::UserId;
use netra_protocol::limits::Limits;
use netra_protocol::tool::ToolServerScope;
use netra_tools::{Policy, Registry};
use netra_worker::sandbox::Processes;
use parking_lot::Mutex;
use rmcp::model::{CallToolRequest, CallToolRequestParams, ClientRequest};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, DuplexStream, split};

use crate::config::{Command, Era, Place, ServerConfig};
use crate::opened::Opened;
use crate::program::{Program, Programs, Started};
use crate::seat::Seat;
use crate::seats::Seats;

/// The name of the server.
pub(crate) const NAME: &str = "fake";

/// What all instances share: who was asked for its tools, by the order in which they were started.
#[derive(Default)]
pub(crate) struct Scripted {
    is_silent: AtomicBool,
    started: AtomicUsize,
    listed: Mutex<Vec<usize>>,
}

impl Scripted {
    /// The instances that were asked for their tools, once for each time.
    pub(crate) fn listed(&self) -> Vec<usize> {
        self.listed.lock().clone()
    }

    /// From now on nothing is answered.
    pub(crate) fn fall_silent(&self) {
        self.is_silent.store(true, Ordering::Relaxed);
    }

    /// Answers for one instance until nobody is at the other end.
    async fn serve(self: Arc<Self>, number: usize, stream: DuplexStream) {
        let (read, mut write) = split(stream);
        let mut lines = BufReader::new(read).lines();
        let mut tools = vec!["sprout"];
        while let Ok(Some(line)) = lines.next_line().await {
            let request: Value = serde_json::from_str(&line).unwrap();
            let id = request.get("id");
            let Some(id) = id.filter(|_| !self.is_silent.load(Ordering::Relaxed)) else {
                continue;
            };
            let mut said = Vec::new();
            let result = match request["method"].as_str().unwrap() {
                "initialize" => json!({
                    "protocolVersion": "2025-11-25",
                    "capabilities": { "tools": { "listChanged": true } },
                    "serverInfo": { "name": "scripted", "version": "1" },
                }),
                "tools/list" => {
                    self.listed.lock().push(number);
                    let described =
                        |name| json!({ "name": name, "inputSchema": { "type": "object" } });
                    json!({ "tools": tools.iter().map(described).collect::<Vec<_>>() })
                }
                // No other instance has it.
                "tools/call" => {
                    tools.push("leaf");
                    said.push(json!({
                        "jsonrpc": "2.0", "method": "notifications/tools/list_changed"
                    }));
                    json!({ "content": [] })
                }
                other => panic!("{other}"),
            };
            said.push(json!({ "jsonrpc": "2.0", "id": id, "result": result }));
            for message in said {
                let line = format!("{message}\n");
                write.write_all(line.as_bytes()).await.unwrap();
            }
        }
    }
}

/// Starts instances.
struct Instances(Runtime, Arc<Scripted>);

#[async_trait]
impl Programs for Instances {
    async fn start(&self, _: &Command) -> Result<Started, String> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let number = self.1.started.fetch_add(1, Ordering::Relaxed);
        let serving = Arc::clone(&self.1).serve(number, far);
        self.0.spawn(TaskKind::Part, serving);
        let (read, write) = split(near);
        Ok(Started {
            read: Box::new(read),
            write: Box::new(write),
            program: Box::new(InMemory),
        })
    }
}

/// It ends when its connection is closed.
struct InMemory;

#[async_trait]
impl Program for InMemory {
    fn memory_bytes(&self) -> u64 {
        0
    }

    fn process_id(&self) -> Option<u32> {
        None
    }

    fn processes(&self) -> Processes {
        Processes::default()
    }

    async fn end_others(&self, _: &Processes) {}

    fn end(&self) {}

    async fn ended(&self) -> String {
        "ended".to_owned()
    }

    fn said(&self) -> String {
        String::new()
    }
}

/// A server of this scope, what starts its instances, and what these have been asked.
pub(crate) fn server(
    runtime: &Runtime,
    scope: ToolServerScope,
) -> (ServerConfig, Arc<dyn Programs>, Arc<Scripted>) {
    let command = Command {
        program: "/bin/scripted".into(),
        arguments: Vec::new(),
        environment: Default::default(),
        secrets: Default::default(),
        read: Vec::new(),
        write: Vec::new(),
        network: false,
        memory_mib: 1,
    };
    let config = ServerConfig {
        scope,
        era: Era::Sessions,
        ..ServerConfig::new(Place::Stdio(command))
    };
    let scripted = Arc::<Scripted>::default();
    let programs = Instances(runtime.clone(), Arc::clone(&scripted));
    (config, Arc::new(programs), scripted)
}

pub(crate) fn policy() -> Policy {
    Policy::shipped("production").unwrap()
}

pub(crate) fn registry() -> Arc<Registry> {
    Arc::new(Registry::new(Vec::new(), policy()).unwrap())
}

/// The context of a user.
pub(crate) fn user(runtime: &Runtime) -> UserExecutionContext {
    let principal = Principal {
        user_id: runtime.new_id(UserId::from_parts),
        role: Role::User,
        plan: Plan::Pro,
        groups: Arc::default(),
        rights: Rights::of_role(Role::User),
        limits: Arc::new(Limits::default()),
        session: None,
    };
    UserExecutionContext::for_test(runtime, principal)
}

/// Has the instance of this seat get a tool that no other one has.
pub(crate) async fn sprout(ctx: &UserExecutionContext, seats: &Arc<Seats>, seat: &Seat) {
    let params = CallToolRequestParams::new("sprout");
    let request = ClientRequest::CallToolRequest(CallToolRequest::new(params));
    let given = (&Opened::default(), &(|_: &_| {}) as _);
    seat.ask(ctx, seats, given, (request, None)).await.unwrap();
}

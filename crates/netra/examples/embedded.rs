//! A server inside a program of one's own, with an agent in Rust: `cargo run --example embedded -- ./data`.

use std::sync::Arc;

use async_trait::async_trait;
use netra::config::{Config, Layers};
use netra::node::{Further, Node};
use netra_engine::{Agent, AgentSpec, Stopped, Work};
use serde_json::{Value, json};

/// Tells the time.
struct Clock;

#[async_trait]
impl Agent for Clock {
    fn name(&self) -> &str {
        "clock"
    }

    fn spec(&self) -> AgentSpec {
        AgentSpec {
            description: "Tells the time.".to_owned(),
            tools: vec!["time_now".to_owned()],
            ..AgentSpec::default()
        }
    }

    async fn run(&self, work: Work<'_>) -> Result<Value, Stopped> {
        work.think("looking at the clock", None).await?;
        match work.tool("time_now", json!({})).await {
            Ok(clock) => Ok(json!({ "text": format!("It is {}.", clock["now"]) })),
            // A limit of the run, a cancel or a question to a person is no failure of the tool.
            Err(stopped) if stopped.failure().is_none() => Err(stopped),
            Err(_) => Ok(json!({ "text": "There is no clock." })),
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let data = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "netra-data".into());
    let layers = Layers::new().flag("data.dir", "data", data);
    let further = Further {
        agents: vec![Arc::new(Clock)],
        ..Further::default()
    };
    let node = Box::pin(Node::start_with(Config::load(layers)?, further)).await?;
    tokio::signal::ctrl_c().await?;
    node.stop().await;
    Ok(())
}

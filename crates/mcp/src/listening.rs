//! Listening to an instance that users call: where it says that its tools are others now, it is asked itself, because
//! a server may keep for each instance which tools it has. What it answers holds for whom it serves.

use std::sync::{Arc, Weak};

use netra_context::runtime::TaskKind;
use netra_protocol::id::UserId;
use netra_protocol::tool::ToolServerScope;
use netra_tools::Registry;
use tokio::sync::{Notify, watch};

use crate::instance::Instance;
use crate::seat::Seat;
use crate::seats::Seats;
use crate::server::Server;
use crate::servers::{CALM, tools};

/// Listens as long as the instance is there. That of a run is not listened to: a run keeps the tools that it began
/// with.
pub(crate) fn begin(seats: &Arc<Seats>, seat: &Seat, instance: &Arc<Instance>) {
    let is_of_run = seat.server.config.scope == ToolServerScope::Run;
    let Some(registry) = seats.registry().filter(|_| !is_of_run) else {
        return;
    };
    let listening = Listening {
        registry: Arc::clone(registry),
        seats: Arc::downgrade(seats),
        server: Arc::clone(&seat.server),
        user: seat.user,
        instance: Arc::downgrade(instance),
        changed: instance.connection.changed(),
        life: instance.life(),
    };
    seats.runtime().spawn(TaskKind::Part, listening.go_on());
}

struct Listening {
    registry: Arc<Registry>,
    seats: Weak<Seats>,
    server: Arc<Server>,
    /// None where the instance is everybody's.
    user: Option<UserId>,
    instance: Weak<Instance>,
    changed: Arc<Notify>,
    life: watch::Receiver<()>,
}

impl Listening {
    async fn go_on(self) {
        let mut life = self.life.clone();
        // Nothing is ever sent there: it ends with the instance.
        tokio::select! {
            _ = life.changed() => {}
            () = self.hear() => {}
        }
        if let Some(user) = self.user {
            self.registry.forget_for(user, &self.server.name);
        }
    }

    async fn hear(&self) {
        loop {
            self.changed.notified().await;
            let (Some(instance), Some(seats)) = (self.instance.upgrade(), self.seats.upgrade())
            else {
                return;
            };
            match self.server.offers_now(&instance).await {
                Ok(offers) => {
                    let name = &self.server.name;
                    let tools = tools(&self.server, &seats, offers);
                    match self.user {
                        Some(user) => self.registry.learn_for(user, name, tools),
                        None => self.registry.learn(name, tools),
                    };
                }
                Err(why) => {
                    let name = &self.server.name;
                    tracing::warn!(
                        mcp.server = name,
                        why,
                        "an instance does not list its tools"
                    );
                }
            }
            drop((instance, seats));
            tokio::time::sleep(CALM).await;
        }
    }
}

//! Listening to an instance that serves one user: where it says that its tools are others now, it is asked itself,
//! because a server may keep for each instance which tools it has. What it answers holds for that user.

use std::sync::{Arc, Weak};

use netra_context::runtime::TaskKind;
use netra_protocol::tool::ToolServerScope;
use netra_tools::Voice;
use tokio::sync::Notify;

use crate::instance::Instance;
use crate::seat::Seat;
use crate::seats::Seats;
use crate::server::Server;
use crate::servers::{CALM, tools};

/// Listens as long as the instance is there. Others are not listened to: everybody's is asked by whoever learns for
/// everybody, a run keeps the tools that it began with, and what is of each user anyway is asked for when it is needed.
pub(crate) fn begin(seats: &Arc<Seats>, seat: &Seat, instance: &Arc<Instance>) {
    let server = &seat.server;
    let (Some(registry), Some(user), ToolServerScope::User) =
        (seats.registry(), seat.user, server.config.scope)
    else {
        return;
    };
    if registry.is_of_each_user(&server.name) {
        return;
    }
    let listening = Listening {
        voice: registry.voice(user, &server.name),
        seats: Arc::downgrade(seats),
        server: Arc::clone(server),
        instance: Arc::downgrade(instance),
        changed: instance.connection.changed(),
    };
    let gone = instance.gone();
    seats.runtime().spawn(TaskKind::Part, async move {
        tokio::select! {
            () = gone => {}
            () = listening.hear() => {}
        }
    });
}

struct Listening {
    voice: Voice,
    seats: Weak<Seats>,
    server: Arc<Server>,
    instance: Weak<Instance>,
    changed: Arc<Notify>,
}

impl Listening {
    async fn hear(&self) {
        loop {
            self.changed.notified().await;
            let (Some(instance), Some(seats)) = (self.instance.upgrade(), self.seats.upgrade())
            else {
                return;
            };
            match self.server.offers_now(&instance).await {
                Ok(offers) => {
                    self.voice.say(tools(&self.server, &seats, offers));
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

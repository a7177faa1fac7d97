//! What admins see of that world.

use std::collections::BTreeMap;

use netra_protocol::account::{Plan, Role};
use netra_protocol::admin::{
    AdminRun, ChangedUser, Invite, Link, MetricsHistory, MetricsPoint, Plans,
};
use netra_protocol::id::InviteId;
use netra_protocol::isolation::{
    Isolation, MemoryHoldings, MustBeZero, NodeHoldings, Slots, UserHoldings,
};
use netra_protocol::limits::LimitOverrides;
use netra_protocol::model::{Model, ModelPrice};

use super::{NOON, RANDOM, at, run, user};

fn link(path: &str) -> Link {
    let token = "mZ7yR4uE9oSdLfHjPzQvCxBnMVb1c2Xw0n6q5aGk3t8";
    Link {
        token: token.into(),
        url: format!("https://netra.example/{path}#{token}"),
        expires_at: at(7 * 86_400_000),
    }
}

/// With the link that was asked for.
pub(in crate::openapi) fn changed_user() -> ChangedUser {
    ChangedUser {
        user: user(),
        reset_link: Some(link("reset")),
    }
}

pub(in crate::openapi) fn new_invite() -> Invite {
    Invite {
        id: id!(InviteId, 6),
        role: Role::User,
        plan: Plan::Free,
        created_at: at(6),
        expires_at: at(7 * 86_400_000),
        link: Some(link("register")),
    }
}

pub(in crate::openapi) fn invite() -> Invite {
    Invite {
        link: None,
        ..new_invite()
    }
}

pub(in crate::openapi) fn plans() -> Plans {
    Plans {
        pro: LimitOverrides {
            concurrent_runs: Some(10),
            budget_usd: Some(20.0),
            ..LimitOverrides::default()
        },
        ..Plans::default()
    }
}

pub(in crate::openapi) fn history() -> MetricsHistory {
    MetricsHistory {
        interval_ms: 10_000,
        points: vec![MetricsPoint {
            at: at(0),
            values: BTreeMap::from([("netra_runs_active".into(), 3.0)]),
        }],
    }
}

pub(in crate::openapi) fn admin_run() -> AdminRun {
    let run = run();
    AdminRun {
        id: run.id,
        user_id: user().id,
        thread_id: run.thread_id,
        agent: run.agent,
        status: run.status,
        attempt: run.attempt,
        queue_position: None,
        created_at: run.created_at,
        started_at: run.started_at,
        ended_at: None,
        deadline: run.deadline,
        error_code: None,
        usage: run.usage,
    }
}

pub(in crate::openapi) fn isolation() -> Isolation {
    let slots = Slots {
        running: 1,
        queued: 0,
        waiting: 0,
        allowed: 5,
    };
    Isolation {
        at: at(25),
        users: vec![UserHoldings {
            user_id: user().id,
            name: Some("anna".into()),
            slots,
            memory: Some(MemoryHoldings {
                heap_bytes: Some(98_304),
                worker_bytes: 0,
                program_bytes: 0,
                peak_bytes: Some(131_072),
                limit_bytes: 1_073_741_824,
            }),
            workers: 0,
            sockets: 1,
            streams: 0,
            limits_hit: BTreeMap::from([("concurrent_runs".into(), 2)]),
        }],
        node: NodeHoldings {
            slots: Slots {
                allowed: 10_000,
                ..slots
            },
            heap_bytes: Some(8_388_608),
            system_bytes: Some(8_290_304),
            program_bytes: 0,
            workers: 0,
            connections: 1,
            tasks: 24,
        },
        must_be_zero: MustBeZero::default(),
    }
}

pub(in crate::openapi) fn model() -> Model {
    Model {
        name: "openai/gpt-5-mini".into(),
        kind: "openai".into(),
        default: true,
        problem: None,
        native_schema: true,
        images: true,
        price: Some(ModelPrice {
            input: 0.25,
            cached_input: Some(0.025),
            output: 2.0,
            source: Some("built in, of 2026-11-25".into()),
        }),
    }
}

//! The limits of a user, with the contract's defaults, and what a plan or an admin puts in their place.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

fn below(least: u64) -> impl Fn(u64) -> bool {
    move |value| value < least
}

/// Makes the limits and, with the same keys, what is laid over them.
macro_rules! limits {
    (
        always { $($(#[$doc:meta])* $name:ident: $type:ty = $default:expr, $least:literal;)* }
        by_plan { $($(#[$plan_doc:meta])* $plan_name:ident: $plan_type:ty;)* }
    ) => {
        /// What one user may use. Defaults are the contract's, section 4.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct Limits {
            $($(#[$doc])* pub $name: $type,)*
            $($(#[$plan_doc])* pub $plan_name: Option<$plan_type>,)*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($name: $default,)* $($plan_name: None,)* }
            }
        }

        /// Limits in place of others: what is absent stays as it is below.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct LimitOverrides {
            $($(#[$doc])*
            #[serde(skip_serializing_if = "Option::is_none")]
            pub $name: Option<$type>,)*
            $($(#[$plan_doc])*
            #[serde(skip_serializing_if = "Option::is_none")]
            pub $plan_name: Option<$plan_type>,)*
        }

        impl LimitOverrides {
            /// The least that each can be.
            pub const LEAST: &[(&str, u64)] = &[$((stringify!($name), $least),)* ("budget_usd", 0)];

            /// The limits below with these in their place.
            #[must_use]
            pub fn over(&self, below: &Limits) -> Limits {
                Limits {
                    $($name: self.$name.unwrap_or(below.$name),)*
                    $($plan_name: self.$plan_name.or(below.$plan_name),)*
                }
            }

            /// The first that no user can have, with the least that it can be. A limit of nothing would
            /// make the server useless in a way that is hard to see.
            pub fn too_low(&self) -> Option<(&'static str, u64)> {
                $(if self.$name.map(u64::from).is_some_and(below($least)) {
                    return Some((stringify!($name), $least));
                })*
                match self.budget_usd {
                    Some(usd) if !usd.is_finite() || usd < 0.0 => Some(("budget_usd", 0)),
                    _ => None,
                }
            }
        }

        impl From<&Limits> for LimitOverrides {
            fn from(limits: &Limits) -> Self {
                Self {
                    $($name: Some(limits.$name),)*
                    $($plan_name: limits.$plan_name,)*
                }
            }
        }
    };
}

limits! {
    always {
        /// Concurrent executions over all threads and nodes.
        concurrent_runs: u32 = 5, 1;
        /// Runs that may wait for a slot.
        queued_runs: u32 = 100, 0;
        /// Memory of all the user's runs, workers and children on one node, in MiB.
        memory_mib: u64 = 1024, 1;
        /// Deadline of a run that names none: queued and running time, in milliseconds.
        run_timeout_ms: u64 = 300_000, 1;
        /// The longest deadline that a run may ask for, in milliseconds.
        run_timeout_max_ms: u64 = 3_600_000, 1;
        /// How long an approval may be answered, in milliseconds.
        approval_ttl_ms: u64 = 86_400_000, 0;
        /// One model call, in milliseconds.
        model_call_ms: u64 = 120_000, 1;
        /// One tool call, in milliseconds.
        tool_call_ms: u64 = 30_000, 1;
        /// Steps of a run.
        steps: u32 = 50, 1;
        /// Tool calls of a run.
        tool_calls: u32 = 100, 0;
        /// Nesting of sub-agents.
        depth: u32 = 5, 0;
        /// Attempts of a run after crashes.
        attempts: u32 = 3, 1;
        /// Open WebSockets.
        sockets: u32 = 20, 1;
        /// HTTP requests per minute.
        requests_per_minute: u32 = 600, 1;
        /// HTTP requests per minute of each API key; of a service token those for all whom it acts for together.
        key_requests_per_minute: u32 = 6_000, 1;
        /// WebSocket messages per socket in ten seconds.
        messages_per_10s: u32 = 30, 1;
        /// The largest upload, in MiB.
        upload_mib: u64 = 64, 1;
        /// The longest text of a message, in characters.
        message_chars: u32 = 100_000, 1;
    }
    by_plan {
        /// Money for models per day, in US dollars; none: without a bound.
        budget_usd: f64;
        /// Tokens of models per day; none: without a bound.
        budget_tokens: u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_stays_as_it_is_below() {
        let plan = LimitOverrides {
            steps: Some(7),
            budget_tokens: Some(9),
            ..LimitOverrides::default()
        };
        let own = LimitOverrides {
            steps: Some(8),
            ..LimitOverrides::default()
        };
        let limits = own.over(&plan.over(&Limits::default()));
        assert_eq!((limits.steps, limits.budget_tokens), (8, Some(9)));
        assert_eq!(limits.depth, Limits::default().depth);
        assert_eq!(
            LimitOverrides::from(&limits).over(&Limits::default()),
            limits
        );
    }

    #[test]
    fn a_limit_of_nothing_is_named() {
        assert_eq!(LimitOverrides::from(&Limits::default()).too_low(), None);
        let read = |text: &str| {
            serde_json::from_str::<LimitOverrides>(text)
                .unwrap()
                .too_low()
        };
        assert_eq!(read(r#"{"steps": 0}"#), Some(("steps", 1)));
        assert_eq!(read(r#"{"depth": 0, "queued_runs": 0}"#), None);
        assert_eq!(read(r#"{"budget_usd": -1}"#), Some(("budget_usd", 0)));
    }
}

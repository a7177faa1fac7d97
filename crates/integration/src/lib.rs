//! Harness of the end-to-end tests and benchmarks: real servers, real clients, no doubles of ours.
//!
//! [`TestServer`] runs in the test's process through the same function as `netra serve`;
//! [`TestProcess`] is the binary itself, for signals, limits and exit codes. [`FakeModel`],
//! [`FakeEndpoint`] and [`FakeCollector`] are the things that are not real: the HTTP endpoints of a language
//! model and of an agent, with answers that a test gives, and of a collector of traces.

mod agents;
mod beside;
mod binary;
mod caller;
mod database;
mod fake_collector;
mod fake_endpoint;
mod fake_model;
pub mod greed;
pub mod noise;
mod process;
mod proxy;
mod real_log;
mod redis;
mod resident;
mod server;
mod tool;
mod user;

pub use agents::script;
pub use beside::Beside;
pub use binary::{binary, output, run_netra};
pub use caller::{CALLER, calls, write_caller};
pub use database::{
    change_rows, config_beside, drop_database, dump_database, is_on_postgres, raw_sql,
    restore_database, settings as database_of,
};
pub use fake_collector::{Collected, FakeCollector, attributes};
pub use fake_endpoint::{FakeEndpoint, Request, Said};
pub use fake_model::{FakeModel, Reply};
pub use process::{Options as ProcessOptions, TestProcess};
pub use proxy::{Damage, Proxy};
pub use real_log::real_log;
pub use redis::{REDIS_PASSWORD, TestRedis};
pub use server::{Options, TestServer};
pub use tool::TestTool;
pub use user::{TestUser, start, start_with_files, text_of};

/// How long a test waits for what must come; only a broken test waits so long.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// How late the servers of tests may be, in milliseconds, before they refuse work: there are more of them at once than
/// their machine has processors for.
pub(crate) const TURN_WAIT_MS: &str = "60000";
pub(crate) const TURN_WAIT: &str = "NETRA__LIMITS__TURN_WAIT_MS";

/// The result of `future`, or a failure that says what did not come.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        #[expect(clippy::panic, reason = "the harness runs in tests only")]
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}

//! The server under load, and its users.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use netra_client::Client;
use netra_integration::{ProcessOptions, TestProcess, config_beside};

/// The rate limit would otherwise be what is measured.
pub(crate) const REQUESTS_PER_MINUTE: &str = "1000000000";

/// The server on this folder, with these settings besides the raised rate limit.
pub(crate) async fn start(data: &Path, settings: &[(&str, &str)]) -> Result<TestProcess> {
    let always = [
        ("LIMITS__REQUESTS_PER_MINUTE", REQUESTS_PER_MINUTE),
        ("LOG__LEVEL", "warn"),
    ];
    let environment = always
        .iter()
        .chain(settings)
        .map(|(name, value)| (format!("NETRA__{name}"), (*value).to_owned()));
    let options = ProcessOptions {
        environment: environment.collect(),
        ..ProcessOptions::default()
    };
    TestProcess::start_with(data, options).await
}

/// Resident memory of a process.
pub(crate) fn memory_mib(pid: Option<u32>) -> Result<f64> {
    let pid = pid.context("the server runs")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib / 1024.0)
}

/// A client with a connection of its own for each user. The accounts are made in this process:
/// starting the command line twice for each would take longer than the measurement.
pub(crate) async fn users(server: &TestProcess, data: &Path, count: usize) -> Result<Vec<Client>> {
    let config = config_beside(data)?;
    let accounts = netra::accounts::Accounts::open(&config).map_err(|problem| problem.error)?;
    let mut clients = Vec::with_capacity(count);
    for number in 0..count {
        let user = accounts.find_or_create(&format!("client-{number}")).await;
        let user = user.map_err(|problem| problem.error)?;
        let token = accounts.token(&user, Duration::from_secs(3600));
        let token = token.map_err(|problem| problem.error)?;
        clients.push(Client::new(server.url(), Some(token))?);
    }
    Ok(clients)
}

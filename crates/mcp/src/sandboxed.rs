//! Programs in the sandbox of the worker crate.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use netra_worker::sandbox::{
    Limits, Network, Policy, Processes, Reason, Running, SYSTEM_FILES, Sandbox,
};

use crate::config::Command;
use crate::program::{Program, Programs, Started};

/// Processor time of one instance: it may live for days.
const PROCESSOR: Duration = Duration::from_secs(24 * 60 * 60);

/// What shells and the sandbox answer for a program that cannot be run.
const NOT_FOUND: u8 = 127;

#[async_trait]
impl Programs for Sandbox {
    async fn start(&self, command: &Command) -> Result<Started, String> {
        let started = Self::start(self, policy(command)).await;
        let mut running = started.map_err(|error| error.to_string())?;
        let (Some(read), Some(write)) = (running.take_stdout(), running.take_stdin()) else {
            return Err("it has no standard input or output".to_owned());
        };
        Ok(Started {
            read: Box::new(read),
            write: Box::new(write),
            program: Box::new(running),
        })
    }
}

fn policy(command: &Command) -> Policy {
    let folder = command.program.parent().map(ToOwned::to_owned);
    let read = SYSTEM_FILES.iter().map(Into::into).chain(folder);
    Policy {
        program: command.program.clone(),
        arguments: command.arguments.clone(),
        environment: environment(&command.environment),
        read: read.chain(command.read.iter().cloned()).collect(),
        write: command.write.clone(),
        network: if command.network {
            Network::Internet
        } else {
            Network::None
        },
        unix_sockets: false,
        limits: Limits {
            memory_bytes: command.memory_mib.saturating_mul(1024 * 1024),
            processor: PROCESSOR,
            ..Limits::default()
        },
    }
}

/// What was configured, and where programs are, which most need to start others.
fn environment(configured: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::from([
        ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
    ]);
    environment.extend(configured.clone());
    environment
}

#[async_trait]
impl Program for Running {
    fn memory_bytes(&self) -> u64 {
        self.meter().bytes()
    }

    fn process_id(&self) -> Option<u32> {
        self.meter().process_id()
    }

    fn processes(&self) -> Processes {
        Self::processes(self)
    }

    async fn end_others(&self, kept: &Processes) {
        Self::end_others(self, kept).await;
    }

    fn end(&self) {
        Self::end(self);
    }

    async fn ended(&self) -> String {
        match Self::ended(self).await.reason {
            Reason::Exited(code @ 129..) => format!("ended by the signal {}", code - 128),
            Reason::Exited(code @ NOT_FOUND) => format!(
                "exit code {code}: it, or what it starts, is not there or not within `read`"
            ),
            Reason::Exited(code) => format!("exit code {code}"),
            Reason::Time => "its time was over".to_owned(),
            Reason::Memory => "it took more memory than it may have".to_owned(),
            Reason::Disk => "it wrote more than it may".to_owned(),
            Reason::Processes => "it started more processes than it may".to_owned(),
            Reason::Stopped => "it was stopped".to_owned(),
        }
    }

    fn said(&self) -> String {
        Self::said(self)
    }
}

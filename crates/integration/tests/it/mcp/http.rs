//! The scripted tool server over HTTP, as a process of its own.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

const SCRIPT: &str = include_str!("web.py");

/// It answers as long as this is there.
pub(crate) struct Http {
    child: Child,
    pub(crate) port: u16,
}

impl Http {
    /// One that answers everybody.
    pub(crate) fn open() -> Result<Self> {
        Self::start(&[])
    }

    /// One that answers only who brings credentials, whichever.
    pub(crate) fn guarded() -> Result<Self> {
        Self::start(&["guarded"])
    }

    /// One that answers who has a token of the named place, `here` for itself, which gives it for this secret.
    pub(crate) fn with_tokens(of: &str, secret: &str) -> Result<Self> {
        Self::start(&[&format!("tokens={of}"), secret])
    }

    fn start(arguments: &[&str]) -> Result<Self> {
        let mut child = Command::new("python3")
            .args(["-c", SCRIPT])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("the scripted tool server needs python3")?;
        let out = child.stdout.take().context("it was asked for")?;
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let port = line.trim().parse().context("it tells its port first")?;
        Ok(Self { child, port })
    }

    pub(crate) fn place(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.place())
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

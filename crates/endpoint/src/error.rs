//! Why a turn gave nothing.

use std::time::Duration;

use netra_context::memory::OverLimit;

/// Why a turn gave nothing. The words are for the user of the agent and its author alike: no address
/// stands in them, and nothing of what the endpoint said.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers there.
    #[error("the agent's endpoint cannot be reached")]
    Unreachable,
    /// It answered with a status that is no success.
    #[error("the agent's endpoint answered with the status {0}")]
    Status(u16),
    /// It sends Netra elsewhere, which Netra does not follow.
    #[error("the agent's endpoint answered with a redirect, which is not followed")]
    Redirect,
    /// The turn took too long.
    #[error("the agent's endpoint did not end its turn within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The answer broke off.
    #[error("the agent's endpoint broke off before its turn ended")]
    CutOff,
    /// The answer is larger than a turn may be.
    #[error("the agent's endpoint answered with more than {0} bytes")]
    TooLarge(usize),
    /// The answer is not of the protocol.
    #[error("the agent's endpoint answered with what is not of the protocol: {0}")]
    Nonsense(String),
    /// The secret cannot stand in a header.
    #[error("the secret of the agent's endpoint cannot stand in a header")]
    Header,
    /// The user has no memory left for it.
    #[error(transparent)]
    Memory(#[from] OverLimit),
}

impl Error {
    /// One word for it, for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Status(_) => "status",
            Self::Redirect => "redirect",
            Self::Timeout(_) => "timeout",
            Self::CutOff => "cut_off",
            Self::TooLarge(_) => "too_large",
            Self::Nonsense(_) => "nonsense",
            Self::Header => "header",
            Self::Memory(_) => "memory",
        }
    }
}

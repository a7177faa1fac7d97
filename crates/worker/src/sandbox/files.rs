//! Landlock: which files a process may touch from now on, it and all that it starts.

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

/// The newest rights that are asked for. An older kernel holds those of them that it knows.
const NEWEST: ABI = ABI::V9;

/// What stays allowed. Everything else that Landlock knows is denied.
#[derive(Debug, Default)]
pub(crate) struct Allowed {
    /// Files and folders to read, and to execute.
    pub(crate) read: Vec<PathBuf>,
    /// Files and folders to read, write, make and remove in.
    pub(crate) write: Vec<PathBuf>,
    /// TCP, of which Landlock knows since version 4.
    pub(crate) internet: bool,
}

/// Denies this thread, and what it starts, all files but these, and to signal or to reach by an abstract socket what
/// stands outside. Gives the version of Landlock that holds this; 0 where the kernel has none, and nothing is denied.
pub(crate) fn restrict(allowed: &Allowed) -> Result<u8, RulesetError> {
    let all = AccessFs::from_all(NEWEST);
    let mut ruleset = Ruleset::default()
        .handle_access(all)?
        .scope(Scope::from_all(NEWEST))?;
    if !allowed.internet {
        ruleset = ruleset.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?;
    }
    let read = AccessFs::from_read(NEWEST);
    let status = ruleset
        .create()?
        .add_rules(path_beneath_rules(&allowed.read, read))?
        .add_rules(path_beneath_rules(&allowed.write, writable()))?
        .restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => 0,
        (_, LandlockStatus::Available { effective_abi, .. }) => effective_abi as u8,
        (_, LandlockStatus::NotEnabled | LandlockStatus::NotImplemented) => 0,
    })
}

/// Everything but what a program has no use for: to make devices and sockets, and to talk to either.
fn writable() -> BitFlags<AccessFs> {
    let all = AccessFs::from_all(NEWEST);
    all & !(AccessFs::MakeBlock
        | AccessFs::MakeChar
        | AccessFs::MakeSock
        | AccessFs::IoctlDev
        | AccessFs::ResolveUnix)
}

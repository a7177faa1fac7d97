//! What a program that goes on has started meanwhile: found and ended, while the program stays.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::running::Running;
use super::tree;

/// How often it is looked again for what was started while others were ended.
const ROUNDS: u32 = 100;
/// How long killed processes have between two looks.
const ROUND: Duration = Duration::from_millis(5);

/// Some processes, each by its number and when it began, so that none is taken for another that has its number later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processes(BTreeSet<(u32, u64)>);

impl Running {
    /// It, and all that it has started and that has not ended.
    pub fn processes(&self) -> Processes {
        let supervisor = self.meter().process_id();
        let below = supervisor.map(tree::descendants).unwrap_or_default();
        let living = below.into_iter().filter_map(|id| Some((id, began(id)?)));
        Processes(living.collect())
    }

    /// Ends what it has started and is not among these, until there is no more of it. A program that starts others
    /// faster than they are ended keeps some; their number is limited.
    pub async fn end_others(&self, kept: &Processes) {
        for _ in 0..ROUNDS {
            let now = self.processes();
            let mut others = now.0.difference(&kept.0).peekable();
            if others.peek().is_none() {
                return;
            }
            others.for_each(|other| end(*other));
            tokio::time::sleep(ROUND).await;
        }
        tracing::warn!("a program starts others faster than they are ended");
    }
}

fn end((id, begun): (u32, u64)) {
    let Some(pid) = Pid::from_raw(id.cast_signed()) else {
        return;
    };
    // The handle is of whatever has this number now, and what that is cannot change any more.
    if let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
        && began(id) == Some(begun)
    {
        // What is gone by now needs no signal.
        pidfd_send_signal(process, Signal::KILL).ok();
    }
}

/// When a process began, in the kernel's count; none where it has ended, waited for or not.
fn began(id: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut fields = stat.rsplit(')').next()?.split_ascii_whitespace();
    let state = fields.next()?;
    fields.nth(18)?.parse().ok().filter(|_| state != "Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_number_and_when_it_began() {
        let own = began(std::process::id()).unwrap();
        assert!(own > 0);
        let mut child = std::process::Command::new("/bin/sleep")
            .arg("600")
            .spawn()
            .unwrap();
        let begun = began(child.id()).unwrap();
        assert!(begun >= own);
        end((child.id(), begun + 1));
        assert_eq!(
            began(child.id()),
            Some(begun),
            "another one of the same number is left alone"
        );
        end((child.id(), begun));
        assert!(!child.wait().unwrap().success());
        assert_eq!(began(child.id()), None);
    }
}

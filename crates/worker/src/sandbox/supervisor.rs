//! The process that holds one foreign program for the server: starts it, watches it, ends all of it.
//!
//! It is small, single-threaded, and shares nothing with the program but a pipe. It ends the program when the server
//! has closed its ear (the other end of this process's standard error) or is gone, so nobody has to be asked.

use std::io::{self, ErrorKind, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{ChildStderr, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, getpid, getppid,
    kill_process, pidfd_open, set_child_subreaper, set_dumpable_behavior, setsid, wait,
};

use super::STAGE_ARGUMENT;
use super::cgroup::Cgroup;
use super::folder::Folder;
use super::namespaces;
use super::order::{Arranged, Order, about};
use super::report::{Ended, Reason, Report};
use super::tree;
use crate::confine::stand_back;

/// How often what the program uses is looked at.
const TURN: Timespec = milliseconds(50);
/// How long killed processes are waited for before the others are looked for again.
const KILL_TURN: Timespec = milliseconds(1);
/// What is passed on at once of what the program says: a line of it fits into a pipe whole, or not at all.
const SAID_CHUNK: usize = 512;
/// The longest first line, which is of the process that becomes the program.
const MAX_FIRST_LINE: usize = 16 * 1024;

/// The whole life of a supervisor. Call it first in `main` when the first argument is
/// [`super::SANDBOX_ARGUMENT`], and return what it returns.
pub fn supervisor_main() -> ExitCode {
    match supervise() {
        Ok(ended) => {
            Report::Ended(ended).tell();
            ExitCode::SUCCESS
        }
        Err(error) => {
            Report::Failed(error.to_string()).tell();
            ExitCode::FAILURE
        }
    }
}

fn supervise() -> io::Result<Ended> {
    netra_memory::worker::close_inherited()?;
    setsid()?;
    stand_back().map_err(about("standing back"))?;
    let order = Order::receive()?;
    let server = server(order.server)?;
    set_child_subreaper(Some(getpid()))?;
    let folder = Folder::create(order.folder(), order.uid)?;
    let limits = &order.policy.limits;
    let cgroup = order.cgroup.as_deref();
    let cgroup = cgroup.and_then(|parent| Cgroup::create(parent, &order.name, limits).ok());
    let namespaces = match order.without.namespaces {
        true => None,
        false => namespaces::enter(order.policy.network).map_err(about("namespaces"))?,
    };
    // Nobody of the same user may look into this process.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let arranged = Arranged {
        namespaces,
        cgroup: cgroup.as_ref().map(Cgroup::procs),
    };
    let (program, said) = start(&arranged)?;
    let watch = Watch {
        order,
        server,
        program,
        said: Some(said),
        started: false,
        heard: Vec::new(),
        cgroup,
        folder,
        begun: Instant::now(),
        peak_bytes: 0,
    };
    Ok(watch.until_its_end())
}

/// The server, to be noticed when it is gone.
fn server(id: u32) -> io::Result<OwnedFd> {
    let server = Pid::from_raw(id.cast_signed()).ok_or_else(|| io::Error::other("no server"))?;
    let handle = pidfd_open(server, PidfdFlags::empty()).map_err(io::Error::from)?;
    if getppid() != Some(server) {
        return Err(io::Error::other("the server is gone"));
    }
    Ok(handle)
}

/// Starts what becomes the program, and lets go of the two pipes that are the program's.
fn start(arranged: &Arranged) -> io::Result<(Pid, ChildStderr)> {
    let mut child = Command::new("/proc/self/exe")
        .arg(STAGE_ARGUMENT)
        .arg(serde_json::to_string(arranged)?)
        .env_clear()
        .stderr(Stdio::piped())
        .spawn()
        .map_err(about("the process that becomes the program"))?;
    let nothing = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    let program = Pid::from_raw(child.id().cast_signed());
    let (Some(program), Some(said)) = (program, child.stderr.take()) else {
        return Err(io::Error::other("the program has no pipe"));
    };
    without_waiting(&said)?;
    // A program that says more than anybody listens to must not keep this process from its watch.
    without_waiting(&io::stderr())?;
    Ok((program, said))
}

fn without_waiting(file: &impl std::os::fd::AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(file)?;
    Ok(fcntl_setfl(file, flags | OFlags::NONBLOCK)?)
}

/// One program that is watched.
struct Watch {
    order: Order,
    server: OwnedFd,
    program: Pid,
    said: Option<ChildStderr>,
    started: bool,
    /// What was said and not passed on yet: the first line, or part of a character.
    heard: Vec<u8>,
    cgroup: Option<Cgroup>,
    folder: Folder,
    begun: Instant,
    peak_bytes: u64,
}

impl Watch {
    /// Watches until there is a reason for an end, and makes it one.
    fn until_its_end(mut self) -> Ended {
        let reason = loop {
            if self.is_unwanted() {
                break Reason::Stopped;
            }
            self.listen();
            if let Some(status) = reap(self.program) {
                break self.own_end(status);
            }
            if let Some(reason) = self.over_limit() {
                break reason;
            }
        };
        self.end_all();
        self.listen();
        Ended {
            reason,
            peak_bytes: self.peak_bytes,
        }
    }

    /// Waits for something to happen, at most one turn, and says whether the server is gone or has no more interest.
    fn is_unwanted(&self) -> bool {
        let ear = io::stderr();
        let mut fds = vec![
            PollFd::new(&self.server, PollFlags::IN),
            // Only errors are looked for here: that the other end is closed.
            PollFd::from_borrowed_fd(ear.as_fd(), PollFlags::empty()),
        ];
        fds.extend(
            self.said
                .as_ref()
                .map(|said| PollFd::new(said, PollFlags::IN)),
        );
        if poll(&mut fds, Some(&TURN)).is_err() {
            return false;
        }
        fds.iter().take(2).any(|fd| !fd.revents().is_empty())
    }

    /// Passes on what the program has said.
    fn listen(&mut self) {
        let mut chunk = [0; SAID_CHUNK];
        while let Some(said) = &mut self.said {
            match said.read(&mut chunk) {
                Ok(0) => self.said = None,
                Ok(count) => self.pass_on(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.said = None,
            }
        }
    }

    fn pass_on(&mut self, chunk: &[u8]) {
        self.heard.extend_from_slice(chunk);
        if !self.started {
            let end = self.heard.iter().position(|byte| *byte == b'\n');
            let Some(end) = end.or_else(|| (self.heard.len() > MAX_FIRST_LINE).then_some(0)) else {
                return;
            };
            let rest = self.heard.split_off(end + 1);
            let line = std::mem::replace(&mut self.heard, rest);
            self.started = true;
            serde_json::from_slice(&line)
                .unwrap_or_else(|_| Report::Failed(String::from_utf8_lossy(&line).into_owned()))
                .tell();
        }
        let part = match std::str::from_utf8(&self.heard) {
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            _ => self.heard.len(),
        };
        let rest = self.heard.split_off(part);
        let whole = std::mem::replace(&mut self.heard, rest);
        if !whole.is_empty() {
            Report::Said(String::from_utf8_lossy(&whole).into_owned()).tell();
        }
    }

    /// Why a program that ended by itself did so.
    fn own_end(&self, status: WaitStatus) -> Reason {
        if self.cgroup.as_ref().is_some_and(Cgroup::ran_out_of_memory) {
            return Reason::Memory;
        }
        match status.terminating_signal() {
            Some(signal) if signal == Signal::XCPU.as_raw() => Reason::Time,
            Some(signal) if signal == Signal::XFSZ.as_raw() => Reason::Disk,
            Some(signal) => Reason::Exited(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
            None => {
                let code = status.exit_status().unwrap_or(i32::from(u8::MAX));
                Reason::Exited(u8::try_from(code).unwrap_or(u8::MAX))
            }
        }
    }

    fn over_limit(&mut self) -> Option<Reason> {
        if self.order.without.watchdog {
            return None;
        }
        let limits = &self.order.policy.limits;
        let processes = tree::descendants(getpid().as_raw_pid().cast_unsigned());
        let usage = tree::usage(&processes);
        self.peak_bytes = self.peak_bytes.max(usage.memory_bytes);
        if usage.memory_bytes > limits.memory_bytes {
            return Some(Reason::Memory);
        }
        if usage.processes > limits.processes {
            return Some(Reason::Processes);
        }
        let late = limits.time.is_some_and(|time| self.begun.elapsed() > time);
        if late || usage.processor > limits.processor {
            return Some(Reason::Time);
        }
        let over = self.folder.is_over(limits.disk_bytes, &processes);
        over.then_some(Reason::Disk)
    }

    /// Ends the program and all that it has started, until there is nothing left. Whoever has lost a parent is a
    /// child of this process, so that none gets away while the others are killed.
    fn end_all(&self) {
        let own = getpid().as_raw_pid().cast_unsigned();
        loop {
            if let Some(cgroup) = &self.cgroup {
                cgroup.end_all();
            }
            for process in tree::descendants(own) {
                if let Some(process) = Pid::from_raw(process.cast_signed()) {
                    kill_process(process, Signal::KILL).ok();
                }
            }
            loop {
                match wait(WaitOptions::NOHANG) {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
            poll(&mut [], Some(&KILL_TURN)).ok();
        }
    }
}

/// Takes the ends of processes that nobody else waits for; gives that of the program, when it is among them.
fn reap(program: Pid) -> Option<WaitStatus> {
    let mut own = None;
    while let Ok(Some((process, status))) = wait(WaitOptions::NOHANG) {
        if process == program {
            own = Some(status);
        }
    }
    own
}

const fn milliseconds(count: u32) -> Timespec {
    let duration = Duration::from_millis(count as u64);
    Timespec {
        tv_sec: 0,
        tv_nsec: duration.subsec_nanos() as i64,
    }
}

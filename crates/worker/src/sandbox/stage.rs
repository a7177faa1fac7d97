//! The process that gives up all that the policy does not grant, one layer after the other, and then becomes the
//! program.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use nix::unistd::{AccessFlags, Gid, Uid, access, setgroups, setresgid, setresuid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Resource, Signal, chdir, geteuid, set_parent_process_death_signal, setsid, umask,
};

use super::namespaces::{self, Namespaces};
use super::order::{Arranged, Order, Without, about, about_path};
use super::policy::{Layers, Limits, Network, Policy, Tier};
use super::report::Report;
use super::{files, syscalls, tree, trial};
use crate::confine::set;

/// Memory that a process may reserve beyond what all of them together may use: runtimes reserve more than they touch.
const RESERVED_BYTES: u64 = 1 << 30;
/// Processor time of one process beyond what all of them may use.
const CPU_SLACK_SECONDS: u64 = 2;
/// What shells answer for a program that cannot be run.
const NOT_RUN: u8 = 127;

/// What every program may read of `/dev`, and what it may read and write.
const DEVICES: [&str; 3] = ["/dev/zero", "/dev/random", "/dev/urandom"];
const NOTHING: &str = "/dev/null";
/// What a program may read of `/proc` where it has none of its own: about itself and the machine.
const SHARED_PROC: [&str; 4] = [
    "/proc/self",
    "/proc/meminfo",
    "/proc/cpuinfo",
    "/proc/filesystems",
];

/// The whole life of the process that becomes a program. Call it first in `main` when the first argument is
/// [`super::STAGE_ARGUMENT`], with the second argument, and return what it returns.
pub fn stage_main(arranged: &str) -> ExitCode {
    match become_program(arranged) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Refusal::TooWeak { found, required }) => Report::TooWeak { found, required }.tell(),
        Err(Refusal::Failed(error)) => Report::Failed(error.to_string()).tell(),
    }
    ExitCode::from(NOT_RUN)
}

enum Refusal {
    TooWeak { found: Tier, required: Tier },
    Failed(io::Error),
}

impl<E: Into<io::Error>> From<E> for Refusal {
    fn from(error: E) -> Refusal {
        Refusal::Failed(error.into())
    }
}

/// Returns only after a trial.
fn become_program(arranged: &str) -> Result<(), Refusal> {
    netra_memory::worker::close_inherited()?;
    let arranged: Arranged = serde_json::from_str(arranged).map_err(io::Error::from)?;
    let order = Order::receive()?;
    let policy = &order.policy;
    setsid()?;
    if let Some(procs) = &arranged.cgroup {
        std::fs::write(procs, "0").map_err(about_path(procs))?;
    }
    let own_proc = arranged.namespaces.is_some()
        && namespaces::arrange(&order.folder(), &policy.limits, order.uid)
            .map_err(about("the mounts of the sandbox"))?;
    umask(0o077.into());
    if !order.without.rlimits {
        limit(&policy.limits, order.uid, arranged.namespaces.is_some())?;
    }
    become_nobody(order.uid, arranged.namespaces)?;
    die_with_supervisor()?;
    let granted = granted(&order, own_proc);
    if !order.trial {
        check(policy, order.uid)?;
    }
    chdir(order.folder()).map_err(io::Error::from)?;
    let layers = confine(&order, &arranged, &granted)?;
    let found = layers.tier();
    let whole = !order.trial && order.without == Without::NOTHING;
    if let Some(required) = found.lacks(order.require).filter(|_| whole) {
        return Err(Refusal::TooWeak { found, required });
    }
    Report::Started(layers).tell();
    if order.trial {
        return Ok(trial::tell(&order)?);
    }
    let error = program(&order).exec();
    Err(about_path(&policy.program)(error).into())
}

fn program(order: &Order) -> Command {
    let folder = order.folder();
    let mut program = Command::new(&order.policy.program);
    program
        .args(&order.policy.arguments)
        .env_clear()
        .envs(&order.policy.environment)
        .env("HOME", &folder)
        .env("TMPDIR", &folder);
    program
}

/// The limits of the kernel, for each process by itself.
fn limit(limits: &Limits, uid: Option<u32>, namespaces: bool) -> io::Result<()> {
    // They are counted for a user, who is the program's own, or who has other processes too.
    let others = if uid.is_some() || namespaces {
        0
    } else {
        tree::tasks_of(geteuid().as_raw())
    };
    set(Resource::Nproc, others.saturating_add(limits.processes))?;
    set(Resource::Core, 0)?;
    set(Resource::Nofile, limits.files)?;
    set(Resource::Fsize, limits.disk_bytes)?;
    set(Resource::Memlock, 0)?;
    set(Resource::Msgqueue, 0)?;
    // Only in case that nobody watches.
    set(
        Resource::Cpu,
        limits.processor.as_secs().saturating_add(CPU_SLACK_SECONDS),
    )?;
    set(
        Resource::Data,
        limits.memory_bytes.saturating_add(RESERVED_BYTES),
    )
}

/// Becomes a user who owns nothing else, or at least one without rights.
fn become_nobody(uid: Option<u32>, namespaces: Option<Namespaces>) -> io::Result<()> {
    if let Some(uid) = uid {
        let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
        setgroups(&[])?;
        setresgid(group, group, group)?;
        setresuid(user, user, user)
            .map_err(|error| about(format!("user {uid} of the sandbox"))(error.into()))?;
    } else if let Some(owner) = namespaces.and_then(|namespaces| namespaces.owner) {
        namespaces::leave_root(owner)?;
    }
    Ok(())
}

/// Ends with the supervisor, which also may have ended already.
fn die_with_supervisor() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let ear = io::stderr();
    let mut gone = [PollFd::new(&ear, PollFlags::empty())];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match poll(&mut gone, Some(&now))? {
        0 => Ok(()),
        _ => Err(io::Error::other("the supervisor is gone")),
    }
}

/// The files that the program may touch.
fn granted(order: &Order, own_proc: bool) -> files::Allowed {
    let policy = &order.policy;
    let mut read = policy.read.clone();
    read.push(policy.program.clone());
    read.extend(DEVICES.map(PathBuf::from));
    if own_proc {
        read.push("/proc".into());
    } else {
        read.extend(SHARED_PROC.map(PathBuf::from));
    }
    let mut write = policy.write.clone();
    write.extend([order.folder(), NOTHING.into()]);
    files::Allowed {
        read,
        write,
        internet: policy.network == Network::Internet,
    }
}

/// What it is granted must be there and within its user's reach: an error that says so beats one of the program.
fn check(policy: &Policy, uid: Option<u32>) -> io::Result<()> {
    let wanted = [
        (std::slice::from_ref(&policy.program), AccessFlags::X_OK),
        (&policy.write, AccessFlags::W_OK),
    ];
    for (paths, mode) in wanted {
        for path in paths {
            access(path.as_path(), mode).map_err(|error| {
                let user = uid.map_or(String::new(), |uid| {
                    format!(" as user {uid} of the sandbox")
                });
                about(format!("{}{user}", path.display()))(error.into())
            })?;
        }
    }
    Ok(())
}

/// The layers that stay on whatever this process becomes and starts.
fn confine(order: &Order, arranged: &Arranged, granted: &files::Allowed) -> io::Result<Layers> {
    let policy = &order.policy;
    rustix::thread::set_no_new_privs(true)?;
    let landlock = if order.without.landlock {
        0
    } else {
        files::restrict(granted).map_err(io::Error::other)?
    };
    if !order.without.seccomp {
        let calls = syscalls::Allowed {
            internet: granted.internet,
            unix_sockets: policy.unix_sockets,
            processes: true,
            open: true,
            // Only of files that are its own where its user is.
            attributes: order.uid.is_some(),
        };
        syscalls::restrict(calls).map_err(io::Error::other)?;
    }
    Ok(Layers {
        landlock,
        seccomp: !order.without.seccomp,
        namespaces: arranged.namespaces.is_some(),
        cgroup: arranged.cgroup.is_some(),
        uid: order.uid,
    })
}

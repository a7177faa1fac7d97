//! seccomp: which calls of the kernel a process may make from now on, it and all that it starts.
//!
//! A list of what is denied, because foreign programs need too many calls to list those. It holds what reaches past
//! Landlock and past the watchdog: other ways to open files and sockets, to look into other processes, to change the
//! system, and to leave something behind.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, apply_filter, sock_filter,
};

/// What stays allowed of what can be denied.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Allowed {
    /// Sockets of the internet, IPv4 and IPv6.
    pub(crate) internet: bool,
    /// UNIX sockets with names. Pairs of them are always allowed.
    pub(crate) unix_sockets: bool,
    /// To start processes and programs.
    pub(crate) processes: bool,
    /// To open files by name.
    pub(crate) open: bool,
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;
type Outcome<T> = Result<T, seccompiler::BackendError>;

/// Denies this thread, and what it starts, everything else. Sets `no_new_privs`.
pub(crate) fn restrict(allowed: Allowed) -> Result<(), Error> {
    // A process that asks with the numbers of another architecture is killed by the filter itself.
    apply_filter(&program(denied(allowed)?, libc::EPERM)?)?;
    // A C library takes this answer for an old kernel, and uses the older call, which the filter can look into.
    apply_filter(&program(unconditional(&UNKNOWN), libc::ENOSYS)?)
}

/// Its arguments lie in memory, where no filter sees them; files without names have no owner and no limit.
const UNKNOWN: [i64; 2] = [libc::SYS_clone3, libc::SYS_memfd_create];

const ALWAYS: [i64; 61] = [
    // Another way to do everything else.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    // The kernel's own store of secrets, its programs and its measuring.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    // Files by number, past their folders.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // The machine.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
    libc::SYS_personality,
    libc::SYS_memfd_secret,
    // What would stay after the last process.
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
];

/// The flags by which `clone` makes namespaces.
const NEW_NAMESPACES: [libc::c_int; 8] = [
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
    // CLONE_NEWTIME, which libc does not name for every target.
    0x80,
];

fn denied(allowed: Allowed) -> Outcome<Rules> {
    let mut rules = unconditional(&ALWAYS);
    #[cfg(target_arch = "x86_64")]
    rules.extend(unconditional(&[libc::SYS_iopl, libc::SYS_ioperm]));
    rules.insert(libc::SYS_socket, sockets(allowed)?);
    rules.insert(libc::SYS_clone, clones(allowed)?);
    // Text put into the terminal as if it had been typed.
    rules.insert(
        libc::SYS_ioctl,
        vec![
            one(1, Op::Eq, libc::TIOCSTI)?,
            one(1, Op::Eq, libc::TIOCLINUX)?,
        ],
    );
    if !allowed.processes {
        rules.extend(unconditional(&[libc::SYS_execve, libc::SYS_execveat]));
        #[cfg(target_arch = "x86_64")]
        rules.extend(unconditional(&[libc::SYS_fork, libc::SYS_vfork]));
        rules.extend(unconditional(&[libc::SYS_kill, libc::SYS_socketpair]));
    }
    if !allowed.open {
        rules.extend(unconditional(&[libc::SYS_openat, libc::SYS_openat2]));
        #[cfg(target_arch = "x86_64")]
        rules.extend(unconditional(&[libc::SYS_open, libc::SYS_creat]));
    }
    Ok(rules)
}

/// Denied is every family that none of these is.
fn sockets(allowed: Allowed) -> Outcome<Vec<SeccompRule>> {
    let mut families = Vec::new();
    if allowed.internet {
        // Programs list the machine's addresses by netlink before they connect.
        families.extend([libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK]);
    }
    if allowed.unix_sockets {
        families.push(libc::AF_UNIX);
    }
    if families.is_empty() {
        return Ok(Vec::new());
    }
    let others = families
        .into_iter()
        .map(|family| condition(0, Op::Ne, family))
        .collect::<Outcome<_>>()?;
    let netlink = vec![
        condition(0, Op::Eq, libc::AF_NETLINK)?,
        condition(2, Op::Ne, libc::NETLINK_ROUTE)?,
    ];
    Ok(vec![SeccompRule::new(others)?, SeccompRule::new(netlink)?])
}

fn clones(allowed: Allowed) -> Outcome<Vec<SeccompRule>> {
    let mut rules = NEW_NAMESPACES
        .into_iter()
        .map(set)
        .collect::<Outcome<Vec<_>>>()?;
    if !allowed.processes {
        let thread = SeccompCmpOp::MaskedEq(bits(libc::CLONE_THREAD));
        let no_thread = SeccompCondition::new(0, SeccompCmpArgLen::Qword, thread, 0)?;
        rules.push(SeccompRule::new(vec![no_thread])?);
    }
    Ok(rules)
}

#[derive(Clone, Copy)]
enum Op {
    Eq,
    Ne,
}

fn condition(argument: u8, op: Op, value: impl Into<i64>) -> Outcome<SeccompCondition> {
    let op = match op {
        Op::Eq => SeccompCmpOp::Eq,
        Op::Ne => SeccompCmpOp::Ne,
    };
    // The kernel looks at the lower half only, so that the upper one must not make a difference.
    let value = value.into().cast_unsigned() & u64::from(u32::MAX);
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value)
}

fn one(argument: u8, op: Op, value: impl TryInto<i64>) -> Outcome<SeccompRule> {
    SeccompRule::new(vec![condition(
        argument,
        op,
        value.try_into().unwrap_or(0),
    )?])
}

fn set(flag: libc::c_int) -> Outcome<SeccompRule> {
    let flag = bits(flag);
    let op = SeccompCmpOp::MaskedEq(flag);
    SeccompRule::new(vec![SeccompCondition::new(
        0,
        SeccompCmpArgLen::Qword,
        op,
        flag,
    )?])
}

fn bits(flag: libc::c_int) -> u64 {
    u64::from(flag.cast_unsigned())
}

fn unconditional(calls: &[i64]) -> Rules {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

/// The filter that answers these calls with `errno` and allows all others.
fn program(rules: Rules, errno: libc::c_int) -> Outcome<BpfProgram> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let answer = SeccompAction::Errno(errno.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, arch)?;
    let mut program = BpfProgram::try_from(filter)?;
    if cfg!(target_arch = "x86_64") {
        // The same calls have a second set of numbers there, under the same architecture. Nothing uses it.
        program.splice(0..0, SECOND_NUMBERS);
    }
    Ok(program)
}

/// Answers every number from `0x4000_0000` with ENOSYS: load the number, compare, answer.
const SECOND_NUMBERS: [sock_filter; 3] = [
    sock_filter {
        code: 0x20,
        jt: 0,
        jf: 0,
        k: 0,
    },
    sock_filter {
        code: 0x35,
        jt: 0,
        jf: 1,
        k: 0x4000_0000,
    },
    sock_filter {
        code: 0x06,
        jt: 0,
        jf: 0,
        k: 0x0005_0000 | libc::ENOSYS as u32,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_of_grants_is_a_filter() {
        for bits in 0..16_u8 {
            let allowed = Allowed {
                internet: bits & 1 != 0,
                unix_sockets: bits & 2 != 0,
                processes: bits & 4 != 0,
                open: bits & 8 != 0,
            };
            let filter = program(denied(allowed).unwrap(), libc::EPERM).unwrap();
            assert!(filter.len() > ALWAYS.len(), "{allowed:?}");
        }
    }
}

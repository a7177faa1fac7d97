//! What a program cannot reach, and that it is the sandbox that keeps it from it.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;

use netra_worker::sandbox::{Limits, Network, Policy, Reason, Without};

use crate::place::{Place, TIERS, python};

const MIB: u64 = 1 << 20;

/// Everything that keeps programs from files.
const OPEN: Without = Without {
    landlock: true,
    uid: true,
    ..Without::NOTHING
};

#[tokio::test]
async fn files_of_the_server_of_other_users_and_of_the_system_are_out_of_reach() {
    let place = Place::new();
    let data = place.path().join("data");
    fs::create_dir(&data).unwrap();
    let database = data.join("netra.db");
    fs::write(&database, "everybody's").unwrap();
    let public = data.join("another-users-file");
    fs::write(&public, "readable by the world, as far as the system goes").unwrap();
    for path in [&data, &public] {
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    fs::set_permissions(&database, Permissions::from_mode(0o600)).unwrap();
    let user_too = Without {
        uid: true,
        ..Without::NOTHING
    };
    for path in [&database, &public] {
        let attempt = |what| place.attempt(what, path.to_str().unwrap());
        for without in [TIERS[0], TIERS[1], user_too] {
            for what in ["read", "write"] {
                let told = place.try_it(without, attempt(what)).await.told;
                assert_eq!(told, "13", "{what} {} {without:?}", path.display());
            }
        }
        let told = place.try_it(OPEN, attempt("read")).await.told;
        assert_eq!(told, "ok", "nothing else holds {}", path.display());
    }
    let shadow = place.attempt("read", "/etc/shadow");
    for without in TIERS {
        let told = place.try_it(without, shadow.clone()).await.told;
        assert_eq!(told, "13", "{without:?}");
    }
    if rustix::process::geteuid().is_root() {
        assert_eq!(place.try_it(OPEN, shadow).await.told, "ok");
    } else {
        eprintln!(
            "not tested: /etc/shadow without Landlock, because this user cannot read it either"
        );
    }
}

#[tokio::test]
async fn a_folder_that_is_named_like_a_granted_one_or_linked_is_not_granted() {
    let place = Place::new();
    let (granted, other) = (
        place.path().join("granted"),
        place.path().join("granted-not"),
    );
    for folder in [&granted, &other] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join("file"), "text").unwrap();
        fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
    }
    std::os::unix::fs::symlink(other.join("file"), granted.join("link")).unwrap();
    let paths = [
        (granted.join("file"), "ok"),
        (granted.join("link"), "13"),
        (granted.join("../granted-not/file"), "13"),
        (other.join("file"), "13"),
    ];
    for (path, expected) in paths {
        let attempt = place.attempt("read", path.to_str().unwrap());
        let policy = Policy {
            read: [attempt.read.clone(), vec![granted.clone()]].concat(),
            ..attempt
        };
        let told = place.try_it(Without::NOTHING, policy).await.told;
        assert_eq!(told, expected, "{}", path.display());
    }
}

/// Everything that keeps programs from sockets.
const CONNECTED: Without = Without {
    seccomp: true,
    namespaces: true,
    landlock: true,
    ..Without::NOTHING
};

#[tokio::test]
async fn no_socket_is_opened_unless_it_is_granted() {
    let place = Place::new();
    let internet = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = internet.local_addr().unwrap().to_string();
    let path = place.path().join("socket");
    let _unix = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    let attempts = [
        ("tcp", address.as_str()),
        ("udp", ""),
        ("unix", path.to_str().unwrap()),
        ("abstract", ""),
    ];
    for (what, argument) in attempts {
        for without in TIERS {
            let told = place
                .try_it(without, place.attempt(what, argument))
                .await
                .told;
            assert_eq!(told, "1", "{what} {without:?}");
        }
        let told = place
            .try_it(CONNECTED, place.attempt(what, argument))
            .await
            .told;
        assert_eq!(told, "ok", "nothing else holds {what}");
    }
    // Without the filter, the others still keep it from the net.
    let layers = place.layers().await;
    let others = [
        (
            "TCP by Landlock 4",
            layers.landlock >= 4,
            Without {
                landlock: false,
                ..CONNECTED
            },
        ),
        (
            "a network namespace",
            layers.namespaces,
            Without {
                namespaces: false,
                ..CONNECTED
            },
        ),
    ];
    for (what, is_there, without) in others {
        if is_there {
            let told = place
                .try_it(without, place.attempt("tcp", &address))
                .await
                .told;
            assert_ne!(told, "ok", "{what}");
        } else {
            eprintln!("not tested: {what}, which this machine does not give");
        }
    }
    let granted = Policy {
        network: Network::Internet,
        ..place.attempt("tcp", &address)
    };
    for without in TIERS {
        let told = place.try_it(without, granted.clone()).await.told;
        assert_eq!(told, "ok", "{without:?}");
    }
    let others = Policy {
        network: Network::Internet,
        ..place.attempt("unix", path.to_str().unwrap())
    };
    assert_eq!(place.try_it(TIERS[1], others).await.told, "1");
}

#[tokio::test]
async fn other_processes_and_namespaces_are_out_of_reach() {
    let place = Place::new();
    let server = std::process::id().to_string();
    let signal = || place.attempt("signal", &server);
    let layers = place.layers().await;
    if layers.namespaces || layers.uid.is_some() || layers.landlock >= 6 {
        let told = place.try_it(Without::NOTHING, signal()).await.told;
        assert!(
            told == "3" || told == "1",
            "not there, or not allowed: {told}"
        );
    } else {
        eprintln!("not tested: signals, from which nothing of this machine keeps a program");
    }
    let same_user = Without {
        uid: true,
        ..TIERS[1]
    };
    if layers.landlock >= 6 {
        assert_eq!(place.try_it(same_user, signal()).await.told, "1");
    } else {
        eprintln!("not tested: signals by Landlock 6, which this machine does not give");
    }
    let nothing = Without {
        landlock: true,
        ..same_user
    };
    assert_eq!(place.try_it(nothing, signal()).await.told, "ok");

    let namespace = || place.attempt("namespace", "");
    for without in TIERS {
        assert_eq!(place.try_it(without, namespace()).await.told, "1");
    }
    let unfiltered = Without {
        seccomp: true,
        ..TIERS[1]
    };
    let told = place.try_it(unfiltered, namespace()).await.told;
    if told != "ok" {
        eprintln!(
            "not tested: that only the filter denies namespaces, because this machine denies them too ({told})"
        );
    }
}

/// Makes a call of the kernel by its number, past the C library, and tells what came of it.
const BY_NUMBER: &str = "import ctypes, os, struct, sys
kernel = ctypes.CDLL(None, use_errno=True)
what, number, flags = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
room, SIGCHLD = ctypes.create_string_buffer(128), 17
if what == 'io_uring':
    done = kernel.syscall(number, 1, room)
elif what == 'clone':
    done = kernel.syscall(number, ctypes.c_ulong(flags | SIGCHLD), 0, 0, 0, 0)
else:
    struct.pack_into('<5Q', room, 0, flags, 0, 0, 0, SIGCHLD)
    done = kernel.syscall(number, room, ctypes.c_ulong(88))
error = ctypes.get_errno()
if done == 0:
    os._exit(0)
if done > 0 and what != 'io_uring':
    os.waitpid(done, 0)
print('ok' if done > 0 else error)
";

fn by_number(what: &str, number: libc::c_long, flags: libc::c_int) -> Policy {
    let arguments = [what.to_owned(), number.to_string(), flags.to_string()];
    python(BY_NUMBER, &arguments)
}

#[tokio::test]
async fn io_uring_and_clones_with_namespaces_are_denied_by_their_numbers() {
    let place = Place::new();
    // The limit on locked memory leaves no room for a ring either.
    let unfiltered = Without {
        seccomp: true,
        rlimits: true,
        ..TIERS[1]
    };
    let user = libc::CLONE_NEWUSER;
    for (what, number, denied) in [
        ("io_uring", libc::SYS_io_uring_setup, "1"),
        ("clone", libc::SYS_clone, "1"),
        // As if the kernel were older: the filter cannot see what it is asked for.
        ("clone3", libc::SYS_clone3, "38"),
    ] {
        let attempt = || by_number(what, number, user);
        for without in TIERS {
            let outcome = place.try_it(without, attempt()).await;
            assert_eq!(outcome.told, denied, "{what} {without:?}: {}", outcome.said);
        }
        let told = place.try_it(unfiltered, attempt()).await.told;
        if told != "ok" {
            eprintln!(
                "not tested: that only the filter denies {what}, because this machine denies it too ({told})"
            );
        }
    }
    let others = [
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ];
    for flag in others {
        let attempt = by_number("clone", libc::SYS_clone, flag);
        assert_eq!(place.try_it(TIERS[1], attempt).await.told, "1", "{flag:#x}");
    }
    // Processes without namespaces are its own business.
    for (what, number, told) in [
        ("clone", libc::SYS_clone, "ok"),
        ("clone3", libc::SYS_clone3, "38"),
    ] {
        let attempt = by_number(what, number, 0);
        assert_eq!(place.try_it(TIERS[1], attempt).await.told, told, "{what}");
    }
}

#[tokio::test]
async fn where_the_user_is_the_servers_it_changes_neither_files_nor_processes_of_the_server() {
    let place = Place::new();
    let database = place.path().join("netra.db");
    fs::write(&database, "everybody's").unwrap();
    let mode = || fs::metadata(&database).unwrap().permissions().mode() & 0o777;
    fs::set_permissions(&database, Permissions::from_mode(0o600)).unwrap();
    let mut server = std::process::Command::new("/bin/cat")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let chmod = || place.attempt("chmod", database.to_str().unwrap());
    let limits = || place.attempt("limits", &server.id().to_string());
    let same_user = Without {
        uid: true,
        ..TIERS[1]
    };
    for without in [TIERS[0], TIERS[1], same_user] {
        assert_eq!(place.try_it(without, chmod()).await.told, "1");
        let told = place.try_it(without, limits()).await.told;
        assert_eq!(told, "1", "{without:?}");
    }
    assert_eq!(mode(), 0o600);
    let unfiltered = Without {
        seccomp: true,
        ..same_user
    };
    assert_eq!(place.try_it(unfiltered, limits()).await.told, "ok");
    assert_eq!(place.try_it(unfiltered, chmod()).await.told, "ok");
    assert_eq!(mode(), 0o777);
    drop(server.stdin.take());
    server.wait().unwrap();
}

fn limited(policy: Policy, change: impl FnOnce(&mut Limits)) -> Policy {
    let mut policy = policy;
    change(&mut policy.limits);
    policy
}

#[tokio::test]
async fn memory_is_limited() {
    let place = Place::new();
    let allocate = |megabytes: &str| {
        limited(place.attempt("allocate", megabytes), |limits| {
            limits.memory_bytes = 64 * MIB;
        })
    };
    for without in TIERS {
        let outcome = place.try_it(without, allocate("4096")).await;
        assert_ne!(outcome.told, "ok", "{without:?}");
        // The kernel may refuse first; by itself each is enough.
        let only_watched = Without {
            rlimits: true,
            ..without
        };
        let outcome = place.try_it(only_watched, allocate("4096")).await;
        assert_eq!(outcome.ended.reason, Reason::Memory, "{outcome:?}");
        assert!(outcome.ended.peak_bytes > 64 * MIB);
        let not_watched = Without {
            watchdog: true,
            ..without
        };
        let outcome = place.try_it(not_watched, allocate("4096")).await;
        assert_eq!(outcome.told, "12", "{outcome:?}");
    }
    let nothing = Without {
        rlimits: true,
        watchdog: true,
        ..Without::NOTHING
    };
    assert_eq!(place.try_it(nothing, allocate("1400")).await.told, "ok");
}

#[tokio::test]
async fn what_is_written_is_limited() {
    let place = Place::new();
    let fill = |how: &str, megabytes: &str| {
        limited(place.attempt(how, megabytes), |limits| {
            limits.disk_bytes = 8 * MIB
        })
    };
    // Its folder is a file system of its own, which is full.
    let outcome = place.try_it(TIERS[0], fill("fill_many", "10240")).await;
    if outcome.told != "28" {
        eprintln!(
            "not tested: a folder that is full, because this machine gives no namespaces: {outcome:?}"
        );
        assert_eq!(outcome.ended.reason, Reason::Disk);
    }
    // The kernel ends it for one large file, the supervisor for many or for what has no name.
    let unlimited = Without {
        rlimits: true,
        ..TIERS[1]
    };
    let attempts = [
        (TIERS[1], "fill"),
        (TIERS[1], "fill_many"),
        (unlimited, "fill"),
        (unlimited, "fill_removed"),
    ];
    for (without, how) in attempts {
        let outcome = place.try_it(without, fill(how, "10240")).await;
        assert_eq!(
            outcome.ended.reason,
            Reason::Disk,
            "{how} {without:?} {outcome:?}"
        );
    }
    let nothing = Without {
        watchdog: true,
        ..unlimited
    };
    assert_eq!(place.try_it(nothing, fill("fill", "64")).await.told, "ok");
}

#[tokio::test]
async fn processes_are_limited() {
    let place = Place::new();
    let start = || {
        limited(place.attempt("processes", "200"), |limits| {
            limits.processes = 20
        })
    };
    for without in TIERS {
        let told = place.try_it(without, start()).await.told;
        assert_eq!(told, "11", "the kernel refuses: {without:?}");
        let only_watched = Without {
            rlimits: true,
            ..without
        };
        let outcome = place.try_it(only_watched, start()).await;
        assert_eq!(outcome.ended.reason, Reason::Processes, "{outcome:?}");
    }
    let nothing = Without {
        rlimits: true,
        watchdog: true,
        ..Without::NOTHING
    };
    assert_eq!(place.try_it(nothing, start()).await.told, "ok");
}

//! The accounts of a program whose global allocator counts: who is charged across awaits, threads and frees.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "the crate that tracks tasks depends on this one"
)]

use std::sync::Arc;

use netra_memory::{Account, Allocator, Scope};

#[global_allocator]
static GLOBAL: Allocator = Allocator::new();

const MIB: u64 = 1 << 20;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .build()
        .unwrap()
}

#[test]
fn the_program_counts() {
    assert!(netra_memory::is_counting());
    assert!(netra_memory::node_bytes() > 0);
}

#[test]
fn a_scope_charges_only_what_is_allocated_in_it() {
    let account = Account::user();
    let outside = vec![0_u8; 100_000];
    let inside = {
        let _entered = account.scope().enter();
        vec![0_u8; 50_000]
    };
    assert_eq!(account.current_bytes(), 50_008);
    drop(outside);
    assert_eq!(account.current_bytes(), 50_008);
    drop(inside);
    assert_eq!((account.current_bytes(), account.peak_bytes()), (0, 50_008));
}

#[test]
fn a_vector_that_grows_stays_its_owners() {
    let account = Account::user();
    let mut grown = {
        let _entered = account.scope().enter();
        Vec::<u8>::with_capacity(1000)
    };
    grown.reserve_exact(200_000);
    assert_eq!(account.current_bytes(), 200_008);
    drop(grown);
    assert_eq!(account.current_bytes(), 0);
}

#[test]
fn scopes_nest_and_the_system_is_one_of_them() {
    let (outer, inner) = (Account::user(), Account::user());
    let _outer = outer.scope().enter();
    let first = vec![0_u8; 1000];
    let (second, third) = {
        let _inner = inner.scope().enter();
        let second = vec![0_u8; 2000];
        let _system = Scope::system().enter();
        (second, vec![0_u8; 4000])
    };
    let fourth = vec![0_u8; 8000];
    assert_eq!(inner.current_bytes(), 2008);
    assert_eq!(outer.current_bytes(), 9016);
    drop((first, second, third, fourth));
    assert_eq!((outer.current_bytes(), inner.current_bytes()), (0, 0));
}

#[test]
fn owners_that_pass_buffers_to_each_other_end_at_zero() {
    const OWNERS: usize = 50;
    let runtime = runtime();
    let user = Arc::new(Account::user());
    let accounts: Vec<_> = (0..OWNERS)
        .map(|_| Arc::new(Account::execution(&user)))
        .collect();
    let peaks: Vec<u64> = runtime.block_on(async {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..OWNERS)
            .map(|_| tokio::sync::mpsc::channel::<Vec<u8>>(4))
            .unzip();
        let mut tasks = Vec::new();
        for (index, mut receiver) in receivers.into_iter().enumerate() {
            let sender = senders[(index + 1) % OWNERS].clone();
            let work = async move {
                for round in 0..20_usize {
                    let buffer = vec![round as u8; 10_000 + index];
                    sender.send(buffer).await.unwrap();
                    tokio::task::yield_now().await;
                    drop(receiver.recv().await);
                }
            };
            tasks.push(tokio::spawn(accounts[index].scope().wrap(work)));
        }
        drop(senders);
        for task in tasks {
            task.await.unwrap();
        }
        accounts
            .iter()
            .map(|account| account.peak_bytes())
            .collect()
    });
    drop(runtime);
    for (account, peak) in accounts.iter().zip(peaks) {
        assert!(peak >= 10_000, "an owner was never charged: {peak}");
        // The runtime itself may keep a little of what it allocated within a scope.
        assert!(
            account.current_bytes() < 4_000,
            "{} bytes were left",
            account.current_bytes()
        );
    }
    drop(accounts);
    assert!(user.current_bytes() < 4_000);
}

#[test]
fn a_panic_leaves_the_scope() {
    let account = Account::user();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _entered = account.scope().enter();
        let _held = vec![0_u8; 1000];
        std::panic::resume_unwind(Box::new("over"));
    }));
    drop(outcome);
    let outside = vec![0_u8; 100_000];
    assert!(account.current_bytes() < 100_000);
    drop(outside);
}

#[test]
fn accounts_that_come_and_go_on_many_threads_never_inherit_anything() {
    let (sender, receiver) = std::sync::mpsc::sync_channel::<Vec<u8>>(64);
    // Frees what others allocated, often after its account was closed and its line was given to the next.
    let freeing =
        std::thread::spawn(move || receiver.into_iter().map(|held| held.len()).sum::<usize>());
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for round in 0..500_usize {
                    let account = Account::user();
                    assert_eq!(account.current_bytes(), 0, "thread {thread}, round {round}");
                    let size = 1000 + round * 100;
                    let held = {
                        let _entered = account.scope().enter();
                        vec![1_u8; size]
                    };
                    assert_eq!(account.current_bytes(), size as u64 + 8);
                    sender.send(held).unwrap();
                }
            })
        })
        .collect();
    drop(sender);
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(
        freeing.join().unwrap(),
        4 * (0..500).map(|round| 1000 + round * 100).sum::<usize>()
    );
}

#[test]
fn a_closed_account_is_over_for_what_still_runs_on_it() {
    let account = Account::user();
    let scope = account.scope();
    assert!(!scope.is_over());
    drop(account);
    assert!(scope.is_over());
}

#[test]
fn closing_leaves_the_remainder_to_the_system() {
    let account = Account::user();
    let kept = {
        let _entered = account.scope().enter();
        vec![0_u8; 64 * MIB as usize]
    };
    drop(account);
    assert!(netra_memory::system_bytes() >= 64 * MIB);
    // Not held against what was before: other tests free theirs meanwhile.
    assert!(netra_memory::node_bytes() >= 64 * MIB);
    drop(kept);
}

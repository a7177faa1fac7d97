//! Blocks over the system's allocator, so that valgrind can look at every byte: `cargo xtask test valgrind`.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout, System};

use netra_memory::{Account, Allocator};
use proptest::prelude::*;

#[global_allocator]
static GLOBAL: Allocator<System> = Allocator::over(System);

/// Few under valgrind, which takes its time for each.
fn cases() -> ProptestConfig {
    ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A block of which every byte is written, so that one that is not there is seen.
struct Held {
    at: *mut u8,
    layout: Layout,
    with: u8,
}

impl Held {
    fn new(size: usize, align: usize, zeroed: bool, with: u8) -> Held {
        let layout = Layout::from_size_align(size, align).unwrap();
        // SAFETY: a block of size zero is fine for this allocator, which never asks for one.
        let at = unsafe {
            if zeroed {
                GLOBAL.alloc_zeroed(layout)
            } else {
                GLOBAL.alloc(layout)
            }
        };
        assert!(!at.is_null());
        let held = Held { at, layout, with };
        if zeroed {
            held.expect(0, layout.size());
        }
        held.fill(0);
        held
    }

    fn fill(&self, from: usize) {
        for offset in from..self.layout.size() {
            // SAFETY: within the block.
            unsafe { self.at.add(offset).write(self.with) };
        }
    }

    fn expect(&self, byte: u8, size: usize) {
        assert_eq!(self.at as usize % self.layout.align(), 0);
        for offset in 0..size {
            // SAFETY: within the block, and written before.
            assert_eq!(unsafe { self.at.add(offset).read() }, byte);
        }
    }

    fn resize(&mut self, size: usize) {
        let before = self.layout.size();
        // SAFETY: the block is live and has this layout; the size is far from the largest.
        self.at = unsafe { GLOBAL.realloc(self.at, self.layout, size) };
        assert!(!self.at.is_null());
        self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
        self.expect(self.with, before.min(size));
        self.fill(before.min(size));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.expect(self.with, self.layout.size());
        // SAFETY: the block is live, has this layout, and is freed once.
        unsafe { GLOBAL.dealloc(self.at, self.layout) };
    }
}

#[derive(Debug, Clone)]
enum Act {
    Take {
        size: usize,
        align: u32,
        zeroed: bool,
    },
    Resize {
        which: usize,
        size: usize,
    },
    Free {
        which: usize,
    },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let size = || prop_oneof![0_usize..64, 0_usize..3000];
    let act = prop_oneof![
        3 => (size(), 0_u32..13, any::<bool>())
            .prop_map(|(size, align, zeroed)| Act::Take { size, align, zeroed }),
        2 => (any::<usize>(), size()).prop_map(|(which, size)| Act::Resize { which, size }),
        1 => any::<usize>().prop_map(|which| Act::Free { which }),
    ];
    prop::collection::vec(act, 1..40)
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn blocks_of_every_size_and_alignment_keep_their_bytes_whatever_is_done(acts in acts()) {
        let account = Account::user();
        let mut held = Vec::with_capacity(acts.len());
        for (number, act) in acts.into_iter().enumerate() {
            let _entered = account.scope().enter();
            match act {
                Act::Take { size, align, zeroed } => {
                    held.push(Held::new(size, 1 << align, zeroed, number as u8));
                }
                Act::Resize { which, size } if !held.is_empty() => {
                    let which = which % held.len();
                    held[which].resize(size);
                }
                Act::Free { which } if !held.is_empty() => {
                    drop(held.swap_remove(which % held.len()));
                }
                Act::Resize { .. } | Act::Free { .. } => {}
            }
            let blocks = |one: &Held| (one.layout.size() + one.layout.align().max(8)) as u64;
            prop_assert_eq!(account.current_bytes(), held.iter().map(blocks).sum::<u64>());
        }
        held.clear();
        prop_assert_eq!(account.current_bytes(), 0);
    }
}

#[test]
fn what_threads_free_for_each_other_is_freed_once() {
    let (sender, receiver) = std::sync::mpsc::sync_channel::<Vec<u8>>(8);
    let freeing = std::thread::spawn(move || receiver.into_iter().map(|held| held.len()).sum());
    let account = Account::user();
    for size in 0..200 {
        let _entered = account.scope().enter();
        sender.send(vec![1; size]).unwrap();
    }
    drop(sender);
    assert_eq!(freeing.join().ok(), Some((0..200).sum::<usize>()));
}

//! mimalloc with a count of its own: what the accounts are held against.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicI64, Ordering};

use mimalloc::MiMalloc;

static LIVE: AtomicI64 = AtomicI64::new(0);

/// mimalloc, counting each byte that it is asked for and given back, exactly and at once: too slow to serve with.
/// `Allocator::over(Measured)` as the global allocator lets [`measured_bytes`] be compared with
/// [`node_bytes`](crate::node_bytes).
#[derive(Debug, Default)]
pub struct Measured;

/// What [`Measured`] has handed out and not been given back.
pub fn measured_bytes() -> u64 {
    LIVE.load(Ordering::Relaxed).unsigned_abs()
}

fn count(delta: i64) {
    LIVE.fetch_add(delta, Ordering::Relaxed);
}

// SAFETY: everything is mimalloc's; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Measured {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let block = unsafe { MiMalloc.alloc(layout) };
        if !block.is_null() {
            count(layout.size() as i64);
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: as the caller promises.
        unsafe { MiMalloc.dealloc(block, layout) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        let moved = unsafe { MiMalloc.realloc(block, layout, size) };
        if !moved.is_null() {
            count(size as i64 - layout.size() as i64);
        }
        moved
    }
}

//! The system's allocator, with a look into every block that is given back: for tests that what is secret is wiped.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

static WORD: OnceLock<&'static [u8]> = OnceLock::new();
static FOUND: AtomicUsize = AtomicUsize::new(0);

/// As the global allocator it finds the word of [`search_for`] in blocks that are freed, or left behind by one that
/// grows elsewhere: too slow to serve with.
#[derive(Debug, Default)]
pub struct Searched;

/// Looks for this word from now on. One word for each program: true where it is the first.
pub fn search_for(word: &'static [u8]) -> bool {
    !word.is_empty() && WORD.set(word).is_ok()
}

/// In how many freed blocks it was found.
pub fn found_in_freed() -> usize {
    FOUND.load(Ordering::SeqCst)
}

// SAFETY: everything is the system's; looking neither allocates nor panics. `realloc` stays as the trait has it: a new
// block, a copy, and the old block freed, so that it is looked into too.
unsafe impl GlobalAlloc for Searched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Zeroed, so that no byte of a block was never written when it is looked into.
        // SAFETY: as the caller promises.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(word) = WORD.get() {
            // SAFETY: the block is `layout.size()` bytes long, was zeroed when it was handed out, and is nobody else's
            // any more.
            let freed = unsafe { std::slice::from_raw_parts(block, layout.size()) };
            if freed.windows(word.len()).any(|part| part == *word) {
                FOUND.fetch_add(1, Ordering::SeqCst);
            }
        }
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(block, layout) };
    }
}

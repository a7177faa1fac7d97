//! The global allocator: mimalloc (or another), with a tag of 8 bytes before each block that names its owner.

use std::alloc::{GlobalAlloc, Layout};
use std::ptr;

use mimalloc::MiMalloc;

use crate::ledger::Tag;
use crate::{tally, worker};

/// Bytes that the tag takes before each block.
const TAG_BYTES: usize = size_of::<u64>();

/// The accounting allocator. Make it the global allocator of the binary:
/// `#[global_allocator] static GLOBAL: netra_memory::Allocator = netra_memory::Allocator::new();`
///
/// Where the blocks come from is a parameter only so that tools which look into the system's allocator can watch it.
#[derive(Debug, Default)]
pub struct Allocator<B = MiMalloc> {
    base: B,
}

impl Allocator {
    /// An allocator; all of them share one ledger.
    pub const fn new() -> Allocator {
        Allocator { base: MiMalloc }
    }
}

impl<B> Allocator<B> {
    /// The same with another one below it.
    pub const fn over(base: B) -> Allocator<B> {
        Allocator { base }
    }
}

/// A caller's block together with the room for its tag.
///
/// The prefix is as large as the alignment (at least 8), so that the caller's part stays aligned, and it depends on
/// nothing but the alignment, so that a block can grow in place.
#[derive(Clone, Copy)]
struct Block {
    layout: Layout,
    prefix: usize,
}

impl Block {
    fn new(size: usize, align: usize) -> Option<Block> {
        let prefix = align.max(TAG_BYTES);
        let layout = Layout::from_size_align(size.checked_add(prefix)?, prefix).ok()?;
        Some(Block { layout, prefix })
    }
}

/// Charges a new block, and says what to write into its tag.
#[inline]
fn charge(bytes: usize) -> Tag {
    if worker::charge(bytes) {
        worker::TAG
    } else {
        tally::allocated(bytes)
    }
}

#[inline]
fn change(tag: Tag, delta: i64) {
    if tag == worker::TAG {
        worker::change(delta);
    } else {
        tally::changed(tag, delta);
    }
}

/// Writes the tag and steps over the prefix.
///
/// # Safety
/// `base` is the start of a live block of `block.layout`.
#[inline]
unsafe fn hand_out(base: *mut u8, block: Block, tag: Tag) -> *mut u8 {
    // SAFETY: the prefix lies within the block, and the 8 bytes before its end are aligned, because the prefix is a
    // multiple of 8 and the block starts at a multiple of the prefix.
    unsafe {
        let user = base.add(block.prefix);
        user.sub(TAG_BYTES).cast::<u64>().write(tag.bits());
        user
    }
}

/// Reads the tag before a block.
///
/// # Safety
/// `user` was returned by `hand_out` and its block is live.
#[inline]
unsafe fn tag_of(user: *mut u8) -> Tag {
    // SAFETY: `hand_out` wrote an aligned tag there.
    Tag::from_bits(unsafe { user.sub(TAG_BYTES).cast::<u64>().read() })
}

impl<B> Allocator<B> {
    /// Charges, takes a block with `take` and hands it out; null when there is no memory, with nothing charged.
    #[inline]
    fn obtain(layout: Layout, take: impl FnOnce(Layout) -> *mut u8) -> *mut u8 {
        let Some(block) = Block::new(layout.size(), layout.align()) else {
            return ptr::null_mut();
        };
        let bytes = block.layout.size();
        let tag = charge(bytes);
        let base = take(block.layout);
        if base.is_null() {
            worker::refused();
            change(tag, -(bytes as i64));
            return base;
        }
        // SAFETY: `take` returned a live block of this layout.
        unsafe { hand_out(base, block, tag) }
    }
}

// SAFETY: every block comes from the allocator below with a layout that holds the caller's layout behind the prefix, aligned as
// the caller asked; the same prefix is computed from the same alignment when the block comes back. Nothing here
// panics or allocates, and the thread locals used have no destructors.
unsafe impl<B: GlobalAlloc> GlobalAlloc for Allocator<B> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the block's layout is never of size zero, because it holds a tag.
        Self::obtain(layout, |block| unsafe { self.base.alloc(block) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`; only the prefix is overwritten.
        Self::obtain(layout, |block| unsafe { self.base.alloc_zeroed(block) })
    }

    unsafe fn dealloc(&self, user: *mut u8, layout: Layout) {
        let Some(block) = Block::new(layout.size(), layout.align()) else {
            return;
        };
        // SAFETY: the caller got `user` from this allocator with this layout, so its tag and its block are live.
        unsafe {
            change(tag_of(user), -(block.layout.size() as i64));
            self.base.dealloc(user.sub(block.prefix), block.layout);
        }
    }

    unsafe fn realloc(&self, user: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let (Some(old), Some(new)) = (
            Block::new(layout.size(), layout.align()),
            Block::new(new_size, layout.align()),
        ) else {
            return ptr::null_mut();
        };
        let delta = new.layout.size() as i64 - old.layout.size() as i64;
        // SAFETY: the caller got `user` from this allocator with this layout. The first bytes of the block are kept,
        // and so the tag; the owner stays who it was, whoever makes the block grow.
        unsafe {
            let tag = tag_of(user);
            change(tag, delta);
            let base = self
                .base
                .realloc(user.sub(old.prefix), old.layout, new.layout.size());
            if base.is_null() {
                worker::refused();
                change(tag, -delta);
                return base;
            }
            base.add(new.prefix)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Account;

    /// Fills a block with a pattern that depends on the position.
    fn fill(user: *mut u8, from: usize, to: usize) {
        for at in from..to {
            // SAFETY: the tests only pass ranges within a live block.
            unsafe { user.add(at).write((at % 251) as u8) };
        }
    }

    fn intact(user: *mut u8, to: usize) -> bool {
        // SAFETY: as in `fill`.
        (0..to).all(|at| unsafe { user.add(at).read() } == (at % 251) as u8)
    }

    proptest! {
        #[test]
        fn blocks_are_aligned_hold_their_bytes_and_leave_nothing(
            align_bits in 0_u32..13,
            sizes in prop::collection::vec(0_usize..20_000, 1..12),
            zeroed in any::<bool>(),
        ) {
            let align = 1_usize << align_bits;
            let account = Account::user();
            let entered = account.scope().enter();
            let allocator = Allocator::new();
            let mut layout = Layout::from_size_align(sizes[0], align).unwrap();
            // SAFETY: the block is used and freed with the layout it was last given.
            unsafe {
                let mut user =
                    if zeroed { allocator.alloc_zeroed(layout) } else { allocator.alloc(layout) };
                prop_assert_eq!(user as usize % align, 0);
                if zeroed {
                    prop_assert!((0..layout.size()).all(|at| user.add(at).read() == 0));
                }
                fill(user, 0, layout.size());
                for &size in &sizes[1..] {
                    user = allocator.realloc(user, layout, size);
                    prop_assert_eq!(user as usize % align, 0);
                    prop_assert!(intact(user, size.min(layout.size())));
                    fill(user, layout.size().min(size), size);
                    layout = Layout::from_size_align(size, align).unwrap();
                    prop_assert_eq!(account.current_bytes(), (size + align.max(8)) as u64);
                }
                allocator.dealloc(user, layout);
            }
            drop(entered);
            prop_assert_eq!(account.current_bytes(), 0);
        }
    }

    #[test]
    fn a_size_that_cannot_be_is_refused_and_not_charged() {
        let account = Account::user();
        let entered = account.scope().enter();
        let layout = Layout::from_size_align(isize::MAX as usize - 8, 8).unwrap();
        // SAFETY: a null is never used.
        let user = unsafe { Allocator::new().alloc(layout) };
        assert!(user.is_null());
        drop(entered);
        assert_eq!(account.current_bytes(), 0);
    }

    #[test]
    fn what_another_owner_frees_is_credited_to_the_first() {
        let (first, second) = (Account::user(), Account::user());
        let layout = Layout::from_size_align(10_000, 16).unwrap();
        let user = {
            let _entered = first.scope().enter();
            // SAFETY: freed below with the same layout.
            unsafe { Allocator::new().alloc(layout) as usize }
        };
        assert_eq!(first.current_bytes(), 10_016);
        let scope = second.scope();
        std::thread::spawn(move || {
            let _entered = scope.enter();
            // SAFETY: allocated above with this layout, and freed once.
            unsafe { Allocator::new().dealloc(user as *mut u8, layout) };
            crate::tally::flush();
        })
        .join()
        .unwrap();
        assert_eq!((first.current_bytes(), second.current_bytes()), (0, 0));
        assert!(first.peak_bytes() >= 10_016);
    }

    #[test]
    fn a_block_that_outlives_its_account_never_touches_the_next_one() {
        let layout = Layout::from_size_align(5_000, 8).unwrap();
        let first = Account::user();
        let user = {
            let _entered = first.scope().enter();
            // SAFETY: freed below with the same layout.
            unsafe { Allocator::new().alloc(layout) }
        };
        drop(first);
        let next = Account::user();
        // SAFETY: allocated above with this layout.
        unsafe { Allocator::new().dealloc(user, layout) };
        crate::tally::flush();
        assert_eq!(next.current_bytes(), 0);
        assert!(!next.is_over());
    }
}

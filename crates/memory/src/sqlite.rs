//! SQLite's blocks in a worker process: taken from the accounting allocator, so that the worker's one limit holds for
//! them too.
//!
//! SQLite asks for the size of its blocks, which Rust's allocators do not tell, so each block has its size in front.

use std::alloc::{Layout, alloc, dealloc, realloc};
use std::ffi::{c_int, c_void};

use libsqlite3_sys as ffi;

/// What SQLite may expect of a block's address, and so the room in front of it.
const HEAD: usize = 16;

/// Lets SQLite take its memory from Rust's global allocator. False when it is in use already: it must be told before
/// anything else is asked of it.
pub(crate) fn count() -> bool {
    let methods = ffi::sqlite3_mem_methods {
        xMalloc: Some(take),
        xFree: Some(give_back),
        xRealloc: Some(resize),
        xSize: Some(size),
        xRoundup: Some(round_up),
        xInit: Some(begin),
        xShutdown: Some(end),
        pAppData: std::ptr::null_mut(),
    };
    let methods: *const ffi::sqlite3_mem_methods = &methods;
    // SAFETY: SQLite copies what is pointed to before it returns, and refuses where it is initialised already.
    unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, methods) == ffi::SQLITE_OK }
}

fn layout(bytes: c_int) -> Option<Layout> {
    let bytes = usize::try_from(bytes).ok()?.checked_add(HEAD)?;
    Layout::from_size_align(bytes, HEAD).ok()
}

unsafe extern "C" fn take(bytes: c_int) -> *mut c_void {
    let Some(layout) = layout(bytes) else {
        return std::ptr::null_mut();
    };
    // SAFETY: the layout is never empty, as it holds the head.
    let block = unsafe { alloc(layout) };
    // SAFETY: `block` is null or fits `layout`.
    unsafe { filled(block, bytes) }
}

/// What SQLite is given of a block: the part behind the head.
///
/// # Safety
/// `block` is null or the beginning of a block that was allocated by the layout of so many bytes.
unsafe fn filled(block: *mut u8, bytes: c_int) -> *mut c_void {
    if block.is_null() {
        return block.cast();
    }
    // SAFETY: the block begins with the head, which has the alignment and the room for a number.
    unsafe {
        block.cast::<c_int>().write(bytes);
        block.add(HEAD).cast()
    }
}

/// The beginning of a block, and its size without the head.
///
/// # Safety
/// `given` comes from [`filled`].
unsafe fn begin_of(given: *mut c_void) -> (*mut u8, c_int) {
    // SAFETY: so it stands behind a head, in which its size was written.
    unsafe {
        let block = given.cast::<u8>().sub(HEAD);
        (block, block.cast::<c_int>().read())
    }
}

unsafe extern "C" fn give_back(given: *mut c_void) {
    if given.is_null() {
        return;
    }
    // SAFETY: SQLite gives back only what it has from here.
    let (block, bytes) = unsafe { begin_of(given) };
    if let Some(layout) = layout(bytes) {
        // SAFETY: the block was allocated by the layout of that size.
        unsafe { dealloc(block, layout) };
    }
}

unsafe extern "C" fn resize(given: *mut c_void, bytes: c_int) -> *mut c_void {
    // SAFETY: SQLite resizes only what it has from here.
    let (block, old) = unsafe { begin_of(given) };
    let (Some(old), Some(new)) = (layout(old), layout(bytes)) else {
        return std::ptr::null_mut();
    };
    // SAFETY: the block was allocated by the layout `old`; the new size is valid, as its layout is.
    let block = unsafe { realloc(block, old, new.size()) };
    // SAFETY: `block` is null or fits the new layout, which has the same alignment.
    unsafe { filled(block, bytes) }
}

unsafe extern "C" fn size(given: *mut c_void) -> c_int {
    if given.is_null() {
        return 0;
    }
    // SAFETY: SQLite asks only about what it has from here.
    unsafe { begin_of(given) }.1
}

unsafe extern "C" fn round_up(bytes: c_int) -> c_int {
    // Without a sign bit this cannot overflow: SQLite takes no block near that size.
    bytes.saturating_add(7) & !7
}

unsafe extern "C" fn begin(_: *mut c_void) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn end(_: *mut c_void) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_their_content_and_know_their_size() {
        for bytes in [1, 7, 8, 100, 5_000, 1 << 20] {
            // SAFETY: every block is used within its size and given back once.
            unsafe {
                let given = take(bytes);
                assert_eq!(given as usize % HEAD, 0);
                assert_eq!(size(given), bytes);
                given.cast::<u8>().write_bytes(7, bytes as usize);
                for new in [bytes * 3, bytes / 2 + 1, bytes] {
                    let smaller = size(given).min(new) as usize;
                    let given = resize(take(bytes), new);
                    assert_eq!(size(given), new);
                    given.cast::<u8>().write_bytes(9, smaller);
                    give_back(given);
                }
                let larger = resize(given, bytes * 2);
                let kept = std::slice::from_raw_parts(larger.cast::<u8>(), bytes as usize);
                assert!(kept.iter().all(|byte| *byte == 7));
                give_back(larger);
            }
        }
        // SAFETY: null is what SQLite may give back, too.
        unsafe {
            give_back(std::ptr::null_mut());
            assert_eq!(size(std::ptr::null_mut()), 0);
            assert_eq!((round_up(1), round_up(8)), (8, 8));
            assert!(take(-1).is_null());
        }
    }
}

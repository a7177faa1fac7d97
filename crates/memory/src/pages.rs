//! The size of the pages that memory is made of.

/// Asks the kernel for ordinary pages only, in this process and in those that it starts. Returns whether it agreed.
///
/// mimalloc asks for huge ones where the system leaves that to programs, and then a server that does nothing holds
/// 55 MiB in 2 MiB pieces of which it has touched a few pages each (measured at start: 71 MiB of resident memory with
/// huge pages, 26 MiB without). Where memory is counted by owner, pages that nobody asked for are the larger evil.
/// Call it first in `main`: pages that were handed out before stay as they are.
pub fn use_small_pages() -> bool {
    // SAFETY: this call takes numbers only, and changes nothing but how later pages are handed out.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0 }
}

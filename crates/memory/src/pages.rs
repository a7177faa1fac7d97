//! The size of the pages that memory is made of.

/// Asks the kernel for ordinary pages only, in this process and in those that it starts. Returns whether it agreed.
///
/// mimalloc asks for huge ones where the system leaves that to programs, and then a program holds 2 MiB for a few
/// touched pages (measured on a server at rest: 73 MB resident with huge pages, 64 MB without). Where memory is
/// counted by owner, pages that nobody asked for are the larger evil.
/// Call it first in `main`: pages that were handed out before stay as they are.
pub fn use_small_pages() -> bool {
    // SAFETY: this call takes numbers only, and changes nothing but how later pages are handed out.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0 }
}

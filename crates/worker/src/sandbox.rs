//! What the kernel can hold a process to.

pub(crate) mod files;
pub(crate) mod syscalls;

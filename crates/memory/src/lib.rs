//! netra-memory.

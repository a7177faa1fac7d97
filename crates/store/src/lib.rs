//! netra-store.

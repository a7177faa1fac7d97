//! netra-worker.

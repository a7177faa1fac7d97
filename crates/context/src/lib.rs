//! netra-context.

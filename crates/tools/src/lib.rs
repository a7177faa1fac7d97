//! netra-tools.

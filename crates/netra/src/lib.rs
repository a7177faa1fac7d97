//! netra.

//! netra-events.

//! netra-engine.

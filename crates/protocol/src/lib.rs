//! netra-protocol.

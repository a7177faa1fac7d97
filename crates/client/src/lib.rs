//! netra-client.

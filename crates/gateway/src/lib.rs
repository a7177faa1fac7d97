//! netra-gateway.

//! netra-integration.

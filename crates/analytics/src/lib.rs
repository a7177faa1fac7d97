//! netra-analytics.

//! netra-model.

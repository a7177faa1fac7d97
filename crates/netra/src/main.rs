//! The binary `netra`.
fn main() {}

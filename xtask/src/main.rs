//! The only door for people and CI.
fn main() {}

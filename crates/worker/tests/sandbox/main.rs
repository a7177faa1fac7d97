//! Programs in their sandboxes: what they are given, what they cannot do, and how they end.
//!
//! What a test shows with a layer, it shows the opposite of without it, so that it can fail.
#![expect(clippy::unwrap_used, reason = "tests")]

mod ends;
mod escapes;
mod place;
mod programs;

//! Formats of providers by what nobody here wrote: a mock from npm, and the answers that the makers' own SDKs carry.
//! `cargo xtask test models` installs both and runs these tests.

mod agents;
mod installed;
mod transcripts;
mod trial;

//! What the table of accounts is changed with. The model checker's tests have their own.

pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
pub(crate) use std::sync::{Mutex, PoisonError};

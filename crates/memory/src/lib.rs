//! Bytes by owner: the accounting allocator, the accounts it charges and the scopes that say who allocates.
//!
//! [`Allocator`] is the global allocator of the `netra` binary. Each block carries a tag of 8 bytes that names the
//! account it was charged to, so that whoever frees it, the owner is credited. Accounts form a tree: execution → user
//! → node. A thread collects what it allocates and hands it to the account when it reaches 8 KiB or when it changes
//! to another account, so a number read from outside can be off by 8 KiB for each thread that is inside the account
//! at that moment, and by nothing when none is.
//!
//! A limit is looked at by whoever drives a future, between its polls ([`Scope::is_over`]), and by whoever asks before taking much
//! ([`Scope::reserve`], with [`json_room`] for JSON); an allocator in Rust cannot refuse. Worker processes, which run what is not trusted, have
//! a hard limit instead: [`worker`].
//!
//! In a program whose global allocator is another one, everything here works and counts only what was declared
//! through [`Scope::reserve`] and [`Account::add_external`].

mod account;
mod allocator;
mod json;
mod ledger;
mod measured;
mod pages;
mod reservation;
mod resident;
mod scope;
mod searched;
mod sqlite;
mod sync;
mod table;
mod tally;
mod turns;
pub mod worker;

pub use account::{Account, External, OverLimit};
pub use allocator::Allocator;
pub use json::json_room;
pub use measured::{Measured, measured_bytes};
pub use pages::use_small_pages;
pub use reservation::{Reservation, reserved_bytes};
pub use resident::resident_bytes;
pub use scope::{Entered, Scope, Scoped};
pub use searched::{Searched, found_in_freed, search_for};
pub use turns::take_turns_of;

use ledger::{LEDGER, Tag};

/// All bytes that are accounted for in this process now: of every user, and of the system.
pub fn node_bytes() -> u64 {
    tally::flush();
    LEDGER.bytes(Tag::NODE)
}

/// Bytes that belong to no user: what was allocated outside any scope, and what closed accounts left behind.
pub fn system_bytes() -> u64 {
    tally::flush();
    LEDGER.bytes(Tag::SYSTEM)
}

/// Whether [`Allocator`] is the global allocator of this program, so that accounts count allocations.
pub fn is_counting() -> bool {
    let before = tally::unflushed();
    let probe = std::hint::black_box(Box::new([0_u8; 40]));
    let after = tally::unflushed();
    drop(probe);
    before != after || worker::is_armed()
}

//! Memory for those who do not know the allocator: on whose account the code runs, and how it asks before it takes
//! much.

pub use netra_memory::{
    Account, OverLimit, Reservation, Scope, is_counting, node_bytes, system_bytes,
};

/// Sets bytes aside on the account that the caller runs on, before something large is made; give them back once it is
/// there. Everything whose size a user can choose asks like this.
///
/// # Errors
/// When they do not fit within the limits of the account and its user.
pub fn reserve(bytes: usize) -> Result<Reservation, OverLimit> {
    Scope::current().reserve(bytes as u64)
}

/// [`reserve`] for what a JSON text takes once it is read.
///
/// # Errors
/// As [`reserve`].
pub fn reserve_for_json(text: &[u8]) -> Result<Reservation, OverLimit> {
    Scope::current().reserve(netra_memory::json_room(text))
}

/// The work, to be done on another thread on the account that this is called on.
pub fn on_this_account<A, T>(work: impl FnOnce(A) -> T) -> impl FnOnce(A) -> T {
    let scope = Scope::current();
    move |argument| {
        let _entered = scope.enter();
        work(argument)
    }
}

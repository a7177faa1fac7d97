//! Memory for those who do not know the allocator: on whose account the code runs, and how it asks before it takes
//! much.

pub use netra_memory::{
    Account, OverLimit, Reservation, Scope, is_counting, node_bytes, system_bytes,
};

/// What is smaller is not asked for: an account cannot see it before it is entered.
const UNSEEN: u64 = 64 * 1024;

/// Sets bytes aside on the account that the caller runs on, before something large is made; give them back once it is
/// there. Everything whose size a user can choose asks like this.
///
/// # Errors
/// When they do not fit within the limits of the account and its user.
pub fn reserve(bytes: usize) -> Result<Reservation, OverLimit> {
    reserve_seen(bytes as u64)
}

/// [`reserve`] for what a JSON text takes once it is read. While it is read, what is set aside and what it has become
/// both count, so there has to be room for twice as much.
///
/// # Errors
/// As [`reserve`].
pub fn reserve_for_json(text: &[u8]) -> Result<Reservation, OverLimit> {
    let room = netra_memory::json_room(text);
    let mut held = reserve_seen(room.saturating_mul(2))?;
    held.shrink_to(room);
    Ok(held)
}

fn reserve_seen(bytes: u64) -> Result<Reservation, OverLimit> {
    let scope = Scope::current();
    if bytes <= UNSEEN {
        Ok(scope.reservation())
    } else {
        scope.reserve(bytes)
    }
}

/// The work, to be done on another thread on the account that this is called on.
pub fn on_this_account<A, T>(work: impl FnOnce(A) -> T) -> impl FnOnce(A) -> T {
    let scope = Scope::current();
    move |argument| {
        let _entered = scope.enter();
        work(argument)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_small_is_given_to_those_who_are_over_too() {
        let account = Account::user();
        account.set_limit(1 << 20);
        let held = account.add_external();
        held.set(2 << 20);
        let _entered = account.scope().enter();
        assert!(reserve(64 * 1024).is_ok());
        assert!(reserve(64 * 1024 + 1).is_err());
        assert!(reserve_for_json(b"[1,2]").is_ok());
        assert!(reserve_for_json("[],".repeat(1000).as_bytes()).is_err());
    }
}

//! Reservations: bytes that are set aside before they are allocated.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::account::OverLimit;
use crate::ledger::{LEDGER, Tag};
use crate::tally;

/// All that is set aside now, by everybody.
static SET_ASIDE: AtomicI64 = AtomicI64::new(0);

/// Bytes that accounts count because they are set aside, whether or not they have been allocated by now: what
/// [`node_bytes`](crate::node_bytes) says beyond what the allocator has handed out.
pub fn reserved_bytes() -> u64 {
    SET_ASIDE.load(Ordering::Relaxed).max(0).unsigned_abs()
}

/// The most bytes of one reservation: a balance has room for 512 GiB.
const MOST: i64 = 1 << 38;

/// Bytes set aside by [`Scope::reserve`](crate::Scope::reserve); given back on drop.
#[derive(Debug)]
#[must_use = "a reservation that is dropped holds nothing"]
pub struct Reservation {
    tag: Option<Tag>,
    bytes: i64,
}

impl Reservation {
    pub(crate) fn nothing(tag: Option<Tag>) -> Reservation {
        Reservation { tag, bytes: 0 }
    }

    /// How many bytes are set aside.
    pub fn bytes(&self) -> u64 {
        self.bytes.unsigned_abs()
    }

    /// Sets more aside, or fails as [`Scope::reserve`](crate::Scope::reserve) does and stays as it is.
    pub fn grow(&mut self, bytes: u64) -> Result<(), OverLimit> {
        let refused = |limit| OverLimit { used: bytes, limit };
        let tag = self.tag.ok_or(refused(0))?;
        let amount = i64::try_from(bytes).ok();
        let amount = amount.filter(|amount| amount.saturating_add(self.bytes) < MOST);
        let amount = amount.ok_or_else(|| refused(LEDGER.limit(tag)))?;
        // What this thread has taken for the account and not entered yet counts too.
        tally::flush();
        LEDGER
            .try_charge(tag, amount)
            .map_err(|(used, limit)| OverLimit { used, limit })?;
        self.bytes += amount;
        SET_ASIDE.fetch_add(amount, Ordering::Relaxed);
        Ok(())
    }

    /// Gives back what is more than this.
    pub fn shrink_to(&mut self, bytes: u64) {
        let kept = i64::try_from(bytes).unwrap_or(i64::MAX).min(self.bytes);
        self.give_back(self.bytes - kept);
    }

    /// Gives everything back.
    pub fn clear(&mut self) {
        self.give_back(self.bytes);
    }

    fn give_back(&mut self, bytes: i64) {
        self.bytes -= bytes;
        if let Some(tag) = self.tag
            && bytes != 0
        {
            LEDGER.charge(tag, -bytes);
            SET_ASIDE.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use crate::Account;

    #[test]
    fn a_reservation_grows_to_the_limit_and_stays_as_it_is_beyond() {
        let account = Account::user();
        account.set_limit(1000);
        let mut held = account.scope().reservation();
        assert_eq!((held.bytes(), account.current_bytes()), (0, 0));
        held.grow(600).unwrap();
        held.grow(400).unwrap();
        assert!(held.grow(1).is_err());
        assert!(held.grow(u64::MAX).is_err());
        assert_eq!((held.bytes(), account.current_bytes()), (1000, 1000));
        held.shrink_to(2000);
        held.shrink_to(900);
        assert_eq!((held.bytes(), account.current_bytes()), (900, 900));
        held.grow(100).unwrap();
        assert_eq!(account.scope().remaining(), 0);
        held.clear();
        assert_eq!(account.scope().remaining(), 1000);
        assert_eq!((held.bytes(), account.current_bytes()), (0, 0));
        assert_eq!(account.peak_bytes(), 1000, "what was refused is no peak");
    }
}

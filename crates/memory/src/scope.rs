//! Scopes: on whose account the code that runs now allocates.

use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use crate::account::OverLimit;
use crate::ledger::{LEDGER, Tag};
use crate::reservation::Reservation;
use crate::tally;

/// Names the account to charge. It does not keep the account open: what is allocated in the scope of a closed
/// account is the system's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    tag: Option<Tag>,
}

impl Scope {
    pub(crate) fn of(tag: Option<Tag>) -> Scope {
        Scope { tag }
    }

    /// The scope of what belongs to no user: shared caches, connection pools, buffers of logs.
    pub fn system() -> Scope {
        Scope {
            tag: Some(Tag::SYSTEM),
        }
    }

    /// The scope that this thread is in.
    pub fn current() -> Scope {
        Scope {
            tag: Some(tally::current()),
        }
    }

    /// The scope of the user whose execution this is one of; itself for any other.
    pub fn user(self) -> Scope {
        Scope {
            tag: self.tag.map(|tag| LEDGER.user(tag)),
        }
    }

    /// Charges this thread's allocations to the account until the guard is dropped. Guards must be dropped in the
    /// reverse order of entering, and never be held across an `await`: for futures there is [`Scope::wrap`].
    pub fn enter(self) -> Entered {
        Entered {
            before: tally::switch(self.tag.unwrap_or(Tag::SYSTEM)),
            not_send: PhantomData,
        }
    }

    /// Charges all that the future allocates while it is polled to the account.
    pub fn wrap<F: Future>(self, future: F) -> Scoped<F> {
        Scoped {
            scope: self,
            future,
        }
    }

    /// Sets bytes aside before something large is allocated, or fails if they do not fit within the limits of the
    /// account and its user. They count until the reservation is dropped: drop it once the buffer exists.
    ///
    /// Whoever runs in a scope asks `Scope::current()`, which is the account that the buffer will be charged to.
    pub fn reserve(self, bytes: u64) -> Result<Reservation, OverLimit> {
        let mut reservation = self.reservation();
        reservation.grow(bytes)?;
        Ok(reservation)
    }

    /// How much more the account may hold now, by its own limit and by its user's.
    pub fn remaining(self) -> u64 {
        tally::flush();
        self.tag.map_or(0, |tag| LEDGER.remaining(tag))
    }

    /// A reservation of nothing, to be grown.
    pub fn reservation(self) -> Reservation {
        Reservation::nothing(self.tag)
    }

    /// Whether the account, or the user it belongs to, holds more than its limit, or is closed.
    pub fn is_over(self) -> bool {
        tally::flush();
        self.tag.is_none_or(|tag| LEDGER.over(tag).is_some())
    }
}

/// The time during which a thread is in a scope; see [`Scope::enter`].
#[derive(Debug)]
#[must_use = "the scope is left when this is dropped"]
pub struct Entered {
    before: Tag,
    not_send: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        tally::switch(self.before);
    }
}

pin_project! {
    /// A future whose allocations are charged to an account; see [`Scope::wrap`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Scoped<F> {
        scope: Scope,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = this.scope.enter();
        this.future.poll(context)
    }
}

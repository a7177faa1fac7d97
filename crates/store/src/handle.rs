//! What an authorised look-up yields: proof that this user may read or change this object, or that
//! an admin may act on it.
//!
//! The constructors are private to the store, so a change of an object that nobody looked up for
//! writing does not compile.

use std::ops::Deref;

use netra_protocol::id::UserId;

/// An object that its owner may read, as it was when it was looked up.
#[derive(Debug, Clone)]
pub struct Readable<T> {
    owner: UserId,
    object: T,
}

/// An object that its owner may change, as it was when it was looked up.
#[derive(Debug, Clone)]
pub struct Writable<T>(Readable<T>);

/// Somebody's object that an admin may act on, as it was when it was looked up. What owners do with
/// their own takes the other two, so an admin's look-up opens nothing else.
#[derive(Debug, Clone)]
pub struct Supervised<T>(Readable<T>);

impl<T> Supervised<T> {
    pub(crate) fn new(owner: UserId, object: T) -> Self {
        Self(Readable::new(owner, object))
    }

    /// Whose it is.
    pub fn owner(&self) -> UserId {
        self.0.owner
    }

    /// The object without the proof.
    pub fn into_inner(self) -> T {
        self.0.object
    }
}

impl<T> Deref for Supervised<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.object
    }
}

impl<T> Readable<T> {
    pub(crate) fn new(owner: UserId, object: T) -> Self {
        Self { owner, object }
    }

    /// Whose it is.
    pub fn owner(&self) -> UserId {
        self.owner
    }

    /// The object without the proof.
    pub fn into_inner(self) -> T {
        self.object
    }
}

impl<T> Writable<T> {
    pub(crate) fn new(owner: UserId, object: T) -> Self {
        Self(Readable::new(owner, object))
    }

    /// Whose it is.
    pub fn owner(&self) -> UserId {
        self.0.owner
    }

    /// The weaker proof.
    pub fn as_readable(&self) -> &Readable<T> {
        &self.0
    }

    /// The object without the proof.
    pub fn into_inner(self) -> T {
        self.0.object
    }
}

impl<T> Deref for Readable<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.object
    }
}

impl<T> Deref for Writable<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.object
    }
}

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
    fence: u64,
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
        Self::fenced(owner, object, 0)
    }

    pub(crate) fn fenced(owner: UserId, object: T, fence: u64) -> Self {
        Self {
            owner,
            object,
            fence,
        }
    }

    /// Under which fence it was looked up: of a run, how often it had been taken by a node. What nobody takes has none.
    pub fn fence(&self) -> u64 {
        self.fence
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

    pub(crate) fn fenced(owner: UserId, object: T, fence: u64) -> Self {
        Self(Readable::fenced(owner, object, fence))
    }

    /// As [`Readable::fence`]: what is written with the proof is refused once another node has taken the object.
    pub fn fence(&self) -> u64 {
        self.0.fence
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

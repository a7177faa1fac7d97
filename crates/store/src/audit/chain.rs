//! The chain of a user's audit records: each record's hash is keyed and covers the one before, and a seal covers the
//! end. Whoever has the database without the server's key cannot change, move or delete a record of a
//! chain unseen, and `totals` show that a whole chain was taken away.

use hmac::{Hmac, Mac as _};
use netra_protocol::account::Identity;
use netra_protocol::id::UserId;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::totals;
use crate::error::Error;
use crate::sql::OptionalExtension as _;
use crate::transaction::Tx;

/// What the chains of a server are keyed with.
#[derive(Clone)]
pub struct AuditKey(Zeroizing<[u8; 64]>);

impl std::fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuditKey")
    }
}

/// A keyed hash.
pub(crate) type Hash = [u8; 32];

/// What stands before the first record of a chain.
pub(super) const START: Hash = [0; 32];

/// What of a record is covered, besides its place.
#[derive(Debug)]
pub(super) struct Covered<'a> {
    pub(super) id: [u8; 16],
    pub(super) at_micros: i64,
    pub(super) actor: &'a str,
    pub(super) action: &'a str,
    pub(super) object: &'a str,
    pub(super) outcome: &'a str,
    /// As stored.
    pub(super) details: &'a str,
    pub(super) request_id: [u8; 16],
}

impl AuditKey {
    /// Of 32 secret bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        // HMAC fills shorter keys up with zeros to a block of the hash.
        let mut block = Zeroizing::new([0; 64]);
        block[..bytes.len()].copy_from_slice(&bytes);
        Self(block)
    }

    /// The hash of these parts, each with its length before it, so that nothing can move from one to the next.
    fn hash(&self, parts: &[&[u8]]) -> Hash {
        let mut mac = Hmac::<Sha256>::new((&*self.0).into());
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    }

    /// Tells this key from others, and nothing of it.
    pub(crate) fn fingerprint(&self) -> String {
        crate::cursor::write(&self.hash(&[b"fingerprint"]))
    }

    pub(super) fn link(&self, user: UserId, seq: u64, before: &Hash, record: &Covered<'_>) -> Hash {
        self.hash(&[
            b"record",
            &user.to_bytes(),
            &seq.to_be_bytes(),
            before,
            &record.id,
            &record.at_micros.to_be_bytes(),
            record.actor.as_bytes(),
            record.action.as_bytes(),
            record.object.as_bytes(),
            record.outcome.as_bytes(),
            record.details.as_bytes(),
            &record.request_id,
        ])
    }

    pub(super) fn seal(&self, user: UserId, seq: u64, hash: &Hash) -> Hash {
        self.hash(&[b"end, counted", &user.to_bytes(), &seq.to_be_bytes(), hash])
    }

    /// The same of an end that was written before there were totals.
    pub(super) fn seal_before_totals(&self, user: UserId, seq: u64, hash: &Hash) -> Hash {
        self.hash(&[b"end", &user.to_bytes(), &seq.to_be_bytes(), hash])
    }

    /// What stands for somebody who was known elsewhere: from the database alone nobody can tell who that was.
    pub(crate) fn of_identity(&self, identity: &Identity) -> [u8; 16] {
        let Identity { issuer, subject } = identity;
        let hash = self.hash(&[b"identity", issuer.as_bytes(), subject.as_bytes()]);
        let mut key = [0; 16];
        key.copy_from_slice(&hash[..16]);
        key
    }

    pub(super) fn seal_of_totals(&self, parts: [u64; 3]) -> Hash {
        let [a, b, c] = parts.map(u64::to_be_bytes);
        self.hash(&[b"totals", &a, &b, &c])
    }
}

/// The place of the user's next record: its number, and the hash before it.
pub(super) fn next(tx: &Tx<'_>, user: UserId) -> Result<(u64, Hash), Error> {
    let sql = "SELECT seq, hash FROM audit_heads WHERE user_id = ?1";
    let head: Option<(u64, Hash)> = tx
        .prepare(sql)?
        .query_row([user.to_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (last, hash) = head.unwrap_or((0, START));
    Ok((last + 1, hash))
}

/// Makes this record the end of the user's chain, and gives its hash.
pub(super) fn append(
    tx: &Tx<'_>,
    user: UserId,
    (seq, before): (u64, Hash),
    record: &Covered<'_>,
) -> Result<Hash, Error> {
    totals::add(tx, seq == 1)?;
    let hash = tx.audit_key().link(user, seq, &before, record);
    let seal = tx.audit_key().seal(user, seq, &hash);
    tx.put(
        "INSERT INTO audit_heads (user_id, seq, hash, seal) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (user_id) DO UPDATE SET seq = ?2, hash = ?3, seal = ?4",
        (user.to_bytes(), seq, hash, seal),
    )?;
    Ok(hash)
}

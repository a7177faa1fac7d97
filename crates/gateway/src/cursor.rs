//! Cursors of lists as clients see them: where a page ended, sealed for who asked and for the list that they asked for.
//!
//! The lists themselves know positions only: the sort key of a page's last row, or its name. What clients are given
//! says of itself that it is one of ours, so that anything else is refused and not taken for a position: a text that
//! somebody made up, another user's cursor, and one of another list.

use axum::Json as Answer;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use netra_protocol::Page;
use netra_protocol::id::UserId;
use serde::Deserialize;

use crate::auth::keys::Keys;
use crate::error::Error;
use crate::extract::verified;
use crate::state::Gateway;

/// The bytes of a seal.
const SEAL: usize = 16;

/// What the client gave as a cursor. Only the list that it is for makes a position of it.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Cursor(String);

#[cfg(test)]
impl From<&str> for Cursor {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

/// A list that is asked for in pages: whose, and at which path.
pub(crate) struct List {
    keys: Keys,
    user: UserId,
    path: String,
}

impl FromRequestParts<Gateway> for List {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, Error> {
        Ok(Self {
            keys: gateway.keys.clone(),
            user: verified(parts)?.principal.user_id,
            path: parts.uri.path().to_owned(),
        })
    }
}

impl List {
    /// The position that a page begins behind, where it is not the first.
    pub(crate) fn position(&self, cursor: Option<&Cursor>) -> Result<Option<String>, Error> {
        cursor.map(|cursor| self.open(cursor)).transpose()
    }

    /// A page as it goes out: its position becomes a cursor.
    pub(crate) fn answer<T>(&self, mut page: Page<T>) -> Answer<Page<T>> {
        page.next_cursor = page.next_cursor.map(|position| self.seal(&position));
        Answer(page)
    }

    fn seal(&self, position: &str) -> String {
        let seal = self.keys.seal_of_cursor(&self.sealed(position.as_bytes()));
        // The position comes first: it is plain text, so no cursor looks like a credential by chance.
        let mut bytes = position.as_bytes().to_vec();
        bytes.extend_from_slice(&seal[..SEAL]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn open(&self, Cursor(text): &Cursor) -> Result<String, Error> {
        let refused = || Error::from(netra_store::Error::InvalidCursor);
        let mut position = URL_SAFE_NO_PAD.decode(text).map_err(|_| refused())?;
        let end = position.len().checked_sub(SEAL).ok_or_else(refused)?;
        let seal = position.split_off(end);
        if !self.keys.sealed_cursor(&self.sealed(&position), &seal) {
            return Err(refused());
        }
        String::from_utf8(position).map_err(|_| refused())
    }

    /// What is sealed with a position. No path has a zero in it, and a user's id has one length.
    fn sealed(&self, position: &[u8]) -> Vec<u8> {
        let user = self.user.to_bytes();
        [&user[..], self.path.as_bytes(), &[0], position].concat()
    }
}

#[cfg(test)]
mod tests {
    use netra_context::Runtime;
    use proptest::prelude::*;

    use super::*;

    fn list(keys: &Keys, user: u128, path: &str) -> List {
        List {
            keys: keys.clone(),
            user: UserId::from_parts(1, user),
            path: path.to_owned(),
        }
    }

    #[test]
    fn a_cursor_is_good_for_its_own_user_list_and_server_alone() {
        let keys = Keys::ephemeral(&Runtime::new());
        let own = list(&keys, 1, "/api/runs");
        let cursor = Cursor(own.seal("position"));
        assert_eq!(own.position(None).unwrap(), None);
        assert_eq!(own.open(&cursor).unwrap(), "position");
        let other = Keys::ephemeral(&Runtime::new());
        for list in [
            list(&keys, 2, "/api/runs"),
            list(&keys, 1, "/api/files"),
            list(&other, 1, "/api/runs"),
        ] {
            let refused = list.open(&cursor).unwrap_err();
            assert_eq!(refused.code(), netra_protocol::ErrorCode::InvalidRequest);
        }
    }

    proptest! {
        #[test]
        fn every_position_reads_back_and_no_other_text_is_one(
            position in ".{0,40}", text in ".{0,60}", bytes in proptest::collection::vec(any::<u8>(), 0..60), at in any::<prop::sample::Index>(),
        ) {
            let own = list(&Keys::ephemeral(&Runtime::new()), 1, "/api/tools");
            let cursor = own.seal(&position);
            prop_assert_eq!(own.open(&Cursor(cursor.clone())).unwrap(), position);
            prop_assert!(own.open(&Cursor(text)).is_err());
            prop_assert!(own.open(&Cursor(URL_SAFE_NO_PAD.encode(bytes))).is_err());
            let mut changed = URL_SAFE_NO_PAD.decode(&cursor).unwrap();
            let at = at.index(changed.len());
            changed[at] ^= 1;
            prop_assert!(own.open(&Cursor(URL_SAFE_NO_PAD.encode(changed))).is_err());
        }
    }
}

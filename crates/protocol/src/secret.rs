//! Secrets that tools need on the user's behalf. Values go in and never come back.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::time::Timestamp;

/// Keeps a secret, in place of the one that had the name.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutSecret {
    /// The secret itself: 8 to 16,384 bytes, none of them a control character.
    #[schema(max_length = 16384, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$")]
    pub value: String,
    /// The hosts that tools may send it to, at most 20: `api.example.com`, or `wiki.intranet:8080` where the port is not
    /// 443. Nowhere when there are none.
    #[serde(default)]
    #[schema(max_items = 20)]
    pub hosts: Vec<String>,
}

impl fmt::Debug for PutSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PutSecret")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

/// A secret without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretInfo {
    /// Stands for it in the arguments of tools.
    pub name: String,
    /// The hosts that tools may send it to.
    pub hosts: Vec<String>,
    /// When the name came up.
    pub created_at: Timestamp,
    /// When the value was put.
    pub updated_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_does_not_show_the_value() {
        let put = PutSecret {
            value: "canary-of-debug".into(),
            hosts: vec!["a.example".into()],
        };
        assert_eq!(
            format!("{put:?}"),
            "PutSecret { hosts: [\"a.example\"], .. }"
        );
    }
}

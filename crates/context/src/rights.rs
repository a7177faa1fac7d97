//! What a caller may do: a small set of named rights, narrowed from level to level, never widened.

use netra_protocol::account::Role;

/// One thing that a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Right {
    /// Read own threads, messages, runs, events, files.
    Read = 1,
    /// Start, cancel and retry runs; change threads.
    Run = 1 << 1,
    /// Upload and delete files.
    Files = 1 << 2,
    /// Change the account: sessions, keys, secrets, deletion.
    Account = 1 << 3,
    /// Answer approvals.
    Approve = 1 << 4,
    /// Run the server.
    Admin = 1 << 5,
    /// Read metrics.
    Metrics = 1 << 6,
    /// Act for the end users of a back end, each of whom is a user of its own.
    Service = 1 << 7,
}

impl Right {
    /// Every right with its name as a scope of an API key.
    pub const ALL: [(Right, &'static str); 8] = [
        (Right::Read, "read"),
        (Right::Run, "run"),
        (Right::Files, "files"),
        (Right::Account, "account"),
        (Right::Approve, "approve"),
        (Right::Admin, "admin"),
        (Right::Metrics, "metrics"),
        (Right::Service, "service"),
    ];
}

/// A set of rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights(u32);

impl Rights {
    /// No rights at all.
    pub const NONE: Rights = Rights(0);

    /// What a signed-in person of this role may do.
    pub fn of_role(role: Role) -> Self {
        let own = [
            Right::Read,
            Right::Run,
            Right::Files,
            Right::Account,
            Right::Approve,
        ];
        let mut rights = Self::NONE;
        for right in own {
            rights = rights.with(right);
        }
        match role {
            Role::User | Role::Developer => rights,
            Role::Admin => rights
                .with(Right::Admin)
                .with(Right::Metrics)
                .with(Right::Service),
        }
    }

    /// This set and one right more.
    #[must_use]
    pub const fn with(self, right: Right) -> Self {
        Self(self.0 | right as u32)
    }

    /// What both sets hold.
    #[must_use]
    pub const fn intersect(self, other: Rights) -> Self {
        Self(self.0 & other.0)
    }

    /// The set as bits, as a run keeps it.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The set that these bits stand for; bits that stand for no right are none.
    pub fn from_bits(bits: u32) -> Self {
        let known = Right::ALL
            .iter()
            .fold(Self::NONE, |set, (right, _)| set.with(*right));
        Self(bits).intersect(known)
    }

    /// The rights of these names; the first name that is none is the error.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, &'a str> {
        names.into_iter().try_fold(Self::NONE, |set, name| {
            let known = Right::ALL.iter().find(|(_, known)| *known == name);
            known.map(|(right, _)| set.with(*right)).ok_or(name)
        })
    }

    /// The names of the rights in the set, always in the same order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let held = move |(right, _): &&(Right, &str)| self.contains(*right);
        Right::ALL.iter().filter(held).map(|(_, name)| *name)
    }

    /// Whether the other set holds all that this one holds.
    pub const fn is_within(self, other: Rights) -> bool {
        self.0 & !other.0 == 0
    }

    /// Whether the set holds this right.
    pub const fn contains(self, right: Right) -> bool {
        self.0 & right as u32 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_kept_as_bits_and_unknown_bits_are_no_rights() {
        let admin = Rights::of_role(Role::Admin);
        assert_eq!(Rights::from_bits(admin.bits()), admin);
        assert_eq!(Rights::from_bits(1 << 31), Rights::NONE);
    }

    #[test]
    fn names_read_back_and_an_unknown_one_is_told() {
        let names: Vec<_> = Rights::of_role(Role::Admin).names().collect();
        assert_eq!(names.len(), Right::ALL.len());
        assert_eq!(Rights::from_names(names), Ok(Rights::of_role(Role::Admin)));
        assert_eq!(Rights::from_names(["read", "root"]), Err("root"));
        assert_eq!(Rights::from_names([]), Ok(Rights::NONE));
        let all = Right::ALL.map(|(_, name)| name);
        assert_eq!(
            all,
            netra_protocol::account::SCOPES,
            "the document has them all"
        );
    }

    #[test]
    fn a_set_is_within_itself_and_not_within_less() {
        let (user, admin) = (Rights::of_role(Role::User), Rights::of_role(Role::Admin));
        assert!(user.is_within(user) && user.is_within(admin));
        assert!(!admin.is_within(user));
    }

    #[test]
    fn intersecting_never_widens() {
        let user = Rights::of_role(Role::User);
        let admin = Rights::of_role(Role::Admin);
        assert_eq!(user.intersect(admin), user);
        assert!(!user.intersect(admin).contains(Right::Admin));
        assert!(!Rights::NONE.contains(Right::Read));
    }
}

//! How many sockets and event streams are open: of one user, and of all on this node.

use std::collections::HashMap;
use std::sync::Arc;

use netra_protocol::id::UserId;
use parking_lot::Mutex;

struct Open {
    most: usize,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    all: usize,
    by_user: HashMap<UserId, UserCount>,
}

/// What one user has open.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct UserCount {
    pub(crate) sockets: u32,
    pub(crate) streams: u32,
}

impl UserCount {
    fn of(&mut self, kind: Kind) -> &mut u32 {
        match kind {
            Kind::Socket => &mut self.sockets,
            Kind::Stream => &mut self.streams,
        }
    }

    fn all(self) -> u32 {
        self.sockets + self.streams
    }
}

/// What is counted. Both count against the same limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Socket,
    Stream,
}

impl Kind {
    fn gauge(self) -> metrics::Gauge {
        match self {
            Self::Socket => metrics::gauge!("netra_sockets_open"),
            Self::Stream => metrics::gauge!("netra_streams_open"),
        }
    }
}

/// Counts open sockets and streams.
pub(crate) struct Connections(Arc<Open>);

/// A place on the node, given back when dropped.
pub(crate) struct NodePlace(Arc<Open>, Kind);

/// A place among its user's, given back when dropped.
pub(crate) struct UserPlace(Arc<Open>, UserId, Kind);

impl Connections {
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Open {
            most,
            counts: Mutex::default(),
        }))
    }

    /// None when the node is full.
    pub(crate) fn place_on_node(&self, kind: Kind) -> Option<NodePlace> {
        let mut counts = self.0.counts.lock();
        if counts.all >= self.0.most {
            return None;
        }
        counts.all += 1;
        kind.gauge().increment(1);
        Some(NodePlace(self.0.clone(), kind))
    }

    /// None when the user has as many as allowed.
    pub(crate) fn place_of_user(&self, kind: Kind, user: UserId, most: u32) -> Option<UserPlace> {
        let mut counts = self.0.counts.lock();
        let count = counts.by_user.entry(user).or_default();
        if count.all() >= most {
            return None;
        }
        *count.of(kind) += 1;
        Some(UserPlace(self.0.clone(), user, kind))
    }

    /// What each user has open now.
    pub(crate) fn by_user(&self) -> HashMap<UserId, UserCount> {
        self.0.counts.lock().by_user.clone()
    }
}

impl Drop for NodePlace {
    fn drop(&mut self) {
        self.0.counts.lock().all -= 1;
        self.1.gauge().decrement(1);
    }
}

impl Drop for UserPlace {
    fn drop(&mut self) {
        let mut counts = self.0.counts.lock();
        if let Some(count) = counts.by_user.get_mut(&self.1) {
            *count.of(self.2) -= 1;
            if count.all() == 0 {
                counts.by_user.remove(&self.1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_per_user_and_given_back() {
        let connections = Connections::new(3);
        let (anna, bert) = (UserId::from_parts(1, 1), UserId::from_parts(1, 2));
        let first = connections.place_of_user(Kind::Socket, anna, 2);
        let second = connections.place_of_user(Kind::Stream, anna, 2);
        assert!(first.is_some() && second.is_some());
        assert!(connections.place_of_user(Kind::Socket, anna, 2).is_none());
        assert!(connections.place_of_user(Kind::Stream, bert, 2).is_some());
        drop(first);
        assert!(connections.place_of_user(Kind::Socket, anna, 2).is_some());
        drop(second);
        assert!(connections.0.counts.lock().by_user.is_empty());
    }

    #[test]
    fn a_full_node_has_no_place() {
        let connections = Connections::new(1);
        let place = connections.place_on_node(Kind::Stream);
        assert!(connections.place_on_node(Kind::Socket).is_none());
        drop(place);
        assert!(connections.place_on_node(Kind::Socket).is_some());
    }
}

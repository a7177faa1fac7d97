//! What a server has of each user, for as long as anybody uses it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Weak};

use netra_memory::Scope;
use parking_lot::Mutex;

/// How many may come before those that nobody uses any more are forgotten.
const SWEEP_EVERY: usize = 256;

/// One of each, while it is in use.
pub(crate) struct InUse<K, V>(Mutex<HashMap<K, Weak<V>>>);

impl<K, V> Default for InUse<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Copy + Eq + Hash, V> InUse<K, V> {
    /// The one of this key, made where there is none.
    pub(crate) fn of(&self, key: K, make: impl FnOnce() -> V) -> Arc<V> {
        // The table is everybody's.
        let _system = Scope::system().enter();
        let mut all = self.0.lock();
        if let Some(one) = all.get(&key).and_then(Weak::upgrade) {
            return one;
        }
        if all.len() >= SWEEP_EVERY && all.len().is_multiple_of(SWEEP_EVERY) {
            all.retain(|_, one| one.strong_count() > 0);
        }
        let one = Arc::new(make());
        all.insert(key, Arc::downgrade(&one));
        one
    }

    /// All that are in use now.
    pub(crate) fn all(&self) -> Vec<(K, Arc<V>)> {
        let all = self.0.lock();
        let used = |(key, one): (&K, &Weak<V>)| Some((*key, one.upgrade()?));
        all.iter().filter_map(used).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_uses_any_more_is_forgotten() {
        let table = InUse::default();
        let one = table.of(1, || "one");
        assert!(Arc::ptr_eq(&one, &table.of(1, || "another")));
        for number in 3..2_000 {
            drop(table.of(number, || "many"));
        }
        assert!(table.0.lock().len() <= SWEEP_EVERY + 1);
        assert_eq!(table.all().len(), 1);
        drop(one);
        assert!(table.all().is_empty());
        assert_eq!(*table.of(1, || "another"), "another");
    }
}

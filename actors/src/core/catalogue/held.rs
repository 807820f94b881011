//! One-shots that a node holds, in the order of when they are due, with how many there are and their bytes.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::one_shots::Place;

/// One that is held.
#[derive(Debug, Clone, Copy)]
struct Entry {
    bytes: usize,
    /// It was there still, since all jobs were listed anew.
    is_seen: bool,
}

/// One-shots in the order of when they are due.
#[derive(Debug, Default)]
pub(super) struct Held {
    entries: BTreeMap<Place, Entry>,
    bytes: usize,
    /// Of those that were not seen again.
    unseen: usize,
    unseen_bytes: usize,
}

impl Held {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many are known to be there. Of those that were not seen again, nobody knows it.
    pub(super) fn known(&self) -> usize {
        self.entries.len() - self.unseen
    }

    /// The bytes of those that are known to be there.
    pub(super) fn known_bytes(&self) -> usize {
        self.bytes - self.unseen_bytes
    }

    pub(super) fn put(&mut self, place: Place, bytes: usize) {
        self.insert(place, Entry { bytes, is_seen: true });
    }

    fn insert(&mut self, place: Place, entry: Entry) {
        self.remove(&place);
        self.bytes += entry.bytes;
        self.count_unseen(entry);
        self.entries.insert(place, entry);
    }

    fn count_unseen(&mut self, entry: Entry) {
        if !entry.is_seen {
            self.unseen += 1;
            self.unseen_bytes += entry.bytes;
        }
    }

    pub(super) fn remove(&mut self, place: &Place) {
        self.see(place);
        self.bytes -= self.entries.remove(place).map_or(0, |entry| entry.bytes);
    }

    /// One is there still, if it is held.
    pub(super) fn see(&mut self, place: &Place) {
        if let Some(entry) = self.entries.get_mut(place).filter(|entry| !entry.is_seen) {
            entry.is_seen = true;
            self.unseen -= 1;
            self.unseen_bytes -= entry.bytes;
        }
    }

    /// None was seen again yet.
    pub(super) fn unsee(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.is_seen = false);
        (self.unseen, self.unseen_bytes) = (self.entries.len(), self.bytes);
    }

    /// Those that were not seen again.
    pub(super) fn unseen(&self) -> impl Iterator<Item = &Place> {
        let none = self.unseen == 0;
        self.entries.iter().filter(move |(_, entry)| !none && !entry.is_seen).map(|(place, _)| place)
    }

    /// The one that is due last.
    pub(super) fn last(&self) -> Option<&Place> {
        self.entries.last_key_value().map(|(place, _)| place)
    }

    /// Moves the first one, if it is due by then. Answers whether it was.
    pub(super) fn move_first(&mut self, due_by: DateTime<Utc>, to: &mut Self) -> bool {
        let Some(first) = self.entries.first_entry().filter(|first| first.key().0 <= due_by) else {
            return false;
        };
        let (place, entry) = (first.key().clone(), *first.get());
        self.remove(&place);
        to.insert(place, entry);
        true
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> Vec<&str> {
        self.entries.keys().map(|(_, job)| &**job).collect()
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn place(job: &str, minute: i64) -> Place {
        (DateTime::UNIX_EPOCH + TimeDelta::minutes(minute), job.into())
    }

    #[test]
    fn what_is_counted_is_what_is_there_however_it_came_and_went() {
        let (mut held, mut other) = (Held::default(), Held::default());
        for (job, minute, bytes) in [("a", 1, 10), ("b", 2, 20), ("c", 3, 40), ("c", 3, 50)] {
            held.put(place(job, minute), bytes);
        }
        assert_eq!((held.len(), held.bytes(), held.known(), held.known_bytes()), (3, 80, 3, 80));

        held.unsee();
        held.see(&place("b", 2));
        held.see(&place("b", 2));
        held.see(&place("b", 5));
        assert_eq!((held.known(), held.known_bytes()), (1, 20));
        assert!(held.move_first(place("", 1).0, &mut other) && !held.move_first(place("", 1).0, &mut other));

        assert_eq!((other.len(), other.bytes(), other.known()), (1, 10, 0), "it was not seen again");
        assert_eq!(held.unseen().collect::<Vec<_>>(), [&place("c", 3)]);
        held.remove(&place("c", 3));
        other.remove(&place("a", 1));
        assert_eq!((held.len(), held.bytes(), held.known_bytes(), other.bytes()), (1, 20, 20, 0));
    }
}

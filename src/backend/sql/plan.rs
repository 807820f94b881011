//! Which rows a commit locks, and what it writes once it knows them.
//!
//! Every commit locks in one order: the leader, the sessions, then records by their names. What is locked stays as it
//! is
//! until the end of the transaction, so that what was compared holds when something is written. A row that is not there
//! cannot be locked: where there must be no record, a row of version 0 is put first, of which nobody else sees
//! anything before the end, when it is either written or deleted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use callsheet_actors::port::{Change, Commit, RecordKind, RecordName, RecordSession, UnitAnswer, Version};

use super::names::stored;

/// How the leader's record is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backend) enum LeaderLock {
    /// Together with others that only compare it.
    Shared,
    /// Alone: it is going to be written.
    Exclusive,
    /// Alone, and there must be none.
    Absent,
}

/// What a commit locks, in this order; between the leader and the records come the sessions.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::backend) struct Locks {
    pub(in crate::backend) leader: Option<LeaderLock>,
    /// Where there must be no record.
    pub(in crate::backend) absent: BTreeSet<String>,
    /// All records, these among them.
    pub(in crate::backend) names: BTreeSet<String>,
}

impl Locks {
    pub(in crate::backend) fn of(commit: &Commit) -> Self {
        let records = || commit.units.iter().flat_map(|unit| &unit.records);
        let changed = || records().any(|record| is_leader(&record.name) && record.change != Change::Keep);
        let leader = commit.leader.map(|version| match version {
            Version::ABSENT => LeaderLock::Absent,
            _ if changed() => LeaderLock::Exclusive,
            _ => LeaderLock::Shared,
        });
        let absent = records().filter(|record| !record.version.is_present());
        Self {
            leader,
            absent: absent.map(|record| stored(&record.name)).collect(),
            names: records().map(|record| stored(&record.name)).collect(),
        }
    }
}

/// The column of the leader's record.
pub(in crate::backend) fn leader() -> String {
    stored(&RecordName::only(RecordKind::Leader))
}

fn is_leader(name: &RecordName) -> bool {
    name.kind == RecordKind::Leader && name.id.is_empty()
}

/// What was found under the locks.
#[derive(Debug, Default)]
pub(in crate::backend) struct Found {
    /// Of the sessions that guard the commit, those that are alive.
    pub(in crate::backend) alive: HashSet<u64>,
    /// The version of the leader's record, if it was asked for.
    pub(in crate::backend) leader: Option<Version>,
    /// The versions of the records that are there.
    pub(in crate::backend) versions: HashMap<String, Version>,
}

/// What becomes of a commit.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::backend) enum Decision<'a> {
    Dead(RecordSession),
    LeaderMoved,
    Units(Writes<'a>),
}

/// What the guards allow.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::backend) struct Writes<'a> {
    pub(in crate::backend) answers: Vec<UnitAnswer>,
    /// What is written: the rows are there.
    pub(in crate::backend) put: BTreeMap<String, &'a [u8]>,
    /// What is deleted, the rows of version 0 that were put and are not written among them.
    pub(in crate::backend) delete: BTreeSet<String>,
    /// Nothing of it changes a record: the transaction need not be committed.
    pub(in crate::backend) only_compares: bool,
}

/// Decides a commit whose records get the version `made`.
pub(in crate::backend) fn decide<'a>(
    commit: &'a Commit,
    locks: &Locks,
    found: &Found,
    made: Version,
) -> Decision<'a> {
    if let Some(dead) = commit.alive.iter().find(|session| !found.alive.contains(&session.0)) {
        return Decision::Dead(*dead);
    }
    if let Some(expected) = commit.leader
        && found.leader.unwrap_or(Version::ABSENT) != expected
    {
        return Decision::LeaderMoved;
    }
    let mut writes = Writes { delete: locks.absent.clone(), only_compares: true, ..Writes::default() };
    if locks.leader == Some(LeaderLock::Absent) {
        writes.delete.insert(leader());
    }
    // What others have put meanwhile is not deleted.
    writes.delete.retain(|name| !found.is_there(name));
    for unit in &commit.units {
        let present = |name: &RecordName| found.version(&stored(name));
        if unit.records.iter().any(|record| present(&record.name) != record.version) {
            writes.answers.push(UnitAnswer::Conflict);
            continue;
        }
        let versions = unit.records.iter().map(|record| match &record.change {
            Change::Keep => record.version,
            Change::Put(bytes) => {
                let name = stored(&record.name);
                writes.delete.remove(&name);
                writes.put.insert(name, bytes);
                writes.only_compares = false;
                made
            }
            Change::Delete => {
                if record.version.is_present() {
                    writes.delete.insert(stored(&record.name));
                    writes.only_compares = false;
                }
                Version::ABSENT
            }
        });
        let versions = versions.collect();
        writes.answers.push(UnitAnswer::Made { versions });
    }
    Decision::Units(writes)
}

impl Found {
    fn version(&self, name: &str) -> Version {
        self.versions.get(name).copied().unwrap_or(Version::ABSENT)
    }

    fn is_there(&self, name: &str) -> bool {
        self.version(name).is_present()
    }
}

#[cfg(test)]
mod tests {
    use callsheet_actors::port::{RecordChange, Unit};

    use super::*;

    fn change(id: &str, version: u64, change: Change) -> RecordChange {
        RecordChange { name: RecordName::new(RecordKind::Name, id), version: Version(version), change }
    }

    fn unit(records: Vec<RecordChange>) -> Unit {
        Unit { records, hints: Vec::new() }
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| format!("name/{name}")).collect()
    }

    fn found(versions: &[(&str, u64)]) -> Found {
        let versions = versions.iter().map(|(name, version)| (format!("name/{name}"), Version(*version)));
        Found { versions: versions.collect(), ..Found::default() }
    }

    fn writes<'a>(commit: &'a Commit, found: &Found) -> Writes<'a> {
        match decide(commit, &Locks::of(commit), found, Version(9)) {
            Decision::Units(writes) => writes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_commit_locks_what_it_compares_and_holds_the_place_of_what_must_be_absent() {
        let of = |leader| Commit {
            leader,
            units: vec![unit(vec![
                change("b", 0, Change::Keep),
                change("a", 7, Change::Put(Vec::new())),
                change("c", 0, Change::Put(Vec::new())),
            ])],
            ..Commit::default()
        };

        let locks = Locks::of(&of(Some(Version(3))));

        assert_eq!((locks.absent, locks.names), (names(&["b", "c"]), names(&["a", "b", "c"])));
        let leader = |leader| Locks::of(&of(leader)).leader;
        assert_eq!(leader(Some(Version(3))), Some(LeaderLock::Shared));
        assert_eq!(leader(Some(Version::ABSENT)), Some(LeaderLock::Absent));
        assert_eq!(leader(None), None);
        let mut campaign = of(Some(Version(3)));
        let name = RecordName::only(RecordKind::Leader);
        let led = RecordChange { name, version: Version(3), change: Change::Put(Vec::new()) };
        campaign.units = vec![unit(vec![led])];
        assert_eq!(Locks::of(&campaign).leader, Some(LeaderLock::Exclusive));
    }

    #[test]
    fn a_unit_is_made_as_a_whole_and_places_that_were_held_for_nothing_are_given_back() {
        let commit = Commit {
            units: vec![
                unit(vec![change("a", 7, Change::Put(vec![1])), change("new", 0, Change::Put(vec![2]))]),
                unit(vec![change("b", 7, Change::Put(vec![3])), change("stale", 5, Change::Keep)]),
                unit(vec![change("kept", 0, Change::Keep), change("gone", 4, Change::Delete)]),
                unit(vec![change("others", 0, Change::Put(vec![4]))]),
            ],
            ..Commit::default()
        };

        let writes = writes(&commit, &found(&[("a", 7), ("b", 7), ("stale", 6), ("gone", 4), ("others", 8)]));

        let made = |versions: &[u64]| UnitAnswer::Made {
            versions: versions.iter().map(|version| Version(*version)).collect(),
        };
        let expected = [made(&[9, 9]), UnitAnswer::Conflict, made(&[0, 0]), UnitAnswer::Conflict];
        assert_eq!(writes.answers, expected);
        assert_eq!(writes.put.keys().cloned().collect::<BTreeSet<_>>(), names(&["a", "new"]));
        assert_eq!(writes.delete, names(&["gone", "kept"]), "not the one that somebody else has put");
        assert!(!writes.only_compares);
    }

    #[test]
    fn what_only_compares_changes_nothing() {
        let records = vec![change("a", 7, Change::Keep), change("b", 0, Change::Delete)];
        let commit = Commit { units: vec![unit(records)], ..Commit::default() };

        assert!(writes(&commit, &found(&[("a", 7)])).only_compares);
        assert!(writes(&commit, &found(&[("a", 8)])).only_compares);
    }

    #[test]
    fn guards_come_before_units() {
        let commit = Commit {
            alive: vec![RecordSession(1), RecordSession(2)],
            leader: Some(Version(3)),
            ..Commit::default()
        };
        let decided = |alive: &[u64], leader| {
            let found = Found { alive: alive.iter().copied().collect(), leader, ..Found::default() };
            decide(&commit, &Locks::of(&commit), &found, Version(9))
        };

        assert_eq!(decided(&[1], Some(Version(3))), Decision::Dead(RecordSession(2)));
        assert_eq!(decided(&[1, 2], Some(Version(4))), Decision::LeaderMoved);
        assert_eq!(decided(&[1, 2], None), Decision::LeaderMoved);
        assert!(matches!(decided(&[1, 2], Some(Version(3))), Decision::Units(_)));
    }
}

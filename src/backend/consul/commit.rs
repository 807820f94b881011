//! A commit as transactions: all or nothing, so what fails is left out, and the rest is asked again.

use std::sync::atomic::{AtomicUsize, Ordering};

use callsheet_actors::port::{Change, Commit, Committed, RecordChange, Unit, UnitAnswer, Version};

use super::{
    agent::Agents,
    failure::Failure,
    hints::Teller,
    keys::Keys,
    transaction::{Done, Operation, bytes_of, transact},
};
use crate::backend::random::random;

/// How many operations a transaction has: of newer servers, and of all.
pub(super) const OPERATIONS_MAX: usize = 128;
pub(super) const OPERATIONS_MIN: usize = 64;
/// How many bytes a request has: less than the 512 KiB that the servers take.
const BYTES_MAX: usize = 500 * 1_024;

/// Commits of one client.
pub(super) struct Committer<'a> {
    pub(super) agents: &'a Agents,
    pub(super) keys: &'a Keys,
    pub(super) teller: &'a Teller,
    /// How many operations the servers take.
    pub(super) operations: &'a AtomicUsize,
}

/// What became of a part of a commit.
enum Part {
    Done,
    Guard(Committed),
}

/// A transaction of some units.
struct Batch {
    operations: Vec<Operation>,
    /// Of which unit each operation is; `None`: of a guard.
    owners: Vec<Option<usize>>,
    bytes: usize,
    /// What is told, if all of it is done.
    hints: Vec<std::sync::Arc<[u8]>>,
}

impl Committer<'_> {
    pub(super) async fn commit(&self, commit: &Commit) -> Result<Committed, Failure> {
        let mut answers: Vec<Option<UnitAnswer>> = vec![None; commit.units.len()];
        // Units at once at least, so that a commit without any says whether its guards hold.
        let mut first = true;
        while first || answers.iter().any(Option::is_none) {
            let part = self.part(commit, &mut answers).await;
            // What was made before stays so.
            match part.map_err(|failure| if first { failure } else { Failure::Unknown })? {
                Part::Done => {}
                Part::Guard(failed) if first => return Ok(failed),
                // What was made stays so. Whoever asks again for the rest hears of the guard.
                Part::Guard(_) => {
                    answers.iter_mut().for_each(|answer| {
                        answer.get_or_insert(UnitAnswer::Conflict);
                    });
                }
            }
            first = false;
        }
        let answers = answers.into_iter().map(|answer| answer.unwrap_or(UnitAnswer::Conflict)).collect();
        Ok(Committed::Units { answers, time: None })
    }

    /// Does as many of the units that have no answer as fit into one transaction.
    async fn part(&self, commit: &Commit, answers: &mut [Option<UnitAnswer>]) -> Result<Part, Failure> {
        loop {
            let most = self.operations.load(Ordering::Relaxed);
            let mut batch = self.guards(commit);
            let mut of_batch = Vec::new();
            let open = (0..answers.len()).filter(|at| answers.get(*at).is_some_and(Option::is_none));
            for at in open {
                let Some(unit) = commit.units.get(at) else { break };
                if !batch.take(at, self.operations_of(unit), &unit.hints, most) {
                    break;
                }
                of_batch.push(at);
            }
            match self.transact(batch.operations, &batch.hints).await {
                Ok(Done::All(entries)) => {
                    for at in of_batch {
                        let unit = commit.units.get(at).ok_or(Failure::Unknown)?;
                        let made = versions(unit, self.keys, &entries).ok_or(Failure::Unknown)?;
                        if let Some(answer) = answers.get_mut(at) {
                            *answer = Some(UnitAnswer::Made { versions: made });
                        }
                    }
                    return Ok(Part::Done);
                }
                Ok(Done::Failed(operations)) => {
                    if let Some(failed) = failed_guard(commit, &operations) {
                        return Ok(Part::Guard(failed));
                    }
                    let owners: Vec<_> = operations.iter().filter_map(|at| *batch.owners.get(*at)?).collect();
                    if owners.is_empty() {
                        return Err(Failure::NotDone("the servers refuse it without saying what".to_owned()));
                    }
                    for at in owners {
                        if let Some(answer) = answers.get_mut(at) {
                            *answer = Some(UnitAnswer::Conflict);
                        }
                    }
                    // Nothing was done, and without units that may have been the only ones nothing is to be done.
                    if answers.iter().all(Option::is_some) {
                        return Ok(Part::Done);
                    }
                }
                // Servers that take fewer.
                Err(Failure::TooLarge(reason))
                    if reason.contains("too many operations") && most > OPERATIONS_MIN =>
                {
                    self.operations.store(OPERATIONS_MIN, Ordering::Relaxed);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// With what is told in the same transaction.
    async fn transact(
        &self,
        mut operations: Vec<Operation>,
        hints: &[std::sync::Arc<[u8]>],
    ) -> Result<Done, Failure> {
        if hints.is_empty() {
            return transact(self.agents, &operations).await;
        }
        let mut turn = self.teller.turn().await;
        operations.push(turn.operation(self.keys, hints));
        let done = transact(self.agents, &operations).await;
        match &done {
            Ok(Done::All(_)) | Err(Failure::Unknown) => turn.was_taken(),
            Ok(Done::Failed(_)) | Err(_) => {}
        }
        done
    }

    fn guards(&self, commit: &Commit) -> Batch {
        let sessions = commit.alive.iter().map(|session| Operation::is_there(self.keys.session(*session)));
        let leader = commit.leader.map(|version| compare(self.keys.leader(), version));
        let mut operations: Vec<_> = sessions.chain(leader).collect();
        if operations.is_empty() {
            // So that there is always something to ask.
            operations.push(Operation::read(self.keys.leader()));
        }
        let owners = vec![None; operations.len()];
        let bytes = operations.iter().map(bytes_of).sum();
        Batch { operations, owners, bytes, hints: Vec::new() }
    }

    fn operations_of(&self, unit: &Unit) -> Vec<Operation> {
        let of_record = |RecordChange { name, version, change }: &RecordChange| {
            let key = self.keys.record(name);
            match change {
                Change::Keep => vec![compare(key, *version)],
                // With other flags than before: bytes that are the same are not written otherwise.
                Change::Put(bytes) => vec![Operation::write(key, version.0, bytes, random())],
                Change::Delete if version.is_present() => {
                    // A deletion alone does not fail where nothing is.
                    vec![compare(key.clone(), *version), Operation::delete(key)]
                }
                Change::Delete => vec![compare(key, *version)],
            }
        };
        unit.records.iter().flat_map(of_record).collect()
    }
}

impl Batch {
    /// Takes a unit, if there is room for it: whether it does.
    fn take(
        &mut self,
        at: usize,
        operations: Vec<Operation>,
        hints: &[std::sync::Arc<[u8]>],
        most: usize,
    ) -> bool {
        let bytes: usize = operations.iter().map(bytes_of).sum();
        // One more, for what is told.
        let full = self.operations.len() + operations.len() >= most || self.bytes + bytes > BYTES_MAX;
        if full && self.owners.iter().any(Option::is_some) {
            return false;
        }
        self.bytes += bytes;
        self.owners.extend(operations.iter().map(|_| Some(at)));
        self.operations.extend(operations);
        self.hints.extend(hints.iter().cloned());
        true
    }
}

fn compare(key: String, version: Version) -> Operation {
    if version.is_present() { Operation::is_of(key, version.0) } else { Operation::is_absent(key) }
}

/// The versions of the records of a unit that was made.
fn versions(unit: &Unit, keys: &Keys, entries: &[super::transaction::Entry]) -> Option<Vec<Version>> {
    let of_record = |record: &RecordChange| match record.change {
        Change::Keep => Some(record.version),
        Change::Delete => Some(Version::ABSENT),
        Change::Put(_) => {
            let key = keys.record(&record.name);
            let written = entries.iter().rev().find(|entry| entry.key == key)?;
            Some(Version(written.modify_index))
        }
    };
    unit.records.iter().map(of_record).collect()
}

/// Which guard failed: of the sessions, in their order, or that of the leader.
fn failed_guard(commit: &Commit, operations: &[usize]) -> Option<Committed> {
    let dead = commit.alive.iter().enumerate().find(|(at, _)| operations.contains(at));
    if let Some((_, session)) = dead {
        return Some(Committed::Dead(*session));
    }
    (commit.leader.is_some() && operations.contains(&commit.alive.len())).then_some(Committed::LeaderMoved)
}

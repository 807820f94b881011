//! A commit as one transaction: the guards around, and a transaction in it for each unit.

use callsheet_actors::port::{Change, Commit, Committed, RecordChange, Unit, UnitAnswer, Version};
use etcd_client::{Compare, CompareOp, GetOptions, Txn, TxnOp, TxnOpResponse, TxnResponse};

use super::{failure::Failure, hints::encode, keys::Keys};

/// A version as the servers know it: the revision of the write. None is larger than what fits.
pub(super) fn revision(version: Version) -> i64 {
    i64::try_from(version.0).unwrap_or(i64::MAX)
}

/// The version that a write of this revision gave. None is negative.
pub(super) fn version(revision: i64) -> Version {
    Version(u64::try_from(revision).unwrap_or(0))
}

/// What is asked of the servers.
///
/// What it does if a guard fails says which one. It reads something in either case: a transaction that neither reads nor
/// writes is answered by a server without asking the others, from what may be outdated.
pub(super) fn transaction(keys: &Keys, commit: &Commit) -> Txn {
    let look = |key: String| TxnOp::get(key, Some(GetOptions::new().with_keys_only()));
    let leader = keys.leader();
    let sessions = commit.alive.iter().map(|session| keys.session(*session));
    let mut guards: Vec<_> =
        sessions.clone().map(|key| Compare::create_revision(key, CompareOp::Greater, 0)).collect();
    if let Some(version) = commit.leader {
        guards.push(Compare::mod_revision(leader.as_str(), CompareOp::Equal, revision(version)));
    }
    let looks: Vec<_> = sessions.chain([leader.clone()]).map(look).collect();
    let mut units: Vec<_> =
        commit.units.iter().enumerate().map(|(at, unit)| TxnOp::txn(nested(keys, at, unit))).collect();
    if units.is_empty() {
        units.push(look(leader));
    }
    Txn::new().when(guards).and_then(units).or_else(looks)
}

fn nested(keys: &Keys, at: usize, unit: &Unit) -> Txn {
    let (mut compares, mut changes) = (Vec::new(), Vec::new());
    for RecordChange { name, version, change } in &unit.records {
        let key = keys.record(name);
        match change {
            Change::Keep => {}
            Change::Put(bytes) => changes.push(TxnOp::put(key.as_str(), bytes.as_slice(), None)),
            Change::Delete => changes.push(TxnOp::delete(key.as_str(), None)),
        }
        compares.push(Compare::mod_revision(key, CompareOp::Equal, revision(*version)));
    }
    if !unit.hints.is_empty() {
        changes.push(TxnOp::put(keys.hint(at), encode(&unit.hints), None));
    }
    Txn::new().when(compares).and_then(changes)
}

/// What the servers answered. One that is not understood leaves open what was done.
pub(super) fn answer(commit: &Commit, response: &TxnResponse) -> Result<Committed, Failure> {
    let answers = response.op_responses();
    if !response.succeeded() {
        return failed_guard(commit, &answers).ok_or(Failure::Unknown);
    }
    if commit.units.is_empty() {
        return Ok(Committed::Units { answers: Vec::new(), time: None });
    }
    let made = response.header().map(|header| version(header.revision())).ok_or(Failure::Unknown)?;
    if answers.len() != commit.units.len() {
        return Err(Failure::Unknown);
    }
    let of_unit = |(unit, answer): (&Unit, &TxnOpResponse)| match answer {
        TxnOpResponse::Txn(nested) if nested.succeeded() => {
            let versions = unit.records.iter().map(|record| match record.change {
                Change::Keep => record.version,
                Change::Put(_) => made,
                Change::Delete => Version::ABSENT,
            });
            Ok(UnitAnswer::Made { versions: versions.collect() })
        }
        TxnOpResponse::Txn(_) => Ok(UnitAnswer::Conflict),
        _ => Err(Failure::Unknown),
    };
    let answers = commit.units.iter().zip(&answers).map(of_unit).collect::<Result<_, _>>()?;
    Ok(Committed::Units { answers, time: None })
}

/// Which guard failed: of the sessions, in their order, or that of the leader.
fn failed_guard(commit: &Commit, answers: &[TxnOpResponse]) -> Option<Committed> {
    let is_there = |answer: &TxnOpResponse| match answer {
        TxnOpResponse::Get(found) => Some(!found.kvs().is_empty()),
        _ => None,
    };
    for (session, answer) in commit.alive.iter().zip(answers) {
        if !is_there(answer)? {
            return Some(Committed::Dead(*session));
        }
    }
    (commit.leader.is_some() && answers.len() > commit.alive.len()).then_some(Committed::LeaderMoved)
}

//! A round: reads what is not cached, runs the rules on it, commits what they changed under guards, and goes round
//! again for what conflicted.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    cache::Cached,
    format::{ManifestRow, PendingRow, decode, encode},
    manifests::{manifest_name, session_of_manifest},
    plan::{Planned, chunks},
    request::{Answer, Needs, Request},
    servers::{Hold, other_server},
    shared::{Core, Leader, Shared, lock_error},
};
use crate::{
    core::{
        backoff::Backoff,
        ledger::{FloorRow, NameRow},
    },
    port::{
        Commit, Committed, LockError, RecordKind, RecordName, RecordServer, RecordSession, RecordsError,
        StoredRecord, UnitAnswer, Version,
    },
};

/// How long a round goes on for what others are faster with. Well below the deadline of a call.
const ROUND_MAX: Duration = Duration::from_secs(3);
/// How often rows lead to other rows at most: a key to its dead holder, and that to its job.
const LOADS_MAX: usize = 6;
/// The pauses between the rounds.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// Asks for all of these, in their order, in a task of its own: who gives up waiting gives up no commit.
pub(super) async fn ask(shared: &Arc<Shared>, requests: Vec<Request>) -> Result<Vec<Answer>, LockError> {
    if requests.is_empty() {
        return Ok(Vec::new());
    }
    let session = shared.session()?;
    // Whoever gives up while it waits here asks for nothing: only the call that is being made outlives its caller.
    let mut core = shared.core.clone().lock_owned().await;
    let shared = shared.clone();
    let asked = tokio::spawn(async move { Round::new(&shared, &mut core, session, &requests).run().await });
    asked
        .await
        .unwrap_or_else(|error| Err(LockError::NotDone { reason: format!("the call ended early: {error}") }))
}

pub(super) struct Round<'a> {
    pub(super) shared: &'a Shared,
    pub(super) core: &'a mut Core,
    pub(super) session: RecordSession,
    requests: &'a [Request],
    needs: Vec<Needs>,
    answers: Vec<Option<Answer>>,
    /// The sessions of others that were alive in this round.
    pub(super) alive: HashSet<u64>,
    /// Who led when the answers were planned. Every commit of them is guarded by it.
    pub(super) leader: Option<Leader>,
    /// The server that knows what this node knows. Every commit is guarded by it.
    pub(super) server: Option<RecordServer>,
    /// What it does not grant yet.
    pub(super) hold: Option<Arc<Hold>>,
    /// It says what the node knows to a server that is another one than before.
    pub(super) settles: bool,
}

/// What has to be read.
#[derive(Default)]
struct Missing {
    names: BTreeSet<Arc<str>>,
    pending: BTreeSet<Arc<str>>,
    sessions: BTreeSet<u64>,
    /// Those of sessions that are gone and hold something.
    manifests: BTreeSet<u64>,
    leader: bool,
    floor: bool,
}

impl Missing {
    fn is_empty(&self) -> bool {
        self.names.is_empty()
            && self.pending.is_empty()
            && self.sessions.is_empty()
            && self.manifests.is_empty()
            && !self.leader
            && !self.floor
    }
}

impl<'a> Round<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        core: &'a mut Core,
        session: RecordSession,
        requests: &'a [Request],
    ) -> Self {
        let needs = requests.iter().map(Request::needs).collect();
        let answers = requests.iter().map(|_| None).collect();
        let alive = HashSet::new();
        let (leader, server, hold) = (None, None, None);
        Self { shared, core, session, requests, needs, answers, alive, leader, server, hold, settles: true }
    }

    pub(super) async fn run(mut self) -> Result<Vec<Answer>, LockError> {
        let until = Instant::now() + ROUND_MAX;
        let mut backoff = Backoff::new(PAUSE_MIN, PAUSE_MAX, self.session.0);
        loop {
            let open: Vec<_> = (0..self.requests.len()).filter(|at| self.answers[*at].is_none()).collect();
            if open.is_empty() {
                break;
            }
            if self.settles {
                self.settle().await?;
            }
            self.load(&open).await.map_err(lock_error)?;
            self.leader = self.shared.leader();
            let planned = self.plan(&open).map_err(lock_error)?;
            let answered = self.commit(planned).await?;
            if Instant::now() >= until {
                break;
            }
            if !answered {
                sleep(backoff.failed()).await;
            }
        }
        Ok(self.answers.into_iter().map(|answer| answer.unwrap_or(Answer::Contended)).collect())
    }

    pub(super) fn request(&self, at: usize) -> &'a Request {
        &self.requests[at]
    }

    /// The rows that a request looks at, as far as the cached ones tell: whether they are all cached.
    pub(super) fn all_needs(&self, at: usize) -> Needs {
        let Needs { names, pending } = &self.needs[at];
        let mut needs = Needs { names: names.clone(), pending: pending.clone() };
        if let Some(key) = self.requests[at].closes()
            && let Some(cached) = self.core.cache.names.get(key.as_str())
            && let Some((session, _, job)) = cached.row.holder(key.as_str())
            && self.core.cache.gone.contains(&session.0)
        {
            needs.job(job.to_stored());
        }
        needs
    }

    /// The sessions of others on whose life the answer depends, and the dead ones of which it is not known whose they
    /// were.
    fn sessions(&self, at: usize, missing: &mut Missing) {
        let into = &mut missing.sessions;
        let known = |session: &u64| {
            *session == self.session.0
                || self.alive.contains(session)
                || self.core.cache.gone.contains(session)
        };
        let row = |key: &str| self.core.cache.names.get(key).map(|cached| &cached.row);
        if let Some(key) = self.requests[at].closes()
            && let Some((session, ..)) = row(key.as_str()).and_then(|row| row.holder(key.as_str()))
        {
            into.extend(Some(session.0).filter(|session| !known(session)));
            let cache = &self.core.cache;
            let of_whom = cache.gone.contains(&session.0) && !cache.nodes.contains_key(&session.0);
            missing.manifests.extend(of_whom.then_some(session.0));
        }
        if let Some(row) = self.requests[at].declares().and_then(|key| row(key.as_str())) {
            into.extend(row.declared_by().map(|session| session.0).filter(|session| !known(session)));
        }
    }

    fn missing(&mut self, open: &[usize]) -> Missing {
        let mut missing = Missing { floor: self.core.cache.floor.is_none(), ..Missing::default() };
        for at in open {
            let Needs { names, pending } = self.all_needs(*at);
            let cache = &mut self.core.cache;
            missing.names.extend(names.into_iter().filter(|name| !cache.names.touch(&**name)));
            missing.pending.extend(pending.into_iter().filter(|job| !cache.pending.touch(&**job)));
            self.sessions(*at, &mut missing);
            missing.leader |= self.requests[*at].asks_leader();
        }
        missing.leader &= self.shared.leader().is_none();
        missing
    }

    async fn load(&mut self, open: &[usize]) -> Result<(), RecordsError> {
        for _ in 0..LOADS_MAX {
            let missing = self.missing(open);
            if missing.is_empty() {
                return Ok(());
            }
            if missing.leader {
                self.shared.ask_leader().await?;
            }
            self.read(missing).await?;
        }
        Ok(())
    }

    async fn read(&mut self, missing: Missing) -> Result<(), RecordsError> {
        let Missing { names, pending, sessions, manifests, floor, leader: _ } = missing;
        let named = |kind| move |id: Arc<str>| RecordName::new(kind, id);
        let mut asked: Vec<RecordName> = names.into_iter().map(named(RecordKind::Name)).collect();
        asked.extend(pending.into_iter().map(named(RecordKind::Pending)));
        asked.extend(manifests.into_iter().map(|session| manifest_name(RecordSession(session))));
        asked.extend(floor.then(|| RecordName::only(RecordKind::Floor)));
        let mut sessions: Vec<_> = sessions.into_iter().map(RecordSession).collect();
        let reads = self.shared.records.limits().reads;
        while !asked.is_empty() || !sessions.is_empty() {
            let part = asked.split_off(asked.len().saturating_sub(reads));
            let of_part = sessions.split_off(sessions.len().saturating_sub(reads - part.len()));
            let snapshot = self.shared.read(&part, &of_part).await?;
            for (name, stored) in part.into_iter().zip(snapshot.records) {
                self.take(name, stored)?;
            }
            for (session, alive) in of_part.iter().zip(snapshot.alive) {
                if alive {
                    self.alive.insert(session.0);
                } else {
                    self.core.cache.set_gone(session.0);
                }
            }
        }
        Ok(())
    }

    /// Caches what was read.
    fn take(&mut self, name: RecordName, stored: StoredRecord) -> Result<(), RecordsError> {
        let StoredRecord { version, bytes } = stored;
        let cache = &mut self.core.cache;
        let there = version.is_present();
        match name.kind {
            RecordKind::Name => {
                let row = if there { decode(&bytes)? } else { NameRow::default() };
                cache.read(name.id, version, row);
            }
            RecordKind::Pending => {
                let row = if there { decode(&bytes)? } else { PendingRow::default() };
                cache.pending.insert(name.id, Cached { version, row });
            }
            RecordKind::Floor => {
                let row = if there { decode(&bytes)? } else { FloorRow::default() };
                cache.floor = Some(Cached { version, row });
            }
            RecordKind::Manifest => {
                let row: Option<ManifestRow> = if there { Some(decode(&bytes)?) } else { None };
                if let Some(session) = session_of_manifest(&name.id) {
                    cache.nodes.insert(session.0, row.map(|row| row.node));
                }
            }
            RecordKind::Format
            | RecordKind::Leader
            | RecordKind::Decided
            | RecordKind::Handover
            | RecordKind::Server => {}
        }
        Ok(())
    }

    /// Commits units, as many at once as the store takes, until one finds that the plan rests on a leader that is one
    /// no more: whether any request was answered.
    async fn commit(&mut self, planned: Vec<Planned>) -> Result<bool, LockError> {
        let mut answered = false;
        for chunk in chunks(planned, &self.shared.records.limits()) {
            match self.commit_chunk(chunk).await? {
                Some(of_chunk) => answered |= of_chunk,
                None => break,
            }
        }
        Ok(answered)
    }

    /// Whether any request was answered; `None`: nothing was done, and the rest has to be planned again.
    async fn commit_chunk(&mut self, mut chunk: Vec<Planned>) -> Result<Option<bool>, LockError> {
        let guarded = chunk.iter().any(|planned| planned.asks_leader);
        if guarded && self.leader.is_none() {
            return Ok(None);
        }
        let leader = self.leader.as_ref().filter(|_| guarded);
        let lives = leader.and_then(Leader::lives);
        let commit = Commit {
            alive: [Some(self.session), lives].into_iter().flatten().collect(),
            leader: leader.map(|leader| leader.version),
            server: self.server,
            units: chunk.iter_mut().map(|planned| std::mem::take(&mut planned.unit)).collect(),
        };
        match self.shared.records.commit(&commit).await {
            Ok(Committed::Units { answers, time }) => {
                self.shared.clock.heard(time);
                let mut answered = false;
                for (planned, answer) in chunk.into_iter().zip(answers) {
                    answered |= self.made(planned, answer);
                }
                Ok(Some(answered))
            }
            Ok(Committed::Dead(dead)) if dead == self.session => Err(self.shared.lost_session(dead)),
            Ok(Committed::Dead(dead)) => {
                self.core.cache.set_gone(dead.0);
                self.shared.term_may_be_over(dead);
                Ok(None)
            }
            Ok(Committed::LeaderMoved) => {
                self.shared.set_leader(None);
                Ok(None)
            }
            // What this node knows is said to that one first.
            Ok(Committed::OtherServer) if self.settles => Ok(None),
            Ok(Committed::OtherServer) => Err(lock_error(other_server())),
            Err(error) => {
                if error == RecordsError::Timeout {
                    chunk.iter().for_each(|planned| self.doubt(planned));
                }
                Err(lock_error(error))
            }
        }
    }

    /// Whether a unit was made: then its requests are answered.
    fn made(&mut self, planned: Planned, answer: UnitAnswer) -> bool {
        let UnitAnswer::Made { versions } = answer else {
            self.forget(&planned);
            return false;
        };
        let mut versions = versions.into_iter();
        let mut next = || versions.next().unwrap_or(Version::ABSENT);
        let cache = &mut self.core.cache;
        for (name, row) in planned.names {
            let version = next();
            cache.doubtful.remove(&name);
            if let Some(row) = row {
                cache.names.insert(name, Cached { version, row });
            }
        }
        for (job, row) in planned.pending {
            let version = next();
            if let Some(row) = row {
                cache.pending.insert(job, Cached { version, row });
            }
        }
        for (at, answer) in planned.answers {
            if let Request::End(end) = &self.requests[at] {
                cache.unanswered.remove(&end.run);
            }
            self.answers[at] = Some(answer);
        }
        true
    }

    /// What was cached is not so any more.
    fn forget(&mut self, planned: &Planned) {
        let cache = &mut self.core.cache;
        planned.names.iter().for_each(|(name, _)| cache.evict(name));
        planned.pending.iter().for_each(|(job, _)| cache.evict(job));
        if planned.rests_on_floor {
            cache.floor = None;
        }
    }

    /// It is unknown whether a unit was made, or will be.
    fn doubt(&mut self, planned: &Planned) {
        self.forget(planned);
        self.core.cache.doubtful.extend(planned.names.iter().map(|(name, _)| name.clone()));
        for (at, _) in &planned.answers {
            if let Request::End(end) = &self.requests[*at] {
                self.core.cache.set_unanswered(end.run);
            }
        }
    }
}

/// As [`encode`], of a row that is written.
pub(super) fn bytes_of<T: serde::Serialize>(row: &T) -> Result<Vec<u8>, RecordsError> {
    encode(row)
}

/// Requests that share rows, in their order, and these rows.
#[derive(Default)]
pub(super) struct Group {
    pub(super) requests: Vec<usize>,
    pub(super) needs: Needs,
}

/// Groups requests that share rows, of at most so many records each. What does not fit waits for the next round, and
/// so does whatever comes after it and shares a row with it.
pub(super) fn groups(needs: impl Iterator<Item = (usize, Needs)>, most: usize) -> Vec<Group> {
    let mut groups: Vec<Option<Group>> = Vec::new();
    let mut group_of: HashMap<Arc<str>, usize> = HashMap::new();
    let mut waits: HashSet<Arc<str>> = HashSet::new();
    for (at, needs) in needs {
        let of = |name: &Arc<str>| group_of.get(name).copied();
        let touched: BTreeSet<usize> = needs.names.iter().filter_map(of).collect();
        let size = |at: &usize| groups[*at].as_ref().map_or(0, |group| group.needs.size());
        let fits = needs.size() + touched.iter().map(size).sum::<usize>() <= most;
        if !fits || needs.names.iter().any(|name| waits.contains(name)) {
            waits.extend(needs.names);
            continue;
        }
        let mut merged = Group::default();
        for former in touched {
            if let Some(former) = groups[former].take() {
                merged.requests.extend(former.requests);
                former.needs.names.into_iter().for_each(|name| merged.needs.name(name));
                former.needs.pending.into_iter().for_each(|job| merged.needs.job(job));
            }
        }
        merged.requests.push(at);
        merged.requests.sort_unstable();
        needs.names.into_iter().for_each(|name| merged.needs.name(name));
        needs.pending.into_iter().for_each(|job| merged.needs.job(job));
        for name in &merged.needs.names {
            group_of.insert(name.clone(), groups.len());
        }
        groups.push(Some(merged));
    }
    groups.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(names: &[&str]) -> Needs {
        let mut needs = Needs::default();
        names.iter().for_each(|name| needs.name((*name).into()));
        needs
    }

    fn grouped(asked: &[&[&str]], most: usize) -> Vec<Vec<usize>> {
        let asked = asked.iter().enumerate().map(|(at, names)| (at, needs(names)));
        let mut grouped: Vec<_> = groups(asked, most).into_iter().map(|group| group.requests).collect();
        grouped.sort();
        grouped
    }

    #[test]
    fn requests_that_share_a_row_are_one_group_in_their_order() {
        let asked: [&[&str]; 5] = [&["a"], &["b", "c"], &["d"], &["c", "a"], &["a"]];

        assert_eq!(grouped(&asked, 100), [vec![0, 1, 3, 4], vec![2]]);
    }

    #[test]
    fn what_does_not_fit_waits_and_so_does_what_comes_after_it() {
        let asked: [&[&str]; 5] = [&["a", "b"], &["c"], &["b", "c"], &["c"], &["d"]];

        assert_eq!(
            grouped(&asked, 3),
            [vec![0], vec![1], vec![4]],
            "the third is too large, and the fourth is after it"
        );
    }
}

//! A client of records in memory: it remembers its sessions, takes less at once, and loses answers.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use callsheet::{
    port::{
        Commit, Committed, HintStream, RecordKind, RecordLimits, RecordName, RecordPage, RecordServer,
        RecordSession, RecordSnapshot, RecordTraits, Records, RecordsError, Unit,
    },
    testkit::MemoryRecords,
};
use callsheet_actors::adapter::RecordTable;
use futures_util::{FutureExt, StreamExt, future::BoxFuture};
use tokio::time::sleep;

/// What an adapter may leave out, so that a race finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    Nothing,
    /// The leader's record, and the session of the term, are not compared.
    Leader,
    /// The own session is not compared.
    Session,
    /// The versions of records are not compared: the newest ones are written over.
    Versions,
    /// Each record of a unit is written for itself.
    Units,
    /// A session that is gone is renewed.
    Renewals,
    /// A session lives on when its time to live is over.
    Expiry,
    /// Nobody is told anything.
    Hints,
    /// A list begins anew with each page.
    Lists,
    /// The server that makes a commit is not compared.
    Server,
}

pub(crate) struct Client {
    store: MemoryRecords,
    limits: Option<RecordLimits>,
    opened: Mutex<Vec<RecordSession>>,
    /// What goes wrong, by chance.
    chance: Option<Mutex<Chance>>,
    broken: Broken,
    /// The sessions that were ended.
    dead: Arc<Mutex<HashSet<u64>>>,
    /// So many commits are answered yet. Then the way back is cut: a commit is made, an end is not, and neither is
    /// answered.
    answered: AtomicUsize,
    /// The store becomes this just before the next commit.
    becomes: Mutex<Option<RecordTable>>,
}

impl Client {
    pub(crate) fn new(store: MemoryRecords, limits: Option<RecordLimits>) -> Self {
        Self {
            store,
            limits,
            opened: Mutex::default(),
            chance: None,
            broken: Broken::Nothing,
            dead: Arc::default(),
            answered: AtomicUsize::new(usize::MAX),
            becomes: Mutex::default(),
        }
    }

    /// One that loses answers, and is slow.
    pub(crate) fn faulty(
        store: MemoryRecords,
        limits: Option<RecordLimits>,
        seed: u64,
        broken: Broken,
        dead: Arc<Mutex<HashSet<u64>>>,
    ) -> Self {
        let chance = Some(Mutex::new(Chance(seed)));
        Self { chance, broken, dead, ..Self::new(store, limits) }
    }

    /// One that leaves something out.
    pub(crate) fn broken(store: MemoryRecords, broken: Broken) -> Self {
        Self { broken, ..Self::new(store, None) }
    }

    /// Just before the next commit, another server takes the place of the one that there is.
    pub(crate) fn fails_over_before_a_commit(&self, copied: RecordTable) {
        *self.becomes.lock().expect("nobody panicked") = Some(copied);
    }

    /// Answers only so many commits from now on, and then nothing that writes.
    pub(crate) fn answer_only(&self, commits: usize) {
        self.answered.store(commits, Ordering::SeqCst);
    }

    /// Answers everything again.
    pub(crate) fn answer_all(&self) {
        self.answer_only(usize::MAX);
    }

    /// Whether this commit is answered.
    fn is_answered(&self) -> bool {
        let next = |left| if left == usize::MAX { Some(left) } else { usize::checked_sub(left, 1) };
        self.answered.fetch_update(Ordering::SeqCst, Ordering::SeqCst, next).is_ok()
    }

    /// All sessions so far.
    pub(crate) fn opened(&self) -> Vec<RecordSession> {
        self.opened.lock().expect("nobody panicked").clone()
    }

    fn roll(&self, sides: u64) -> Option<u64> {
        self.chance.as_ref().map(|chance| chance.lock().expect("nobody panicked").roll(sides))
    }

    /// The way to the store.
    async fn way(&self) {
        if let Some(millis) = self.roll(20) {
            sleep(Duration::from_millis(millis)).await;
        }
    }

    async fn as_broken(&self, commit: &Commit) -> Commit {
        let mut commit = commit.clone();
        match self.broken {
            Broken::Nothing | Broken::Renewals | Broken::Expiry | Broken::Hints | Broken::Lists => {}
            Broken::Server => commit.server = None,
            Broken::Units => {
                let each = commit.units.into_iter().flat_map(|unit| {
                    let Unit { records, hints } = unit;
                    let alone = |change| Unit { records: vec![change], hints: hints.clone() };
                    records.into_iter().map(alone).collect::<Vec<_>>()
                });
                commit.units = each.collect();
            }
            Broken::Leader => {
                commit.leader = None;
                commit.alive.truncate(1);
            }
            Broken::Session if !commit.alive.is_empty() => drop(commit.alive.remove(0)),
            Broken::Session => {}
            Broken::Versions => {
                for change in commit.units.iter_mut().flat_map(|unit| &mut unit.records) {
                    let name = std::slice::from_ref(&change.name);
                    let read = self.store.read(name, &[]).await.expect("an answer");
                    change.version = read.records[0].version;
                }
            }
        }
        commit
    }
}

/// A small generator of numbers that look random.
#[derive(Debug, Clone)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

impl Records for Client {
    fn limits(&self) -> RecordLimits {
        self.limits.clone().unwrap_or_else(|| self.store.limits())
    }

    fn traits(&self) -> RecordTraits {
        self.store.traits()
    }

    fn server(&self) -> Option<RecordServer> {
        self.store.server()
    }

    fn open(&self, ttl: Duration) -> BoxFuture<'_, Result<RecordSession, RecordsError>> {
        async move {
            let ttl = if self.broken == Broken::Expiry { ttl.max(Duration::from_secs(3_600)) } else { ttl };
            let session = self.store.open(ttl).await?;
            self.opened.lock().expect("nobody panicked").push(session);
            Ok(session)
        }
        .boxed()
    }

    fn renew(&self, session: RecordSession) -> BoxFuture<'_, Result<bool, RecordsError>> {
        async move { Ok(self.store.renew(session).await? || self.broken == Broken::Renewals) }.boxed()
    }

    fn end(&self, session: RecordSession) -> BoxFuture<'_, Result<(), RecordsError>> {
        if self.answered.load(Ordering::SeqCst) == 0 {
            return async { Err(RecordsError::Timeout) }.boxed();
        }
        self.dead.lock().expect("nobody panicked").insert(session.0);
        self.store.end(session)
    }

    fn read<'a>(
        &'a self,
        names: &'a [RecordName],
        sessions: &'a [RecordSession],
    ) -> BoxFuture<'a, Result<RecordSnapshot, RecordsError>> {
        async move {
            self.limits().check_reads(names, sessions)?;
            self.way().await;
            self.store.read(names, sessions).await
        }
        .boxed()
    }

    fn commit<'a>(&'a self, commit: &'a Commit) -> BoxFuture<'a, Result<Committed, RecordsError>> {
        async move {
            commit.check(&self.limits())?;
            self.way().await;
            let becomes = self.becomes.lock().expect("nobody panicked").take();
            becomes.into_iter().for_each(|copied| self.store.fail_over(copied));
            let commit = self.as_broken(commit).await;
            if !self.is_answered() {
                let _ = self.store.commit(&commit).await?;
                return Err(RecordsError::Timeout);
            }
            match self.roll(25) {
                // It never arrives, its answer is lost, or it arrives later.
                Some(0) => Err(RecordsError::Timeout),
                Some(1) => {
                    let _ = self.store.commit(&commit).await?;
                    Err(RecordsError::Timeout)
                }
                Some(2) => {
                    let store = self.store.clone();
                    tokio::spawn(async move {
                        sleep(Duration::from_millis(40)).await;
                        let _ = store.commit(&commit).await;
                    });
                    Err(RecordsError::Timeout)
                }
                Some(_) | None => self.store.commit(&commit).await,
            }
        }
        .boxed()
    }

    fn list<'a>(
        &'a self,
        kind: RecordKind,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<RecordPage, RecordsError>> {
        let after = after.filter(|_| self.broken != Broken::Lists);
        self.store.list(kind, after, limit.min(self.limits().reads))
    }

    fn subscribe(&self) -> BoxFuture<'_, Result<HintStream, RecordsError>> {
        async move {
            let heard = self.store.subscribe().await?;
            Ok(if self.broken == Broken::Hints { futures_util::stream::pending().boxed() } else { heard })
        }
        .boxed()
    }
}

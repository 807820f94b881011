//! One store for all nodes of a rig, in memory, with faults.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    panic::resume_unwind,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::{
    FutureExt,
    future::{BoxFuture, pending},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    core::{
        duration::DurationText,
        ledger::{Ledger, Record},
        operation::Operation,
    },
    error,
    name::{JobName, LockKey, NodeId, RunId, Term},
    port::{
        Backend, Campaign, ClaimRequest, Clock, ClosedRuns, Completed, Completion, CursorMove, Debt,
        Declaration, ElectError, Elector, Enrolled, Enrolment, Forgotten, Grant, Inquiry, Lease, LockError,
        Locker, Moved, News, OTHER_ZONE_DATA_MAX, Observation, OtherZoneData, Pause, Proof, Proved, Renewal,
        Session, Standing, Verdict,
    },
    testkit::{VirtualClock, clock::check_move},
};

/// The scope of all nodes.
pub(super) const SCOPE: &str = "shared";
/// The lease of terms and sessions unless set otherwise: long, so that a virtual month has few renewals.
const LEASE_DEFAULT: Duration = Duration::from_secs(60);
/// The shortest and the longest lease.
const LEASE_MIN: Duration = Duration::from_secs(1);
const LEASE_MAX: Duration = Duration::from_hours(24);
/// The margin of a lease is this part of it.
const MARGIN_PART: u32 = 5;
/// How long one call to the store takes.
const LATENCY: Duration = Duration::from_millis(1);
/// How long a campaign waits for the present leader before it answers.
const CAMPAIGN_SLICE: Duration = Duration::from_secs(1);

/// Something that goes wrong with one call of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call takes effect, but its reply is lost.
    ReplyLost,
    /// The call does not reach the store.
    RequestLost,
    /// The call, and every other one of the node meanwhile, takes this long.
    Stall(Duration),
}

/// Something that the store refuses for its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BadData {
    /// Enrolments.
    Enrolment,
    /// Claims.
    Claim,
    /// The ends of runs.
    End,
    /// Moves of cursors.
    Move,
    /// Pauses.
    Pause,
    /// What is only asked or taken back: inquiries, conflicts, retractions, withdrawals.
    Other,
}

impl BadData {
    /// Everything.
    pub const ALL: [Self; 6] =
        [Self::Enrolment, Self::Claim, Self::End, Self::Move, Self::Pause, Self::Other];
}

/// One store for all nodes of a rig: terms, cursors, keys and tokens by the rules of the [`Ledger`], sessions with a
/// lease that die when they are killed or not heard of, and faults on request.
#[derive(Clone)]
pub struct SharedStore {
    state: Arc<Mutex<State>>,
    clock: VirtualClock,
    lease: Lease,
    /// Somebody gave up, or lost, leadership or a session.
    changed: Arc<Notify>,
    /// There may be news for somebody.
    told: Arc<Notify>,
}

struct State {
    ledger: Ledger,
    sessions: HashMap<NodeId, OwnSession>,
    leader: Option<Leader>,
    /// By which time zone data the newest leader went, if it said so.
    led_by_zone_data: Option<Arc<str>>,
    partitioned: HashSet<NodeId>,
    faults: HashMap<NodeId, VecDeque<Fault>>,
    /// The names of jobs and keys that somebody else has locked.
    locked: HashSet<String>,
    /// What is refused for its data, by the names of jobs and keys.
    bad: HashSet<(String, BadData)>,
    /// News are lost.
    silent: bool,
    /// How many news each node may hear of, if they are delayed.
    delayed: Option<HashMap<NodeId, usize>>,
    /// What it refuses, and why.
    refused: HashMap<Operation, String>,
    /// What it does not answer, so that it is given up; that panics.
    panics_when_given_up: HashSet<Operation>,
    /// What the leader of a term said last: since when a tick is due and not decided.
    said: Option<(Term, Option<DateTime<Utc>>)>,
    /// Up to when all that was due was decided, as leaders said last.
    decided: Option<DateTime<Utc>>,
    calls: u64,
    /// How long each call takes.
    latency: Duration,
}

impl State {
    fn is_locked(&self, name: &str) -> bool {
        self.locked.contains(name)
    }

    /// Refuses a whole batch if one of its names is bad, as a server does that undoes the statement.
    fn check_data<'a>(
        &self,
        what: BadData,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<(), LockError> {
        if self.bad.is_empty() {
            return Ok(());
        }
        let is_bad = |name: &&str| self.bad.contains(&((*name).to_owned(), what));
        match names.into_iter().find(is_bad) {
            Some(name) => Err(LockError::BadData { reason: format!("{name} is bad") }),
            None => Ok(()),
        }
    }
}

#[derive(Clone)]
struct OwnSession {
    session: Session,
    expires_at: Instant,
    zone_data: Arc<str>,
    /// It is a candidate, to whom others leave the lead that would rather not have it.
    stands: bool,
}

#[derive(Clone, Copy)]
struct Leader {
    node: NodeId,
    session: Session,
    term: Term,
    expires_at: Instant,
}

impl SharedStore {
    /// An empty store whose time is the time of `clock`.
    pub fn new(clock: VirtualClock) -> Self {
        let state = State {
            ledger: Ledger::audited(),
            sessions: HashMap::new(),
            leader: None,
            led_by_zone_data: None,
            partitioned: HashSet::new(),
            faults: HashMap::new(),
            locked: HashSet::new(),
            bad: HashSet::new(),
            silent: false,
            delayed: None,
            refused: HashMap::new(),
            panics_when_given_up: HashSet::new(),
            said: None,
            decided: None,
            calls: 0,
            latency: LATENCY,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            clock,
            lease: lease(LEASE_DEFAULT),
            changed: Arc::default(),
            told: Arc::default(),
        }
    }

    /// The same store with another lease (60 s by default) for terms and sessions from now on, 1 s to a day;
    /// a fifth of it is the margin. Nodes with another one do not start.
    #[must_use]
    pub fn with_lease(self, duration: Duration) -> Self {
        Self { lease: lease(duration), ..self }
    }

    /// The store as `node`, whose clock is `clock`, sees it.
    pub fn backend(&self, node: NodeId, clock: VirtualClock) -> StoreBackend {
        StoreBackend { store: self.clone(), node, clock, zone_data: Arc::default(), trusted: Arc::default() }
    }

    /// How long each call takes from now on, at least; 1 ms by default.
    ///
    /// # Panics
    ///
    /// If it is longer than [`VIRTUAL_TIME_MAX`](crate::testkit::VIRTUAL_TIME_MAX).
    pub fn set_latency(&self, latency: Duration) {
        check_move(latency);
        self.lock().latency = latency;
    }

    /// Ends the session of a node, as a server does whose client died or was thrown out.
    pub fn end_session(&self, node: NodeId) {
        let mut state = self.lock();
        if let Some(own) = state.sessions.remove(&node) {
            state.ledger.end_session(own.session);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Cuts a node off, or connects it again. What it asks meanwhile gets no answer.
    pub fn set_partitioned(&self, node: NodeId, cut_off: bool) {
        let mut state = self.lock();
        if cut_off {
            state.partitioned.insert(node);
        } else {
            state.partitioned.remove(&node);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Locks the job and the key of a name, as an application's own transaction can, or frees them.
    pub fn set_locked(&self, name: &str, locked: bool) {
        let mut state = self.lock();
        if locked {
            state.locked.insert(name.to_owned());
        } else {
            state.locked.remove(name);
        }
    }

    /// Refuses, for its data, what concerns the job or key of a name, and every batch with it. With an empty list nothing
    /// of it is refused any more.
    pub fn set_bad(&self, name: &str, bad: &[BadData]) {
        let mut state = self.lock();
        state.bad.retain(|(of, _)| of != name);
        state.bad.extend(bad.iter().map(|what| (name.to_owned(), *what)));
    }

    /// Loses all news from now on, or no more.
    pub fn set_silent(&self, silent: bool) {
        self.lock().silent = silent;
    }

    /// Delays all news from now on, or no more: a node hears of them with the next answer that it gets, and of those that its
    /// question caused with a later one. A store whose notifications come on the connection of the answers may do so.
    pub fn set_delayed(&self, delayed: bool) {
        self.lock().delayed = delayed.then(HashMap::new);
        self.told.notify_waiters();
    }

    /// Refuses operations of all nodes from now on, for a reason; nothing of them is done. [`Operation::Prove`] is one of them.
    /// [`Operation::Notification`], which cannot fail, panics over news and loses them.
    pub fn refuse(&self, operations: impl IntoIterator<Item = Operation>, reason: &str) {
        let refused = operations.into_iter().map(|operation| (operation, reason.to_owned()));
        self.lock().refused.extend(refused);
    }

    /// Refuses nothing any more.
    pub fn refuse_nothing(&self) {
        self.lock().refused.clear();
    }

    /// Answers no campaign, renewal or resignation of these operations from now on, and panics when one is
    /// given up. With an empty list it answers again.
    pub fn panic_when_given_up(&self, operations: impl IntoIterator<Item = Operation>) {
        self.lock().panics_when_given_up = operations.into_iter().collect();
    }

    /// The next calls of a node go wrong like this, one fault each.
    pub fn script(&self, node: NodeId, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.entry(node).or_default().extend(faults);
    }

    /// Makes the store's clock read this much more (or less) than the true time, from now on.
    pub fn set_skew(&self, skew: TimeDelta) {
        self.clock.set_skew(skew);
    }

    /// Every change so far.
    pub fn records(&self) -> Vec<Record> {
        self.lock().ledger.records().to_vec()
    }

    /// How many calls reached the store.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// How many keys are held.
    pub fn held(&self) -> usize {
        self.lock().ledger.held()
    }

    /// The node that holds the newest term, unless it is over.
    pub fn leader(&self) -> Option<NodeId> {
        let mut state = self.lock();
        state.expire(Instant::now());
        state.leader.map(|leader| leader.node)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn lease(duration: Duration) -> Lease {
    Lease { duration, margin: duration / MARGIN_PART }
}

impl State {
    /// How many news wait for a node.
    fn news_of(&self, node: NodeId) -> usize {
        self.sessions.get(&node).map_or(0, |own| self.ledger.news(own.session))
    }

    /// The next news that a node may hear of.
    fn take_news(&mut self, node: NodeId, session: Session) -> Option<News> {
        if let Some(heard) = &mut self.delayed {
            let left = heard.get_mut(&node)?;
            *left = left.checked_sub(1)?;
        }
        self.ledger.take_news(session)
    }

    /// Ends sessions and terms whose lease ran out, or whose owner is gone.
    fn expire(&mut self, now: Instant) {
        let expired: Vec<_> =
            self.sessions.iter().filter(|(_, own)| own.expires_at <= now).map(|(n, _)| *n).collect();
        for node in expired {
            if let Some(own) = self.sessions.remove(&node) {
                self.ledger.end_session(own.session);
            }
        }
        if let Some(leader) = self.leader
            && (leader.expires_at <= now || !self.ledger.is_live(leader.session))
        {
            self.ledger.end_term(leader.term);
            self.leader = None;
        }
    }
}

/// The store as one node sees it.
#[derive(Clone)]
pub struct StoreBackend {
    store: SharedStore,
    node: NodeId,
    clock: VirtualClock,
    zone_data: Arc<OnceLock<Arc<str>>>,
    /// The session of the node, and until when it is trusted.
    trusted: Arc<Mutex<Option<(Session, Instant)>>>,
}

/// What one call brought back, before faults.
enum Reply<T> {
    Answer(T),
    Lost,
}

impl StoreBackend {
    /// The store answered what was sent at `sent_at` in `session`, or opened it then.
    fn trust(&self, session: Session, sent_at: Instant) {
        let Lease { duration, margin, .. } = self.store.lease;
        let until = sent_at + duration - margin;
        *self.trusted.lock().unwrap_or_else(PoisonError::into_inner) = Some((session, until));
    }

    fn distrust(&self, session: Session) {
        let mut trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        trusted.take_if(|(trusted, _)| *trusted == session);
    }

    /// One call: waits for its latency and faults, then applies `work` to the state.
    async fn call<T>(&self, work: impl FnOnce(&mut State, Instant, DateTime<Utc>) -> T) -> Reply<T> {
        let latency = self.store.lock().latency;
        sleep(latency).await;
        let fault = self.store.lock().faults.get_mut(&self.node).and_then(VecDeque::pop_front);
        match fault {
            Some(Fault::RequestLost) => return Reply::Lost,
            Some(Fault::Stall(stall)) => sleep(stall).await,
            Some(Fault::ReplyLost) | None => {}
        }
        self.connected().await;
        let now = Instant::now();
        let mut state = self.store.lock();
        state.calls += 1;
        state.expire(now);
        let before = state.news_of(self.node);
        let answer = work(&mut state, now, self.store.clock.now());
        let heard =
            state.delayed.as_mut().is_some_and(|heard| heard.insert(self.node, before) != Some(before));
        if state.ledger.take_told() || heard {
            self.store.told.notify_waiters();
        }
        match fault {
            Some(Fault::ReplyLost) => Reply::Lost,
            Some(Fault::RequestLost | Fault::Stall(_)) | None => Reply::Answer(answer),
        }
    }

    /// Waits while the node is cut off.
    async fn connected(&self) {
        loop {
            let changed = self.store.changed.notified();
            if !self.store.lock().partitioned.contains(&self.node) {
                return;
            }
            changed.await;
        }
    }

    /// A call on the node's session.
    async fn with_session<T>(
        &self,
        operation: Operation,
        work: impl FnOnce(&mut State, Session, DateTime<Utc>) -> T,
    ) -> Result<T, LockError> {
        let node = self.node;
        // The session that is open now, not the one that may be open when the call arrives.
        let session = self.store.lock().sessions.get(&node).map(|own| own.session);
        let reply = self.call(move |state, _, now| {
            let own = state.sessions.get(&node).filter(|own| Some(own.session) == session).cloned();
            own.map(|own| match state.refused.get(&operation) {
                Some(reason) => Err(LockError::NotDone { reason: reason.clone() }),
                None => Ok(work(state, own.session, now)),
            })
        });
        match reply.await {
            Reply::Answer(Some(answer)) => answer,
            Reply::Answer(None) => Err(LockError::SessionLost { reason: "the server ended it".to_owned() }),
            Reply::Lost => Err(LockError::Timeout),
        }
    }

    fn zone_data(&self) -> Arc<str> {
        self.zone_data.get().cloned().unwrap_or_default()
    }

    /// A call on the node's session, unless it holds something that is refused for its data: then nothing is done.
    async fn with_good_data<I, T>(
        &self,
        operation: Operation,
        what: BadData,
        items: &[I],
        name: impl Fn(&I) -> &str,
        work: impl FnOnce(&mut State, Session, DateTime<Utc>) -> T,
    ) -> Result<T, LockError> {
        let answer = self.with_session(operation, |state, session, now| {
            state.check_data(what, items.iter().map(&name))?;
            Ok(work(state, session, now))
        });
        answer.await?
    }

    async fn elect<T>(
        &self,
        operation: Operation,
        work: impl FnOnce(&mut State, Option<OwnSession>, Instant) -> T,
    ) -> Result<T, ElectError> {
        if self.store.lock().panics_when_given_up.contains(&operation) {
            let _panics = PanicsWhenDropped;
            return pending().await;
        }
        let node = self.node;
        let reply = self.call(move |state, now, _| {
            let own = state.sessions.get(&node).cloned();
            match state.refused.get(&operation) {
                Some(reason) => Err(ElectError::Unavailable { reason: reason.clone() }),
                None => Ok(work(state, own, now)),
            }
        });
        match reply.await {
            Reply::Answer(answer) => answer,
            Reply::Lost => Err(ElectError::Unavailable { reason: "no answer".to_owned() }),
        }
    }
}

/// What an adapter does that is wrong when it cleans up.
struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        resume_unwind(Box::new("the adapter panics over a call that is given up"));
    }
}

impl Backend for StoreBackend {
    fn name(&self) -> &'static str {
        "shared"
    }

    fn scope(&self) -> Arc<str> {
        SCOPE.into()
    }

    fn set_zone_data(&self, version: Arc<str>) {
        // Told once.
        let _ = self.zone_data.set(version);
    }

    fn lease(&self) -> Duration {
        self.store.lease.duration
    }

    fn faults(&self) -> Vec<error::Fault> {
        let lease = self.store.lease.duration;
        if (LEASE_MIN..=LEASE_MAX).contains(&lease) {
            return Vec::new();
        }
        let rule = "a lease is at least 1 s and at most a day";
        vec![error::Fault::new(
            "lease",
            DurationText(lease).to_string(),
            rule,
            "choose another one; 60 s is the default",
        )]
    }

    fn elector(&self) -> Arc<dyn Elector> {
        Arc::new(self.clone())
    }

    fn locker(&self) -> Arc<dyn Locker> {
        Arc::new(self.clone())
    }
}

impl Elector for StoreBackend {
    fn campaign(&self) -> BoxFuture<'_, Result<Campaign, ElectError>> {
        async move {
            let until = Instant::now() + CAMPAIGN_SLICE;
            let lease = self.store.lease;
            loop {
                let changed = self.store.changed.notified();
                let node = self.node;
                let answer = self.elect(Operation::Campaign, move |state, own, now| {
                    let Some(own) = own else { return Err(None) };
                    match state.leader {
                        Some(leader) => Err(Some(leader)),
                        None => {
                            let term = state.ledger.grant_term();
                            let expires_at = now + lease.duration;
                            state.leader = Some(Leader { node, session: own.session, term, expires_at });
                            Ok((term, state.led_by_zone_data.replace(own.zone_data)))
                        }
                    }
                });
                match answer.await? {
                    Ok((term, former_zone_data)) => {
                        let lease = Some(self.store.lease);
                        return Ok(Campaign::Won(Grant {
                            term,
                            lease,
                            waited: Duration::ZERO,
                            former_zone_data,
                        }));
                    }
                    Err(None) => {
                        return Err(ElectError::Unavailable { reason: "there is no session".to_owned() });
                    }
                    Err(Some(leader)) => {
                        if Instant::now() >= until {
                            return Ok(Campaign::Lost {
                                leader: Some(leader.node),
                                retry_in: Duration::ZERO,
                            });
                        }
                        // Whichever comes first: somebody gives up, the leader's lease ends, the slice is over.
                        let _ = timeout_at(until.min(leader.expires_at), changed).await;
                    }
                }
            }
        }
        .boxed()
    }

    fn observe(&self, stands: bool) -> BoxFuture<'_, Result<Observation, ElectError>> {
        async move {
            let node = self.node;
            let observed = self.elect(Operation::Observe, move |state, own, now| {
                own?;
                state.sessions.entry(node).and_modify(|own| own.stands = stands);
                let is_candidate = |(other, session): (&NodeId, &OwnSession)| {
                    *other != node && session.stands && session.expires_at > now
                };
                let candidate = state.sessions.iter().any(is_candidate);
                let leader = state.leader.filter(|leader| leader.expires_at > now).map(|leader| leader.node);
                Some(Observation { leader, candidate })
            });
            let no_session = || ElectError::Unavailable { reason: "there is no session".to_owned() };
            observed.await?.ok_or_else(no_session)
        }
        .boxed()
    }

    fn renew(&self, term: Term) -> BoxFuture<'_, Result<Renewal, ElectError>> {
        async move {
            let node = self.node;
            let lease = self.store.lease;
            let renewed = self.elect(Operation::Renew, move |state, _, now| match &mut state.leader {
                Some(leader) if leader.node == node && leader.term == term => {
                    leader.expires_at = now + lease.duration;
                    Renewal::Renewed
                }
                Some(_) | None => Renewal::Deposed,
            });
            renewed.await
        }
        .boxed()
    }

    fn resign(&self, term: Term) -> BoxFuture<'_, Result<(), ElectError>> {
        async move {
            let resigned = self.elect(Operation::Resign, move |state, _, _| {
                state.leader.take_if(|leader| leader.term == term);
                state.ledger.end_term(term);
            });
            resigned.await?;
            self.store.changed.notify_waiters();
            Ok(())
        }
        .boxed()
    }
}

impl Locker for StoreBackend {
    fn open(&self) -> BoxFuture<'_, Result<Session, LockError>> {
        async move {
            let node = self.node;
            let lease = self.store.lease;
            let zone_data = self.zone_data();
            let opened = self.call(move |state, now, _| {
                if let Some(reason) = state.refused.get(&Operation::Open) {
                    return Err(LockError::Unavailable { reason: reason.clone() });
                }
                // The former one, if the server still has it, ends with its connection.
                if let Some(own) = state.sessions.remove(&node) {
                    state.ledger.end_session(own.session);
                }
                let session = state.ledger.open_session();
                let expires_at = now + lease.duration;
                state.sessions.insert(node, OwnSession { session, expires_at, zone_data, stands: true });
                Ok((session, now))
            });
            match opened.await {
                // It may have waited for long before it was sent.
                Reply::Answer(opened) => opened.map(|(session, opened_at)| {
                    self.trust(session, opened_at);
                    session
                }),
                Reply::Lost => Err(LockError::Timeout),
            }
        }
        .boxed()
    }

    fn trusts(&self, session: Session) -> bool {
        let trusted = *self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        trusted.is_some_and(|(trusted, until)| trusted == session && Instant::now() < until)
    }

    fn lost(&self, session: Session) -> BoxFuture<'_, String> {
        async move {
            let lease = self.store.lease;
            let mut heard_at = Instant::now();
            loop {
                let changed = self.store.changed.notified();
                let next_beat = heard_at + lease.duration / 3;
                // A server that throws the client out is noticed at once, unless the network is cut.
                let _ = timeout_at(next_beat, changed).await;
                let sent_at = Instant::now();
                let node = self.node;
                let beat = self.call(move |state, now, _| match state.sessions.get_mut(&node) {
                    Some(own) if own.session == session => {
                        own.expires_at = now + lease.duration;
                        true
                    }
                    Some(_) | None => false,
                });
                // Trusted from the start of the last beat that was answered, for less than the server's lease.
                match timeout_at(heard_at + lease.duration - lease.margin, beat).await {
                    Ok(Reply::Answer(true)) => {
                        heard_at = sent_at;
                        self.trust(session, sent_at);
                    }
                    Ok(Reply::Answer(false)) => {
                        self.distrust(session);
                        return "the store ended it".to_owned();
                    }
                    Err(_) => {
                        self.distrust(session);
                        return "the store did not answer a heartbeat in time".to_owned();
                    }
                    Ok(Reply::Lost) => {}
                }
            }
        }
        .boxed()
    }

    /// As the next call will take.
    fn round_trip(&self) -> Option<Duration> {
        Some(self.store.lock().latency)
    }

    fn clock_ahead(&self) -> TimeDelta {
        self.clock.now() - self.store.clock.now()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async move {
            sleep(LATENCY).await;
            self.connected().await;
            self.store.end_session(self.node);
        }
        .boxed()
    }

    fn enrol<'a>(&'a self, jobs: &'a [Enrolment]) -> BoxFuture<'a, Result<Vec<Enrolled>, LockError>> {
        let enrolled = self.with_good_data(
            Operation::Enrol,
            BadData::Enrolment,
            jobs,
            |job| job.job.as_str(),
            |state, session, now| {
                let enrol = |job: &Enrolment| match state.is_locked(job.job.as_str())
                    || state.is_locked(job.key.as_str())
                {
                    true => Enrolled::Locked,
                    false => state.ledger.enrol(now, session, job),
                };
                jobs.iter().map(enrol).collect()
            },
        );
        enrolled.boxed()
    }

    fn conflicts<'a>(
        &'a self,
        asked: &'a [Declaration],
    ) -> BoxFuture<'a, Result<Vec<Option<String>>, LockError>> {
        let conflicts = self.with_good_data(
            Operation::Conflicts,
            BadData::Other,
            asked,
            |asked| asked.job.as_str(),
            |state, session, _| {
                let conflict =
                    |asked| state.ledger.conflict(session, asked).map(|declared| declared.to_string());
                asked.iter().map(conflict).collect()
            },
        );
        conflicts.boxed()
    }

    fn retract<'a>(&'a self, keys: &'a [LockKey]) -> BoxFuture<'a, Result<(), LockError>> {
        let retracted = self.with_good_data(
            Operation::Retract,
            BadData::Other,
            keys,
            LockKey::as_str,
            |state, session, _| {
                keys.iter().for_each(|key| state.ledger.retract(session, key));
            },
        );
        retracted.boxed()
    }

    fn inquire<'a>(&'a self, jobs: &'a [Inquiry]) -> BoxFuture<'a, Result<Vec<Standing>, LockError>> {
        let asked = self.with_good_data(
            Operation::Inquire,
            BadData::Other,
            jobs,
            |job| job.job.as_str(),
            |state, _, _| jobs.iter().map(|job| state.ledger.standing(job)).collect(),
        );
        asked.boxed()
    }

    fn withdraw<'a>(&'a self, term: Term, jobs: &'a [JobName]) -> BoxFuture<'a, Result<(), LockError>> {
        let withdrawn = self.with_good_data(
            Operation::Withdraw,
            BadData::Other,
            jobs,
            JobName::as_str,
            move |state, _, _| {
                jobs.iter().for_each(|job| state.ledger.withdraw(term, job));
            },
        );
        withdrawn.boxed()
    }

    fn prove(&self, proof: Proof) -> BoxFuture<'_, Result<Proved, LockError>> {
        let Proof { term, overdue_since, undecided_since } = proof;
        let proved = self.with_session(Operation::Prove, move |state, _, now| {
            let leads = state.leader.map(|leader| leader.term);
            if let Some(term) = term {
                state.said = Some((term, overdue_since));
            }
            if term.is_some() && term == leads {
                state.decided = Some(undecided_since.unwrap_or(now));
            }
            let said = state.said.filter(|(term, _)| Some(*term) == leads);
            let decided_ago = state.decided.map(|decided| (now - decided).to_std().unwrap_or_default());
            Proved::new(said.and_then(|(_, since)| since), decided_ago)
        });
        proved.boxed()
    }

    fn claim<'a>(&'a self, requests: &'a [ClaimRequest]) -> BoxFuture<'a, Result<Vec<Verdict>, LockError>> {
        let claimed = self.with_good_data(
            Operation::Claim,
            BadData::Claim,
            requests,
            |asked| asked.job.as_str(),
            |state, session, now| {
                let claim = |request: &ClaimRequest| {
                    let locked = state.is_locked(request.key.as_str())
                        || ((request.tick.is_some() || request.retake)
                            && state.is_locked(request.job.as_str()));
                    match locked && !request.settle {
                        true => Verdict::Locked { holder: None },
                        false => state.ledger.claim(now, session, request),
                    }
                };
                requests.iter().map(claim).collect()
            },
        );
        claimed.boxed()
    }

    fn complete<'a>(&'a self, ends: &'a [Completion]) -> BoxFuture<'a, Result<Vec<Completed>, LockError>> {
        let completed = self.with_good_data(
            Operation::Complete,
            BadData::End,
            ends,
            |end| end.job.as_str(),
            |state, session, now| {
                let complete = |end: &Completion| match state.is_locked(end.key.as_str())
                    || state.is_locked(end.job.as_str())
                {
                    true => Completed::Locked,
                    false => state.ledger.complete(now, session, end),
                };
                ends.iter().map(complete).collect()
            },
        );
        completed.boxed()
    }

    fn release<'a>(&'a self, ends: &'a [Completion]) -> BoxFuture<'a, Result<Vec<Completed>, LockError>> {
        self.with_session(Operation::Complete, |state, session, now| {
            // Of the end itself nothing is kept.
            let plain =
                |end: &Completion| Completion { pause_after: None, from_completion: false, ..end.clone() };
            let release = |end: &Completion| match state.is_locked(end.key.as_str()) {
                true => Completed::Locked,
                false => state.ledger.complete(now, session, &plain(end)),
            };
            ends.iter().map(release).collect()
        })
        .boxed()
    }

    fn advance<'a>(&'a self, moves: &'a [CursorMove]) -> BoxFuture<'a, Result<Vec<Moved>, LockError>> {
        let moved = self.with_good_data(
            Operation::Advance,
            BadData::Move,
            moves,
            |asked| asked.job.as_str(),
            |state, session, now| {
                let advance = |asked: &CursorMove| match state.is_locked(asked.job.as_str()) {
                    true => Moved::Locked,
                    false => state.ledger.advance(session, asked, now),
                };
                moves.iter().map(advance).collect()
            },
        );
        moved.boxed()
    }

    fn pause<'a>(
        &'a self,
        jobs: &'a [JobName],
        pause: Option<&'a Pause>,
    ) -> BoxFuture<'a, Result<Vec<bool>, LockError>> {
        let paused = self.with_good_data(
            Operation::Pause,
            BadData::Pause,
            jobs,
            JobName::as_str,
            move |state, _, now| {
                // Somebody else has it locked all the time.
                if jobs.iter().any(|job| state.is_locked(job.as_str())) {
                    return Err(LockError::Timeout);
                }
                Ok(jobs.iter().map(|job| state.ledger.pause(now, job, pause)).collect())
            },
        );
        paused.map(|paused| paused.and_then(|paused| paused)).boxed()
    }

    fn news(&self, session: Session) -> BoxFuture<'_, News> {
        async move {
            loop {
                // Before the look: what comes in between wakes it.
                let told = self.store.told.notified();
                self.connected().await;
                let (news, silent, refused) = {
                    let mut state = self.store.lock();
                    let refused = state.refused.get(&Operation::Notification).cloned();
                    (state.take_news(self.node, session), state.silent, refused)
                };
                if let (Some(_), Some(reason)) = (&news, refused) {
                    resume_unwind(Box::new(reason));
                }
                match news {
                    Some(_) if silent => {}
                    Some(news) => return news,
                    None => told.await,
                }
            }
        }
        .boxed()
    }

    /// Without latency and faults, which are for the calls that decide something.
    fn other_zone_data(&self) -> BoxFuture<'_, Result<Vec<OtherZoneData>, LockError>> {
        async move {
            self.connected().await;
            let own = self.zone_data();
            let mut state = self.store.lock();
            state.expire(Instant::now());
            let sessions: BTreeMap<_, _> = state.sessions.iter().collect();
            let mut others: BTreeMap<Arc<str>, NodeId> = BTreeMap::new();
            for (node, session) in sessions {
                if !session.zone_data.is_empty() && session.zone_data != own {
                    others.entry(session.zone_data.clone()).or_insert(*node);
                }
            }
            let others = others.into_iter().take(OTHER_ZONE_DATA_MAX);
            Ok(others.map(|(version, node)| OtherZoneData { version, node }).collect())
        }
        .boxed()
    }

    fn close_lost(&self, limit: usize) -> BoxFuture<'_, Result<ClosedRuns, LockError>> {
        self.with_session(Operation::CloseLost, move |state, _, now| state.ledger.close_lost(now, limit))
            .boxed()
    }

    fn hold<'a>(&'a self, jobs: &'a [JobName], _: Duration) -> BoxFuture<'a, Result<(), LockError>> {
        self.with_session(Operation::Hold, move |state, _, _| {
            jobs.iter().for_each(|job| state.ledger.hold(job))
        })
        .boxed()
    }

    fn forget(&self, term: Term, after: Duration) -> BoxFuture<'_, Result<Forgotten, LockError>> {
        self.with_session(Operation::Forget, move |state, _, now| state.ledger.forget(now, term, after))
            .boxed()
    }

    fn debts(&self, after: Option<RunId>, limit: usize) -> BoxFuture<'_, Result<Vec<Debt>, LockError>> {
        self.with_session(Operation::Debts, move |state, _, _| state.ledger.debts(after, limit)).boxed()
    }
}

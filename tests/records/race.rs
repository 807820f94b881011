//! Three nodes over records that lose answers, with sessions and terms that are killed by chance, and an auditor.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use callsheet::{
    FencingToken, JobName, LockKey, NodeId, RunId, Term,
    port::{
        Authority, Backend, Campaign, ClaimRequest, Completed, Completion, Enrolled, Enrolment, Locker,
        RecordLimits, ScheduleIdentity, Session, Skips, TickClaim, Verdict,
    },
    testkit::{MemoryRecords, VirtualClock},
};
use callsheet_actors::{FireTime, Outcome, RunIds, adapter::RecordsBackend};
use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::{Instant, sleep};

use crate::{
    client::{Broken, Chance, Client},
    least,
};

const JOBS: u64 = 40;
/// So many of them share keys, of which there are so many.
const SHARING: u64 = 16;
const SHARED_KEYS: u64 = 4;
const LEASE: Duration = Duration::from_millis(600);
/// How long a race takes, in virtual time.
const LONG: Duration = Duration::from_secs(25);
const BATCH: u64 = 8;

/// Holds what nodes were answered against what the cluster promises.
#[derive(Default)]
struct Audit {
    violations: Vec<String>,
    dead: Arc<Mutex<HashSet<u64>>>,
    newest_term: u64,
    ticks: HashMap<(JobName, FireTime), RunId>,
    tokens: HashMap<(LockKey, FencingToken), RunId>,
    /// The newest token that was answered for a key.
    newest: HashMap<LockKey, FencingToken>,
    /// The run that was answered to have a key, its session, and whether its end was asked for.
    holders: HashMap<LockKey, (RunId, u64, bool)>,
    granted: usize,
    takeovers: usize,
}

/// What was known when a claim was asked for, for the first time.
struct Asked {
    dead: bool,
    newest_term: u64,
    newest: Option<FencingToken>,
}

impl Audit {
    fn is_dead(&self, session: u64) -> bool {
        self.dead.lock().expect("nobody panicked").contains(&session)
    }

    fn asked(&self, session: Session, key: &LockKey) -> Asked {
        let newest = self.newest.get(key).copied();
        Asked { dead: self.is_dead(session.0), newest_term: self.newest_term, newest }
    }

    fn granted(&mut self, session: Session, request: &ClaimRequest, token: FencingToken, asked: &Asked) {
        let ClaimRequest { job, key, run, tick, .. } = request;
        self.granted += 1;
        let mut found = Vec::new();
        if asked.dead {
            found.push(format!("{job}: granted to session {} that was dead when it asked", session.0));
        }
        if let Some(TickClaim { fire_time, authority, .. }) = tick {
            if let Authority::Term(Term(term)) = authority
                && *term < asked.newest_term
            {
                found.push(format!("{job}: granted to term {term} after term {}", asked.newest_term));
            }
            let before = self.ticks.insert((job.clone(), *fire_time), *run);
            if before.is_some_and(|before| before != *run) {
                found.push(format!("{job}: the tick {fire_time:?} was granted twice"));
            }
        }
        let before = self.tokens.insert((key.clone(), token), *run);
        if before.is_some_and(|before| before != *run) {
            found.push(format!("{key}: the token {token} was granted twice"));
        }
        if let Some((holder, of, ended)) = self.holders.get(key).filter(|(holder, ..)| holder != run)
            && !ended
            && !self.is_dead(*of)
            && self.newest.get(key).is_some_and(|newest| *newest < token)
        {
            found.push(format!("{key}: the run {holder} of session {of}, which lives, was robbed"));
        }
        let again = self.holders.get(key).is_some_and(|(holder, ..)| holder == run);
        if !again && asked.newest.is_some_and(|newest| token <= newest) {
            found.push(format!("{key}: the token {token} is not greater than {:?}", asked.newest));
        }
        if self.newest.get(key).is_none_or(|newest| *newest < token) {
            self.newest.insert(key.clone(), token);
            self.holders.insert(key.clone(), (*run, session.0, false));
        }
        self.violations.extend(found);
    }

    fn ending(&mut self, key: &LockKey, run: RunId) {
        if let Some(holder) = self.holders.get_mut(key).filter(|holder| holder.0 == run) {
            holder.2 = true;
        }
    }
}

/// One node: it claims, ends, and asks again after answers that were lost.
struct Node {
    backend: RecordsBackend,
    audit: Arc<Mutex<Audit>>,
    clock: VirtualClock,
    chance: Chance,
    ids: RunIds,
    session: Option<Session>,
    term: Option<Term>,
    cursors: HashMap<JobName, DateTime<Utc>>,
    /// Runs that were granted, and claims that were not answered.
    held: Vec<(ClaimRequest, FencingToken)>,
    doubtful: Vec<(ClaimRequest, Asked)>,
}

fn job(number: u64) -> (JobName, LockKey) {
    let job = JobName::new(format!("job-{number}")).expect("a name");
    let key = match number < SHARING {
        true => LockKey::new(format!("key-{}", number % SHARED_KEYS)).expect("a key"),
        false => LockKey::from(&job),
    };
    (job, key)
}

impl Node {
    fn audit(&self) -> std::sync::MutexGuard<'_, Audit> {
        self.audit.lock().expect("nobody panicked")
    }

    async fn run(mut self, until: Instant) {
        let locker = self.backend.locker();
        while Instant::now() < until {
            let Some(session) = self.session else {
                self.session = locker.open().await.ok();
                (self.term, self.held, self.doubtful) = (None, Vec::new(), Vec::new());
                sleep(Duration::from_millis(5)).await;
                continue;
            };
            if !locker.trusts(session) {
                self.session = None;
                continue;
            }
            match self.chance.roll(12) {
                0 => self.lead().await,
                1 => self.enrol(&*locker).await,
                2 => drop(locker.close_lost(20).await),
                3..=5 => self.end(&*locker).await,
                6 => self.ask_again(&*locker, session).await,
                _ => self.claim(&*locker, session).await,
            }
            sleep(Duration::from_millis(self.chance.roll(4))).await;
        }
    }

    async fn lead(&mut self) {
        let elector = self.backend.elector();
        match self.term {
            Some(term) => {
                if !matches!(elector.renew(term).await, Ok(callsheet::port::Renewal::Renewed)) {
                    // It goes on for a while, as a leader does that does not know.
                    self.term = Some(term).filter(|_| self.chance.roll(3) > 0);
                }
            }
            None => {
                if let Ok(Campaign::Won(grant)) = elector.campaign(Duration::ZERO).await {
                    let mut audit = self.audit();
                    if grant.term.0 <= audit.newest_term {
                        audit.violations.push(format!("the term {} was granted late", grant.term));
                    }
                    audit.newest_term = grant.term.0;
                    audit.takeovers += 1;
                    drop(audit);
                    self.term = Some(grant.term);
                }
            }
        }
    }

    fn authority(&mut self) -> Authority {
        match self.term {
            Some(term) if self.chance.roll(4) > 0 => Authority::Term(term),
            Some(_) | None => Authority::Any,
        }
    }

    async fn enrol(&mut self, locker: &dyn Locker) {
        let authority = self.authority();
        let first = self.chance.roll(JOBS);
        let jobs: Vec<_> = (first..first + BATCH)
            .map(|number| {
                let (job, key) = job(number % JOBS);
                let mut enrolment = Enrolment::new(job, ScheduleIdentity::of_text("a schedule"), authority);
                enrolment.key = key;
                enrolment
            })
            .collect();
        let Ok(enrolled) = locker.enrol(&jobs).await else { return };
        for (enrolment, enrolled) in jobs.into_iter().zip(enrolled) {
            if let Enrolled::Done { cursor, .. } = enrolled {
                self.cursors.insert(enrolment.job, cursor);
            }
        }
    }

    fn request(&mut self, number: u64) -> Option<ClaimRequest> {
        let (job, key) = job(number);
        let run = self.ids.next(callsheet::port::Clock::now(&self.clock));
        let expected = *self.cursors.get(&job)?;
        let fire_time = FireTime::new(expected + TimeDelta::milliseconds(1));
        let authority = self.authority();
        let tick = TickClaim { fire_time, expected, skips: Skips::default(), authority };
        Some(ClaimRequest { tick: Some(tick), ..ClaimRequest::new(job, key, run) })
    }

    async fn claim(&mut self, locker: &dyn Locker, session: Session) {
        let first = self.chance.roll(JOBS);
        let requests: Vec<_> =
            (first..first + BATCH).filter_map(|number| self.request(number % JOBS)).collect();
        let asked = requests.into_iter().map(|request| {
            let asked = self.audit().asked(session, &request.key);
            (request, asked)
        });
        let asked = asked.collect();
        self.ask(locker, session, asked).await;
    }

    async fn ask_again(&mut self, locker: &dyn Locker, session: Session) {
        let mut requests = std::mem::take(&mut self.doubtful);
        let recheck = self.chance.roll(2) == 0;
        requests.iter_mut().for_each(|(request, _)| request.recheck |= recheck);
        self.ask(locker, session, requests).await;
    }

    async fn ask(&mut self, locker: &dyn Locker, session: Session, asked: Vec<(ClaimRequest, Asked)>) {
        let requests: Vec<_> = asked.iter().map(|(request, _)| request.clone()).collect();
        let Ok(verdicts) = locker.claim(&requests).await else {
            self.doubtful.extend(asked);
            return;
        };
        for ((request, asked), verdict) in asked.into_iter().zip(verdicts) {
            match verdict {
                Verdict::Granted { token, .. } => {
                    self.audit().granted(session, &request, token, &asked);
                    if let Some(tick) = request.tick {
                        self.cursors.insert(request.job.clone(), tick.fire_time.instant());
                    }
                    self.held.push((request, token));
                }
                Verdict::AlreadyRun { cursor, .. } | Verdict::Elsewhere { cursor } => {
                    self.cursors.insert(request.job, cursor);
                }
                Verdict::Deposed { .. } => self.term = None,
                _ => {}
            }
        }
    }

    async fn end(&mut self, locker: &dyn Locker) {
        let ends: Vec<_> = self.held.drain(..).collect();
        let completion = |(request, token): &(ClaimRequest, FencingToken)| {
            let ClaimRequest { job, key, run, .. } = request.clone();
            Completion::new(job, key, run, *token, Outcome::Succeeded)
        };
        let asked: Vec<_> = ends.iter().map(completion).collect();
        asked.iter().for_each(|end| self.audit().ending(&end.key, end.run));
        match locker.complete(&asked).await {
            Ok(answers) => {
                let open = ends.into_iter().zip(answers).filter(|(_, answer)| *answer == Completed::Locked);
                self.held.extend(open.map(|(end, _)| end));
            }
            Err(_) => self.held.extend(ends),
        }
    }
}

async fn race(seed: u64, broken: Broken, limits: Option<RecordLimits>) -> Audit {
    let clock = VirtualClock::starting_at("2026-01-01T00:00:00Z".parse().expect("an instant"));
    let store = MemoryRecords::new(Arc::new(clock.clone()));
    let dead = Arc::new(Mutex::new(HashSet::new()));
    let audit = Arc::new(Mutex::new(Audit { dead: dead.clone(), ..Audit::default() }));
    let until = Instant::now() + LONG;
    let mut clients = Vec::new();
    let mut tasks = Vec::new();
    for number in 1..=3 {
        let client =
            Arc::new(Client::faulty(store.clone(), limits.clone(), seed * 10 + number, broken, dead.clone()));
        let backend = RecordsBackend::new(client.clone(), "race", LEASE);
        backend.set_clock(Arc::new(clock.another()));
        clients.push(client);
        let node = Node {
            backend,
            audit: audit.clone(),
            clock: clock.another(),
            chance: Chance(seed * 100 + number),
            ids: RunIds::of(NodeId::numbered(number.into())),
            session: None,
            term: None,
            cursors: HashMap::new(),
            held: Vec::new(),
            doubtful: Vec::new(),
        };
        tasks.push(tokio::spawn(node.run(until)));
    }
    let mut chance = Chance(seed);
    while Instant::now() < until {
        sleep(Duration::from_millis(50 + chance.roll(400))).await;
        let client = &clients[usize::try_from(chance.roll(3)).expect("small")];
        // The newest ones: the session of a term, or that of a node.
        let opened = client.opened();
        let newest = opened.len().saturating_sub(1 + usize::try_from(chance.roll(2)).expect("small"));
        if let Some(session) = opened.get(newest) {
            store.expire(*session);
            dead.lock().expect("nobody panicked").insert(session.0);
        }
    }
    for task in tasks {
        task.await.expect("the node goes on to the end");
    }
    let audit = Arc::into_inner(audit).expect("all nodes are gone");
    audit.into_inner().expect("nobody panicked")
}

#[tokio::test(start_paused = true)]
async fn no_tick_and_no_token_is_granted_twice_and_no_living_holder_is_robbed() {
    for seed in 1..=3 {
        let audit = race(seed, Broken::Nothing, None).await;

        assert_eq!(audit.violations, Vec::<String>::new(), "seed {seed}");
        assert!(audit.granted > 500 && audit.takeovers > 10, "{} {}", audit.granted, audit.takeovers);
    }
}

#[tokio::test(start_paused = true)]
async fn so_it_is_where_each_unit_is_a_commit_of_its_own() {
    for seed in 1..=3 {
        let audit = race(seed, Broken::Nothing, least()).await;

        assert_eq!(audit.violations, Vec::<String>::new(), "seed {seed}");
        assert!(audit.granted > 100 && audit.takeovers > 10, "{} {}", audit.granted, audit.takeovers);
    }
}

#[tokio::test(start_paused = true)]
async fn the_race_finds_a_compare_that_is_left_out() {
    for broken in [Broken::Leader, Broken::Session, Broken::Versions] {
        let audit = race(1, broken, None).await;

        assert_ne!(audit.violations, Vec::<String>::new(), "{broken:?}");
    }
}

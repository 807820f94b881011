//! The rules of claims, as a value in memory: cursors, keys, tokens and open runs.
//!
//! The embedded backend is this behind a mutex; the shared store of the test kit adds sessions that die, terms that
//! change hands, and faults. An adapter to a database enforces the same rules in its statements.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
// A claim and its end look a dozen times into a map. The hash of the standard library would be a tenth of
// their cost.
use foldhash::HashMap;
use uuid::Uuid;

use crate::{
    core::{
        policy::{LOSSES_MAX, Overlap, PENDING_RETRIES_MAX},
        time::FireTime,
    },
    event::Outcome,
    name::{FencingToken, JobName, LockKey, RunId, Term},
    port::{
        AGES_AT_MOST, Advanced, Authority, ClaimRequest, ClosedRuns, Completed, Completion, CursorAdvance,
        Declaration, Enrolled, Enrolment, Forgotten, Inquiry, LeaderView, LostRun, Notification, Pause,
        PendingRetry, PendingRetryOfJob, ScheduleIdentity, Session, Skips, StoredState, TickClaim, Verdict,
    },
};

/// The most withdrawn jobs whose cursors are kept.
pub const WITHDRAWN_MAX: usize = 10_000;

/// The most ended runs, and as many lost ones, that are remembered, so that a repeated completion or claim is recognised.
pub const CLOSED_MAX: usize = 4_096;

/// The most notifications that wait for a session; beyond it the oldest are dropped, and the session is told so.
pub const NOTIFICATIONS_MAX: usize = 1_024;

/// How long an enrolment takes to the store at most.
const WAY_MAX: Duration = Duration::from_secs(5);

/// The cursor of a job that was never enrolled.
const NEVER: DateTime<Utc> = DateTime::<Utc>::MIN_UTC;

/// A change of the ledger, for those who audit it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A job was enrolled, and its cursor was set to a new instant; or only the identity of its schedule is another one,
    /// of another version.
    Enrolled {
        /// The job.
        job: JobName,
        /// Its cursor.
        cursor: DateTime<Utc>,
        /// The schedule by which its ticks count from then on.
        schedule: ScheduleIdentity,
    },
    /// A cursor moved over ticks; the last of them was claimed if there is a run.
    Advanced {
        /// The job.
        job: JobName,
        /// The cursor before.
        from: DateTime<Utc>,
        /// The cursor after.
        to: FireTime,
        /// The ticks between that do not run.
        skips: Skips,
        /// The run of the tick at `to`.
        run: Option<RunId>,
        /// The session that moved it.
        session: Session,
    },
    /// A cursor moved to the end of a run; ticks between do not count.
    Anchored {
        /// The job.
        job: JobName,
        /// The cursor before.
        from: DateTime<Utc>,
        /// The cursor after.
        to: DateTime<Utc>,
    },
    /// A run that was lost goes on.
    LostResumed {
        /// The run.
        run: RunId,
    },
    /// A run ended.
    Closed {
        /// The run.
        run: RunId,
        /// How.
        outcome: Outcome,
    },
}

#[derive(Debug)]
struct JobRow {
    cursor: DateTime<Utc>,
    /// `None` for a row that is only there for its pause.
    schedule: Option<ScheduleIdentity>,
    /// The run of the tick at the cursor.
    run: Option<RunId>,
    /// The newest move of the cursor over ticks that nobody ran.
    newest_advance: Option<Uuid>,
    /// The term under which it was last enrolled, if it was under one.
    term: Option<Term>,
    withdrawn: bool,
    /// How many of its ticks were granted, since it was enrolled for the first time, or added again after it was withdrawn.
    runs: u64,
    pause: Option<Box<Pause>>,
    /// How many of its last runs in a row failed.
    failures: u32,
    /// A run that is lost is retried.
    retry_lost: bool,
    /// The cursor moves to the end of a run that is lost.
    from_completion: bool,
    /// How old the ledger was when the job was last enrolled, kept or withdrawn.
    held: Duration,
    /// Its pending retries, in the order of the runs.
    pending_retries: VecDeque<PendingRetry>,
}

/// How many bytes a ledger takes for a job, besides its name.
#[cfg(any(test, feature = "testkit"))]
pub(crate) const ROW_BYTES: usize = size_of::<JobRow>();

impl JobRow {
    fn new(cursor: DateTime<Utc>, schedule: Option<ScheduleIdentity>, term: Option<Term>) -> Self {
        Self {
            cursor,
            schedule,
            run: None,
            newest_advance: None,
            term,
            withdrawn: false,
            runs: 0,
            pause: None,
            failures: 0,
            retry_lost: false,
            from_completion: false,
            held: Duration::ZERO,
            pending_retries: VecDeque::new(),
        }
    }

    /// Its schedule is known to be another one, or it had none.
    fn has_other(&self, schedule: ScheduleIdentity) -> bool {
        self.schedule.is_none_or(|own| own.differs_from(schedule))
    }

    /// Adds a pending retry: whether it is still there once the oldest beyond the bound are dropped.
    fn add_retry(&mut self, retry: PendingRetry) -> bool {
        let at = self.pending_retries.partition_point(|pending| pending.run < retry.run);
        self.pending_retries.insert(at, retry);
        let dropped = self.pending_retries.len().saturating_sub(PENDING_RETRIES_MAX);
        self.pending_retries.drain(..dropped);
        at >= dropped
    }

    /// The pause that is not over.
    fn pause(&self, now: DateTime<Utc>) -> Option<&Pause> {
        self.pause.as_deref().filter(|pause| lasts(pause, now))
    }

    fn stored(&self, now: DateTime<Utc>) -> Box<StoredState> {
        let pending_retries = self.pending_retries.iter().copied().collect();
        Box::new(StoredState { pause: self.pause(now).cloned(), failures: self.failures, pending_retries })
    }
}

/// Why an authority decides nothing.
enum Barred {
    /// The term is not the newest one, or is over.
    Deposed(Term),
    /// The leader schedules the job.
    HasLeader,
}

/// Who declares an overlap policy for a key.
#[derive(Debug)]
struct Declared {
    overlap: Overlap,
    /// The newest term under which it is, and the session that holds the term.
    term: Option<(Term, Session)>,
    /// The sessions that declare it without a term.
    by: Vec<Session>,
}

impl Declared {
    fn retract(&mut self, session: Session) {
        self.by.retain(|by| *by != session);
        self.term.take_if(|(_, by)| *by == session);
    }
}

#[derive(Debug)]
struct OpenRun {
    session: Session,
    job: JobName,
    key: LockKey,
    token: FencingToken,
    fire_time: Option<FireTime>,
    /// How often it was lost before.
    losses: u32,
}

/// Cursors, keys, tokens and open runs.
#[derive(Debug, Default)]
pub struct Ledger {
    newest: u64,
    /// The newest term has not ended.
    led: bool,
    /// The sessions that live, and what they are to be told.
    live: HashMap<Session, VecDeque<Notification>>,
    /// Somebody is to be told something new.
    told: bool,
    sessions: u64,
    jobs: HashMap<JobName, JobRow>,
    withdrawn: VecDeque<JobName>,
    /// Held keys only: one counter of tokens for all keys grows for each of them.
    keys: HashMap<LockKey, RunId>,
    /// Several nodes share it: policies of keys are declared. One node alone contradicts nobody.
    shared: bool,
    declared: HashMap<LockKey, Declared>,
    tokens: u64,
    /// For how long somebody has led, and up to when that was counted.
    age: Duration,
    aged_at: Option<DateTime<Utc>>,
    /// The newest cursor that was forgotten.
    cursor_bound: Option<DateTime<Utc>>,
    open: HashMap<RunId, OpenRun>,
    /// The newest ends, by run and token.
    closed: VecDeque<(RunId, FencingToken)>,
    /// The runs that were lost last.
    lost: VecDeque<RunId>,
    records: Option<Vec<Record>>,
}

impl Ledger {
    /// An empty ledger of several nodes that keeps a record of every change. Unbounded: for tests.
    pub fn audited() -> Self {
        Self { records: Some(Vec::new()), shared: true, ..Self::default() }
    }

    /// Every change so far, if the ledger is audited.
    pub fn records(&self) -> &[Record] {
        self.records.as_deref().unwrap_or_default()
    }

    /// Opens a session.
    pub fn open_session(&mut self) -> Session {
        self.sessions += 1;
        let session = Session(self.sessions);
        self.live.insert(session, VecDeque::new());
        session
    }

    /// Ends a session: what it holds can be taken over.
    pub fn end_session(&mut self, session: Session) {
        self.live.remove(&session);
    }

    /// Whether a session is alive.
    pub fn is_live(&self, session: Session) -> bool {
        self.live.contains_key(&session)
    }

    /// Grants a term greater than every one before; claims of older ones are refused from now on.
    pub fn grant_term(&mut self) -> Term {
        self.newest += 1;
        self.led = true;
        Term(self.newest)
    }

    /// Ends a term, if it is the newest.
    pub fn end_term(&mut self, term: Term) {
        self.led &= term.0 != self.newest;
    }

    /// Whether claims of this term are granted.
    pub fn is_led(&self, term: Term) -> bool {
        self.led && term.0 == self.newest
    }

    fn check_authority(&self, job: &JobName, authority: Authority) -> Result<(), Barred> {
        match authority {
            Authority::Term(term) if self.is_led(term) => Ok(()),
            Authority::Term(_) => Err(Barred::Deposed(Term(self.newest))),
            Authority::Any => Ok(()),
            Authority::Leaderless if self.led && self.of_newest_term(job).is_some() => Err(Barred::HasLeader),
            Authority::Leaderless => Ok(()),
        }
    }

    /// The row of a job that the newest term schedules.
    fn of_newest_term(&self, job: &JobName) -> Option<&JobRow> {
        self.jobs.get(job).filter(|row| row.term == Some(Term(self.newest)) && !row.withdrawn)
    }

    /// Begins to schedule a job for `session`: marks it with the term, if it is by one.
    pub fn enrol(&mut self, now: DateTime<Utc>, session: Session, job: &Enrolment) -> Enrolled {
        match self.check_authority(&job.job, job.authority) {
            Ok(()) => {}
            Err(Barred::Deposed(term)) => return Enrolled::Deposed { term },
            Err(Barred::HasLeader) => return Enrolled::HasLeader,
        }
        let term = job.authority.term();
        if let Err(declared) = self.declare(session, job) {
            if let Some(row) = self.jobs.get_mut(&job.job) {
                row.term.take_if(|marked| Some(*marked) == term);
            }
            return Enrolled::Conflict { declared: declared.to_string() };
        }
        let schedule = Some(job.schedule);
        // No tick of a job that was forgotten counts again.
        let way = job.asked_at.and_then(|asked_at| (now - asked_at).to_std().ok()).unwrap_or_default();
        let known_since = before(now, job.known_for.saturating_add(way.min(WAY_MAX)));
        let since = known_since.max(self.cursor_bound.unwrap_or(NEVER));
        let age = self.age;
        let row = self.jobs.get_mut(&job.job);
        let (cursor, stored) = match row {
            Some(row) if !row.withdrawn && !row.has_other(job.schedule) => {
                let replaced = std::mem::replace(&mut row.schedule, schedule) != schedule;
                row.term = term.or(row.term);
                row.held = age;
                (row.retry_lost, row.from_completion) = (job.retry_lost, job.from_completion);
                if !job.retry_lost {
                    row.pending_retries.clear();
                }
                let (cursor, stored) = (row.cursor, row.stored(now));
                if replaced {
                    self.record(|| Record::Enrolled { job: job.job.clone(), cursor, schedule: job.schedule });
                }
                return Enrolled::Done { cursor, stored };
            }
            Some(row) => {
                // The ticks of a new or changed job count since then, and its cursor never goes back.
                let mut fresh = JobRow::new(row.cursor.max(since), schedule, term);
                fresh.held = age;
                fresh.newest_advance = row.newest_advance;
                fresh.pause = row.pause.take();
                // A copy that was there before the last tick is the same job; one that was added later begins again.
                if !row.withdrawn || known_since <= row.cursor {
                    fresh.runs = row.runs;
                }
                if !row.withdrawn {
                    fresh.failures = row.failures;
                    if job.retry_lost {
                        fresh.pending_retries = std::mem::take(&mut row.pending_retries);
                    }
                }
                (fresh.retry_lost, fresh.from_completion) = (job.retry_lost, job.from_completion);
                *row = fresh;
                (row.cursor, row.stored(now))
            }
            None => {
                let mut row = JobRow::new(since, schedule, term);
                row.held = age;
                (row.retry_lost, row.from_completion) = (job.retry_lost, job.from_completion);
                self.jobs.insert(job.job.clone(), row);
                (since, Box::default())
            }
        };
        self.record(|| Record::Enrolled { job: job.job.clone(), cursor, schedule: job.schedule });
        Enrolled::Done { cursor, stored }
    }

    /// Declares the policy of a job's key, unless somebody else who lives declares another one: that is the error.
    fn declare(&mut self, session: Session, job: &Enrolment) -> Result<(), Overlap> {
        if !self.shared {
            return Ok(());
        }
        let others = self.others_declare(session, &job.key);
        let new = || Declared { overlap: job.overlap, term: None, by: Vec::new() };
        let declared = self.declared.entry(job.key.clone()).or_insert_with(new);
        if declared.overlap != job.overlap && others {
            declared.retract(session);
            return Err(declared.overlap);
        }
        declared.overlap = job.overlap;
        declared.by.retain(|by| self.live.contains_key(by));
        match job.authority.term() {
            Some(term) => declared.term = Some((term, session)),
            None if declared.by.contains(&session) => {}
            None => declared.by.push(session),
        }
        Ok(())
    }

    /// Somebody else who lives declares a policy for the key.
    fn others_declare(&self, session: Session, key: &LockKey) -> bool {
        let Some(declared) = self.declared.get(key) else { return false };
        declared.by.iter().any(|by| *by != session && self.is_live(*by))
            || declared.term.is_some_and(|(term, by)| by != session && self.is_led(term))
    }

    /// The other policy that somebody else who lives declares for the key of a job that the leader does not schedule.
    pub fn conflict(&self, session: Session, asked: &Declaration) -> Option<Overlap> {
        let declared = self.declared.get(&asked.key).filter(|declared| declared.overlap != asked.overlap)?;
        let by_leader = declared.term.is_some_and(|(term, by)| by != session && self.is_led(term));
        let scheduled = by_leader && self.of_newest_term(&asked.job).is_some();
        (!scheduled && self.others_declare(session, &asked.key)).then_some(declared.overlap)
    }

    /// A session declares no policy for a key any more.
    pub fn retract(&mut self, session: Session, key: &LockKey) {
        if let Some(declared) = self.declared.get_mut(key) {
            declared.retract(session);
            if declared.by.is_empty() && declared.term.is_none() {
                self.declared.remove(key);
            }
        }
    }

    /// What the leader does with a job.
    pub fn standing(&self, Inquiry { job, schedule }: &Inquiry) -> LeaderView {
        match self.of_newest_term(job) {
            _ if !self.led => LeaderView::NoLeader,
            None => LeaderView::NotScheduled,
            Some(row) if row.has_other(*schedule) => LeaderView::OtherSchedule,
            Some(_) => LeaderView::Scheduled,
        }
    }

    /// Keeps the cursor of a job that the leader of `term` removed, up to a bound.
    pub fn withdraw(&mut self, term: Term, job: &JobName) {
        if !self.is_led(term) {
            return;
        }
        let Some(row) = self.jobs.get_mut(job) else { return };
        row.pending_retries.clear();
        row.held = self.age;
        if !std::mem::replace(&mut row.withdrawn, true) {
            self.keep_withdrawn(job);
        }
    }

    /// Forgets the job that was withdrawn first once there are too many.
    fn keep_withdrawn(&mut self, job: &JobName) {
        self.withdrawn.push_back(job.clone());
        if self.withdrawn.len() > WITHDRAWN_MAX
            && let Some(oldest) = self.withdrawn.pop_front()
            && self.jobs.get(&oldest).is_some_and(|row| row.withdrawn)
        {
            self.drop_job(&oldest);
        }
    }

    fn drop_job(&mut self, job: &JobName) {
        let cursor = self.jobs.remove(job).map(|row| row.cursor);
        self.cursor_bound = self.cursor_bound.max(cursor);
    }

    /// A node has a job: its name is not to be forgotten, unless it was withdrawn.
    pub fn keep_name(&mut self, job: &JobName) {
        if let Some(row) = self.jobs.get_mut(job).filter(|row| !row.withdrawn) {
            row.held = self.age;
        }
    }

    /// Forgets, as the leader of `term`, what was withdrawn or held by nobody for so long, while somebody led.
    pub fn forget(&mut self, now: DateTime<Utc>, term: Term, after: Duration) -> Forgotten {
        if !self.is_led(term) {
            return Forgotten::default();
        }
        let since = self.aged_at.replace(now).map_or(now, |at| at.min(now));
        self.age += (now - since).to_std().unwrap_or_default().min(AGES_AT_MOST);
        let oldest = self.age.saturating_sub(after);
        let busy: HashSet<&str> =
            self.open.values().flat_map(|run| [run.job.as_str(), run.key.as_str()]).collect();
        let goes = |job: &JobName| {
            let row = self.jobs.get(job)?;
            let declared = LockKey::from(job);
            let stored = row.held >= oldest
                || row.pause(now).is_some()
                || !row.pending_retries.is_empty()
                || busy.contains(job.as_str())
                || self.is_declared(&declared);
            (!stored && self.age >= after).then(|| job.clone())
        };
        // One node alone holds all that it did not withdraw.
        let goes: Vec<JobName> = match self.shared {
            true => self.jobs.keys().filter_map(goes).collect(),
            false => self
                .withdrawn
                .iter()
                .filter(|job| self.jobs.get(*job).is_some_and(|row| row.withdrawn))
                .filter_map(goes)
                .collect(),
        };
        for job in &goes {
            self.drop_job(job);
        }
        let jobs = &self.jobs;
        self.withdrawn.retain(|job| jobs.get(job).is_some_and(|row| row.withdrawn));
        Forgotten { names: goes.len(), more: false }
    }

    /// Somebody who lives declares a policy for the key.
    fn is_declared(&self, key: &LockKey) -> bool {
        let Some(declared) = self.declared.get(key) else { return false };
        declared.by.iter().any(|by| self.is_live(*by))
            || declared.term.is_some_and(|(term, _)| self.is_led(term))
    }

    /// Pauses a job, or resumes it, and tells every session: whether that changed anything.
    pub fn pause(&mut self, now: DateTime<Utc>, job: &JobName, pause: Option<&Pause>) -> bool {
        let pause = pause.filter(|pause| lasts(pause, now));
        match self.jobs.get_mut(job) {
            Some(row) if row.pause(now) == pause => return false,
            Some(row) => {
                row.pause = pause.cloned().map(Box::new);
                if pause.is_none() {
                    row.failures = 0;
                }
            }
            None if pause.is_none() => return false,
            None => {
                // Until it is enrolled; its cursor bounds nothing.
                let mut row = JobRow::new(NEVER, None, None);
                row.withdrawn = true;
                row.pause = pause.cloned().map(Box::new);
                self.jobs.insert(job.clone(), row);
                self.keep_withdrawn(job);
            }
        }
        self.tell_all(&Notification::PauseChanged { job: job.clone(), pause: pause.cloned() });
        true
    }

    fn tell_all(&mut self, notification: &Notification) {
        self.told = true;
        self.live.values_mut().for_each(|told| tell(told, notification.clone()));
    }

    /// How many notifications wait for a session.
    pub fn waiting_notifications(&self, session: Session) -> usize {
        self.live.get(&session).map_or(0, VecDeque::len)
    }

    /// The next notification of a session.
    pub fn take_notification(&mut self, session: Session) -> Option<Notification> {
        self.live.get_mut(&session)?.pop_front()
    }

    /// Whether any session may have been notified since this was last asked.
    pub fn take_told(&mut self) -> bool {
        std::mem::take(&mut self.told)
    }

    /// Claims one run for `session`.
    pub fn claim(&mut self, now: DateTime<Utc>, session: Session, request: &ClaimRequest) -> Verdict {
        match self.open.get(&request.run) {
            Some(open) if open.session == session && open.key == request.key => {
                return Verdict::Granted { token: open.token, lost: None };
            }
            // Under a key that was not asked for; or somebody else has taken it up.
            Some(open) if open.session == session || request.resume_lost => return Verdict::NotGranted,
            // Whoever takes over closes it.
            Some(_) => return Verdict::GrantedBefore,
            None if request.recheck && self.has_ended(request.run) => return Verdict::GrantedBefore,
            None if request.recheck => return Verdict::NotGranted,
            // One node alone is not left without an answer.
            None if self.shared
                && request.tick.is_none()
                && !request.resume_lost
                && self.has_ended(request.run) =>
            {
                return Verdict::GrantedBefore;
            }
            None => {}
        }
        if let Some(tick) = &request.tick
            && let Err(verdict) = self.check_tick(now, request, tick)
        {
            return verdict;
        }
        let retry = self.retry(request);
        if request.resume_lost && retry.is_none() {
            return Verdict::NotGranted;
        }
        let lost = match self.free_key(now, request) {
            Ok(lost) => lost.map(Box::new),
            Err(holder) => {
                if request.replace {
                    self.tell_to_stop(holder);
                }
                return Verdict::Busy { holder: Some(holder) };
            }
        };

        if let Some(TickClaim { fire_time, expected, skips, .. }) = request.tick {
            if let Some(row) = self.jobs.get_mut(&request.job) {
                row.cursor = fire_time.instant();
                row.run = Some(request.run);
                row.runs += 1;
            }
            let (job, run) = (&request.job, Some(request.run));
            self.record(|| Record::Advanced {
                job: job.clone(),
                from: expected,
                to: fire_time,
                skips,
                run,
                session,
            });
        }
        let mut fire_time = request.tick.map(|tick| tick.fire_time);
        if let Some(retry) = retry {
            fire_time = retry.fire_time;
            if let Some(row) = self.jobs.get_mut(&request.job) {
                row.pending_retries.retain(|pending| pending.run != retry.run);
            }
            self.record(|| Record::LostResumed { run: retry.run });
        }
        self.tokens = u64::try_from(now.timestamp_micros()).unwrap_or_default().max(self.tokens + 1);
        let token = FencingToken(self.tokens);
        self.keys.insert(request.key.clone(), request.run);
        let losses = retry.map_or(0, |retry| retry.losses);
        let (job, key) = (request.job.clone(), request.key.clone());
        let open = OpenRun { session, job, key, token, fire_time, losses };
        self.open.insert(request.run, open);
        Verdict::Granted { token, lost }
    }

    /// It was granted before, and closed: only a pending retry says whether it goes on.
    fn has_ended(&self, run: RunId) -> bool {
        self.lost.contains(&run) || self.closed.iter().any(|(closed, _)| *closed == run)
    }

    /// The pending retry that a claim resumes.
    fn retry(&self, request: &ClaimRequest) -> Option<PendingRetry> {
        let row = self.jobs.get(&request.job).filter(|_| request.resume_lost)?;
        row.pending_retries.iter().find(|pending| pending.run == request.run).copied()
    }

    fn tell_to_stop(&mut self, run: RunId) {
        let session = self.open.get(&run).map(|open| open.session);
        if let Some(told) = session.and_then(|session| self.live.get_mut(&session)) {
            tell(told, Notification::Stop { run });
            self.told = true;
        }
    }

    fn check_tick(
        &self,
        now: DateTime<Utc>,
        request: &ClaimRequest,
        tick: &TickClaim,
    ) -> Result<(), Verdict> {
        self.check_authority(&request.job, tick.authority).map_err(|barred| match barred {
            Barred::Deposed(term) => Verdict::Deposed { term },
            Barred::HasLeader => Verdict::HasLeader,
        })?;
        if let Ok(wait) = (tick.fire_time.instant() - now).to_std()
            && !wait.is_zero()
        {
            return Err(Verdict::NotYet { wait });
        }
        let row = self.jobs.get(&request.job).filter(|row| !row.withdrawn).ok_or(Verdict::Unknown)?;
        if row.cursor != tick.expected {
            let cursor = row.cursor;
            return Err(match row.run {
                Some(run) if cursor == tick.fire_time.instant() => Verdict::AlreadyRun { run, cursor },
                _ => Verdict::Elsewhere { cursor },
            });
        }
        if let Some(pause) = row.pause(now) {
            return Err(Verdict::Paused(pause.clone()));
        }
        if request.limit.is_some_and(|limit| row.runs >= limit) {
            return Err(Verdict::Exhausted);
        }
        Ok(())
    }

    /// Takes the key from a dead holder, which is closed as lost.
    fn free_key(&mut self, now: DateTime<Utc>, request: &ClaimRequest) -> Result<Option<LostRun>, RunId> {
        let Some(holder) = self.keys.get(&request.key).copied() else { return Ok(None) };
        let Some(open) = self.open.get(&holder) else { return Ok(None) };
        if self.is_live(open.session) {
            return Err(holder);
        }
        // A tick of the job itself moves its cursor.
        let anchors = request.tick.is_none() || open.job != request.job;
        Ok(self.close_as_lost(now, holder, anchors))
    }

    /// Records the end of a run of `session` and frees its key.
    pub fn complete(&mut self, now: DateTime<Utc>, session: Session, end: &Completion) -> Completed {
        match self.open.get(&end.run) {
            Some(open) if open.session == session && open.token == end.token => {
                self.close(end.run, end.outcome);
                self.closed.push_back((end.run, end.token));
                if self.closed.len() > CLOSED_MAX {
                    self.closed.pop_front();
                }
                let pause = self.count_failure(end);
                let cursor = if end.from_completion { self.anchor(&end.job, now) } else { None };
                Completed::Recorded { cursor, pause }
            }
            Some(_) => Completed::Stale,
            None if self.closed.contains(&(end.run, end.token)) => self.recorded_before(end),
            None => Completed::Stale,
        }
    }

    /// Counts the end of a run of a job, and pauses the job if too many failed.
    fn count_failure(&mut self, end: &Completion) -> Option<Pause> {
        let row = self.jobs.get_mut(&end.job)?;
        match end.outcome {
            Outcome::Succeeded => row.failures = 0,
            Outcome::Failed | Outcome::Panicked | Outcome::TimedOut => row.failures += 1,
            Outcome::Cancelled | Outcome::Lost => return None,
        }
        let too_many = row.failures > 0 && end.pause_after.is_some_and(|most| row.failures >= most);
        let paused_for_good = row.pause.as_ref().is_some_and(|pause| pause.until.is_none());
        if !too_many || paused_for_good {
            return None;
        }
        let pause = Pause { until: None, note: Some(format!("runs that failed in a row: {}", row.failures)) };
        row.pause = Some(Box::new(pause.clone()));
        self.tell_all(&Notification::PauseChanged { job: end.job.clone(), pause: Some(pause.clone()) });
        Some(pause)
    }

    /// Moves the cursor of a job to `end`, and never back. Answers the cursor.
    fn anchor(&mut self, job: &JobName, end: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let row = self.jobs.get_mut(job).filter(|row| row.cursor > NEVER)?;
        let (from, to) = (row.cursor, whole_millis(end));
        if to > from {
            row.cursor = to;
            row.run = None;
            self.record(|| Record::Anchored { job: job.clone(), from, to });
        }
        Some(from.max(to))
    }

    fn recorded_before(&self, end: &Completion) -> Completed {
        let row = self.jobs.get(&end.job);
        let cursor = row.filter(|_| end.from_completion).map(|row| row.cursor);
        let failed = row.filter(|row| end.pause_after.is_some_and(|most| row.failures >= most));
        let pause =
            failed.and_then(|row| row.pause.as_deref().cloned()).filter(|pause| pause.until.is_none());
        Completed::Recorded { cursor, pause }
    }

    /// Moves a cursor over ticks that nobody runs.
    pub fn advance(&mut self, session: Session, asked: &CursorAdvance, now: DateTime<Utc>) -> Advanced {
        if self.jobs.get(&asked.job).is_some_and(|row| row.newest_advance == Some(asked.id)) {
            return Advanced::Done;
        }
        match self.check_authority(&asked.job, asked.authority) {
            Ok(()) => {}
            Err(Barred::Deposed(term)) => return Advanced::Deposed { term },
            Err(Barred::HasLeader) => return Advanced::HasLeader,
        }
        let due = asked.to.instant() <= now;
        match self.jobs.get_mut(&asked.job).filter(|row| !row.withdrawn) {
            None => Advanced::Unknown,
            Some(row) if due && row.cursor == asked.expected => {
                row.cursor = asked.to.instant();
                row.run = None;
                row.newest_advance = Some(asked.id);
                let CursorAdvance { job, expected: from, to, skips, .. } = asked.clone();
                self.record(|| Record::Advanced { job, from, to, skips, run: None, session });
                Advanced::Done
            }
            Some(row) => Advanced::Elsewhere { cursor: row.cursor },
        }
    }

    /// Closes up to `limit` open runs of dead sessions.
    pub fn close_lost(&mut self, now: DateTime<Utc>, limit: usize) -> ClosedRuns {
        let dead = self.open.iter().filter(|(_, open)| !self.is_live(open.session));
        let mut dead: Vec<_> = dead.map(|(run, _)| *run).take(limit).collect();
        dead.sort();
        let more = dead.len() == limit;
        let lost = dead.into_iter().filter_map(|run| self.close_as_lost(now, run, true)).collect();
        ClosedRuns { lost, more }
    }

    /// The pending retries of all jobs, in the order of their runs, up to `limit` of those `after` one.
    pub fn pending_retries(&self, after: Option<RunId>, limit: usize) -> Vec<PendingRetryOfJob> {
        let of_job = |(job, row): (&JobName, &JobRow)| {
            let job = job.clone();
            let pending_retries: Vec<_> = row
                .pending_retries
                .iter()
                .map(|retry| PendingRetryOfJob { job: job.clone(), retry: *retry })
                .collect();
            pending_retries
        };
        let mut pending_retries: Vec<_> = self.jobs.iter().flat_map(of_job).collect();
        pending_retries.retain(|pending| Some(pending.retry.run) > after);
        pending_retries.sort_by_key(|pending| pending.retry.run);
        pending_retries.truncate(limit);
        pending_retries
    }

    /// How many keys are held.
    pub fn held(&self) -> usize {
        self.keys.len()
    }

    /// The cursor of a job, or `now` for one that is not known.
    pub fn cursor_of(&self, job: &JobName, now: DateTime<Utc>) -> DateTime<Utc> {
        self.jobs.get(job).map(|row| row.cursor).filter(|cursor| *cursor > NEVER).unwrap_or(now)
    }

    fn close_as_lost(&mut self, now: DateTime<Utc>, run: RunId, anchors: bool) -> Option<LostRun> {
        let OpenRun { job, fire_time, losses, .. } = self.close(run, Outcome::Lost)?;
        self.lost.push_back(run);
        if self.lost.len() > CLOSED_MAX {
            self.lost.pop_front();
        }
        let losses = losses.saturating_add(1);
        let row = self.jobs.get_mut(&job);
        let anchors = anchors && row.as_ref().is_some_and(|row| row.from_completion);
        let retrying = row.filter(|row| row.retry_lost && !row.withdrawn && losses < LOSSES_MAX);
        let retry = retrying.and_then(|row| {
            let retry = PendingRetry { run, fire_time, losses };
            row.add_retry(retry).then_some(retry)
        });
        if let Some(retry) = retry {
            self.tell_all(&Notification::PendingRetry(PendingRetryOfJob { job: job.clone(), retry }));
        }
        if anchors {
            self.anchor(&job, now);
        }
        Some(LostRun { job, run, fire_time, retry })
    }

    fn close(&mut self, run: RunId, outcome: Outcome) -> Option<OpenRun> {
        let open = self.open.remove(&run)?;
        if self.keys.get(&open.key) == Some(&run) {
            self.keys.remove(&open.key);
        }
        self.record(|| Record::Closed { run, outcome });
        Some(open)
    }

    fn record(&mut self, record: impl FnOnce() -> Record) {
        if let Some(records) = &mut self.records {
            records.push(record());
        }
    }
}

/// Whether a pause is not over.
fn lasts(pause: &Pause, now: DateTime<Utc>) -> bool {
    pause.until.is_none_or(|until| until > now)
}

fn tell(told: &mut VecDeque<Notification>, notification: Notification) {
    told.push_back(notification);
    if told.len() > NOTIFICATIONS_MAX {
        told.pop_front();
        told[0] = Notification::Lagged;
    }
}

/// An instant rounded up to whole milliseconds.
fn whole_millis(instant: DateTime<Utc>) -> DateTime<Utc> {
    let floor = FireTime::new(instant).instant();
    if floor < instant { floor + TimeDelta::milliseconds(1) } else { floor }
}

/// The instant that was so long before `now`.
fn before(now: DateTime<Utc>, known_for: Duration) -> DateTime<Utc> {
    let known_for = TimeDelta::from_std(known_for).ok();
    known_for.and_then(|known_for| now.checked_sub_signed(known_for)).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::{NodeId, RunIds};

    #[test]
    fn of_too_many_pending_retries_the_oldest_are_dropped() {
        let now = DateTime::UNIX_EPOCH;
        let (ids, mut row) = (RunIds::of(NodeId::numbered(1)), JobRow::new(now, None, None));
        let runs: Vec<_> = (0..PENDING_RETRIES_MAX + 2).map(|_| ids.next(now)).collect();
        let retry = |run| PendingRetry { run, fire_time: None, losses: 1 };

        assert!(runs[1..].iter().all(|run| row.add_retry(retry(*run))));
        assert!(!row.add_retry(retry(runs[0])), "it is older than all");

        assert!(row.pending_retries.iter().map(|pending| pending.run).eq(runs[2..].iter().copied()));
    }
}

//! Who schedules a job, who declares a policy for its key, and what is forgotten.

use std::{collections::HashSet, time::Duration};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

use super::{Barred, Ledger, NEVER, Record, row::JobRow};
use crate::{
    core::{policy::Overlap, seldom::Seldom},
    name::{JobName, LockKey, Term},
    port::{AGES_AT_MOST, Declaration, Enrolled, Enrolment, Forgotten, Inquiry, LeaderView, Session},
};

/// The most withdrawn jobs whose cursors are kept.
pub(crate) const WITHDRAWN_MAX: usize = 10_000;

/// A cursor that is so long before a tick leaves the tick open.
const MILLISECOND_BEFORE: Duration = Duration::from_millis(1);

/// How long an enrolment takes to the store at most.
const WAY_MAX: Duration = Duration::from_secs(5);

/// Who declares an overlap policy for a key.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) overlap: Overlap,
    /// The newest term under which it is, and the session that holds the term.
    pub(super) term: Option<(Term, Session)>,
    /// The sessions that declare it without a term.
    pub(super) by: Vec<Session>,
}

impl Declared {
    fn retract(&mut self, session: Session) {
        self.by.retain(|by| *by != session);
        self.term.take_if(|(_, by)| *by == session);
    }
}

impl Ledger {
    /// Begins to schedule a job for `session`: marks it with the term, if it is by one.
    pub fn enrol(&mut self, now: DateTime<Utc>, session: Session, job: &Enrolment) -> Enrolled {
        match self.check_authority(&job.job, job.authority) {
            Ok(()) => {}
            Err(Barred::Deposed(term)) => return Enrolled::Deposed { term },
            Err(Barred::HasLeader) => return Enrolled::HasLeader,
        }
        if let Some(in_the_way) = self.take_over(now, session, job) {
            return in_the_way;
        }
        let term = job.authority.term();
        if let Err(declared) = self.declare(session, job) {
            if let Some(row) = self.jobs.get_mut(&job.job) {
                row.term.take_if(|marked| Some(*marked) == term);
            }
            return Enrolled::Conflict { declared: declared.to_string() };
        }
        self.note_fired(session, job);
        let schedule = Some(job.schedule);
        // No tick of a job that was forgotten counts again.
        let way = job.asked_at.and_then(|asked_at| (now - asked_at).to_std().ok()).unwrap_or_default();
        let known_since = before(now, job.known_for.saturating_add(way.min(WAY_MAX)));
        let seen = self.seen.get(&job.job).copied();
        let since = known_since.max(self.cursor_bound.unwrap_or(NEVER));
        // What others had that were forgotten, and the way here, take no tick that the job owes.
        let since = job.owes.map_or(since, |owed| since.min(before(owed, MILLISECOND_BEFORE)));
        let since = since.max(seen.unwrap_or(NEVER));
        let age = self.age;
        let row = self.jobs.get_mut(&job.job);
        let (cursor, stored) = match row {
            Some(row) if !row.withdrawn && !row.has_other(job.schedule) => {
                let replaced = std::mem::replace(&mut row.schedule, schedule) != schedule;
                row.term = term.or(row.term);
                row.held = age;
                (row.retry_lost, row.from_completion) = (job.retry_lost, job.from_completion);
                if !job.retry_lost {
                    row.pending_retries = Seldom::default();
                }
                let (cursor, stored) = (row.cursor, row.stored(now));
                if replaced {
                    self.record(|| Record::Enrolled { job: job.job.clone(), cursor, schedule: job.schedule });
                }
                return Enrolled::Done { cursor, stored };
            }
            Some(row) => {
                row.restart(since, known_since, job);
                row.held = age;
                (row.cursor, row.stored(now))
            }
            None => {
                let mut row = JobRow::new(since, schedule, term);
                row.held = age;
                (row.retry_lost, row.from_completion) = (job.retry_lost, job.from_completion);
                self.jobs.insert(job.job.clone(), Box::new(row));
                (since, Box::default())
            }
        };
        self.record(|| Record::Enrolled { job: job.job.clone(), cursor, schedule: job.schedule });
        Enrolled::Done { cursor, stored }
    }

    /// Every tick of a job up to an instant was decided elsewhere. Answers its cursor.
    pub(crate) fn raise_cursor(&mut self, job: &JobName, to: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let row = self.jobs.get_mut(job)?;
        if to > row.cursor {
            row.cursor = to;
            row.run = None;
        }
        Some(row.cursor)
    }

    /// Declares the policy of a job's key, unless somebody else who lives declares another one: that is the
    /// error.
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

    /// The other policy that somebody else who lives declares for the key of a job that the leader does not
    /// schedule.
    pub fn conflict(&self, session: Session, asked: &Declaration) -> Option<Overlap> {
        let declared = self.declared.get(&asked.key).filter(|declared| declared.overlap != asked.overlap)?;
        let by_leader = declared.term.is_some_and(|(term, by)| by != session && self.is_led(term));
        let scheduled = by_leader && self.of_newest_term(&asked.job).is_some();
        (!scheduled && self.others_declare(session, &asked.key)).then_some(declared.overlap)
    }

    /// A session declares no policy for a key any more.
    pub fn retract(&mut self, session: Session, key: &LockKey) {
        self.renames.retract(session, key);
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
        row.pending_retries = Seldom::default();
        row.held = self.age;
        self.renames.withdraw(job);
        if !std::mem::replace(&mut row.withdrawn, true) {
            self.keep_withdrawn(job);
        }
    }

    /// Forgets the job that was withdrawn first once there are too many.
    pub(super) fn keep_withdrawn(&mut self, job: &JobName) {
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
        self.renames.forget(job);
    }

    /// A node has a job: its name is not to be forgotten, unless it was withdrawn.
    pub fn keep_name(&mut self, job: &JobName) {
        if let Some(row) = self.jobs.get_mut(job).filter(|row| !row.withdrawn) {
            row.held = self.age;
        }
    }

    /// As [`keep_name`](Self::keep_name), unless it was held within the last `fresh` of the ledger's age.
    pub(crate) fn keep_name_unless_fresh(&mut self, job: &JobName, fresh: Duration) {
        if self.jobs.get(job).is_some_and(|row| self.age.saturating_sub(row.held) > fresh) {
            self.keep_name(job);
        }
    }

    /// Forgets, as the leader of `term`, what was withdrawn or held by nobody for so long, while somebody
    /// led.
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
    pub(super) fn is_declared(&self, key: &LockKey) -> bool {
        let Some(declared) = self.declared.get(key) else { return false };
        declared.by.iter().any(|by| self.is_live(*by))
            || declared.term.is_some_and(|(term, _)| self.is_led(term))
    }
}

/// The instant that was so long before `now`.
fn before(now: DateTime<Utc>, known_for: Duration) -> DateTime<Utc> {
    let known_for = TimeDelta::from_std(known_for).ok();
    // In microseconds, as stores keep it.
    known_for.and_then(|known_for| now.checked_sub_signed(known_for)).map_or(NEVER, |at| at.trunc_subsecs(6))
}

//! Jobs of several names: what is kept of one stands under one of its names only.
//!
//! | an enrolment finds that its job | the job |
//! |---|---|
//! | has what is kept under its own name | is enrolled |
//! | has it under a former name, or was renamed, and nobody uses that name | takes everything over, and is enrolled |
//! | the same, and somebody does | waits |
//! | was renamed, to a job that does not say any more that it had another name | begins anew |
//!
//! A name that was left keeps its cursor as a lower bound, as a job that was withdrawn does: no tick of it is granted.

use chrono::{DateTime, Utc};
use foldhash::HashMap;

use super::{Ledger, NEVER, Record, row::JobRow};
use crate::{
    name::{JobName, LockKey},
    port::{Enrolled, Enrolment, NameUse, Session},
};

/// What jobs are called.
#[derive(Debug, Default)]
pub(super) struct Renames {
    /// To which name was moved what was kept under another one.
    moved: HashMap<JobName, JobName>,
    /// The former names of jobs, as their newest enrolments say.
    former: HashMap<JobName, JobName>,
    /// The sessions that fire a job without a term.
    fired_by: HashMap<JobName, Vec<Session>>,
}

impl Renames {
    fn is_idle(&self) -> bool {
        self.moved.is_empty() && self.former.is_empty()
    }

    /// The name under which is kept what once stood under this one.
    fn holder<'a>(&'a self, name: &'a JobName) -> &'a JobName {
        let mut holder = name;
        while let Some(next) = self.moved.get(holder) {
            holder = next;
        }
        holder
    }

    /// Under which other name stands what an enrolment is to find under its own one.
    fn other_name<'a>(&'a self, job: &'a Enrolment) -> Option<&'a JobName> {
        let renamed = self.moved.get(&job.job).map(|next| self.holder(next));
        let renamed = renamed.filter(|holder| self.former.contains_key(*holder));
        renamed
            .or_else(|| job.formerly.as_ref().map(|former| self.holder(former)))
            .filter(|name| **name != job.job)
    }

    /// Notes what an enrolment that is taken says of the former name.
    fn note_former(&mut self, job: &Enrolment) {
        match &job.formerly {
            Some(former) => _ = self.former.insert(job.job.clone(), former.clone()),
            None => self.forget(&job.job),
        }
        self.moved.remove(&job.job);
    }

    /// The job of this name had no other one.
    pub(super) fn forget(&mut self, job: &JobName) {
        if self.former.remove(job).is_some() {
            self.moved.retain(|_, to| to != job);
        }
    }

    /// A session fires the job without a term no more.
    pub(super) fn retract(&mut self, session: Session, key: &LockKey) {
        if let Some(by) = self.fired_by.get_mut(key.as_str()) {
            by.retain(|by| *by != session);
            if by.is_empty() {
                self.fired_by.remove(key.as_str());
            }
        }
    }

    /// Nobody fires the job.
    pub(super) fn withdraw(&mut self, job: &JobName) {
        self.fired_by.remove(job);
    }
}

impl Ledger {
    /// Has a job that is enrolled take over what stands under another name of it. Answers what is in the way.
    pub(super) fn take_over(
        &mut self,
        now: DateTime<Utc>,
        session: Session,
        job: &Enrolment,
    ) -> Option<Enrolled> {
        // A cut has only the rows that are asked about.
        if self.cut.is_some() || (job.formerly.is_none() && self.renames.is_idle()) {
            return None;
        }
        if let Some(other) = self.renames.other_name(job).cloned() {
            if let Some(used) = self.use_of(&other, session, job) {
                return Some(Enrolled::OtherName { name: other, used });
            }
            self.move_to(now, &other, &job.job);
        }
        self.renames.note_former(job);
        None
    }

    /// A session fires a job without a term from now on.
    pub(super) fn note_fired(&mut self, session: Session, job: &Enrolment) {
        if self.shared && self.cut.is_none() && job.authority.term().is_none() {
            let by = self.renames.fired_by.entry(job.job.clone()).or_default();
            by.retain(|by| *by != session && self.live.contains_key(by));
            by.push(session);
        }
    }

    /// Who uses a name of the job that a session enrols.
    fn use_of(&self, other: &JobName, session: Session, job: &Enrolment) -> Option<NameUse> {
        let runs = || self.open.values().any(|run| run.job == *other || run.job == job.job);
        self.fired_as(other, session, job).or_else(|| runs().then_some(NameUse::Running))
    }

    fn fired_as(&self, other: &JobName, session: Session, job: &Enrolment) -> Option<NameUse> {
        self.jobs.get(other).filter(|row| !row.withdrawn)?;
        let fired = |by: Session| NameUse::Fired { node: self.nodes.get(&by).copied() };
        // Whoever enrols by the newest term marked it itself.
        if self.led && self.of_newest_term(other).is_some() && job.authority.term().is_none() {
            let declared = self.declared.get(other.as_str()).and_then(|declared| declared.term);
            return Some(declared.map_or(NameUse::Fired { node: None }, |(_, by)| fired(by)));
        }
        let mut by = self.renames.fired_by.get(other).into_iter().flatten();
        by.find(|by| **by != session && self.is_live(**by)).map(|by| fired(*by))
    }

    fn move_to(&mut self, now: DateTime<Utc>, from: &JobName, to: &JobName) {
        let goes_on = |row: &JobRow| !row.withdrawn && row.cursor > NEVER;
        let is_new = !self.jobs.get(to).is_some_and(|row| goes_on(row));
        // One that was removed gives nothing to one that goes on.
        if let Some(row) = self.jobs.get_mut(from).filter(|row| !row.withdrawn || is_new) {
            let mut left = JobRow::new(row.cursor, None, None);
            (left.withdrawn, left.held, left.newest_advance) = (true, self.age, row.newest_advance);
            let mut moved = std::mem::replace(row, Box::new(left));
            (moved.term, moved.held) = (None, self.age);
            if let Some(mut own) = self.jobs.remove(to) {
                moved.pause = own.pause(now).is_some().then(|| own.pause.take()).flatten().or(moved.pause);
                if own.cursor > moved.cursor {
                    (moved.cursor, moved.run) = (own.cursor, own.run);
                }
                let own = std::mem::take(&mut own.pending_retries);
                own.iter().for_each(|retry| _ = moved.add_retry(*retry));
            }
            let cursor = moved.cursor;
            self.jobs.insert(to.clone(), moved);
            self.keep_withdrawn(from);
            if cursor > NEVER {
                self.record(|| Record::Renamed { from: from.clone(), to: to.clone(), cursor });
            }
        }
        self.renames.moved.insert(from.clone(), to.clone());
    }
}

//! What is asked of the rules, and which rows that takes.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use crate::{
    core::ledger::Ledger,
    name::{JobName, LockKey, RunId, Term},
    port::{
        Advanced, Authority, ClaimRequest, Completed, Completion, CursorAdvance, Enrolled, Enrolment,
        LostRun, Pause, Session, Verdict,
    },
};

/// One thing that is asked of a store, which fails alone.
#[derive(Debug, Clone)]
pub(super) enum Request {
    End(Completion),
    Claim(ClaimRequest),
    Advance(CursorAdvance),
    Enrol(Enrolment),
    Retract(LockKey),
    Withdraw(Term, JobName),
    Pause(JobName, Option<Pause>),
    /// Holds a name, unless it was held within so long.
    Keep(JobName, Duration),
    /// Moves the cursor of a job forward to where it was seen.
    Forward(Arc<str>),
    /// Closes a run of a dead session, which has a key.
    Close(LockKey, RunId),
}

/// The answer to a request.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Ended(Completed),
    Claimed(Verdict),
    Advanced(Advanced),
    Enrolled(Enrolled),
    Changed(bool),
    Closed(Option<LostRun>),
    Done,
    /// Others were faster again and again. Nothing changed.
    Contended,
}

impl Answer {
    pub(super) fn is_contended(&self) -> bool {
        matches!(self, Self::Contended)
    }
}

/// The rows that a request looks at.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// The first is the job or the key that the request is about.
    pub(super) names: Vec<Arc<str>>,
    /// The jobs of which the pending retries are needed.
    pub(super) pending: Vec<Arc<str>>,
}

impl Needs {
    pub(super) fn name(&mut self, name: Arc<str>) {
        if !self.names.contains(&name) {
            self.names.push(name);
        }
    }

    /// The row and the pending retries of a job.
    pub(super) fn job(&mut self, job: Arc<str>) {
        if !self.pending.contains(&job) {
            self.pending.push(job.clone());
        }
        self.name(job);
    }
}

impl Request {
    /// The rows that it looks at in any case.
    pub(super) fn needs(&self) -> Needs {
        let mut needs = Needs::default();
        match self {
            Self::End(end) => {
                needs.name(end.key.to_stored());
                needs.name(end.job.to_stored());
            }
            Self::Claim(claim) => {
                needs.name(claim.key.to_stored());
                if claim.resume_lost {
                    needs.job(claim.job.to_stored());
                } else {
                    needs.name(claim.job.to_stored());
                }
            }
            Self::Advance(advance) => needs.name(advance.job.to_stored()),
            Self::Enrol(enrolment) => {
                needs.name(enrolment.key.to_stored());
                needs.job(enrolment.job.to_stored());
            }
            Self::Retract(key) | Self::Close(key, _) => needs.name(key.to_stored()),
            Self::Withdraw(_, job) => needs.job(job.to_stored()),
            Self::Pause(job, _) | Self::Keep(job, _) => needs.name(job.to_stored()),
            Self::Forward(job) => needs.name(job.clone()),
        }
        needs
    }

    /// The key whose holder, if its session is dead, is closed as lost.
    pub(super) fn closes(&self) -> Option<&LockKey> {
        match self {
            Self::Claim(claim) if !claim.recheck => Some(&claim.key),
            Self::Close(key, _) => Some(key),
            Self::End(_) | Self::Claim(_) | Self::Advance(_) | Self::Enrol(_) | Self::Retract(_) => None,
            Self::Withdraw(..) | Self::Pause(..) | Self::Keep(..) | Self::Forward(_) => None,
        }
    }

    /// The key whose declarers matter.
    pub(super) fn declares(&self) -> Option<&LockKey> {
        match self {
            Self::Enrol(enrolment) => Some(&enrolment.key),
            Self::End(_) | Self::Claim(_) | Self::Advance(_) | Self::Retract(_) | Self::Close(..) => None,
            Self::Withdraw(..) | Self::Pause(..) | Self::Keep(..) | Self::Forward(_) => None,
        }
    }

    /// Whether the answer depends on who leads.
    pub(super) fn asks_leader(&self) -> bool {
        let of = |authority: Authority| match authority {
            Authority::Term(_) | Authority::Leaderless => true,
            Authority::Any => false,
        };
        match self {
            Self::Claim(claim) => claim.tick.is_some_and(|tick| of(tick.authority)),
            Self::Advance(advance) => of(advance.authority),
            // Terms declare policies.
            Self::Enrol(_) | Self::Withdraw(..) => true,
            Self::End(_) | Self::Retract(_) | Self::Pause(..) | Self::Close(..) => false,
            Self::Keep(..) | Self::Forward(_) => false,
        }
    }

    /// Applies the rules.
    pub(super) fn apply(&self, ledger: &mut Ledger, session: Session, now: DateTime<Utc>) -> Answer {
        match self {
            Self::End(end) => Answer::Ended(ledger.complete(|| now, session, end)),
            Self::Claim(claim) => Answer::Claimed(ledger.claim(now, session, claim)),
            Self::Advance(advance) => Answer::Advanced(ledger.advance(session, advance, now)),
            Self::Enrol(enrolment) => Answer::Enrolled(ledger.enrol(now, session, enrolment)),
            Self::Retract(key) => {
                ledger.retract(session, key);
                Answer::Done
            }
            Self::Withdraw(term, job) => {
                ledger.withdraw(*term, job);
                Answer::Done
            }
            Self::Pause(job, pause) => Answer::Changed(ledger.pause(now, job, pause.as_ref())),
            Self::Keep(job, fresh) => {
                ledger.keep_name_unless_fresh(job, *fresh);
                Answer::Done
            }
            Self::Forward(job) => {
                ledger.restore(job);
                Answer::Done
            }
            Self::Close(_, run) => Answer::Closed(ledger.close_if_dead(now, *run)),
        }
    }
}

//! What the supervisor does when this node starts or stops to lead.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;

use super::{Entry, Phase, SupervisorActor};
use crate::{
    core::{job::Input, policy::Fires},
    election::{SessionChanged, TermRefused},
    job::Letter,
    lock::{BATCH_MAX, CloseLostRuns, EnrolJobs, report_lost},
    message::PAGE_MAX,
    name::{JobName, Term},
    node::JobRef,
    port::{Authority, Enrolled, Enrolment},
};

/// The pause before an enrolment that failed is tried again.
const ENROL_AGAIN: Duration = Duration::from_millis(500);

/// How often the leader looks for runs of dead sessions.
const LOST_RUNS_EVERY: Duration = Duration::from_secs(60);

/// What the lock actor says about its session.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum SessionNews {
    Opened,
    Lost,
}

/// What the election actor says: the term in which this node leads from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct LeadershipChanged(pub(crate) Option<Term>);

impl SupervisorActor {
    /// Enrols the next page of jobs, if this node leads and no page is under way.
    pub(super) fn enrol(&mut self, ctx: &mut Context<Self>) {
        // A withdrawal under way goes first: a job may have been removed and added again.
        let (Some(term), false, 0) = (self.term, self.enrolling, self.withdrawing) else { return };
        let mut page = Vec::new();
        let mut jobs = Vec::new();
        while page.len() < PAGE_MAX
            && let Some(name) = self.to_enrol.pop_front()
        {
            let Some(entry) = self.jobs.get(&name).filter(|entry| !entry.broken) else { continue };
            let schedule = entry.job.definition.description.to_string();
            page.push(Enrolment::new(name, schedule, Authority::Term(term)));
            jobs.push(entry.job.clone());
        }
        if page.is_empty() {
            return;
        }
        self.enrolling = true;
        let enrolled = self.node().lock().send(EnrolJobs(page));
        ctx.spawn(enrolled.into_actor(self).map(move |answer, actor, ctx| {
            actor.enrolling = false;
            match answer {
                Ok(Ok(answers)) => {
                    let locked = actor.on_enrolled(term, jobs, answers);
                    actor.enrol(ctx);
                    if !locked.is_empty() {
                        ctx.run_later(ENROL_AGAIN, move |actor, ctx| {
                            if actor.term == Some(term) {
                                actor.to_enrol.extend(locked);
                                actor.enrol(ctx);
                            }
                        });
                    }
                }
                Ok(Err(_)) | Err(_) => {
                    actor.node().meters.coordination_error("enrol");
                    if actor.term == Some(term) {
                        actor.to_enrol.extend(jobs.iter().map(|job| job.definition.name.clone()));
                    }
                    ctx.run_later(ENROL_AGAIN, |actor, ctx| actor.enrol(ctx));
                }
            }
        }));
    }

    /// Answers the jobs that somebody else has locked.
    fn on_enrolled(&mut self, term: Term, jobs: Vec<Arc<JobRef>>, answers: Vec<Enrolled>) -> Vec<JobName> {
        let mut locked = Vec::new();
        if self.term != Some(term) {
            return locked;
        }
        for (job, answer) in jobs.into_iter().zip(answers) {
            match answer {
                // To the actor that was asked for: one that was added anew under the same name has its own answer.
                Enrolled::Done { cursor, .. } => {
                    Letter::send(&job, Input::Resume { cursor, term: Some(term) })
                }
                Enrolled::Deposed { .. } | Enrolled::Led => {
                    self.parts.election.do_send(TermRefused(term));
                    return locked;
                }
                Enrolled::Locked => locked.push(job.definition.name.clone()),
            }
        }
        locked
    }

    /// Closes the runs of dead sessions, page by page, and looks again for as long as the term lasts: sessions die later, too.
    fn close_lost_runs(&mut self, ctx: &mut Context<Self>) {
        let term = self.term;
        let lost = self.node().lock().send(CloseLostRuns);
        ctx.spawn(lost.into_actor(self).map(move |answer, actor, ctx| {
            let pause = match answer {
                Ok(Ok(lost)) => {
                    lost.iter().for_each(|lost| report_lost(actor.node(), lost));
                    if lost.len() == BATCH_MAX { Duration::ZERO } else { LOST_RUNS_EVERY }
                }
                Ok(Err(_)) | Err(_) => {
                    actor.node().meters.coordination_error("close_lost");
                    ENROL_AGAIN
                }
            };
            ctx.run_later(pause, move |actor, ctx| {
                if term.is_some() && actor.term == term {
                    actor.close_lost_runs(ctx);
                }
            });
        }));
    }
}

impl Handler<SessionNews> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, news: SessionNews, _: &mut Self::Context) {
        self.parts.election.do_send(match news {
            SessionNews::Opened => SessionChanged::Opened,
            SessionNews::Lost => SessionChanged::Lost,
        });
    }
}

impl Handler<LeadershipChanged> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, LeadershipChanged(term): LeadershipChanged, ctx: &mut Self::Context) {
        let led = self.term.is_some();
        self.to_enrol.clear();
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        self.term = term;
        let by_leader =
            |entry: &&Entry| entry.job.definition.policies.fires == Fires::Leader && !entry.broken;
        if led {
            let ours = self.jobs.values().filter(by_leader);
            ours.for_each(|entry| Letter::send(&entry.job, Input::Suspend));
        }
        if term.is_some() {
            let ours = self.jobs.values().filter(by_leader);
            self.to_enrol = ours.map(|entry| entry.job.definition.name.clone()).collect();
            self.close_lost_runs(ctx);
            self.enrol(ctx);
        }
    }
}

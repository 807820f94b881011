//! The jobs that the leader lacks: the nodes that have them find it out, and fire them without a
//! leader.
//!
//! [`Firing`](crate::core::firing::Firing) decides which jobs are asked about, and by what authority each is
//! fired after the answer. Here the questions are asked, page by page, for as long as the engine runs; what
//! is left to decide is how often.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;

use super::{Entry, Phase, SupervisorActor, adding::inquiry};
use crate::{
    job::JobHandle,
    lock::{InquireJobs, InquiryPurpose},
    message::PAGE_MAX,
    name::JobName,
    port::LeaderView,
};

/// How long after it has connected a node asks so first: a leader that starts together with it should be
/// done.
pub(super) const INQUIRE_FIRST: Duration = Duration::from_secs(2);

/// The pause between two pages of such questions.
const INQUIRE_NEXT: Duration = Duration::from_millis(250);

/// The most jobs of one such question: more than in other pages, since it changes nothing, and few questions
/// are asked by nodes that have nothing to do.
const INQUIRE_PAGE: usize = 4 * PAGE_MAX;

/// How often a node that does not lead asks whether the leader has its jobs.
const INQUIRE_EVERY: Duration = Duration::from_secs(30);

impl SupervisorActor {
    /// Asks, for one page of jobs after the other, whether the leader has them, for as long as the engine
    /// runs.
    pub(super) fn inquire_and_go_on(&mut self, ctx: &mut Context<Self>) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        self.inquire(ctx);
        match self.inquiry.goes_on() {
            true => ctx.run_later(INQUIRE_NEXT, Self::inquire_and_go_on),
            false => self.look_again(INQUIRE_EVERY, ctx, Self::inquire_and_go_on),
        };
    }

    pub(super) fn inquire(&mut self, ctx: &mut Context<Self>) {
        if self.term.is_some() || !self.connected || self.parts.able.single_node {
            return;
        }
        let is_asked = |entry: &Entry| entry.firing.needs_leader();
        let page = self.inquiry.next_page(&self.jobs, INQUIRE_PAGE, is_asked);
        let page: Vec<_> = page.into_iter().map(|(_, entry)| entry.job.clone()).collect();
        if !page.is_empty() {
            self.find_leaderless(page, ctx);
        }
    }

    /// Fires those of the jobs that the leader lacks.
    fn find_leaderless(&mut self, jobs: Vec<Arc<JobHandle>>, ctx: &mut Context<Self>) {
        let asked = jobs.iter().map(|job| inquiry(job)).collect();
        let asked = InquireJobs { jobs: asked, purpose: InquiryPurpose::Firing };
        let standings = self.parts.lock.send(asked);
        ctx.spawn(standings.into_actor(self).map(move |standings, actor, ctx| {
            // No answer: the next inquiry asks again.
            let Ok(Ok(standings)) = standings else { return };
            let lacking =
                jobs.iter().zip(standings).filter(|(_, standing)| *standing == LeaderView::NotScheduled);
            actor.fire_without_leader(lacking.map(|(job, _)| job), ctx);
        }));
    }

    /// Fires these jobs, since the leader lacks them.
    pub(super) fn fire_without_leader<'a>(
        &mut self,
        jobs: impl Iterator<Item = &'a Arc<JobHandle>>,
        ctx: &mut Context<Self>,
    ) {
        if self.term.is_some() || !self.connected {
            return;
        }
        for job in jobs {
            let name = &job.definition.name;
            if let Some(entry) =
                self.jobs.get_mut(name).filter(|entry| entry.job.generation == job.generation)
            {
                entry.firing.leader_lacks_it();
                self.enrolling.push(name.clone());
            }
        }
        self.enrol(ctx);
    }

    /// The leader schedules the job, and declares the policy of its key.
    pub(super) fn leave_to_leader(&mut self, name: &JobName, ctx: &mut Context<Self>) {
        let Some(entry) = self.jobs.get_mut(name) else { return };
        if entry.firing.left_to_leader() {
            let noted = entry.job.definition.noted_under();
            self.retract(noted, ctx);
        }
    }
}

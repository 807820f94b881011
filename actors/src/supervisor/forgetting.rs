//! What becomes of names that nobody uses any more: the leader forgets them, and each node says which it
//! uses.
//!
//! Decided here: how often, as parts of the time after which a name is forgotten. The store decides what is
//! out of use.

use std::time::Duration;

use actix::prelude::*;

use super::{Phase, SupervisorActor};
use crate::{
    core::{policy::Fires, sweep::Sweep},
    lock::{ForgetNames, KeepNames},
    message::PAGE_MAX,
    name::JobName,
    port::Forgotten,
};

/// How often the leader forgets what is out of use.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// It looks at most so often within the time after which a name is forgotten.
const FORGETS: u32 = 100;

/// The pause before it goes on, if there is more.
const FORGET_NEXT: Duration = Duration::from_millis(500);

/// The pause before it is tried again.
const FORGET_AGAIN: Duration = Duration::from_secs(5);

/// How often, within the time after which a name is forgotten, a node says that it still has its jobs.
const KEEPS_PER_AGE: u32 = 8;

/// How often it says so at least.
const KEEP_EVERY_MAX: Duration = Duration::from_hours(24);

/// The pause between two pages of them.
const KEEP_NEXT: Duration = Duration::from_millis(250);

impl SupervisorActor {
    /// Forgets, now and then for as long as the term lasts.
    pub(super) fn forget_later(&mut self, ctx: &mut Context<Self>) {
        self.forget_after_pause(FORGET_EVERY, ctx);
    }

    fn forget_after_pause(&mut self, pause: Duration, ctx: &mut Context<Self>) {
        let Some(term) = self.term else { return };
        ctx.run_later(pause, move |actor, ctx| {
            if actor.term != Some(term) {
                return;
            }
            let after = actor.parts.forget_after;
            let forgotten = actor.parts.lock.send(ForgetNames { term, after });
            ctx.spawn(forgotten.into_actor(actor).map(move |answer, actor, ctx| {
                let pause = match answer {
                    Ok(Ok(Forgotten { more: true, .. })) => FORGET_NEXT,
                    Ok(Ok(Forgotten { more: false, .. })) => FORGET_EVERY.max(after / FORGETS),
                    Ok(Err(_)) | Err(_) => FORGET_AGAIN,
                };
                if actor.term == Some(term) {
                    actor.forget_after_pause(pause, ctx);
                }
            }));
        });
    }

    /// Says which jobs this node has, page by page, again and again for as long as the engine runs.
    pub(super) fn keep_names_later(&mut self, ctx: &mut Context<Self>) {
        if !self.parts.able.single_node && !std::mem::replace(&mut self.keeping_names, true) {
            self.keep_names_after(Sweep::default(), ctx);
        }
    }

    /// How often it says so: what was said within that time need not be said again.
    fn keep_every(&self) -> Duration {
        (self.parts.forget_after / KEEPS_PER_AGE).min(KEEP_EVERY_MAX)
    }

    fn keep_names_after(&mut self, mut jobs: Sweep<JobName>, ctx: &mut Context<Self>) {
        let pause = if jobs.goes_on() { KEEP_NEXT } else { self.keep_every() };
        ctx.run_later(pause, move |actor, ctx| {
            if !matches!(actor.phase, Phase::Running) {
                return;
            }
            match actor.connected {
                true => actor.keep_names(&mut jobs),
                false => jobs = Sweep::default(),
            }
            actor.keep_names_after(jobs, ctx);
        });
    }

    /// Says it of the next page of jobs.
    fn keep_names(&self, jobs: &mut Sweep<JobName>) {
        let page = jobs.next_page(&self.jobs, PAGE_MAX, |_| true).into_iter();
        // Whoever fires them: they are to go on where they are, should this node come to do it.
        let held = page.filter(|(_, entry)| entry.job.definition.policies.fires != Fires::Local);
        let jobs: Vec<_> = held.map(|(job, _)| job.clone()).collect();
        if !jobs.is_empty() {
            self.parts.lock.do_send(KeepNames { jobs, fresh: self.keep_every() });
        }
    }
}

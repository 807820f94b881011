//! Stored jobs that are removed when they are done: when they are due, and how their rows are deleted.
//!
//! The node that saw the last run of a job end deletes its row; if it dies before, whoever fires the job next does.
//! The row is deleted only as it was: one that was put anew meanwhile stays.

use std::{collections::BTreeMap, time::Duration};

use actix::prelude::*;
use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use uuid::Uuid;

use super::{Phase, SupervisorActor, catalogue::call};
use crate::{
    contained::unharmed,
    core::{
        catalogue::OneShots,
        contract::{MILLISECOND, next_after, previous_before},
        operation::Operation,
    },
    definition::Definition,
    name::JobName,
    port::{CatalogueChange, CatalogueError, Expected},
};

/// How many rows are deleted at once.
const DELETED_AT_ONCE: usize = 64;
/// The pause before a deletion that got no answer is asked for again. It doubles with each that gets none.
const DELETE_AGAIN: Duration = Duration::from_secs(1);
/// The longest such pause.
const DELETE_AGAIN_MAX: Duration = Duration::from_secs(30);

/// The stored jobs that are done, with the changes that delete them.
#[derive(Default)]
pub(super) struct Done {
    changes: BTreeMap<JobName, CatalogueChange>,
    /// Some of them are being deleted.
    under_way: bool,
    /// None is deleted before a pause is over.
    waits: bool,
    /// The last pause, if no deletion was answered since.
    pause: Option<Duration>,
}

/// The pause after a deletion that got no answer, by the one before.
fn pause_after(last: Option<Duration>) -> Duration {
    last.map_or(DELETE_AGAIN, |last| (last * 2).min(DELETE_AGAIN_MAX))
}

impl SupervisorActor {
    /// The only instant at which a stored job is due, if it is deleted after that and can wait for it in the store.
    pub(super) fn due_once(&self, definition: &Definition) -> Option<DateTime<Utc>> {
        let fires_once = definition.remove_when_done && unharmed(|| definition.schedule.fires_once())?;
        let due_at = if fires_once { self.last_tick(definition) } else { None };
        due_at.filter(|due_at| OneShots::can_wait(*due_at))
    }

    /// The last tick of a stored job that is deleted once it is decided. Whoever enrols the job says so: it is not to
    /// be deleted because nobody had it in time.
    pub(super) fn owes(&self, definition: &Definition) -> Option<DateTime<Utc>> {
        let is_deleted =
            definition.remove_when_done && self.keeping.machine.is_held(definition.name.as_str());
        if is_deleted { self.last_tick(definition) } else { None }
    }

    /// The only tick of a schedule, or the last one of a schedule that is over.
    fn last_tick(&self, definition: &Definition) -> Option<DateTime<Utc>> {
        let schedule = &*definition.schedule;
        let now = self.node().store_time();
        let tick = unharmed(|| match next_after(schedule, now).ok()? {
            Some(next) => schedule.fires_once().then_some(next),
            // A fire time at this very instant is neither before it nor after it.
            None => previous_before(schedule, now.checked_add_signed(MILLISECOND).unwrap_or(now)).ok()?,
        });
        tick.flatten().map(|tick| tick.instant())
    }

    /// A stored job is done, and is to be removed then.
    pub(super) fn delete_done(&mut self, job: &JobName, ctx: &mut Context<Self>) {
        let Some((_, version)) = self.keeping.machine.standing(job.as_str()) else { return };
        let change = CatalogueChange::delete(Uuid::new_v4(), job.clone());
        self.done.changes.insert(job.clone(), change.expecting(Expected::Version(version)));
        self.delete_next(ctx);
    }

    fn delete_next(&mut self, ctx: &mut Context<Self>) {
        let Some(stored) = self.parts.stored.clone() else { return };
        let is_running = matches!(self.phase, Phase::Running);
        if self.done.under_way || self.done.waits || self.done.changes.is_empty() || !is_running {
            return;
        }
        self.done.under_way = true;
        let page: Vec<_> = self.done.changes.values().take(DELETED_AT_ONCE).cloned().collect();
        let deleted = async move {
            let calls = page.iter().map(|change| call(stored.catalogue.change(change)));
            let answers = join_all(calls).await;
            page.into_iter().zip(answers).collect::<Vec<_>>()
        };
        ctx.spawn(deleted.into_actor(self).map(|answers, actor, ctx| {
            actor.done.under_way = false;
            let mut again = false;
            for (change, answer) in answers {
                again |= actor.on_deleted(change, answer);
            }
            actor.done.waits = again;
            if !again {
                actor.done.pause = None;
                return actor.delete_next(ctx);
            }
            let pause = pause_after(actor.done.pause);
            actor.done.pause = Some(pause);
            ctx.run_later(pause, |actor, ctx| {
                actor.done.waits = false;
                actor.delete_next(ctx);
            });
        }));
    }

    /// Answers whether it is to be asked for again.
    fn on_deleted<T>(&mut self, change: CatalogueChange, answer: Result<T, CatalogueError>) -> bool {
        let failures = &self.node().failures;
        match answer {
            Err(error @ CatalogueError::Unavailable { .. }) => {
                failures.failed(Operation::Catalogue, &error);
                return true;
            }
            Err(error @ CatalogueError::BadData { .. }) => failures.failed(Operation::Catalogue, &error),
            // It is gone, or was put anew meanwhile: then it is not done.
            Ok(_) => {}
        }
        // Another one may have taken its place.
        if self.done.changes.get(&change.job).is_some_and(|waiting| waiting.change == change.change) {
            self.done.changes.remove(&change.job);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_before_a_deletion_that_gets_no_answer_doubles_up_to_a_bound() {
        let mut pause = None;
        let pauses = [(); 7].map(|()| {
            pause = Some(pause_after(pause));
            pause.map(|pause| pause.as_secs())
        });
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30].map(Some));
    }
}

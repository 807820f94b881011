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
/// The pause before a deletion that got no answer is asked for again.
const DELETE_AGAIN: Duration = Duration::from_secs(1);

/// The stored jobs that are done, with the changes that delete them.
#[derive(Default)]
pub(super) struct Done {
    changes: BTreeMap<JobName, CatalogueChange>,
    /// Some of them are being deleted.
    under_way: bool,
}

impl SupervisorActor {
    /// The only instant at which a stored job is due, if it is deleted after that and can wait for it in the store.
    pub(super) fn due_once(&self, definition: &Definition) -> Option<DateTime<Utc>> {
        let schedule = &*definition.schedule;
        let now = self.node().store_time();
        let due_at = unharmed(|| {
            if !definition.remove_when_done || !schedule.fires_once() {
                return None;
            }
            let next = next_after(schedule, now).ok()?;
            // A fire time at this very instant is neither before it nor after it.
            let last =
                || previous_before(schedule, now.checked_add_signed(MILLISECOND).unwrap_or(now)).ok()?;
            next.or_else(last)
        });
        due_at.flatten().map(|due_at| due_at.instant()).filter(|due_at| OneShots::can_wait(*due_at))
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
        if self.done.under_way || self.done.changes.is_empty() || !is_running {
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
            if again {
                ctx.run_later(DELETE_AGAIN, |actor, ctx| actor.delete_next(ctx));
            } else {
                actor.delete_next(ctx);
            }
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

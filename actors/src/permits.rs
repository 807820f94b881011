//! The node's bound on runs in progress.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    core::job::{Input, PermitAnswer},
    job::Letter,
    node::JobRef,
};

/// What happens to a run that finds as many others in progress on its node as may be.
///
/// A claim takes a slot before it goes out. While it has no answer the slot is free for others; a run that is granted after all
/// waits for a slot with its key held, in either mode, as an attempt after a failure does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenFull {
    /// It waits for the end of one: first the greater [priority](crate::Policies::priority), then who came first. At most one
    /// tick of each job waits (more if its policies say so, but only one of them asks).
    #[default]
    Wait,
    /// A tick is skipped, reason `concurrency`, and a manual trigger is refused.
    Skip,
}

/// The slots of one node.
pub(crate) struct Permits {
    slots: Option<Mutex<Slots>>,
    when_full: WhenFull,
}

struct Slots {
    free: usize,
    asked: u64,
    /// One entry per job at most: a job asks once and waits for the answer.
    waiting: BTreeMap<(Reverse<i8>, u64), Arc<JobRef>>,
}

impl Permits {
    pub(crate) fn new(max: Option<usize>, when_full: WhenFull) -> Self {
        let slots = |free| Mutex::new(Slots { free, asked: 0, waiting: BTreeMap::new() });
        Self { slots: max.map(slots), when_full }
    }

    /// Jobs must ask.
    pub(crate) fn limited(&self) -> bool {
        self.slots.is_some()
    }

    /// Takes a slot for a job, or keeps it in mind.
    pub(crate) fn ask(&self, job: &Arc<JobRef>, priority: i8) -> PermitAnswer {
        let Some(mut slots) = self.slots() else { return PermitAnswer::Granted };
        if slots.free > 0 {
            slots.free -= 1;
            return PermitAnswer::Granted;
        }
        match self.when_full {
            WhenFull::Skip => PermitAnswer::Refused,
            WhenFull::Wait => {
                let nth = slots.asked;
                slots.asked += 1;
                slots.waiting.insert((Reverse(priority), nth), job.clone());
                PermitAnswer::Wait
            }
        }
    }

    /// Gives a slot to whoever waits, or back.
    pub(crate) fn release(&self) {
        let Some(mut slots) = self.slots() else { return };
        match slots.waiting.pop_first() {
            Some((_, job)) => {
                drop(slots);
                // If the job is gone, the letter comes back to the supervisor, who releases it again.
                Letter::send(&job, Input::Permit(PermitAnswer::Granted));
            }
            None => slots.free += 1,
        }
    }

    /// A job that waits is gone.
    pub(crate) fn leave(&self, job: &JobRef) {
        let left = self.slots().map(|mut slots| {
            let ours = slots.waiting.iter().find(|(_, waiting)| waiting.lineage == job.lineage);
            let place = ours.map(|(place, _)| *place);
            place.and_then(|place| slots.waiting.remove(&place))
        });
        drop(left);
    }

    /// Nobody waits any more: what waits holds its job, and the job holds this node.
    pub(crate) fn close(&self) {
        let waiting = self.slots().map(|mut slots| std::mem::take(&mut slots.waiting));
        drop(waiting);
    }

    fn slots(&self) -> Option<MutexGuard<'_, Slots>> {
        self.slots.as_ref().map(|slots| slots.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

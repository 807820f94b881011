//! What the jobs of a rig have been defined as.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    core::policy::Fires,
    definition::Definition,
    name::JobName,
    port::{Schedule, ScheduleIdentity},
};

/// Every definition that a job has had on whichever node, as far as the audit asks for it.
#[derive(Clone, Default)]
pub(crate) struct Definitions(Arc<Mutex<Known>>);

#[derive(Default)]
pub(super) struct Known {
    /// By their identities. The same one means other instants on nodes whose time zone data differs.
    pub(super) schedules: HashMap<(JobName, ScheduleIdentity), Vec<Arc<dyn Schedule>>>,
    /// The jobs that were local at some time: of those ticks the store knows nothing.
    pub(super) locals: HashSet<JobName>,
    /// The jobs whose timers come to nothing.
    pub(super) deaf: HashSet<JobName>,
}

impl Definitions {
    /// A node has the job in this form from now on.
    pub(crate) fn note(&self, definition: &Definition) {
        let Definition { name, identity, schedule, policies, .. } = definition;
        let mut known = self.lock();
        if policies.fires == Fires::Local {
            known.locals.insert(name.clone());
            return;
        }
        known.schedules.entry((name.clone(), *identity)).or_default().push(schedule.clone());
    }

    /// The timers of the job come to nothing.
    pub(crate) fn is_deaf(&self, job: &JobName) -> bool {
        self.lock().deaf.contains(job)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

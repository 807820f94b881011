//! What survives the death of a job's actor.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::sync::oneshot;

use super::{former_keys::FormerKeys, handle::JobHandle, record::Unfinished, triggered::Asked};
use crate::{
    core::{
        job::{JobMachine, NodeBounds},
        seldom::Seldom,
    },
    definition::Definition,
    drain::Drain,
    event::Outcome,
    job_names::KeyInUse,
    metrics::GaugeShare,
    name::RunId,
    port::Session,
    run::Run,
};

/// What an actor of a job begins with: that of a new job, or what one that died has left.
pub(crate) struct JobSnapshot {
    pub(crate) machine: JobMachine,
    /// By which the machine decides.
    pub(super) definition: Arc<Definition>,
    /// Those whose bodies are in progress.
    pub(super) running: Vec<Run>,
    pub(super) former_keys: FormerKeys,
    /// That of the definition.
    pub(super) key_in_use: Option<Arc<KeyInUse>>,
    pub(super) unfinished: Seldom<Unfinished>,
    pub(super) asked: Seldom<Asked>,
    pub(super) ends: Seldom<(RunId, oneshot::Sender<Outcome>)>,
    pub(super) drain: Option<Arc<Drain>>,
    /// The job was removed.
    pub(crate) retiring: bool,
    pub(super) held: Option<Box<GaugeShare>>,
    pub(super) session: Option<Session>,
}

impl JobSnapshot {
    pub(crate) fn fresh(job: &JobHandle, cursor: DateTime<Utc>) -> Self {
        let definition = job.definition.clone();
        let Definition { schedule, policies, .. } = &*definition;
        let bounds = NodeBounds { runs: job.host.permits.limited(), catch_ups: job.host.catch_ups.limited() };
        let machine = JobMachine::new(schedule.clone(), policies.clone(), cursor, bounds);
        Self {
            machine,
            definition,
            running: Vec::new(),
            former_keys: FormerKeys::default(),
            key_in_use: job.key_in_use.clone(),
            unfinished: Seldom::default(),
            asked: Seldom::default(),
            ends: Seldom::default(),
            drain: None,
            retiring: false,
            held: None,
            session: None,
        }
    }
}

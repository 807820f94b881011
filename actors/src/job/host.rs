//! What all jobs of a node share, and their outlets: whom they ask, and to whom they report.

use std::sync::Arc;

use actix::prelude::*;
use tokio::{runtime, sync::watch};

use super::{ask::Asks, cast::Placement, handle::JobHandle, report::JobReport, run_task::RunTask};
use crate::{
    body_queue::BodyPlace,
    catch_ups::CatchUps,
    core::{byte_budget::ByteBudget, end_text::EndTexts},
    hooks::Hooks,
    node::Node,
    permits::Permits,
    run::SharedParts,
};

#[cfg(any(test, feature = "testkit"))]
use crate::{definition::Definition, testkit::Definitions};

/// What all jobs of a node share.
pub(crate) struct JobHost {
    pub(crate) node: Arc<Node>,
    /// What the jobs ask of whoever serves claims.
    pub(crate) asks: Arc<Asks>,
    /// Whoever supervises the jobs.
    pub(crate) reports: Recipient<JobReport>,
    pub(crate) placement: Placement,
    pub(crate) permits: Permits<Arc<JobHandle>>,
    pub(crate) catch_ups: Arc<CatchUps<Arc<JobHandle>>>,
    pub(crate) bodies: BodyPlace<RunTask>,
    /// Of bodies, with timers and I/O.
    pub(crate) body_runtime: runtime::Handle,
    pub(crate) of_runs: Arc<SharedParts>,
    /// The hooks of all jobs.
    pub(crate) hooks: Hooks,
    /// What is said at the ends of bodies.
    pub(crate) end_texts: EndTexts,
    /// The bytes of the calls that wait for the hooks of all jobs.
    pub(crate) hook_call_bytes: Arc<ByteBudget>,
    /// Closed while no hook is called after a run or for a skip.
    pub(crate) hooking: watch::Sender<()>,
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) definitions: Option<Definitions>,
}

impl JobHost {
    /// A job has this definition from now on.
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn note(&self, definition: &Definition) {
        self.definitions.iter().for_each(|definitions| definitions.note(definition));
    }
}

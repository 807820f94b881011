//! What happened, in the past tense: one event per step of a job, a run, a term and the engine.

mod kind;
mod line;
mod name;
mod size;
mod subject;

use actix::Message;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use self::{kind::EventKind, name::EventName};
pub use crate::core::{
    outcome::{CancelReason, Outcome},
    step_down::StepDownReason,
};
use crate::name::NodeId;

/// Something that happened, where and when.
///
/// Events are for people and for reactions that may miss some: a listener that does not keep up loses events,
/// and they are counted. What must not be lost (the counts of ticks and runs) never depends on events.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
#[rtype(result = "()")]
#[non_exhaustive]
pub struct Event {
    /// When, by the node's wall clock.
    pub at: DateTime<Utc>,
    /// The node that says so.
    pub node: NodeId,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

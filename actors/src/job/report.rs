//! What a job reports to whoever supervises it.

use std::sync::Arc;

use actix::prelude::*;
use chrono::{DateTime, Utc};

use super::{handle::JobHandle, message::JobMessage, snapshot::JobSnapshot};
use crate::{core::contract::Breach, port::Pause};

/// A job reports something.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct JobReport {
    pub(crate) job: Arc<JobHandle>,
    pub(crate) report: Report,
}

/// What a job reports.
pub(crate) enum Report {
    /// Its actor died, and left this.
    Died(Box<JobSnapshot>),
    /// Its actor stopped as it was told to.
    Retired,
    /// It was removed, or got another schedule, and has accounted for the ticks before.
    Left,
    /// It is done, and is to be removed then.
    Done,
    /// Its schedule broke its contract: its machine decides nothing any more.
    ScheduleBroken {
        /// Everything up to here is decided.
        cursor: DateTime<Utc>,
        breach: Breach,
    },
    /// Its body said that it is to stop for good.
    Stop(Pause),
    /// Its body said that this node is to leave the lead to another one.
    ResignWanted,
    /// It is the first that waits for its turn to make up for a missed tick.
    CatchesUp,
    /// Its alarm is to be looked at.
    AlarmNoted,
    /// What its actor did not live to handle. That it [died](Self::Died) was reported before: its messages
    /// come back only once it has stopped.
    Undelivered(JobMessage),
}

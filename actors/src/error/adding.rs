//! Why jobs were not added.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};

use super::kind::ErrorKind;
use crate::{core::text::Grouped, fault::Faults, name::JobName};

/// Why jobs were not added. None of a batch was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddError {
    /// Something is wrong with the definitions.
    #[error("{0}")]
    Invalid(Faults),
    /// The definitions are right, but jobs of these names exist.
    #[error("{0}")]
    Exists(Faults),
    /// The definitions are right, but the last fire times of these jobs have passed: they would never run. At
    /// least one.
    #[error("{}", AllOver(.0))]
    Over(Vec<Over>),
    /// The engine shuts down or has stopped.
    #[error("no job is added any more: the engine shuts down")]
    ShuttingDown,
}

impl AddError {
    /// What is wrong with definitions, if that is why.
    pub(crate) fn into_faults(self) -> Vec<crate::error::Fault> {
        match self {
            Self::Invalid(faults) | Self::Exists(faults) => faults.into_vec(),
            Self::Over(_) | Self::ShuttingDown => Vec::new(),
        }
    }

    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) => ErrorKind::Invalid,
            Self::Exists(_) => ErrorKind::Exists,
            Self::Over(_) => ErrorKind::Over,
            Self::ShuttingDown => ErrorKind::Stopped,
        }
    }
}

/// A job whose last fire time has passed, so that it would never run: the ticks of a job count only from the
/// instant on at which it was added, or got its schedule. A fire time at that very instant, and one a moment
/// before, have passed as well.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Over {
    /// The job.
    pub job: JobName,
    /// Its last fire time.
    pub last: DateTime<Utc>,
    /// What the clock read by which it is decided: the store's, or this node's own if the job is
    /// [`Local`](crate::Fires::Local).
    pub now: DateTime<Utc>,
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |instant: DateTime<Utc>| instant.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let Self { job, last, now } = self;
        write!(
            f,
            "job {job:?} would never run: its last fire time {} has passed, since it is {}; give it a later fire time, or do \
             its work now",
            text(*last),
            text(*now)
        )
    }
}

impl std::error::Error for Over {}

/// The first of them, one a line, and how many more there are.
struct AllOver<'a>(&'a [Over]);

impl fmt::Display for AllOver<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(all) = self;
        for (nth, over) in all.iter().take(OVER_SHOWN_MAX).enumerate() {
            write!(f, "{}{over}", if nth > 0 { "\n" } else { "" })?;
        }
        match all.len().saturating_sub(OVER_SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "\nand {} more like these", Grouped(more as u64)),
        }
    }
}

/// So many jobs that are over are shown.
const OVER_SHOWN_MAX: usize = 10;

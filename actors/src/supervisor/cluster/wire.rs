//! What nodes write to each other, as JSON. A node of another version may know other requests: what it cannot read, it
//! says.

use std::{collections::BTreeSet, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    arguments::Arguments,
    core::{control::JobSet, time::FireTime},
    error::ErrorKind,
    job::{JobState, JobStatus, Triggered},
    message::{JobPage, NodeNow, RunsOnNode, Selector},
    name::{JobName, RunId},
    port::{REQUESTS_OPEN_MAX, VIEWS_OPEN_MAX},
};

/// What a node asks of another one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(in super::super) enum Ask {
    /// How it is.
    Now,
    Runs {
        limit: usize,
    },
    CancelRun {
        run: RunId,
    },
    CancelRuns {
        jobs: Selector,
    },
    Pause {
        jobs: Selector,
        until: Option<DateTime<Utc>>,
        note: Option<String>,
        #[serde(default)]
        written: Written,
    },
    Resume {
        jobs: Selector,
        #[serde(default)]
        written: Written,
    },
    Trigger {
        job: String,
        fire_time: Option<FireTime>,
        arguments: Option<Arguments>,
    },
    Details {
        job: String,
    },
    List {
        prefix: Option<String>,
        tag: Option<String>,
        state: Option<JobState>,
        after: Option<String>,
        limit: usize,
    },
    /// It is to answer once it knows this version of the catalogue.
    Catalogue {
        version: u64,
    },
}

impl Ask {
    /// With how many requests open it is not posted: if it only looks, it leaves places to what is to be changed.
    pub(in super::super) fn open_max(&self) -> usize {
        match self {
            Self::Now | Self::Runs { .. } | Self::Details { .. } | Self::List { .. } => VIEWS_OPEN_MAX,
            Self::CancelRun { .. }
            | Self::CancelRuns { .. }
            | Self::Pause { .. }
            | Self::Resume { .. }
            | Self::Trigger { .. }
            | Self::Catalogue { .. } => REQUESTS_OPEN_MAX,
        }
    }
}

/// Jobs whose pause, or its end, one node has written for all nodes: no other writes it again, as it may have been
/// changed since.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Written {
    /// Only jobs behind this name, and up to that one, are meant; `None`: from the first, up to the last.
    pub(in super::super) after: Option<JobName>,
    pub(in super::super) to: Option<JobName>,
    /// Those of them that are written.
    pub(in super::super) jobs: BTreeSet<JobName>,
}

impl Written {
    /// Whether a job is meant.
    pub(in super::super) fn means(&self, job: &JobName) -> bool {
        self.after.as_ref().is_none_or(|after| job > after) && self.to.as_ref().is_none_or(|to| job <= to)
    }
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Reply {
    Now(NodeNow),
    Runs(RunsOnNode),
    Cancelled {
        runs: Vec<(JobName, RunId)>,
        /// Jobs have not answered, though they were told.
        is_partial: bool,
    },
    Changed(Vec<JobName>),
    Triggered(Triggered),
    Details(Box<JobStatus>),
    Page(JobPage),
    /// It knows the version.
    Known,
    /// It has no such job, or no such run.
    Unknown,
    /// It does not do it, and says why.
    Refused {
        kind: String,
        reason: String,
    },
    /// It cannot do it.
    Unable(Arc<str>),
}

impl Reply {
    pub(in super::super) fn refused(kind: ErrorKind, reason: impl ToString) -> Self {
        Self::Refused { kind: kind.as_str().to_owned(), reason: reason.to_string() }
    }
}

/// The kind of an error that another node names. One that this node does not know says no more than that it was not
/// done.
pub(in super::super) fn kind(word: &str) -> ErrorKind {
    ErrorKind::ALL.into_iter().find(|kind| kind.as_str() == word).unwrap_or(ErrorKind::Unavailable)
}

/// What a node says of itself in the table of sessions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Description {
    #[serde(default)]
    pub(in super::super) tasks: Vec<Arc<str>>,
    #[serde(default)]
    pub(in super::super) code_jobs: Option<JobSet>,
}

/// So many tasks of a node are named.
pub(in super::super) const TASKS_NAMED_MAX: usize = 100;

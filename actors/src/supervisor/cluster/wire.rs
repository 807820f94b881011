//! What nodes write to each other, as JSON. A node of another version may know other requests: what it cannot read, it
//! says.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    arguments::Arguments,
    core::{control::JobSet, time::FireTime},
    error::ErrorKind,
    job::{JobState, JobStatus, Triggered},
    message::{JobPage, NodeNow, RunsOnNode, Selector},
    name::{JobName, RunId},
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
    },
    Resume {
        jobs: Selector,
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

/// What it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Reply {
    Now(NodeNow),
    Runs(RunsOnNode),
    Cancelled(Vec<(JobName, RunId)>),
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

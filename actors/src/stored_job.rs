//! A job as the catalogue stores it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    core::{catalogue::DEFINITION_BYTES_MAX, text::Grouped},
    definition::Job,
    error::{ErrorKind, Fault, Faults},
    job_config::{ExpectConfig, JobConfig, PolicyConfig},
    name::JobName,
    note::Note,
    port::{CatalogueError, CatalogueRow, IntoSchedule, STORED_JOBS_MAX, Schedule},
    task::TaskCall,
};

/// A job as the catalogue stores it: data, whose task a node has registered.
///
/// `S` is the schedule as data. The package `callsheet` has one, and names this type with it. A key that is none of
/// these is refused: a node that meets one which a newer version has written does not run the job, and says so.
///
/// | key | value | if it is left out |
/// |---|---|---|
/// | `schedule` | the schedule as data, with its time zone | refused |
/// | `task` | `{"name": "send_report", "arguments": {"to": "alice"}}` | refused |
/// | `policies`, `expect` | as of a [`JobConfig`] | the defaults |
/// | `lock_key` | [`Job::lock_key`] | the job's name |
/// | `tags` | [`Job::tag`] | none |
/// | `metrics_label` | [`Job::metrics_label`] | the job's name |
/// | `remove_when_done` | [`Job::remove_when_done`]: it is deleted after its last run; the leader fires it | `false` |
/// | `enabled` | whether it is to run | `true` |
/// | `note` | what people say of it, at most 1,000 bytes | none |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "a stored job, such as {\"schedule\": \"0 9 * * *\", \"task\": {\"name\": \"send_report\"}}"
)]
#[non_exhaustive]
pub struct StoredJob<S> {
    /// When it is due.
    pub schedule: S,
    /// What it runs.
    pub task: TaskCall,
    /// Its policies.
    #[serde(default, skip_serializing_if = "PolicyConfig::is_empty")]
    pub policies: PolicyConfig,
    /// What is expected of it.
    #[serde(default, skip_serializing_if = "ExpectConfig::is_empty")]
    pub expect: ExpectConfig,
    /// What its runs exclude.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock_key: Option<String>,
    /// By what it is selected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The label of its metrics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_label: Option<String>,
    /// It is deleted after its last run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub remove_when_done: bool,
    /// It is to run.
    #[serde(default = "enabled", skip_serializing_if = "Clone::clone")]
    pub enabled: bool,
    /// What people say of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Note>,
}

fn enabled() -> bool {
    true
}

impl<S> StoredJob<S> {
    /// A job with default policies.
    pub fn new(schedule: S, task: TaskCall) -> Self {
        Self {
            schedule,
            task,
            policies: PolicyConfig::default(),
            expect: ExpectConfig::default(),
            lock_key: None,
            tags: Vec::new(),
            metrics_label: None,
            remove_when_done: false,
            enabled: true,
            note: None,
        }
    }

    /// A *one-shot*: it fires at the instants that its schedule has, and is deleted when it is done. If that is one
    /// instant, nodes hold it in memory only when it is near: see
    /// [`ONE_SHOTS_HELD_WITHIN`](crate::port::ONE_SHOTS_HELD_WITHIN).
    pub fn one_shot(schedule: impl Into<S>, task: TaskCall) -> Self {
        Self { remove_when_done: true, ..Self::new(schedule.into(), task) }
    }

    /// The job of this name.
    pub(crate) fn into_job(self, name: &str) -> Job
    where
        S: IntoSchedule,
    {
        let Self {
            schedule, task, policies, expect, lock_key, tags, metrics_label, remove_when_done, ..
        } = self;
        let config =
            JobConfig { schedule: Some(schedule), policies, expect, task: Some(task), backend: None };
        let mut job = Job::from_config(name, config);
        job = tags.into_iter().fold(job, Job::tag);
        job = lock_key.into_iter().fold(job, Job::lock_key);
        if remove_when_done {
            job = job.remove_when_done();
        }
        metrics_label.into_iter().fold(job, Job::metrics_label)
    }
}

/// The definition as the catalogue keeps it.
pub(crate) fn written(job: &impl Serialize) -> Result<Arc<str>, Fault> {
    // In one form, whatever the type: equal definitions are equal texts.
    let text = serde_json::to_value(job).map(|value| value.to_string());
    let text = text.map_err(|error| {
        let rule = format!("it cannot be written as JSON: {error}");
        Fault::new("definition", "a stored job", rule, "mend what cannot be written")
    })?;
    check_length(&text)?;
    Ok(text.into())
}

pub(crate) fn check_length(text: &str) -> Result<(), Fault> {
    if text.len() <= DEFINITION_BYTES_MAX {
        return Ok(());
    }
    let [max, found] = [DEFINITION_BYTES_MAX, text.len()].map(|bytes| Grouped(bytes as u64));
    let rule = format!("a definition has at most {max} bytes as JSON, this one has {found}");
    Err(Fault::new("definition", "a stored job", rule, "store what is large elsewhere"))
}

/// Reads a schedule that is data.
pub type ScheduleReader = Arc<dyn Fn(Value) -> Result<Arc<dyn Schedule>, String> + Send + Sync>;

/// Reads what the catalogue keeps of a job: the job, and whether it is to run.
pub(crate) fn read(name: &str, definition: &str, reader: &ScheduleReader) -> Result<(Job, bool), Faults> {
    let within = |fault: Fault| fault.within(&format!("job {name:?}"));
    check_length(definition).map_err(within)?;
    let mut json = serde_json::Deserializer::from_str(definition);
    let stored: StoredJob<Value> = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let rule = if path == "." { error.inner().to_string() } else { format!("{path}: {}", error.inner()) };
        within(Fault::new("definition", definition, rule, "mend it, or delete the job"))
    })?;
    let schedule = reader(stored.schedule.clone()).map_err(|rule| {
        within(Fault::new("schedule", stored.schedule.to_string(), rule, "mend it, or delete the job"))
    })?;
    let enabled = stored.enabled;
    Ok((StoredJob::of(schedule, stored).into_job(name), enabled))
}

impl<S> StoredJob<S> {
    /// The same job by a schedule in another form.
    fn of<T>(schedule: S, other: StoredJob<T>) -> Self {
        let StoredJob { task, policies, expect, lock_key, tags, metrics_label, enabled, note, .. } = other;
        let remove_when_done = other.remove_when_done;
        Self {
            schedule,
            task,
            policies,
            expect,
            lock_key,
            tags,
            metrics_label,
            remove_when_done,
            enabled,
            note,
        }
    }
}

/// Why a stored job was not changed or answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoredJobError {
    /// Something is wrong with the definition.
    #[error("{0}")]
    Invalid(Faults),
    /// There is no stored job of this name.
    #[error("there is no stored job {name:?}; list the stored jobs to see their names")]
    UnknownJob {
        /// The name as it was given, at most [`NAME_MAX`](crate::NAME_MAX) bytes of it.
        name: String,
    },
    /// This node has no job of code of this name.
    #[error(
        "this node has no job of code {name:?}; ask a node that has it, or list the jobs to see their names"
    )]
    NoJobOfCode {
        /// The name as it was given, at most [`NAME_MAX`](crate::NAME_MAX) bytes of it.
        name: String,
    },
    /// Nobody has overridden the schedule of a job of this name.
    #[error("nobody has overridden the schedule of {name:?}; the details of a job say whether somebody has")]
    NotOverridden {
        /// The name as it was given, at most [`NAME_MAX`](crate::NAME_MAX) bytes of it.
        name: String,
    },
    /// Another one came first: what was [expected](crate::PutJob::expecting) is not so.
    #[error("job {job:?} was not changed: {}; read it, and change what stands", stands(standing.as_deref()))]
    Elsewhere {
        /// The job.
        job: JobName,
        /// What stands; `None` if there is no such job.
        standing: Option<Box<CatalogueRow>>,
    },
    /// There are as many stored jobs as may be.
    #[error("{} jobs are stored, and no more may be; delete some", Grouped(STORED_JOBS_MAX as u64))]
    Full,
    /// The store keeps no jobs.
    #[error("the {backend} store keeps no jobs as data; use another store, or a catalogue of its own")]
    NotKept {
        /// What the store is called.
        backend: &'static str,
    },
    /// The catalogue did not answer, so that it may be done; or it refuses it.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The engine shuts down or has stopped.
    #[error("no stored job is changed any more: the engine shuts down")]
    ShuttingDown,
}

fn stands(row: Option<&CatalogueRow>) -> String {
    match row {
        Some(row) => {
            let by = row.changed_by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
            format!("version {} stands, of {}{by}", row.version, row.changed_at)
        }
        None => "there is no such job".to_owned(),
    }
}

impl StoredJobError {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_) | Self::Catalogue(CatalogueError::BadData { .. }) => ErrorKind::Invalid,
            Self::UnknownJob { .. } | Self::NoJobOfCode { .. } | Self::NotOverridden { .. } => {
                ErrorKind::NotFound
            }
            Self::Elsewhere { .. } => ErrorKind::Exists,
            Self::Full | Self::NotKept { .. } | Self::Catalogue(CatalogueError::Unavailable { .. }) => {
                ErrorKind::Unavailable
            }
            Self::ShuttingDown => ErrorKind::Stopped,
        }
    }
}

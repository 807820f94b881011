//! What a file of an application says of a job that its code defines.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{
    core::{
        alarm::Expectations,
        policy::{Fires, Misfire, OnLost, Overlap, Policies, Retry},
    },
    definition::{Job, SharedBody},
    error::{Fault, Faults},
    port::{IntoSchedule, Schedule},
    task::TaskCall,
};

/// What a file says of a job: a schedule, its backend, policies, what is expected of it, and the task that it runs.
/// What it does not say stays as the code has it: see [`Job::apply`]. A job that no code defines is made by
/// [`Job::from_config`].
///
/// `S` is the schedule as data. The package `callsheet` has one, and names this type with it.
///
/// A key that is none of these is refused, with its path.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct JobConfig<S> {
    /// When it is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<S>,
    /// [`Job::on`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Its policies.
    #[serde(skip_serializing_if = "PolicyConfig::is_empty")]
    pub policies: PolicyConfig,
    /// What is expected of it.
    #[serde(skip_serializing_if = "ExpectConfig::is_empty")]
    pub expect: ExpectConfig,
    /// The task that it runs, in the place of its body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskCall>,
}

impl<S> Default for JobConfig<S> {
    fn default() -> Self {
        let (policies, expect) = (PolicyConfig::default(), ExpectConfig::default());
        Self { schedule: None, backend: None, policies, expect, task: None }
    }
}

/// The policies that a file names.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "policies of a job, such as {\"timeout\": \"10m\"}")]
#[non_exhaustive]
pub struct PolicyConfig {
    /// [`Policies::fires`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fires: Option<Fires>,
    /// [`Policies::overlap`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Overlap>,
    /// [`Policies::misfire`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub misfire: Option<Misfire>,
    /// [`Policies::on_lost`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_lost: Option<OnLost>,
    /// [`Policies::misfire_after`].
    #[serde(with = "crate::serde::duration", skip_serializing_if = "Option::is_none")]
    pub misfire_after: Option<Duration>,
    /// [`Policies::retry`], as a whole: what it does not name has the default of [`Retry`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// [`Policies::timeout`].
    #[serde(with = "crate::serde::duration", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// [`Policies::abort_after`].
    #[serde(with = "crate::serde::duration", skip_serializing_if = "Option::is_none")]
    pub abort_after: Option<Duration>,
    /// [`Policies::limit`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// [`Policies::pause_after`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause_after: Option<u32>,
    /// [`Policies::priority`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i8>,
}

impl PolicyConfig {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The policies with what this names in the place of what they say.
    pub fn over(self, policies: Policies) -> Policies {
        let Self {
            fires,
            overlap,
            misfire,
            on_lost,
            misfire_after,
            retry,
            timeout,
            abort_after,
            limit,
            pause_after,
            priority,
        } = self;
        Policies {
            fires: fires.unwrap_or(policies.fires),
            overlap: overlap.unwrap_or(policies.overlap),
            misfire: misfire.unwrap_or(policies.misfire),
            on_lost: on_lost.unwrap_or(policies.on_lost),
            misfire_after: misfire_after.unwrap_or(policies.misfire_after),
            retry: retry.unwrap_or(policies.retry),
            timeout: timeout.or(policies.timeout),
            abort_after: abort_after.unwrap_or(policies.abort_after),
            limit: limit.or(policies.limit),
            pause_after: pause_after.or(policies.pause_after),
            priority: priority.unwrap_or(policies.priority),
        }
    }
}

/// What a file expects of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    expecting = "what is expected of a job, such as {\"success_within\": \"26h\"}"
)]
#[non_exhaustive]
pub struct ExpectConfig {
    /// [`Job::expect_success_within`].
    #[serde(with = "crate::serde::duration", skip_serializing_if = "Option::is_none")]
    pub success_within: Option<Duration>,
    /// [`Job::expect_start_within`].
    #[serde(with = "crate::serde::duration", skip_serializing_if = "Option::is_none")]
    pub start_within: Option<Duration>,
    /// [`Job::expect_end_within`].
    #[serde(with = "crate::serde::duration", skip_serializing_if = "Option::is_none")]
    pub end_within: Option<Duration>,
    /// [`Job::expect_at_least`].
    #[serde(with = "crate::serde::duration", skip_serializing_if = "Option::is_none")]
    pub at_least: Option<Duration>,
}

impl ExpectConfig {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is expected, with what this names in the place of what the code says.
    fn over(self, expected: Expectations) -> Expectations {
        let Self { success_within, start_within, end_within, at_least } = self;
        Expectations {
            success: success_within.or(expected.success),
            start: start_within.or(expected.start),
            end: end_within.or(expected.end),
            at_least: at_least.or(expected.at_least),
        }
    }
}

/// The keys of a [`JobConfig`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a job, such as {\"schedule\": \"0 3 * * *\", \"policies\": {}}")]
struct Keys<S> {
    #[serde(default = "Option::default")]
    schedule: Option<S>,
    #[serde(default)]
    backend: Option<String>,
    #[serde(default)]
    policies: PolicyConfig,
    #[serde(default)]
    expect: ExpectConfig,
    #[serde(default)]
    task: Option<TaskCall>,
}

impl<'de, S: Deserialize<'de>> Deserialize<'de> for JobConfig<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = serde_path_to_error::deserialize(deserializer);
        let Keys { schedule, backend, policies, expect, task } = read.map_err(|error| {
            let path = error.path().to_string();
            let error = error.into_inner();
            if path == "." {
                return error;
            }
            let text = error.to_string();
            // A schedule tells the end of the path itself.
            let rest = text.split_once(": ").filter(|(told, _)| path.ends_with(told)).map(|(_, rest)| rest);
            de::Error::custom(format_args!("{path}: {}", rest.unwrap_or(&text)))
        })?;
        Ok(Self { schedule, backend, policies, expect, task })
    }
}

impl<B> Job<B> {
    /// Puts what a file says in the place of what the code says: the schedule and the [backend](Self::on), if it names
    /// them, each policy and each expectation that it names, and the body, if it names a [task](crate::Task). A
    /// timeout, a limit, [`pause_after`](Self::pause_after) and an expectation can be changed so, but not taken away.
    /// What is wrong with them is reported as of every other job, when it is added, or by [`check`](Job::check).
    #[must_use]
    pub fn apply<S: IntoSchedule>(mut self, config: JobConfig<S>) -> Self {
        let JobConfig { schedule, backend, policies, expect, task } = config;
        if let Some(schedule) = schedule {
            self.set_schedule(schedule);
        }
        if let Some(backend) = backend {
            self = self.on(backend);
        }
        *self.policies_mut() = policies.over(*self.policies_mut());
        *self.expected_mut() = expect.over(*self.expected_mut());
        if let Some(task) = task {
            self.set_task(Ok(task));
        }
        self
    }
}

impl Job {
    /// A job that no code defines: the configuration says when it is due, and which [task](crate::Task) it runs. What
    /// it leaves out has its default; that the schedule or the task is missing is told when the job is added, or by
    /// [`check`](Self::check).
    pub fn from_config<S: IntoSchedule>(name: impl Into<String>, mut config: JobConfig<S>) -> Self {
        let job = match config.schedule.take() {
            Some(schedule) => Job::new(name, schedule),
            None => Job::new(name, NoSchedule),
        };
        job.apply(config).with_body(SharedBody::default())
    }
}

/// What a configuration has that names none.
struct NoSchedule;

impl IntoSchedule for NoSchedule {
    fn into_schedule(self) -> Result<Arc<dyn Schedule>, Faults> {
        Err(Fault::new("schedule", "", "a job has a schedule", "say when it is due").into())
    }
}

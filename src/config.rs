//! Jobs as a file of an application configures them.

use crate::schedule::Definition;

/// What a file says of a job that the code defines: when it is due, its policies, what is expected of it, and the task
/// that it runs.
/// [`Job::apply`](crate::Job::apply) puts it in the place of what the code says; what the file does not say
/// stays. A job that no code defines is made by [`Job::from_config`](crate::Job::from_config).
///
/// | key | value |
/// |---|---|
/// | `schedule` | [a schedule as data](crate::schedule#as-data): a cron expression as text, or an object |
/// | `backend` | the name of a [named backend](crate::Builder::backend_named): [`Job::on`](crate::Job::on) |
/// | `policies.fires` | `"leader"`, `"any_node"`, `"local"`: [`Fires`](crate::Fires) |
/// | `policies.overlap` | `"skip"`, `{"queue": 1}`, `"replace"`, `{"allow": 2}`: [`Overlap`](crate::Overlap) |
/// | `policies.misfire` | `"auto"`, `{"latest": {"within": "1h"}}`, `{"all": {"max": 10, "within": "1h"}}`, `"skip"`: [`Misfire`](crate::Misfire) |
/// | `policies.on_lost` | `"record"`, `"retry"`: [`OnLost`](crate::OnLost) |
/// | `policies.retry` | `{"attempts": 3, "initial": "1s", "factor": 2.0, "max": "5m", "jitter": 0.2}`, of which all may be left out: [`Retry`](crate::Retry) |
/// | `policies.misfire_after`, `policies.timeout`, `policies.abort_after` | a duration: `"1m 30s"` |
/// | `policies.limit`, `policies.pause_after`, `policies.priority` | a number |
/// | `expect.success_within`, `expect.start_within`, `expect.end_within`, `expect.at_least` | a duration: [`Expectation`](crate::Expectation) |
/// | `task` | `{"name": "send_report", "arguments": {"to": "alice"}}`: a registered [task](crate::Task), in the place of the body |
///
/// The same in JSON, TOML and what else serde reads. A key that is none of these is refused, and so is a
/// value of another type, with the path in the message. What is wrong with the values themselves is told when
/// the job is added.
///
/// ```
/// use std::collections::HashMap;
///
/// use callsheet::prelude::*;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let file = r#"
///     [cleanup]
///     schedule = "30 4 * * *"
///     policies.timeout = "20m"
///     policies.retry = { attempts = 3, initial = "30s" }
///
///     [report]
///     schedule = { cron = "0 9 * * 1-5", timezone = "Europe/Lisbon" }
///     policies.misfire = { latest = { within = "1h" } }
///     expect = { success_within = "26h", start_within = "5m" }
/// "#;
/// let mut jobs: HashMap<String, JobConfig> = toml::from_str(file)?;
///
/// let cleanup = Job::new("cleanup", cron("0 3 * * *"))
///     .overlap(Overlap::Replace)
///     .apply(jobs.remove("cleanup").unwrap_or_default())
///     .run(async |_| {});
/// cleanup.check()?;
///
/// let error = toml::from_str::<HashMap<String, JobConfig>>("[cleanup]\npolicies.overlap.queue = 'one'").unwrap_err();
/// assert!(error.to_string().contains("policies.overlap.queue: invalid type: string \"one\", expected u32"),
/// "{error}");
/// # Ok(())
/// # }
/// ```
pub type JobConfig = callsheet_actors::JobConfig<Definition>;

/// A job as the catalogue stores it, for all nodes: [`Callsheet::put`](crate::Callsheet::put). Its schedule is
/// [data](crate::schedule#as-data).
pub type StoredJob = callsheet_actors::StoredJob<Definition>;

/// A JSON Schema (draft 2020-12) of a [`StoredJob`], with the [schedule as data](crate::schedule#as-data) in it: for
/// editors, for other languages, and for forms. What a task's arguments may be says the schema of the task:
/// [`Callsheet::tasks`](crate::Callsheet::tasks).
///
/// It checks names, types and most bounds, but not what the texts say: that is checked when a job is stored.
pub const STORED_JOB_SCHEMA: &str = include_str!("config/stored_job.schema.json");

#[cfg(test)]
mod schema;

//! What nodes of one scope tell each other: notifications of the server, as JSON.
//!
//! They are sent by the statements that change something, so they arrive once that is committed. They are
//! hints: any role that knows the channel may send one, and one may be lost. So the store is asked before
//! one is believed, and its answer is handed on.

use std::collections::HashMap;

use callsheet_actors::{
    By, FireTime, JobName, RunId,
    port::{Notification, Pause, PendingRetry, PendingRetryOfJob},
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::error::Category;
use tokio_postgres::{Client, Error, Statement};
use uuid::Uuid;

/// The most notifications that wait to be read; beyond it the oldest are dropped, and the node is told so.
pub(super) const NOTIFICATIONS_MAX: usize = 1_024;

/// The most notifications of which the store is asked at once.
pub(super) const ASKED_MAX: usize = 256;

/// What the table of stored jobs sends to every session when it is changed.
pub(super) const CATALOGUE_CHANGED: &str = r#"{"catalogue": {}}"#;

/// How jobs ($2) of a scope ($1) are paused. Locks nothing.
pub(super) const PAUSES: &str = "
SELECT name AS job, paused AND coalesce(paused_until > clock_timestamp(), true) AS paused, paused_until, pause_note, paused_by
FROM unnest($2::text[]) AS a (job) CROSS JOIN LATERAL (SELECT * FROM names WHERE scope = $1 AND name = a.job LIMIT 1) AS n";

/// Which of these runs ($2) of a scope ($1) are still to be retried. Locks nothing.
pub(super) const PENDING: &str = "
SELECT run FROM unnest($2::uuid[]) AS a (asked)
CROSS JOIN LATERAL (SELECT run FROM debts WHERE scope = $1 AND run = a.asked LIMIT 1) AS d";

/// Asks the store about notifications of a scope.
pub(super) struct Witness {
    pub(super) scope: String,
    pub(super) pauses: Statement,
    pub(super) pending: Statement,
}

impl Witness {
    /// Hands on what the store says of what was heard, in the same order. A stop names a run that only the
    /// tables tell of.
    pub(super) async fn confirm(
        &self,
        client: &Client,
        heard: Vec<Notification>,
    ) -> Result<Vec<Notification>, Error> {
        let jobs = heard.iter().filter_map(|notification| match notification {
            Notification::PauseChanged { job, .. } => Some(job.as_str()),
            _ => None,
        });
        let runs = heard.iter().filter_map(|notification| match notification {
            Notification::PendingRetry(pending) => Some(pending.retry.run.as_uuid()),
            _ => None,
        });
        let (jobs, runs): (Vec<_>, Vec<_>) = (jobs.collect(), runs.collect());
        let mut pauses: HashMap<String, Option<Pause>> = HashMap::new();
        if !jobs.is_empty() {
            for row in client.query(&self.pauses, &[&self.scope, &jobs]).await? {
                let by: Option<String> = row.try_get("paused_by")?;
                let pause = Pause {
                    until: row.try_get("paused_until")?,
                    note: row.try_get("pause_note")?,
                    by: by.and_then(|by| By::new(by).ok()),
                };
                let is_paused: bool = row.try_get("paused")?;
                pauses.insert(row.try_get("job")?, is_paused.then_some(pause));
            }
        }
        let mut pending_runs: Vec<Uuid> = Vec::new();
        if !runs.is_empty() {
            for row in client.query(&self.pending, &[&self.scope, &runs]).await? {
                pending_runs.push(row.try_get("run")?);
            }
        }
        let confirm = |notification| match notification {
            Notification::PauseChanged { job, .. } => {
                let pause = pauses.get(job.as_str())?.clone();
                Some(Notification::PauseChanged { job, pause })
            }
            Notification::PendingRetry(pending) => pending_runs
                .contains(&pending.retry.run.as_uuid())
                .then_some(Notification::PendingRetry(pending)),
            other => Some(other),
        };
        Ok(heard.into_iter().filter_map(confirm).collect())
    }
}

/// What is handed on when the store did not answer: what needs no word of it, and that something was missed,
/// so that the jobs ask for themselves.
pub(super) fn unconfirmed(heard: Vec<Notification>) -> Vec<Notification> {
    let stops = heard.into_iter().filter(|notification| matches!(notification, Notification::Stop { .. }));
    stops.chain([Notification::Lagged]).collect()
}

/// As the statements write it.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Payload {
    Stop { beacon: i64, run: Uuid },
    Pause { job: String, pause: Option<Pause> },
    Owed { job: String, owed: WrittenRetry },
    Backfills {},
}

/// A pending retry, as the statements write it.
#[derive(Deserialize)]
struct WrittenRetry {
    run: Uuid,
    fire_time: Option<DateTime<Utc>>,
    named: Option<DateTime<Utc>>,
    losses: u32,
}

impl From<WrittenRetry> for PendingRetry {
    fn from(WrittenRetry { run, fire_time, named, losses }: WrittenRetry) -> Self {
        let [fire_time, named] = [fire_time, named].map(|at| at.map(FireTime::new));
        Self { run: RunId::from(run), fire_time, named, losses }
    }
}

/// Reads the pending retries of a job, as an enrolment answers them.
pub(super) fn read_pending_retries(written: &str) -> serde_json::Result<Vec<PendingRetry>> {
    let pending_retries: Vec<WrittenRetry> = serde_json::from_str(written)?;
    Ok(pending_retries.into_iter().map(PendingRetry::from).collect())
}

/// Reads a notification for the session of a beacon: nothing, if it is for another one.
///
/// # Errors
///
/// What is wrong with it, in words that do not show it.
pub(super) fn read(payload: &str, own_beacon: i64) -> Result<Option<Notification>, String> {
    let notification = serde_json::from_str(payload).map_err(|error| {
        // The text of an error may quote what somebody else wrote.
        let what = match error.classify() {
            Category::Syntax => "no JSON",
            Category::Eof => "cut off",
            Category::Data | Category::Io => "of another form",
        };
        format!("it is {what}, from column {} on", error.column())
    })?;
    match notification {
        Payload::Stop { beacon, run } => {
            Ok((beacon == own_beacon).then(|| Notification::Stop { run: RunId::from(run) }))
        }
        Payload::Pause { job, pause } => Ok(Some(Notification::PauseChanged { job: name(job)?, pause })),
        Payload::Backfills {} => Ok(Some(Notification::BackfillsChanged)),
        Payload::Owed { job, owed } => {
            Ok(Some(Notification::PendingRetry(PendingRetryOfJob { job: name(job)?, retry: owed.into() })))
        }
    }
}

fn name(job: String) -> Result<JobName, String> {
    JobName::new(job).map_err(|_| "not the name of a job".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "0190a000-0000-7000-8000-000000000001";

    #[test]
    fn a_stop_is_for_the_session_of_the_run() {
        let payload = format!(r#"{{"stop" : {{"beacon" : -7, "run" : "{RUN}"}}}}"#);
        let run = RunId::from(RUN.parse::<Uuid>().unwrap());
        assert_eq!(read(&payload, -7), Ok(Some(Notification::Stop { run })));
        assert_eq!(read(&payload, 7), Ok(None));
    }

    #[test]
    fn a_stop_is_handed_on_without_the_store() {
        let stop = Notification::Stop { run: RunId::from(RUN.parse::<Uuid>().unwrap()) };
        let pause = Notification::PauseChanged { job: JobName::new("job").unwrap(), pause: None };
        assert_eq!(unconfirmed(vec![pause.clone(), stop.clone(), pause]), [stop, Notification::Lagged]);
    }

    #[test]
    fn a_pause_is_for_every_session() {
        let job = JobName::new("job").unwrap();
        let resumed = r#"{"pause": {"job": "job", "pause": null}}"#;
        assert_eq!(read(resumed, 1), Ok(Some(Notification::PauseChanged { job: job.clone(), pause: None })));
        let paused = r#"{"pause": {"job": "job", "pause": {"until": "2026-03-28T01:00:00+01:00", "note": "a \"note\""}}}"#;
        let until = Some("2026-03-28T00:00:00Z".parse().unwrap());
        let pause = Pause { until, note: Some(r#"a "note""#.to_owned()), by: None };
        assert_eq!(read(paused, 1), Ok(Some(Notification::PauseChanged { job, pause: Some(pause) })));
    }

    #[test]
    fn a_pending_retry_is_for_every_session() {
        let run = RunId::from(RUN.parse::<Uuid>().unwrap());
        let fire_time: DateTime<Utc> = "2026-03-28T00:00:00.250Z".parse().unwrap();
        for (written_time, fire_time) in
            [(r#""2026-03-28T01:00:00.25+01:00""#, Some(FireTime::new(fire_time))), ("null", None)]
        {
            let written = format!(r#"{{"run": "{RUN}", "fire_time": {written_time}, "losses": 2}}"#);
            let pending = PendingRetry { run, fire_time, named: None, losses: 2 };
            let payload = format!(r#"{{"owed": {{"job": "job", "owed": {written}}}}}"#);
            let job = JobName::new("job").unwrap();
            assert_eq!(
                read(&payload, 1),
                Ok(Some(Notification::PendingRetry(PendingRetryOfJob { job, retry: pending })))
            );
            assert_eq!(read_pending_retries(&format!("[{written}]")).unwrap(), [pending]);
        }
    }

    #[test]
    fn that_backfills_changed_is_for_every_session() {
        assert_eq!(read(r#"{"backfills": {}}"#, 1), Ok(Some(Notification::BackfillsChanged)));
    }

    #[test]
    fn what_no_node_sent_is_refused_without_being_shown() {
        let secret = [
            "secret",
            r#"{"secret": {}}"#,
            r#"{"pause": {"job": "\u0007 secret", "pause": null}}"#,
            r#"{"stop": {"beacon": "secret", "run": "secret"}}"#,
            r#"{"owed": {"job": "job", "owed": {"run": "secret"}}}"#,
        ];
        for payload in secret {
            let refused = read(payload, 1).unwrap_err();
            assert!(!refused.contains("secret"), "{refused}");
        }
    }
}

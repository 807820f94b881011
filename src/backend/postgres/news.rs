//! What nodes of one scope tell each other: notifications of the server, as JSON.
//!
//! They are sent by the statements that change something, so they arrive once that is committed. They are
//! hints: anybody who knows the channel may send one, and one may be lost. So the store is asked before one
//! is believed, and what it says is handed on.

use std::collections::HashMap;

use callsheet_actors::{
    FireTime, JobName, RunId,
    port::{Debt, News, OwedRun, Pause},
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::error::Category;
use tokio_postgres::{Client, Error, Statement};
use uuid::Uuid;

/// The most notifications that wait to be read; beyond it the oldest are dropped, and the node is told so.
pub(super) const NEWS_MAX: usize = 1_024;

/// The most notifications of which the store is asked at once.
pub(super) const ASKED_MAX: usize = 256;

/// How jobs ($2) of a scope ($1) are paused. Locks nothing.
pub(super) const PAUSES: &str = "
SELECT name AS job, paused AND coalesce(paused_until > clock_timestamp(), true) AS paused, paused_until, pause_note
FROM unnest($2::text[]) AS a (job) CROSS JOIN LATERAL (SELECT * FROM names WHERE scope = $1 AND name = a.job LIMIT 1) AS n";

/// Which of these runs ($2) of a scope ($1) are owed. Locks nothing.
pub(super) const OWED: &str = "
SELECT run FROM unnest($2::uuid[]) AS a (asked)
CROSS JOIN LATERAL (SELECT run FROM debts WHERE scope = $1 AND run = a.asked LIMIT 1) AS d";

/// What asks the store about notifications of a scope.
pub(super) struct Witness {
    pub(super) scope: String,
    pub(super) pauses: Statement,
    pub(super) owed: Statement,
}

impl Witness {
    /// Hands on what the store says of what was heard, in the same order. A stop names a run that only the
    /// tables tell of.
    pub(super) async fn confirm(&self, client: &Client, heard: Vec<News>) -> Result<Vec<News>, Error> {
        let jobs = heard.iter().filter_map(|news| match news {
            News::Pause { job, .. } => Some(job.as_str()),
            _ => None,
        });
        let runs = heard.iter().filter_map(|news| match news {
            News::Owed(debt) => Some(debt.owed.run.as_uuid()),
            _ => None,
        });
        let (jobs, runs): (Vec<_>, Vec<_>) = (jobs.collect(), runs.collect());
        let mut pauses: HashMap<String, Option<Pause>> = HashMap::new();
        if !jobs.is_empty() {
            for row in client.query(&self.pauses, &[&self.scope, &jobs]).await? {
                let pause = Pause { until: row.try_get("paused_until")?, note: row.try_get("pause_note")? };
                let is_paused: bool = row.try_get("paused")?;
                pauses.insert(row.try_get("job")?, is_paused.then_some(pause));
            }
        }
        let mut owed: Vec<Uuid> = Vec::new();
        if !runs.is_empty() {
            for row in client.query(&self.owed, &[&self.scope, &runs]).await? {
                owed.push(row.try_get("run")?);
            }
        }
        let confirm = |news| match news {
            News::Pause { job, .. } => {
                let pause = pauses.get(job.as_str())?.clone();
                Some(News::Pause { job, pause })
            }
            News::Owed(debt) => owed.contains(&debt.owed.run.as_uuid()).then_some(News::Owed(debt)),
            other => Some(other),
        };
        Ok(heard.into_iter().filter_map(confirm).collect())
    }
}

/// What is handed on when the store did not answer: what needs no word of it, and that something was missed,
/// so that the jobs ask for themselves.
pub(super) fn unconfirmed(heard: Vec<News>) -> Vec<News> {
    let stops = heard.into_iter().filter(|news| matches!(news, News::Stop { .. }));
    stops.chain([News::Missed]).collect()
}

/// As the statements write it.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Notification {
    Stop { beacon: i64, run: Uuid },
    Pause { job: String, pause: Option<Pause> },
    Owed { job: String, owed: WrittenDebt },
}

/// A run that is owed, as the statements write it.
#[derive(Deserialize)]
struct WrittenDebt {
    run: Uuid,
    fire_time: Option<DateTime<Utc>>,
    losses: u32,
}

impl From<WrittenDebt> for OwedRun {
    fn from(WrittenDebt { run, fire_time, losses }: WrittenDebt) -> Self {
        Self { run: RunId::from(run), fire_time: fire_time.map(FireTime::new), losses }
    }
}

/// Reads the runs that a job owes, as an enrolment answers them.
pub(super) fn read_debts(written: &str) -> serde_json::Result<Vec<OwedRun>> {
    let debts: Vec<WrittenDebt> = serde_json::from_str(written)?;
    Ok(debts.into_iter().map(OwedRun::from).collect())
}

/// Reads a notification for the session of a beacon: nothing, if it is for another one.
///
/// # Errors
///
/// What is wrong with it, in words that do not show it.
pub(super) fn read(payload: &str, own_beacon: i64) -> Result<Option<News>, String> {
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
        Notification::Stop { beacon, run } => {
            Ok((beacon == own_beacon).then(|| News::Stop { run: RunId::from(run) }))
        }
        Notification::Pause { job, pause } => Ok(Some(News::Pause { job: name(job)?, pause })),
        Notification::Owed { job, owed } => Ok(Some(News::Owed(Debt { job: name(job)?, owed: owed.into() }))),
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
        assert_eq!(read(&payload, -7), Ok(Some(News::Stop { run })));
        assert_eq!(read(&payload, 7), Ok(None));
    }

    #[test]
    fn a_stop_is_handed_on_without_the_store() {
        let stop = News::Stop { run: RunId::from(RUN.parse::<Uuid>().unwrap()) };
        let pause = News::Pause { job: JobName::new("job").unwrap(), pause: None };
        assert_eq!(unconfirmed(vec![pause.clone(), stop.clone(), pause]), [stop, News::Missed]);
    }

    #[test]
    fn a_pause_is_for_every_session() {
        let job = JobName::new("job").unwrap();
        let resumed = r#"{"pause": {"job": "job", "pause": null}}"#;
        assert_eq!(read(resumed, 1), Ok(Some(News::Pause { job: job.clone(), pause: None })));
        let paused = r#"{"pause": {"job": "job", "pause": {"until": "2026-03-28T01:00:00+01:00", "note": "a \"note\""}}}"#;
        let until = Some("2026-03-28T00:00:00Z".parse().unwrap());
        let pause = Pause { until, note: Some(r#"a "note""#.to_owned()) };
        assert_eq!(read(paused, 1), Ok(Some(News::Pause { job, pause: Some(pause) })));
    }

    #[test]
    fn a_debt_is_for_every_session() {
        let run = RunId::from(RUN.parse::<Uuid>().unwrap());
        let fire_time: DateTime<Utc> = "2026-03-28T00:00:00.250Z".parse().unwrap();
        for (written, fire_time) in
            [(r#""2026-03-28T01:00:00.25+01:00""#, Some(FireTime::new(fire_time))), ("null", None)]
        {
            let owed = format!(r#"{{"run": "{RUN}", "fire_time": {written}, "losses": 2}}"#);
            let debt = OwedRun { run, fire_time, losses: 2 };
            let payload = format!(r#"{{"owed": {{"job": "job", "owed": {owed}}}}}"#);
            let job = JobName::new("job").unwrap();
            assert_eq!(read(&payload, 1), Ok(Some(News::Owed(Debt { job, owed: debt }))));
            assert_eq!(read_debts(&format!("[{owed}]")).unwrap(), [debt]);
        }
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

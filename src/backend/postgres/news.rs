//! What nodes of one scope tell each other: notifications of the server, as JSON.
//!
//! They are sent by the statements that change something, so they arrive once that is committed. They are hints: anybody who
//! may connect may send one, and one may be lost.

use callsheet_actors::{
    FireTime, JobName, RunId,
    port::{Debt, News, OwedRun, Pause},
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use uuid::Uuid;

/// The most notifications that wait to be read; beyond it the oldest are dropped, and the node is told so.
pub(super) const NEWS_MAX: usize = 1_024;

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
        format!("{:?} error in column {}", error.classify(), error.column())
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

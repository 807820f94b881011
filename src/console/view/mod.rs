//! What the API answers, as types of its own: they are the contract with whoever reads it, and its description.

mod job;
mod overview;
mod policies;
mod record;
mod row;

use std::time::Duration;

use callsheet_actors::{FireTime, RunId};
use chrono::{DateTime, Utc};

pub(crate) use self::{
    job::{HistoryView, JobAnswer, JobView},
    overview::Overview,
    policies::{PolicyView, policies},
    record::{DecisionView, OperationView, RunView},
    row::{PauseView, Row},
};

/// An id as text.
pub(crate) fn id(run: RunId) -> String {
    run.to_string()
}

pub(crate) fn instant(fire_time: Option<FireTime>) -> Option<DateTime<Utc>> {
    fire_time.map(FireTime::instant)
}

/// A duration as text.
pub(crate) fn span(duration: Duration) -> String {
    #[derive(serde::Serialize)]
    #[serde(transparent)]
    struct Written(#[serde(with = "crate::serde::duration")] Duration);
    match serde_json::to_value(Written(duration)) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(_) | Err(_) => format!("{}ms", duration.as_millis()),
    }
}

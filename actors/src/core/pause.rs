//! A job that does not fire for a while.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    core::{
        storable::storable,
        text::{MARK_MAX, bounded, cut},
    },
    name::By,
};

/// The longest note of a pause, in bytes.
pub const PAUSE_NOTE_MAX: usize = 1_000;

/// A job that is not to fire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Until when, by the store's clock; `None`: until it is resumed.
    pub until: Option<DateTime<Utc>>,
    /// Why, in the words of the person or the program that paused it, at most [`PAUSE_NOTE_MAX`] bytes.
    pub note: Option<String>,
    /// Who paused it; `None` if nobody said so, or if it was the job itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
}

impl Pause {
    /// Until the job is resumed.
    pub fn until_resumed() -> Self {
        Self { until: None, note: None, by: None }
    }

    /// Until an instant, by the store's clock, or until the job is resumed before. The instant is in the
    /// future: others are refused.
    pub fn until(instant: DateTime<Utc>) -> Self {
        Self { until: Some(instant), note: None, by: None }
    }

    /// Says why, for those who wonder: at most [`PAUSE_NOTE_MAX`] bytes. Longer ones are refused.
    #[must_use]
    pub fn note(self, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..self }
    }

    /// Says who pauses the job.
    #[must_use]
    pub fn by(self, by: impl Into<Option<By>>) -> Self {
        Self { by: by.into(), ..self }
    }

    /// Whether it is the same pause for the same reason, whoever asked for it: who asks for it once more
    /// changes nothing.
    pub fn is_same_as(&self, other: &Self) -> bool {
        (self.until, &self.note) == (other.until, &other.note)
    }

    /// Of a job whose runs failed so often in a row.
    pub fn after_failures(failures: u32) -> Self {
        Self::until_resumed().note(format!("runs that failed in a row: {failures}"))
    }

    /// Of a job whose body said that it is to stop for good.
    pub fn stopped_by(error: &str) -> Self {
        let note = format_args!("stopped by its body: {}", storable(error));
        Self::until_resumed().note(bounded(note, PAUSE_NOTE_MAX - MARK_MAX))
    }

    /// As it is kept, also if another program wrote it into the store: of a note that is too long, the start.
    pub(crate) fn cut(mut self) -> Self {
        if let Some(note) = self.note.as_mut().filter(|note| note.len() > PAUSE_NOTE_MAX) {
            cut(note, PAUSE_NOTE_MAX - MARK_MAX);
        }
        self
    }
}

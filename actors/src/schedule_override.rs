//! The schedule that an operator has put in the place of the one that code says.

use std::{fmt, sync::Arc};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::Value;

use crate::{
    error::{Fault, Faults},
    name::By,
    note::Note,
    port::Schedule,
    stored_job::{ScheduleReader, check_length},
};

/// The definition of a row of the catalogue that overrides a job of code: `{"override": {"schedule": …}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredOverride {
    #[serde(rename = "override")]
    overrides: Overridden,
}

/// What it overrides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Overridden {
    schedule: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<Note>,
}

/// Whether a definition is that of an override.
#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "override")]
    overrides: Option<IgnoredAny>,
}

/// An override, as it was read.
#[derive(Debug, Clone)]
pub(crate) struct ReadOverride {
    pub(crate) schedule: Arc<dyn Schedule>,
    pub(crate) note: Option<Note>,
}

/// The definition of an override, as the catalogue keeps it.
pub(crate) fn written_override(schedule: Value, note: Option<Note>) -> Result<Arc<str>, Fault> {
    let stored = StoredOverride { overrides: Overridden { schedule, note } };
    let text = serde_json::to_value(&stored).map(|value| value.to_string()).map_err(|error| {
        let rule = format!("it cannot be written as JSON: {error}");
        Fault::new("schedule", "an override", rule, "mend what cannot be written")
    })?;
    check_length(&text)?;
    Ok(text.into())
}

/// Whether a definition is that of an override, right or wrong.
pub(crate) fn is_override(definition: &str) -> bool {
    // Most rows are jobs: they are not read twice.
    definition.contains("\"override\"")
        && serde_json::from_str(definition).is_ok_and(|kind: Kind| kind.overrides.is_some())
}

/// Reads the definition of a row, if it is one of an override.
pub(crate) fn read_override(
    definition: &str,
    reader: &ScheduleReader,
) -> Option<Result<ReadOverride, Faults>> {
    is_override(definition).then(|| read_as_override(definition, reader).map_err(Faults::from))
}

/// Reads a definition that is to be one of an override.
pub(crate) fn read_as_override(definition: &str, reader: &ScheduleReader) -> Result<ReadOverride, Fault> {
    const CURE: &str = "mend it, or clear the override (ClearOverride)";
    check_length(definition)?;
    let mut json = serde_json::Deserializer::from_str(definition);
    let stored: StoredOverride = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let rule = format!("{}: {}", error.path(), error.inner());
        Fault::new("override", definition, rule, CURE)
    })?;
    let Overridden { schedule, note } = stored.overrides;
    let value = schedule.to_string();
    let schedule = reader(schedule).map_err(|rule| Fault::new("schedule", value, rule, CURE))?;
    Ok(ReadOverride { schedule, note })
}

/// The schedule that an operator has put in the place of the one that a node's code says:
/// [`OverrideSchedule`](crate::OverrideSchedule). In words: `code says every 1h, override by alice since
/// 2026-01-05T00:00:00Z: every 3h`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ScheduleOverride {
    /// The schedule of this node's code, in words.
    pub code: Arc<str>,
    /// The schedule by which the job fires, in words.
    pub schedule: Arc<str>,
    /// Who has overridden it, if it was said.
    pub by: Option<By>,
    /// Since when, by the store's clock.
    pub since: DateTime<Utc>,
    /// Why, if it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Note>,
    /// The version of the catalogue: see [`OverrideSchedule::expecting`](crate::OverrideSchedule::expecting).
    pub version: u64,
}

impl fmt::Display for ScheduleOverride {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code, schedule, by, since, note, version: _ } = self;
        write!(f, "code says {code}, override")?;
        if let Some(by) = by {
            write!(f, " by {by}")?;
        }
        write!(f, " since {}: {schedule}", since.to_rfc3339_opts(SecondsFormat::AutoSi, true))?;
        note.as_ref().map_or(Ok(()), |note| write!(f, " ({note})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::fakes::Period;

    fn reader() -> ScheduleReader {
        Arc::new(|value| match value.as_u64() {
            Some(hours) => Ok(Arc::new(Period::hours(i64::try_from(hours).unwrap_or_default())) as _),
            None => Err("it is a number of hours".to_owned()),
        })
    }

    fn read(definition: &str) -> Option<Result<String, String>> {
        let read = read_override(definition, &reader())?;
        Some(read.map(|read| read.schedule.to_string()).map_err(|faults| faults.to_string()))
    }

    #[test]
    fn what_is_written_is_read_and_a_job_is_no_override() {
        let note = Note::new("quiet hours").ok();
        let written = written_override(3.into(), note.clone()).expect("it is short");

        let own = read_override(&written, &reader()).expect("it is one").expect("it is right");

        assert_eq!((own.schedule.to_string(), own.note), (Period::hours(3).to_string(), note));
        for job in [
            r#"{"schedule": 1, "task": {"name": "override"}}"#,
            r#"{"schedule": 1, "task": {"name": "x", "arguments": {"override": {"schedule": 1}}}}"#,
            r#"{"override": null}"#,
            "no JSON, but \"override\"",
        ] {
            assert_eq!(read(job), None, "{job}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_override_is_told_with_its_path() {
        for (definition, told) in [
            (r#"{"override": {}}"#, "missing field `schedule`"),
            (r#"{"override": {"schedule": "x"}}"#, "it is a number of hours"),
            (r#"{"override": {"schedule": 1, "tag": 2}}"#, "override.tag: unknown field `tag`"),
            (r#"{"override": {"schedule": 1}, "task": 2}"#, "task: unknown field `task`"),
        ] {
            let error = read(definition).expect("it is one").expect_err("it is wrong");
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn an_override_says_in_words_what_code_says_and_who_overrode_it() {
        let whole = ScheduleOverride {
            code: "every 1h".into(),
            schedule: "every 3h".into(),
            by: By::new("alice").ok(),
            since: DateTime::UNIX_EPOCH,
            note: Note::new("quiet hours").ok(),
            version: 7,
        };

        let text = "code says every 1h, override by alice since 1970-01-01T00:00:00Z: every 3h (quiet hours)";
        assert_eq!(whole.to_string(), text);
        let bare = ScheduleOverride { by: None, note: None, ..whole };
        assert_eq!(bare.to_string(), "code says every 1h, override since 1970-01-01T00:00:00Z: every 3h");
    }
}

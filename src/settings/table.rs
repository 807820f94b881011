//! The tables of variables in the guide are held against what is read.

use std::{cell::RefCell, collections::BTreeSet, time::Duration};

use callsheet_actors::{
    BLOCKING_THREADS_DEFAULT, CATCH_UP_PER_SECOND_DEFAULT, CLOCK_OFFSET_MAX_DEFAULT, CONNECT_TIMEOUT_DEFAULT,
    DurationText, ERROR_BYTES_DEFAULT, FORGET_AFTER_DEFAULT, HOOK_TIMEOUT_DEFAULT, HistoryOptions,
    RESIGN_PAUSE_DEFAULT, SHUTDOWN_ABORT_AFTER_DEFAULT, metrics::JOB_LABELS_DEFAULT, parse_duration,
};

use crate::{Callsheet, Settings};

const GUIDE: &str = include_str!("../guide/settings.md");

/// The cells of each row that begins like this.
fn rows(begin: &str) -> Vec<Vec<&'static str>> {
    let rows = GUIDE.lines().filter(|line| line.starts_with(&format!("| `{begin}")));
    rows.map(|row| row.split('|').map(str::trim).collect()).collect()
}

/// Variables, each with its default and range.
fn variables() -> Vec<(&'static str, &'static str, &'static str)> {
    let rows = rows("CALLSHEET_").into_iter().filter(|cells| cells.len() > 4);
    rows.map(|cells| (cells[1].trim_matches('`'), cells[2], cells[3])).collect()
}

/// What is wrong if this variable holds this.
fn told(variable: &str, value: &str) -> String {
    let lookup = |name: &str| (name == variable).then(|| value.to_owned());
    Settings::read(lookup).err().map(|faults| faults.to_string()).unwrap_or_default()
}

#[test]
fn the_guide_has_every_variable_that_is_read_and_no_other() {
    let asked = RefCell::new(BTreeSet::new());
    let lookup = |name: &str| {
        asked.borrow_mut().insert(name.to_owned());
        None::<String>
    };
    assert_eq!(Settings::read(lookup), Ok(Settings::default()));

    let mut listed: BTreeSet<_> = variables().into_iter().map(|(name, ..)| name.to_owned()).collect();
    for server in rows("CALLSHEET_").into_iter().filter(|cells| cells.len() == 4) {
        let server = server[1].trim_matches('`');
        listed.extend(rows("_").into_iter().map(|part| format!("{server}{}", part[1].trim_matches('`'))));
    }
    assert!(listed.len() > 100, "{listed:?}");
    assert_eq!(asked.into_inner(), listed);
}

/// A number, or a duration.
fn parsed(text: &str) -> Option<(u128, bool)> {
    let plain = text.trim().trim_matches('`').replace(',', "");
    let span = || Some((parse_duration(&plain).ok()?.as_nanos(), true));
    plain.parse().map(|number| (number, false)).ok().or_else(span)
}

fn written((number, is_span): (u128, bool)) -> String {
    if !is_span {
        return number.to_string();
    }
    let nanos = u64::try_from(number % 1_000_000_000).expect("less than a second");
    let whole = Duration::from_secs(u64::try_from(number / 1_000_000_000).expect("seconds"));
    DurationText(whole + Duration::from_nanos(nanos)).to_string()
}

#[test]
fn a_variable_takes_the_ends_of_its_range_and_nothing_beyond() {
    let mut tried = 0;
    for (variable, _, range) in variables() {
        let range = range.split(", ").next().unwrap_or_default();
        let ends = match range.split_once(" to ") {
            Some((least, most)) => parsed(least).zip(parsed(most)).unzip(),
            None => (range.strip_prefix("at least ").and_then(parsed), None),
        };
        let beyond = |end: Option<(u128, bool)>, by: i128| {
            let (number, is_span) = end?;
            Some((number.checked_add_signed(by)?, is_span))
        };
        for end in [ends.0, ends.1].into_iter().flatten() {
            assert_eq!(told(variable, &written(end)), "", "{variable}");
            tried += 1;
        }
        for end in [beyond(ends.0, -1), beyond(ends.1, 1)].into_iter().flatten() {
            let (value, told) = (written(end), told(variable, &written(end)));
            assert!(told.starts_with(&format!("{variable} \"")), "{variable}={value}: {told}");
        }
    }
    assert!(tried > 35, "{tried}");
}

#[test]
fn what_is_chosen_from_a_list_takes_each_and_nothing_else() {
    for (variable, _, range) in variables() {
        let names: Vec<_> =
            range.split(", ").filter_map(|name| name.strip_prefix('`')?.strip_suffix('`')).collect();
        if names.len() < 2 || variable == "CALLSHEET_BACKEND" {
            continue;
        }
        for name in names {
            assert_eq!(told(variable, name), "", "{variable}");
        }
        assert!(told(variable, "neither").starts_with(&format!("{variable} \"neither\": ")), "{variable}");
    }
}

#[test]
fn the_guide_gives_the_defaults() {
    let text = |span: Duration| DurationText(span).to_string();
    let HistoryOptions { memory, retention, queue, queue_bytes, .. } = HistoryOptions::default();
    let defaults = [
        ("THREADS_LOCAL_BODY_THREADS", "1".to_owned()),
        ("THREADS_BLOCKING_THREADS", BLOCKING_THREADS_DEFAULT.to_string()),
        ("LIMITS_CATCH_UP_PER_SECOND", CATCH_UP_PER_SECOND_DEFAULT.to_string()),
        ("LIMITS_ERROR_BYTES_MAX", ERROR_BYTES_DEFAULT.to_string()),
        ("LIMITS_JOB_LABELS_MAX", JOB_LABELS_DEFAULT.to_string()),
        ("LIMITS_CONNECT_TIMEOUT", text(CONNECT_TIMEOUT_DEFAULT)),
        ("LIMITS_HOOK_TIMEOUT", text(HOOK_TIMEOUT_DEFAULT)),
        ("LIMITS_SHUTDOWN_ABORT_AFTER", text(SHUTDOWN_ABORT_AFTER_DEFAULT)),
        ("LIMITS_CLOCK_OFFSET_MAX", text(CLOCK_OFFSET_MAX_DEFAULT)),
        ("LIMITS_RESIGN_PAUSE", text(RESIGN_PAUSE_DEFAULT)),
        ("LIMITS_FORGET_AFTER", text(FORGET_AFTER_DEFAULT)),
        ("HISTORY_QUEUE", queue.to_string()),
        ("HISTORY_QUEUE_BYTES", queue_bytes.to_string()),
        ("HISTORY_MEMORY_RUNS", memory.runs.to_string()),
        ("HISTORY_MEMORY_DECISIONS", memory.decisions.to_string()),
        ("HISTORY_MEMORY_OPERATIONS", memory.operations.to_string()),
        ("HISTORY_MEMORY_JOBS", memory.jobs.to_string()),
        ("HISTORY_MEMORY_BYTES", memory.bytes.to_string()),
        ("HISTORY_RETENTION_RUNS_FOR", text(retention.runs_for)),
        ("HISTORY_RETENTION_FAILURES_FOR", text(retention.failures_for)),
        ("HISTORY_RETENTION_DECISIONS_FOR", text(retention.decisions_for)),
        ("HISTORY_RETENTION_OPERATIONS_FOR", text(retention.operations_for)),
        ("HISTORY_RETENTION_RUNS_PER_JOB", retention.runs_per_job.to_string()),
    ];
    let listed = variables();
    for (variable, default) in defaults {
        let of_it = listed.iter().find(|(name, ..)| name.strip_prefix("CALLSHEET_") == Some(variable));
        let (_, shown, _) = of_it.unwrap_or_else(|| panic!("{variable} is not listed"));
        assert_eq!(parsed(shown), parsed(&default), "{variable}: {shown}, {default}");
    }
    assert!(Callsheet::builder().check().is_ok());
}

//! What is said by the environment or a file.

use callsheet::{Faults, Settings};
use serde_json::{Map, json};

/// Settings of JSON that say this everywhere.
fn settings(count: u64, span: &str) -> Settings {
    let counts =
        |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), json!(count))).collect::<Map<_, _>>();
    let spans =
        |keys: &[&str]| keys.iter().map(|key| ((*key).to_owned(), json!(span))).collect::<Map<_, _>>();
    let mut limits = counts(&["max_concurrent_runs", "error_bytes_max", "job_labels_max"]);
    limits.insert("catch_up_per_second".to_owned(), json!(u32::try_from(count).unwrap_or(u32::MAX)));
    limits.extend(spans(&["connect_timeout", "hook_timeout", "overdue_after", "shutdown_abort_after"]));
    limits.extend(spans(&["clock_offset_max", "resign_pause", "forget_after"]));
    let mut retention = spans(&["runs_for", "failures_for", "decisions_for", "operations_for"]);
    retention.extend(counts(&["runs_per_job"]));
    let mut history = counts(&["queue", "queue_bytes"]);
    history.insert("memory".to_owned(), counts(&["runs", "decisions", "operations", "jobs", "bytes"]).into());
    history.insert("retention".to_owned(), retention.into());
    let said = json!({
        "lease": span,
        "threads": counts(&["arbiters", "body_threads", "local_body_threads", "blocking_threads"]),
        "limits": limits,
        "history": history,
        "database": {"port": u16::try_from(count).unwrap_or(u16::MAX)},
    });
    serde_json::from_value(said).expect("it is right")
}

#[test]
fn settings_at_their_ends_work_and_beyond_are_refused_together() {
    let refused = |settings: Settings| -> Vec<String> {
        let faults = settings.builder().err().map(Faults::into_vec).unwrap_or_default();
        faults.into_iter().map(|fault| fault.subject).collect()
    };
    // Of `local`, which has no lease and no server.
    let nothing = refused(settings(0, "0s"));
    let too_much = refused(settings(u64::MAX, "18446744073709551615s"));

    assert_eq!(nothing.len(), 27 - 2, "without job_labels_max and shutdown_abort_after: {nothing:#?}");
    let most = [
        "threads.arbiters",
        "threads.body_threads",
        "threads.local_body_threads",
        "threads.blocking_threads",
        "limits.error_bytes_max",
        "limits.catch_up_per_second",
        "limits.hook_timeout",
        "limits.overdue_after",
        "history.retention.runs_for",
        "history.retention.failures_for",
        "history.retention.decisions_for",
        "history.retention.operations_for",
    ];
    for key in most {
        assert!(too_much.iter().any(|refused| refused == key), "{key}: {too_much:#?}");
    }
    assert_eq!(too_much.len(), most.len(), "{too_much:#?}");
    assert_eq!(refused(Settings::default()), Vec::<String>::new());
}

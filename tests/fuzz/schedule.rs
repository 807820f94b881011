//! A coverage-guided fuzz target: no text and no instant makes a schedule panic, hang, or break its contract.
//!
//! ```text
//! cargo install cargo-fuzz
//! cargo +nightly fuzz run --fuzz-dir tests/fuzz schedule -- -max_total_time=300 -timeout=10 -max_len=512
//! cargo +nightly fuzz cmin --fuzz-dir tests/fuzz schedule     keeps the corpus small
//! ```
//!
//! The input is eight bytes of an instant in milliseconds, and a cron expression or the JSON of a schedule.

#![no_main]

use callsheet::schedule::{Definition, IntoSchedule};
use chrono::{DateTime, Utc};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (i64, &str)| {
    let (millis, text) = input;
    let definition = match text.parse::<Definition>() {
        Ok(definition) => definition,
        Err(faults) => {
            assert!(!faults.to_string().is_empty());
            return;
        }
    };
    // Most instants are of our time, all of them are in chrono's range.
    let instant = DateTime::from_timestamp_millis(millis)
        .or_else(|| DateTime::from_timestamp_millis(millis % 10_000_000_000_000))
        .unwrap_or(DateTime::<Utc>::UNIX_EPOCH);
    check(&definition, instant);

    let json = serde_json::to_string(&definition).expect("what was read can be written");
    let again: Definition = json.parse().expect("what was written can be read");
    assert_eq!(serde_json::to_string(&again).ok(), Some(json));
});

fn check(definition: &Definition, instant: DateTime<Utc>) {
    let schedule = definition.clone().into_schedule().expect("what was read is right");
    assert!(!definition.describe().expect("it is right").is_empty());
    definition.lint(instant).expect("it is right");
    let preview = definition.preview(instant, 3).expect("it is right");

    let mut now = instant;
    for fire_time in preview.fire_times() {
        assert!(fire_time > now);
        assert_eq!(schedule.next_after(now), Some(fire_time));
        assert!(schedule.previous_before(fire_time).is_none_or(|previous| previous <= now));
        now = fire_time;
    }
    if let Some(previous) = schedule.previous_before(instant) {
        assert!(previous < instant);
    }
}

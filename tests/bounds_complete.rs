//! No public duration or count is without a story in `tests/bounds`.
//!
//! The public functions and fields are read off the sources: what this finds and the list does not name is
//! new, and needs its line, and a test at its ends. It does not see what a macro writes, what a generic
//! parameter takes (but for
//! `Given<Duration>`), and fields of enum variants: [`VARIANTS`] is checked for being there only.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const SETTINGS: &str = "settings_at_their_ends_work_and_beyond_are_refused_together";

/// What takes a duration or a count, and the test in `tests/bounds` that tries its
/// ends.
const TAKES: &[(&str, &str)] = &[
    ("cluster.rs: limit", "a_cluster_is_asked_within_its_ends_and_for_any_number_of_runs"),
    ("cluster.rs: within", "a_cluster_is_asked_within_its_ends_and_for_any_number_of_runs"),
    ("backfill.rs: max_concurrent", "backfills_at_their_ends_work_and_beyond_are_refused"),
    ("backfill.rs: max_ticks", "backfills_at_their_ends_work_and_beyond_are_refused"),
    ("backfill.rs: spacing", "backfills_at_their_ends_work_and_beyond_are_refused"),
    ("builder.rs: arbiters", "options_out_of_range_are_refused_together"),
    ("builder.rs: blocking_threads", "options_out_of_range_are_refused_together"),
    ("builder.rs: body_threads", "options_out_of_range_are_refused_together"),
    ("builder.rs: local_body_threads", "options_out_of_range_are_refused_together"),
    ("builder.rs: clock_offset_max", "options_at_their_ends_work"),
    ("builder.rs: error_bytes_max", "options_at_their_ends_work"),
    ("builder.rs: connect_timeout", "options_at_their_ends_work"),
    ("builder.rs: catch_up_per_second", "options_at_their_ends_work"),
    ("builder.rs: forget_after", "options_at_their_ends_work"),
    ("builder.rs: hook_timeout", "options_at_their_ends_work"),
    ("builder.rs: job_labels_max", "options_at_their_ends_work"),
    ("builder.rs: max_concurrent_runs", "options_at_their_ends_work"),
    ("builder.rs: resign_pause", "options_at_their_ends_work"),
    ("builder.rs: shutdown_abort_after", "a_shutdown_waits_for_as_long_as_it_is_told"),
    ("builder.rs: overdue_after", "what_may_be_expected_is_refused_beyond_its_ends"),
    ("options.rs: overdue_after", "what_may_be_expected_is_refused_beyond_its_ends"),
    ("job_config.rs: success_within", "what_may_be_expected_is_refused_beyond_its_ends"),
    ("job_config.rs: start_within", "what_may_be_expected_is_refused_beyond_its_ends"),
    ("job_config.rs: end_within", "what_may_be_expected_is_refused_beyond_its_ends"),
    ("job_config.rs: at_least", "what_may_be_expected_is_refused_beyond_its_ends"),
    ("definition.rs: expect_success_within", "what_may_be_expected_is_refused_beyond_its_ends"),
    ("definition.rs: expect_start_within", "what_may_be_expected_is_refused_beyond_its_ends"),
    ("definition.rs: expect_end_within", "what_may_be_expected_is_refused_beyond_its_ends"),
    ("definition.rs: expect_at_least", "what_may_be_expected_is_refused_beyond_its_ends"),
    ("definition.rs: abort_after", "policies_at_their_ends_work"),
    ("definition.rs: hook_timeout", "policies_out_of_range_are_refused_together"),
    ("definition.rs: limit", "policies_at_their_ends_work"),
    ("definition.rs: misfire_after", "policies_at_their_ends_work"),
    ("definition.rs: pause_after", "policies_at_their_ends_work"),
    ("definition.rs: priority", "policies_at_their_ends_work"),
    ("definition.rs: timeout", "policies_at_their_ends_work"),
    ("options.rs: arbiters", "options_out_of_range_are_refused_together"),
    ("options.rs: blocking_threads", "options_out_of_range_are_refused_together"),
    ("options.rs: body_threads", "options_out_of_range_are_refused_together"),
    ("options.rs: clock_offset_max", "options_at_their_ends_work"),
    ("options.rs: error_bytes_max", "options_at_their_ends_work"),
    ("options.rs: connect_timeout", "options_at_their_ends_work"),
    ("options.rs: catch_up_per_second", "options_at_their_ends_work"),
    ("options.rs: forget_after", "options_at_their_ends_work"),
    ("options.rs: job_labels_max", "options_at_their_ends_work"),
    ("options.rs: local_body_threads", "options_out_of_range_are_refused_together"),
    ("options.rs: max_concurrent_runs", "options_at_their_ends_work"),
    ("options.rs: resign_pause", "options_at_their_ends_work"),
    ("engine.rs: shutdown", "a_shutdown_waits_for_as_long_as_it_is_told"),
    ("options.rs: shutdown_abort_after", "a_shutdown_waits_for_as_long_as_it_is_told"),
    ("event_filter.rs: buffer", "a_buffer_of_any_length_holds_what_the_docs_say"),
    ("every.rs: every", "periods_are_a_millisecond_to_a_hundred_years"),
    ("definition.rs: jitter", "periods_are_a_millisecond_to_a_hundred_years"),
    ("random.rs: random", "periods_are_a_millisecond_to_a_hundred_years"),
    ("daily.rs: every", "every_so_many_days_weeks_and_months"),
    ("weekly.rs: every", "every_so_many_days_weeks_and_months"),
    ("monthly.rs: every", "every_so_many_days_weeks_and_months"),
    ("monthly.rs: on", "every_so_many_days_weeks_and_months"),
    ("run.rs: measure", "a_body_may_measure_any_number"),
    ("run.rs: progress", "a_body_may_measure_any_number"),
    ("preview.rs: preview", "more_fire_times_than_may_be_are_refused"),
    ("preview.rs: preview_in", "more_fire_times_than_may_be_are_refused"),
    ("jobs.rs: next_fire_times", "more_fire_times_than_may_be_are_refused"),
    ("questions.rs: count", "more_fire_times_than_may_be_are_refused"),
    ("questions.rs: limit", "a_page_of_any_length_says_whether_there_is_more"),
    ("handle.rs: shutdown", "a_shutdown_waits_for_as_long_as_it_is_told"),
    ("message.rs: deadline", "a_shutdown_waits_for_as_long_as_it_is_told"),
    ("shutdown.rs: within", "a_shutdown_budget_of_any_length_fits_or_says_why_not"),
    ("shutdown.rs: readiness_delay", "a_shutdown_budget_of_any_length_fits_or_says_why_not"),
    ("shutdown.rs: server_timeout", "a_shutdown_budget_of_any_length_fits_or_says_why_not"),
    ("hooks.rs: set_timeout", "options_at_their_ends_work"),
    ("policy.rs: attempts", "retries_at_their_ends_work"),
    ("policy.rs: initial", "retries_at_their_ends_work"),
    ("policy.rs: factor", "retries_at_their_ends_work"),
    ("policy.rs: max", "retries_at_their_ends_work"),
    ("policy.rs: jitter", "retries_at_their_ends_work"),
    ("policy.rs: pause", "retries_at_their_ends_work"),
    ("policy.rs: misfire_after", "policies_at_their_ends_work"),
    ("policy.rs: timeout", "policies_at_their_ends_work"),
    ("policy.rs: abort_after", "policies_at_their_ends_work"),
    ("policy.rs: limit", "policies_at_their_ends_work"),
    ("policy.rs: pause_after", "policies_at_their_ends_work"),
    ("policy.rs: priority", "policies_at_their_ends_work"),
    ("job_config.rs: misfire_after", "policies_at_their_ends_work"),
    ("job_config.rs: timeout", "policies_at_their_ends_work"),
    ("job_config.rs: abort_after", "policies_at_their_ends_work"),
    ("job_config.rs: limit", "policies_at_their_ends_work"),
    ("job_config.rs: pause_after", "policies_at_their_ends_work"),
    ("job_config.rs: priority", "policies_at_their_ends_work"),
    ("mod.rs: deadline", "the_deadline_of_redis_is_50_ms_to_5_s_and_at_most_half_of_the_lease"),
    ("mod.rs: lease_duration", "the_times_of_a_lease_of_kubernetes_fit_each_other"),
    ("mod.rs: renew_deadline", "the_times_of_a_lease_of_kubernetes_fit_each_other"),
    ("mod.rs: retry_period", "the_times_of_a_lease_of_kubernetes_fit_each_other"),
    ("mod.rs: lease", "the_lease_of_postgres_is_a_second_to_an_hour"),
    ("records.rs: new", "a_lease_over_records_is_one_that_the_store_takes"),
    ("table.rs: expire", "a_table_of_records_has_sessions_at_the_ends_of_time"),
    ("table.rs: list", "a_table_of_records_has_sessions_at_the_ends_of_time"),
    ("table.rs: open", "a_table_of_records_has_sessions_at_the_ends_of_time"),
    ("table.rs: renew", "a_table_of_records_has_sessions_at_the_ends_of_time"),
    ("query.rs: limit", "a_page_of_history_of_any_length_says_whether_there_is_more"),
    ("history.rs: runs_for", "the_history_at_its_ends_works"),
    ("history.rs: failures_for", "the_history_at_its_ends_works"),
    ("history.rs: decisions_for", "the_history_at_its_ends_works"),
    ("history.rs: operations_for", "the_history_at_its_ends_works"),
    ("history.rs: runs_per_job", "the_history_at_its_ends_works"),
    ("memory_bounds.rs: runs", "the_history_at_its_ends_works"),
    ("memory_bounds.rs: decisions", "the_history_at_its_ends_works"),
    ("memory_bounds.rs: operations", "the_history_at_its_ends_works"),
    ("memory_bounds.rs: jobs", "the_history_at_its_ends_works"),
    ("memory_bounds.rs: bytes", "the_history_at_its_ends_works"),
    ("options.rs: queue", "the_history_at_its_ends_works"),
    ("options.rs: queue_bytes", "the_history_at_its_ends_works"),
    ("settings.rs: lease", SETTINGS),
    ("sections.rs: port", SETTINGS),
    ("sections.rs: arbiters", SETTINGS),
    ("sections.rs: body_threads", SETTINGS),
    ("sections.rs: local_body_threads", SETTINGS),
    ("sections.rs: blocking_threads", SETTINGS),
    ("sections.rs: max_concurrent_runs", SETTINGS),
    ("sections.rs: catch_up_per_second", SETTINGS),
    ("sections.rs: error_bytes_max", SETTINGS),
    ("sections.rs: job_labels_max", SETTINGS),
    ("sections.rs: connect_timeout", SETTINGS),
    ("sections.rs: hook_timeout", SETTINGS),
    ("sections.rs: overdue_after", SETTINGS),
    ("sections.rs: shutdown_abort_after", SETTINGS),
    ("sections.rs: clock_offset_max", SETTINGS),
    ("sections.rs: resign_pause", SETTINGS),
    ("sections.rs: forget_after", SETTINGS),
    ("sections.rs: queue", SETTINGS),
    ("sections.rs: queue_bytes", SETTINGS),
    ("sections.rs: runs", SETTINGS),
    ("sections.rs: decisions", SETTINGS),
    ("sections.rs: operations", SETTINGS),
    ("sections.rs: jobs", SETTINGS),
    ("sections.rs: bytes", SETTINGS),
    ("sections.rs: runs_for", SETTINGS),
    ("sections.rs: failures_for", SETTINGS),
    ("sections.rs: decisions_for", SETTINGS),
    ("sections.rs: operations_for", SETTINGS),
    ("sections.rs: runs_per_job", SETTINGS),
    ("rig.rs: advance", "a_rig_refuses_what_it_cannot_simulate"),
    ("rig.rs: set_lease", "a_rig_refuses_what_it_cannot_simulate"),
    ("rig.rs: set_skew", "a_rig_refuses_what_it_cannot_simulate"),
    ("rig.rs: set_store_skew", "a_rig_refuses_what_it_cannot_simulate"),
    ("rig.rs: suspend", "a_rig_refuses_what_it_cannot_simulate"),
    ("rig.rs: set_drift", "a_clock_drifts_by_any_number"),
    ("rig.rs: shutdown", "a_shutdown_waits_for_as_long_as_it_is_told"),
    ("clock.rs: set_skew", "a_rig_refuses_what_it_cannot_simulate"),
    ("clock.rs: suspend", "a_rig_refuses_what_it_cannot_simulate"),
    ("clock.rs: set_drift", "a_clock_drifts_by_any_number"),
    ("store.rs: with_lease", "a_rig_refuses_what_it_cannot_simulate"),
    ("store.rs: set_skew", "a_rig_refuses_what_it_cannot_simulate"),
    ("store.rs: set_latency", "a_rig_refuses_what_it_cannot_simulate"),
    ("fakes.rs: hours", "a_fake_period_is_positive"),
    ("fakes.rs: seconds", "a_fake_period_is_positive"),
    ("fakes.rs: millis", "a_fake_period_is_positive"),
    ("fakes.rs: new", "a_fake_period_is_positive"),
];

/// Policies that are variants with a number in them.
const VARIANTS: &[(&str, &str)] = &[
    ("Queue(u32)", "policies_at_their_ends_work"),
    ("Allow(u32)", "policies_at_their_ends_work"),
    ("within: Duration", "policies_at_their_ends_work"),
    ("max: u32", "policies_at_their_ends_work"),
];

/// Those whose numbers come from this library: answers, events, and what the engine asks of a port.
const GIVES: &[&str] = &[
    "answers.rs: clock_ahead_seconds",
    "answers.rs: count",
    "answers.rs: jobs",
    "answers.rs: runs",
    "answers.rs: unanswered",
    "answers.rs: version",
    "pausing.rs: count",
    "backfill.rs: count",
    "drain.rs: drained",
    "drain.rs: cancelled",
    "drain.rs: aborted",
    "drain.rs: still_running",
    "drain.rs: given_to_others",
    "health.rs: jobs",
    "health.rs: count",
    "operation.rs: number",
    "catalogue.rs: version",
    "schedule_override.rs: version",
    "status.rs: stored",
    "query.rs: dropped",
    "query.rs: new",
    "health.rs: failures",
    "hooks.rs: within",
    "hooks.rs: took",
    "hooks.rs: count",
    "status.rs: waiting",
    "status.rs: failures",
    "status.rs: count",
    "status.rs: attempt",
    "status.rs: took",
    "term.rs: duration",
    "term.rs: margin",
    "term.rs: waited",
    "claim.rs: limit",
    "claim.rs: window",
    "tick_votes.rs: window",
    "commit.rs: hints",
    "limits.rs: check_ttl",
    "limits.rs: commit_bytes",
    "limits.rs: commit_records",
    "limits.rs: expires_within",
    "limits.rs: reads",
    "limits.rs: record_bytes",
    "limits.rs: ttl",
    "limits.rs: unit_records",
    "limits.rs: units",
    "snapshot.rs: bytes",
    "completion.rs: pause_after",
    "enrolment.rs: known_for",
    "enrolment.rs: failures",
    "pending_retry.rs: losses",
    "forgetting.rs: names",
    "session.rs: mark",
    "handover.rs: mark",
    "session.rs: ago",
    "skip.rs: new",
    "skip.rs: add",
    "pause.rs: after_failures",
    "obstacle.rs: held_for",
    "schedule_identity.rs: with_version",
    "run.rs: took",
    "run.rs: lateness",
    "run.rs: attempt",
    "run.rs: slot",
    "run.rs: new",
    "run.rs: progress",
    "job.rs: consecutive_failures",
    "job.rs: runs",
    "job.rs: failures",
    "job.rs: mean",
    "job.rs: p95",
    "job.rs: place",
    "job.rs: add",
    "query.rs: of",
    "query.rs: admits",
    "query.rs: nth",
    "query.rs: backend",
    "query.rs: unread",
];

const NUMBERS: [&str; 13] =
    ["Duration", "TimeDelta", "usize", "u64", "u32", "u16", "u8", "i8", "i16", "i32", "i64", "f32", "f64"];

/// Whether a type has a number in it, as a word of its own.
fn has_number(text: &str) -> bool {
    let mut words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words.any(|word| NUMBERS.contains(&word))
}

/// The sources of what is public: all of both packages but the engine's core, of which the policies, skips and pauses
/// are.
fn sources() -> Vec<PathBuf> {
    fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    collect(&root.join("src"), &mut found);
    collect(&root.join("actors/src"), &mut found);
    found.retain(|path| {
        let text = path.to_string_lossy();
        let public = ["/core/policy.rs", "/core/skip.rs", "/core/pause.rs"];
        let is_core = text.contains("/actors/src/core/") && !public.iter().any(|path| text.ends_with(path));
        !is_core && !text.ends_with("/tests.rs") && !text.contains("/tests/")
    });
    found
}

/// The parameters of a function whose signature starts at this line.
fn parameters(lines: &[&str]) -> String {
    let mut depth = 0_i32;
    let mut found = String::new();
    for character in lines.iter().take(12).flat_map(|line| line.chars().chain([' '])) {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth > 0 {
            found.push(character);
        }
        if depth == 0 && !found.is_empty() {
            break;
        }
    }
    found
}

/// The public functions with a number among their parameters, and the public fields with one.
fn found_in(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).expect("a source");
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let lines: Vec<_> = code.lines().collect();
    let file = path.file_name().expect("a name").to_string_lossy();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(item) = line.trim_start().strip_prefix("pub ") else { continue };
        let item = item.trim_start_matches("const ").trim_start_matches("async ");
        let (name, takes) = match item.strip_prefix("fn ") {
            Some(function) => (function, parameters(&lines[at..]).replace("[u8]", "bytes")),
            None => match item.split_once(": ") {
                Some((field, of)) if field.starts_with(|c: char| c.is_ascii_lowercase()) => {
                    (field, of.to_owned())
                }
                _ => continue,
            },
        };
        let name: String = name.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        if has_number(&takes) {
            found.push(format!("{file}: {name}"));
        }
    }
    found
}

#[test]
fn every_public_duration_and_count_has_a_story() {
    let found: BTreeSet<_> = sources().iter().flat_map(|path| found_in(path)).collect();
    let listed: BTreeSet<_> =
        TAKES.iter().map(|(item, _)| *item).chain(GIVES.iter().copied()).map(str::to_owned).collect();

    let new: Vec<_> = found.difference(&listed).collect();
    assert!(
        new.is_empty(),
        "what of these at 0 and at MAX? Try it in tests/bounds, and list it here: {new:#?}"
    );
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(gone.is_empty(), "these are no more: {gone:#?}");
}

#[test]
fn the_stories_are_there() {
    let files =
        fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bounds")).expect("a directory");
    let stories: String =
        files.map(|file| fs::read_to_string(file.expect("an entry").path()).expect("a source")).collect();
    let policies = include_str!("../actors/src/core/policy.rs");

    for (item, story) in TAKES.iter().chain(VARIANTS) {
        assert!(stories.contains(&format!("fn {story}(")), "{item}: {story}");
    }
    assert!(VARIANTS.iter().all(|(variant, _)| policies.contains(variant)));
}

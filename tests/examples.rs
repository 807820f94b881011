//! The examples that end by themselves, run as processes: what they print, and that they end well.
//!
//! `cargo test` builds them; `cargo test --test examples` runs them as they were built last.

#[path = "common/example.rs"]
mod example;
mod process;

use example::example;
use process::Process;
use rustix::process::Signal;
use serde_json::Value;

fn lines_of(name: &str) -> Vec<String> {
    let mut process = Process::start(&mut example(name));
    let (code, lines) = process.end();
    assert_eq!(code, Some(0), "{lines:?}");
    lines
}

#[test]
fn listener_prints_failures_as_they_happen_then_what_waited_and_the_end() {
    let lines = lines_of("listener");

    let (failures, rest): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.starts_with("failure: "));
    let told = |lines: &[&String], what: &str| lines.iter().any(|line| line.contains(what));
    assert!(told(&failures, "RunFailed mail.out") && told(&failures, "RunPanicked report"), "{lines:?}");
    assert!(!told(&failures, "mail.in") && !told(&failures, "RunStarted"), "{lines:?}");
    let (mail, rest): (Vec<_>, Vec<_>) = rest.into_iter().partition(|line| line.starts_with("mail: "));
    assert!(told(&mail, "RunSucceeded mail.in") && told(&mail, "RunFailed mail.out"), "{lines:?}");
    assert!(!told(&mail, "report"), "{lines:?}");
    let [missed, end] = &rest[..] else { panic!("{lines:?}") };
    assert_eq!(*missed, "missed: 0");
    assert!(end.starts_with("end: ") && end.contains("ShutdownFinished drained"), "{end}");
}

#[test]
fn listener_ends_well_when_it_is_told_to() {
    let mut process = Process::start(&mut example("listener"));
    process.wait_for("failure: ");

    process.signal(Signal::INT);

    let (code, lines) = process.end();
    assert_eq!(code, Some(0), "{lines:?}");
    assert!(lines.last().is_some_and(|line| line.starts_with("end: ")), "{lines:?}");
}

#[test]
fn reminders_runs_each_once_and_keeps_the_far_one_in_the_store() {
    let lines = lines_of("reminders");

    let [kept, refused, held, sent, left, report] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!((&**kept, &**refused), ("kept: \"call Bob back\"", "refused: true"));
    assert_eq!(held, "held: alice/17, stored: alice/17, carol/1");
    assert_eq!((&**sent, &**left), ("to alice: call Bob back", "left: carol/1"));
    assert!(report.contains("cancelled 0"), "{report}");
}

#[test]
fn actor_body_prints_until_its_paper_is_out() {
    let lines = lines_of("actor_body");

    let [first, second, third, failed, report] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(
        [first, second, third],
        [2, 1, 0].map(|left| format!("printed \"invoices\", {left} pages left")).each_ref()
    );
    assert!(failed.contains("RunFailed invoices") && failed.ends_with(": out of paper"), "{failed}");
    assert!(report.ends_with("cancelled 0, aborted 0"), "{report}");
}

#[test]
fn policies_prints_what_became_of_the_ticks_under_each_policy() {
    let lines = lines_of("policies");

    let counts = |job: &str, what: &str| {
        let line = lines.iter().find(|line| line.split_whitespace().next() == Some(job));
        let line = line.unwrap_or_else(|| panic!("no {job}: {lines:?}"));
        let counts = line.split_once(' ').expect("counts").1.split(", ");
        let of = |part: &str| part.trim().strip_prefix(what)?.trim().parse::<u32>().ok();
        counts.filter_map(of).next().unwrap_or(0)
    };
    for job in ["skip", "queue", "allow"] {
        assert!(counts(job, "skipped") > 0, "{lines:?}");
        assert_eq!(counts(job, "started"), counts(job, "succeeded"), "{lines:?}");
    }
    assert!(counts("replace", "cancelled") > 0 && counts("replace", "skipped") == 0, "{lines:?}");
    assert_eq!(counts("limit", "started"), 3, "{lines:?}");
    assert_eq!((counts("pause", "failed"), counts("pause", "paused")), (2, 1), "{lines:?}");
    assert_eq!(counts("retry", "retried"), 2 * counts("retry", "succeeded"), "{lines:?}");
    assert_eq!(counts("timeout", "started"), counts("timeout", "timed out"), "{lines:?}");
}

#[test]
fn tasks_prints_its_tasks_what_is_refused_and_what_ran() {
    let lines = lines_of("tasks");

    let [cleanup, send_report, refused, weekly, daily, report] = &lines[..] else { panic!("{lines:?}") };
    assert_eq!(cleanup, "task cleanup: null");
    let schema: Value =
        send_report.strip_prefix("task send_report: ").expect("a task").parse().expect("JSON");
    assert!(schema["copies"].is_object() && schema["to"].is_object(), "{send_report}");
    assert!(refused.contains("to: invalid type: integer `5`, expected a string"), "{refused}");
    assert_eq!(weekly, "weekly: from reports@example.org to carol, 2 copies");
    assert_eq!(daily, "daily: from reports@example.org to bob, 7 copies");
    assert!(report.ends_with("cancelled 0, aborted 0"), "{report}");
}

/// On virtual time: it prints the same each time.
#[cfg(feature = "testkit")]
#[test]
fn explain_answers_six_questions() {
    let lines = lines_of("explain");

    let answers = lines.iter().filter(|line| line.starts_with(|first: char| first.is_ascii_lowercase()));
    let answers: Vec<_> = answers.collect();
    let expected = [
        ("report at 2026-03-28T22:00:00Z: it ran as run ", "succeeded"),
        (
            "report at 2026-03-28T23:00:00Z: it ran as run ",
            "10m late: it was paused until it was resumed by alice",
        ),
        ("import at 2026-03-28T22:00:00Z: skipped: run ", "of the same lock key was in progress"),
        (
            "report at 2026-03-29T00:00:00Z: it ran as run ",
            "late: nobody led from 2026-03-28T23:58:00.002Z to",
        ),
        (
            "invoices at 2026-03-29T08:00:00Z: it does not fire then: ",
            "the calendar \"holidays\" leaves it out",
        ),
        ("report at 2026-03-29T12:00:00Z: not decided yet: ", "it has not come"),
    ];
    assert_eq!(answers.len(), expected.len(), "{lines:#?}");
    for (answer, (start, part)) in answers.iter().zip(expected) {
        assert!(answer.starts_with(start) && answer.contains(part), "{answer}");
    }
}

/// A span, as the exporter to standard output writes it.
struct Exported<'a>(&'a [String]);

impl<'a> Exported<'a> {
    fn all(lines: &'a [String]) -> Vec<Self> {
        let starts = |line: &String| line.starts_with("Span #");
        lines.chunk_by(|_, next| !starts(next)).filter(|chunk| starts(&chunk[0])).map(Self).collect()
    }

    /// What stands behind a name, each time: that of a link stands at the end.
    fn values(&self, name: &str) -> Vec<&'a str> {
        let values = self.0.iter().filter_map(|line| {
            let (of, value) = line.trim().trim_start_matches("->").trim_start().split_once(": ")?;
            (of.trim() == name).then_some(value.trim())
        });
        values.collect()
    }

    fn value(&self, name: &str) -> &'a str {
        self.values(name).first().unwrap_or_else(|| panic!("no {name}: {:#?}", self.0))
    }

    /// Not that of its instrumentation, which is in quotes.
    fn is_named(&self, name: &str) -> bool {
        self.values("Name").contains(&name)
    }
}

#[test]
fn otel_exports_the_spans_of_a_run_with_a_link_to_its_request() {
    let lines = lines_of("otel");

    let spans = Exported::all(&lines);
    let named = |name| {
        let mut spans = spans.iter().filter(|span| span.is_named(name));
        spans.next().unwrap_or_else(|| panic!("no {name}: {lines:#?}"))
    };
    let [request, run, render, election] = ["request", "run", "render", "election"].map(named);
    assert_eq!(run.value("ParentSpanId"), "None (root span)");
    assert_eq!(run.values("TraceId")[1..], [request.value("TraceId")], "a link");
    assert_eq!(run.values("SpanId")[1..], [request.value("SpanId")], "a link");
    assert_ne!(run.value("TraceId"), request.value("TraceId"));
    assert_eq!(render.value("ParentSpanId"), run.value("SpanId"));
    assert_eq!(render.value("TraceId"), run.value("TraceId"));
    assert!(render.is_named("rendered"), "{:#?}", render.0);
    for (field, value) in [("job", "report"), ("attempt", "1"), ("outcome", "succeeded")] {
        assert!(run.value(field).contains(value), "{field}: {}", run.value(field));
    }
    for field in ["run", "node", "token"] {
        assert!(!run.value(field).is_empty());
    }
    assert!(election.value("outcome").contains("won") && election.value("term").contains('1'));
    assert!(lines.iter().any(|line| line == "succeeded"), "{lines:#?}");
}

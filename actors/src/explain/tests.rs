//! Every answer, and every reason of it, by what is known.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::*;
use crate::{
    core::{
        backfill::BackfillId,
        outcome::{CancelReason, Outcome},
        pause::Pause,
        skip::SkipReason,
    },
    name::{By, JobName, NodeId, RunId, RunIds},
    port::{Decision, DecisionRecord, JobOperation, NotDue, OperationRecord, RunOrigin, RunRecord},
};

fn at(text: &str) -> DateTime<Utc> {
    format!("2026-01-05T{text}Z").parse().expect("an instant")
}

fn tick() -> FireTime {
    FireTime::new(at("03:00:00"))
}

fn job() -> JobName {
    JobName::new("report").expect("a good name")
}

fn node() -> NodeId {
    NodeId::numbered(7)
}

fn run_id(number: u128) -> RunId {
    uuid::Uuid::from_u128(number).into()
}

fn view() -> TickView {
    TickView {
        at: tick().instant(),
        schedule: "cron 0 3 * * *".into(),
        is_fire_time: true,
        previous: Some(FireTime::new(at("03:00:00") - TimeDelta::days(1))),
        next: Some(FireTime::new(at("03:00:00") + TimeDelta::days(1))),
        why_not: None,
        cursor: at("12:00:00"),
        fires: true,
        held_by: None,
        pause: None,
        run: None,
        waits: false,
        has_slots: false,
        waits_for_turn: false,
        used_up: None,
    }
}

/// Nothing is recorded of the tick, though of the job before.
fn known() -> Known {
    Known { is_kept: true, was_there: true, held_since: at("00:00:00"), ..Known::default() }
}

fn ran(outcome: Option<Outcome>) -> RunRecord {
    let mut record = RunRecord::new(job(), run_id(1), node());
    record.origin = RunOrigin::Tick;
    record.fire_time = Some(tick());
    record.started_at = Some(at("03:00:00.002"));
    record.lateness = Duration::from_millis(2);
    record.ended_at = outcome.map(|_| at("03:04:00"));
    record.outcome = outcome;
    record
}

fn late(record: RunRecord) -> RunRecord {
    RunRecord {
        started_at: Some(at("03:10:00")),
        ended_at: Some(at("03:14:00")),
        lateness: Duration::from_mins(10),
        ..record
    }
}

fn decided(time: &str, decision: Decision) -> DecisionRecord {
    DecisionRecord::new(Some(job()), at(time), node(), decision)
}

fn skipped(reason: SkipReason, text: Option<&str>, run: Option<RunId>) -> DecisionRecord {
    let text = text.map(Into::into);
    let by = By::new("alice").ok().filter(|_| matches!(reason, SkipReason::Paused | SkipReason::Operator));
    let decision = Decision::Skipped { reason, count: 1, at_least: false, text, by, run };
    DecisionRecord { first: Some(tick()), fire_time: Some(tick()), ..decided("03:00:00.004", decision) }
}

fn operation(time: &str, operation: JobOperation, by: &str) -> OperationRecord {
    let record = OperationRecord::new(job(), operation, at(time), node());
    OperationRecord { by: By::new(by).ok(), ..record }
}

/// The answer, in words, at noon.
fn answer(view: &TickView, known: &Known) -> String {
    decide(&job(), at("12:00:00"), view, known).answer.to_string()
}

fn with_run(record: RunRecord) -> Known {
    Known { runs: vec![record], ..known() }
}

fn with_decision(record: DecisionRecord) -> Known {
    Known { decisions: vec![record], ..known() }
}

const RUN: &str = "00000000-0000-0000-0000-000000000001";
const NODE: &str = "00000000-0000-0000-0000-000000000007";

#[test]
fn a_run_says_when_where_and_how_it_ended() {
    for (outcome, ended) in [
        (Outcome::Succeeded, "succeeded"),
        (Outcome::Failed, "failed"),
        (Outcome::Panicked, "panicked"),
        (Outcome::TimedOut, "timed out"),
        (Outcome::Cancelled, "was cancelled"),
    ] {
        let expected =
            format!("it ran as run {RUN} on node {NODE} from 2026-01-05T03:00:00.002Z, and {ended}");
        assert_eq!(answer(&view(), &with_run(ran(Some(outcome)))), expected);
    }
    let expected = format!("it runs as run {RUN} on node {NODE} from 2026-01-05T03:00:00.002Z");
    assert_eq!(answer(&view(), &with_run(ran(None))), expected);
    let vetoed = RunRecord {
        cancelled: Some(CancelReason::Vetoed),
        error: Some("maintenance".into()),
        ..ran(Some(Outcome::Cancelled))
    };
    assert_eq!(answer(&view(), &with_run(vetoed)), format!("a before hook vetoed run {RUN}: maintenance"));
}

#[test]
fn a_lost_run_says_whether_it_goes_on() {
    for (is_retried, then) in [(false, "it is not retried"), (true, "it is to go on elsewhere")] {
        let lost = decided("03:02:00", Decision::RunLost { run: run_id(1), is_retried });
        let known = Known { decisions: vec![lost], ..with_run(ran(Some(Outcome::Lost))) };

        assert_eq!(answer(&view(), &known), format!("node {NODE} died during run {RUN}, and {then}"));
    }
}

#[test]
fn a_late_run_says_what_delayed_it() {
    let gap = Decision::LeaderGap { from: at("02:59:00"), to: at("03:09:58") };
    let gap = DecisionRecord { job: None, ..decided("03:09:58", gap) };
    let step = decided("03:09:00", Decision::ClockStepped { by: TimeDelta::minutes(9) });
    let step = DecisionRecord { job: None, ..step };
    let elsewhere = DecisionRecord { node: NodeId::numbered(8), ..step.clone() };
    let mut before = ran(Some(Outcome::Succeeded));
    (before.run, before.fire_time) = (run_id(2), Some(FireTime::new(at("02:00:00"))));
    (before.started_at, before.ended_at) = (Some(at("02:00:00")), Some(at("03:09:59")));
    let record = || late(ran(Some(Outcome::Succeeded)));
    let resumed = operation("03:09:59", JobOperation::Resumed, "bob");
    let base = || with_run(record());
    let retried = RunRecord { attempt: 2, ..record() };
    let slots = TickView { has_slots: true, ..view() };
    for (view, known, why) in [
        (
            view(),
            Known { decisions: vec![gap], ..base() },
            "nobody led from 2026-01-05T02:59:00Z to 2026-01-05T03:09:58Z",
        ),
        (
            view(),
            Known { decisions: vec![step], ..base() },
            "the machine slept or its clock was set, 9m ahead",
        ),
        (view(), Known { operations: vec![resumed], ..base() }, "it was paused until it was resumed by bob"),
        (
            TickView { waits: true, ..view() },
            Known { runs: vec![record(), before.clone()], ..known() },
            "run 00000000-0000-0000-0000-000000000002 of the job was in progress until 2026-01-05T03:09:59Z",
        ),
        (view(), with_run(retried), "its node died, and this was attempt 2"),
        (slots, base(), "no cause is recorded: probably it waited for one of the node's slots"),
        // Of another node, and a run for whose end no tick waits.
        (
            view(),
            Known { decisions: vec![elsewhere], runs: vec![record(), before], ..known() },
            "no cause is recorded: no node was there, or it had no processor time",
        ),
        (view(), base(), "no cause is recorded: no node was there, or it had no processor time"),
    ] {
        let expected = format!(
            "it ran as run {RUN} on node {NODE} from 2026-01-05T03:10:00Z, 10m late: {why}, and succeeded"
        );
        assert_eq!(answer(&view, &known), expected);
    }
}

#[test]
fn a_skipped_tick_says_why() {
    let other = Some(run_id(2));
    for (record, why) in [
        (skipped(SkipReason::Misfire, None, None), "it was too late for its misfire policy"),
        (
            skipped(SkipReason::Overlap, None, other),
            "run 00000000-0000-0000-0000-000000000002 of the same lock key was in progress",
        ),
        (skipped(SkipReason::Overlap, None, None), "a run of the same lock key was in progress"),
        (
            skipped(SkipReason::Paused, Some("the disk is full"), None),
            "the job was paused by alice: the disk is full",
        ),
        (skipped(SkipReason::Concurrency, None, None), "the node ran as many bodies as it may"),
        (
            skipped(SkipReason::Parked, Some("too long"), None),
            "the store refused the job for its data: too long",
        ),
        (
            skipped(SkipReason::Removed, None, None),
            "the job was removed, or got another schedule, before it was decided",
        ),
        (
            skipped(SkipReason::Operator, Some("the mails are stale"), None),
            "what was missed was skipped by alice: the mails are stale",
        ),
        (
            skipped(SkipReason::Unproven, None, None),
            "another node may have started it: the lead changed, or the servers have forgotten their votes",
        ),
    ] {
        let operations = vec![
            operation("11:00:00", JobOperation::Paused, "carol"),
            operation("02:00:00", JobOperation::Paused, "alice"),
        ];
        let known = Known { operations, ..with_decision(record) };

        assert_eq!(answer(&view(), &known), format!("skipped: {why}"));
    }
}

/// A record of a minute, from its first to its last tick.
fn spanning(first: &str, last: &str, ticks: u64, record: DecisionRecord) -> DecisionRecord {
    let DecisionRecord { decision: Decision::Skipped { reason, text, by, run, .. }, .. } = record else {
        panic!("{record:?}")
    };
    let decision = Decision::Skipped { reason, count: ticks, at_least: false, text, by, run };
    DecisionRecord {
        first: Some(FireTime::new(at(first))),
        fire_time: Some(FireTime::new(at(last))),
        decision,
        ..record
    }
}

fn counted(first: &str, last: &str, count: u64) -> (FireTime, FireTime, u64) {
    (FireTime::new(at(first)), FireTime::new(at(last)), count)
}

#[test]
fn the_record_that_names_the_tick_tells() {
    let long = spanning("02:59:30", "03:00:20", 51, skipped(SkipReason::Paused, None, None));
    let beside = spanning("03:00:01", "03:00:02", 2, skipped(SkipReason::Misfire, None, None));
    let decisions = vec![long, beside, skipped(SkipReason::Overlap, None, None)];
    let known = Known { decisions, counted: vec![counted("02:59:30", "03:00:20", 51)], ..known() };

    assert_eq!(answer(&view(), &known), "skipped: a run of the same lock key was in progress");
}

#[test]
fn a_tick_between_the_ends_of_a_record_was_skipped_only_if_all_between_are_accounted_for() {
    let overlap =
        || spanning("02:59:30", "03:00:29", 58, skipped(SkipReason::Overlap, None, Some(run_id(2))));
    let ran_at = |number, time: &str| {
        let fire_time = Some(FireTime::new(at(time)));
        RunRecord { run: run_id(number), fire_time, ..ran(Some(Outcome::Succeeded)) }
    };
    let runs = || vec![ran_at(4, "02:59:40"), ran_at(5, "03:00:10")];
    let was_skipped = "skipped: a run of the same lock key was in progress";
    let unknown = "not known: 58 of the ticks from 2026-01-05T02:59:30Z to 2026-01-05T03:00:29Z were skipped for \
                   overlap, and it is not recorded whether this was one of them";
    for (runs, fire_times, said) in [
        (runs(), Some(60), was_skipped),
        (Vec::new(), Some(58), was_skipped),
        // Runs that are not kept any more, and a schedule that has too many fire times to count.
        (Vec::new(), Some(60), unknown),
        (runs(), None, unknown),
    ] {
        let counted = fire_times.map(|count| counted("02:59:30", "03:00:29", count)).into_iter().collect();
        let known = Known { runs, counted, ..with_decision(overlap()) };

        assert_eq!(answer(&view(), &known), said, "{fire_times:?}");
    }
}

#[test]
fn who_paused_the_newest_tick_of_a_record_is_not_blamed_for_one_before_a_resumption() {
    let record = || spanning("02:59:30", "03:00:29", 60, skipped(SkipReason::Paused, Some("the disk"), None));
    let resumed = operation("03:00:10", JobOperation::Resumed, "bob");
    for (operations, said) in [
        (
            vec![operation("02:00:00", JobOperation::Paused, "alice")],
            "skipped: the job was paused by alice: the disk",
        ),
        (vec![resumed], "skipped: the job was paused"),
    ] {
        let counted = vec![counted("02:59:30", "03:00:29", 60)];
        let known = Known { operations, counted, ..with_decision(record()) };

        assert_eq!(answer(&view(), &known), said);
    }
}

#[test]
fn who_resumed_a_job_before_is_not_blamed_for_a_pause_of_its_policies() {
    let own = Decision::Skipped {
        reason: SkipReason::Paused,
        count: 1,
        at_least: false,
        text: Some("runs that failed in a row: 5".into()),
        by: None,
        run: None,
    };
    let record = DecisionRecord { decision: own, ..skipped(SkipReason::Paused, None, None) };
    let operations = vec![
        operation("02:00:00", JobOperation::Resumed, "alice"),
        operation("01:00:00", JobOperation::Paused, "alice"),
    ];
    let known = Known { operations, ..with_decision(record) };

    let explained = decide(&job(), at("12:00:00"), &view(), &known);

    assert_eq!(explained.answer.to_string(), "skipped: the job was paused: runs that failed in a row: 5");
    assert!(!explained.evidence.iter().any(|one| matches!(one, Evidence::Operation(_))), "{explained}");
}

#[test]
fn what_is_no_fire_time_names_those_beside_it_and_the_reason() {
    let no_fire_time = || TickView { is_fire_time: false, ..view() };
    let beside = "the fire times beside it are 2026-01-04T03:00:00Z and 2026-01-06T03:00:00Z";
    assert_eq!(answer(&no_fire_time(), &known()), format!("it does not fire then; {beside}"));

    let calendar =
        TickView { why_not: Some(NotDue::Calendar { name: "holidays".to_owned() }), ..no_fire_time() };
    let expected = format!("it does not fire then: the calendar \"holidays\" leaves it out; {beside}");
    assert_eq!(answer(&calendar, &known()), expected);
    for (previous, next, said) in [
        (view().previous, None, "the last fire time was 2026-01-04T03:00:00Z"),
        (None, view().next, "the first fire time is 2026-01-06T03:00:00Z"),
        (None, None, "it never fires"),
    ] {
        let view = TickView { previous, next, ..no_fire_time() };
        assert_eq!(answer(&view, &known()), format!("it does not fire then; {said}"));
    }
    // What ran by another schedule ran all the same.
    let ran = answer(&no_fire_time(), &with_run(ran(Some(Outcome::Succeeded))));
    assert!(ran.starts_with("it ran"), "{ran}");
}

#[test]
fn what_somebody_did_to_the_job_is_evidence_for_what_follows_from_it() {
    let done = |operation, time| OperationRecord::new(job(), operation, at(time), node());
    let is_evidence = |explained: &Explanation, operation: &OperationRecord| {
        explained.evidence.contains(&Evidence::Operation(Box::new(operation.clone())))
    };
    let no_fire_time = TickView { is_fire_time: false, ..view() };
    for (time, is_later) in [("04:00:00", true), ("02:00:00", false)] {
        let changed = done(JobOperation::Changed, time);
        let known = Known { operations: vec![changed.clone()], ..known() };
        let explained = decide(&job(), at("12:00:00"), &no_fire_time, &known);
        assert_eq!(is_evidence(&explained, &changed), is_later, "by the schedule before: {explained}");
    }

    let decision = Decision::Skipped {
        reason: SkipReason::Paused,
        count: 1,
        at_least: false,
        text: None,
        by: None,
        run: None,
    };
    let skipped = DecisionRecord {
        fire_time: Some(tick()),
        ..DecisionRecord::new(Some(job()), at("03:00:01"), node(), decision)
    };
    let paused = done(JobOperation::Paused, "02:00:00");
    let known = Known { decisions: vec![skipped], operations: vec![paused.clone()], ..known() };
    let explained = decide(&job(), at("12:00:00"), &view(), &known);
    assert!(is_evidence(&explained, &paused), "{explained}");
}

#[test]
fn what_is_not_decided_yet_says_what_it_waits_for() {
    let due = || TickView { cursor: at("00:00:00"), ..view() };
    let pause = Pause::until(at("13:00:00")).note("the disk is full").by(By::new("alice").ok());
    let other_node = TickView { fires: false, at: at("11:59:00"), ..due() };
    for (view, why) in [
        (TickView { at: at("15:00:00"), ..due() }, "it has not come"),
        (
            TickView { held_by: Some(pause), ..due() },
            "the job is paused by alice: the disk is full, until 2026-01-05T13:00:00Z",
        ),
        (
            TickView { run: Some(run_id(1)), ..due() },
            "run 00000000-0000-0000-0000-000000000001 of the job is in progress",
        ),
        (
            TickView { waits_for_turn: true, ..due() },
            "it was missed, and waits for its turn to be made up for",
        ),
        (due(), "it is due, and waits for a leader or for the store"),
        (other_node, "another node decides it, and has recorded nothing yet"),
    ] {
        assert_eq!(answer(&view, &known()), format!("not decided yet: {why}"));
    }
}

#[test]
fn a_follower_says_of_a_tick_what_the_store_and_the_leader_leave_open() {
    let no_leader = "not decided yet: nobody leads since 2026-01-05T02:30:00Z; the next leader runs it, if it is not too late then";
    let other_node = "not decided yet: another node decides it, and has recorded nothing yet";
    let nothing = "not known: nothing is recorded: no node had the job then, or the record was dropped";
    let gap = "02:30:00";
    for (decided_to, leaderless_since, said) in [
        // By the store.
        (Some("02:00:00"), Some(gap), no_leader),
        (Some("02:00:00"), None, other_node),
        (Some("03:00:00"), Some(gap), nothing),
        (Some("03:00:00"), None, nothing),
        // The store does not say it.
        (None, Some(gap), no_leader),
        (None, Some("03:00:00"), nothing),
        (None, None, nothing),
    ] {
        let follower = TickView { cursor: at("00:00:00"), fires: false, ..view() };
        let (decided_to, leaderless_since) = (decided_to.map(at), leaderless_since.map(at));
        let known = Known { decided_to, leaderless_since, ..known() };

        let explained = decide(&job(), at("12:00:00"), &follower, &known);

        assert_eq!(explained.answer.to_string(), said, "{decided_to:?} {leaderless_since:?}");
        let up_to = decided_to.unwrap_or(follower.cursor);
        assert_eq!(explained.evidence.last(), Some(&Evidence::Node { decided_up_to: up_to, fires: false }));
    }
}

#[test]
fn a_follower_says_of_a_tick_of_a_paused_job_that_the_pause_holds_it() {
    let pause = Pause::until_resumed().note("the disk is full").by(By::new("alice").ok());
    let paused = "not decided yet: the job is paused by alice: the disk is full";
    let other_node = "not decided yet: another node decides it, and has recorded nothing yet";
    for (decided_to, said) in [(Some("02:00:00"), paused), (Some("03:00:00"), other_node), (None, other_node)]
    {
        let cursor = at("00:00:00");
        let follower = TickView { cursor, fires: false, pause: Some(pause.clone()), ..view() };
        let known = Known { decided_to: decided_to.map(at), ..known() };

        let explained = decide(&job(), at("03:00:30"), &follower, &known);

        assert_eq!(explained.answer.to_string(), said, "{decided_to:?}");
    }
}

#[test]
fn what_is_not_known_says_why() {
    let new = Known { was_there: false, held_since: at("11:00:00"), ..known() };
    let follower = TickView { cursor: at("00:00:00"), fires: false, ..view() };
    for (view, known, why) in [
        (view(), new, "nothing is recorded of the job before; this node has it since 2026-01-05T11:00:00Z"),
        (
            view(),
            Known { kept_since: Some(at("11:00:00")), ..known() },
            "what was recorded before 2026-01-05T11:00:00Z is not kept any more",
        ),
        (view(), Known { is_kept: false, ..known() }, "no history is kept"),
        (view(), known(), "nothing is recorded: no node had the job then, or the record was dropped"),
        (follower, known(), "nothing is recorded: no node had the job then, or the record was dropped"),
    ] {
        assert_eq!(answer(&view, &known), format!("not known: {why}"));
    }
}

#[test]
fn a_run_that_only_names_the_fire_time_is_evidence_and_no_answer() {
    let origin = RunOrigin::Trigger { by: By::new("alice").ok(), own_arguments: false };
    let named = RunRecord { run: run_id(3), origin, ..ran(Some(Outcome::Succeeded)) };
    let asked = operation("04:00:00", JobOperation::Triggered, "alice");
    let asked = OperationRecord {
        detail: Some("for 2026-01-05T03:00:00Z".into()),
        note: Some("once more".into()),
        ..asked
    };
    let misfire = with_decision(skipped(SkipReason::Misfire, None, None));
    let known = Known { runs: vec![named], operations: vec![asked], ..misfire };

    let explained = decide(&job(), at("12:00:00"), &view(), &known);

    assert!(matches!(explained.answer, Answer::Skipped { reason: SkipReason::Misfire, .. }));
    assert_eq!(
        explained.to_string(),
        format!(
            "report at 2026-01-05T03:00:00Z: skipped: it was too late for its misfire policy\n  \
             schedule: cron 0 3 * * *: fires then\n  \
             operation: triggered at 2026-01-05T04:00:00Z by alice: for 2026-01-05T03:00:00Z: once more\n  \
             decision: at 2026-01-05T03:00:00.004Z on node {NODE}: skipped 1 for misfire, 2026-01-05T03:00:00Z\n  \
             run: {named} on node {NODE}, triggered by alice, started 2026-01-05T03:00:00.002Z, \
             ended 2026-01-05T03:04:00Z, succeeded",
            named = run_id(3)
        )
    );
}

#[test]
fn a_run_of_a_backfill_is_evidence_with_who_asked_for_it() {
    let backfill = BackfillId::new(RunIds::of(node()).next(at("09:00:00")));
    let of_it = |nth: u32, fire_time| {
        let origin = RunOrigin::Backfill { backfill, by: By::new("bob").ok() };
        RunRecord { run: backfill.run(nth), origin, fire_time: Some(fire_time), ..ran(Some(Outcome::Failed)) }
    };
    let another = FireTime::new(at("04:00:00"));
    let asked = |detail: String| OperationRecord {
        detail: Some(detail.into()),
        ..operation("09:00:00", JobOperation::Backfilled, "bob")
    };
    let operations = vec![
        asked("backfill 00000000-0000-8000-0000-000000000001, 3 fire times".to_owned()),
        asked(format!("{}2 fire times from here to there", backfilled(backfill))),
    ];
    let misfire = with_decision(skipped(SkipReason::Misfire, None, None));
    let known = Known { runs: vec![of_it(1, another), of_it(0, tick())], operations, ..misfire };

    let explained = decide(&job(), at("12:00:00"), &view(), &known);

    assert!(
        matches!(explained.answer, Answer::Skipped { reason: SkipReason::Misfire, .. }),
        "it is no run of the tick"
    );
    let text = explained.to_string();
    let lines: Vec<_> = text.lines().skip(3).map(str::trim).collect();
    let run = backfill.run(0);
    assert_eq!(
        lines,
        [
            format!(
                "operation: backfilled at 2026-01-05T09:00:00Z by bob: backfill {backfill}, 2 fire times from here to there"
            ),
            format!(
                "run: {run} on node {NODE}, of backfill {backfill} by bob, started 2026-01-05T03:00:00.002Z, \
                 ended 2026-01-05T03:04:00Z, failed"
            ),
        ]
    );
}

#[test]
fn an_explanation_is_the_same_after_it_went_through_json() {
    let known = with_decision(skipped(SkipReason::Paused, Some("the disk is full"), None));
    let explained = decide(&job(), at("12:00:00"), &view(), &known);

    let text = serde_json::to_string(&explained).expect("it can be written");

    assert_eq!(serde_json::from_str::<Explanation>(&text).expect("it can be read"), explained);
    let json: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!((&json["answer"], &json["reason"]), (&"skipped".into(), &"paused".into()), "{text}");
}

#[test]
fn a_run_without_a_recorded_end_and_one_of_a_newer_version_are_said_to_be_so() {
    let stale = RunRecord { is_stale: true, ..ran(None) };
    assert_eq!(
        answer(&view(), &with_run(stale)),
        format!(
            "not known: run {RUN} began on node {NODE}, and its end is not recorded: the node died, or could not write"
        )
    );
    let newer = RunRecord { unknown_outcome: Some("dreamt".into()), ..ran(None) };
    assert_eq!(
        answer(&view(), &with_run(newer)),
        "not known: its run ended as \"dreamt\", a word of a newer version"
    );
    assert_eq!(
        answer(&view(), &Known { has_unread: true, ..known() }),
        "not known: there are records of a newer version, which this one cannot read"
    );
}

#[test]
fn what_comes_after_the_last_run_that_a_limit_allows_is_said_to_be_so() {
    let over = |at| TickView { at, cursor: at - TimeDelta::hours(1), used_up: Some(3), ..view() };
    for at in [view().at, at("15:00:00")] {
        let said = "it does not run: the job has had all the runs that its limit allows, 3";
        assert_eq!(answer(&over(at), &known()), said);
    }
}

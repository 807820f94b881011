//! Nothing is lost silently: each tick and each run is accounted for once, in the events, in the metrics and
//! in the store, though replies are lost.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use callsheet::{
    CancelReason, EventKind, Fires, Job, Outcome, Overlap, RemoveJobs, RunId, SkipReason, TriggerJob,
    schedule::{Schedule, every},
    testkit::{CallFault, NodeIndex, Record, Rig, fakes::Period, simulate},
};
use chrono::{DateTime, TimeDelta, TimeZone, Utc};
use tokio::time::timeout;

mod common;
use common::{mins, node_with, secs};

const START: &str = "2026-01-05T00:00:00Z";
const PERIOD: Duration = Duration::from_millis(200);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A job that is due every 200 ms and takes 500 ms: two ticks of three overlap.
fn overlapping() -> Job {
    Job::new("job", every(PERIOD)).run(async |_| tokio::time::sleep(ms(500)).await)
}

/// A job that takes 5 s of each minute.
fn hourly() -> Job {
    Job::new("job", every(mins(60))).run(async |_| tokio::time::sleep(secs(5)).await)
}

/// The next call of a node goes wrong, then the server ends its session.
async fn loses(rig: &mut Rig, node: NodeIndex, fault: CallFault) {
    let id = rig.id(node);
    rig.store().script(id, [fault]);
    rig.advance(ms(3)).await;
    rig.end_session(node);
}

/// What was said of ticks: how many started, and how many were skipped.
fn said_of_ticks(rig: &Rig) -> (u64, u64) {
    rig.events().into_iter().fold((0, 0), |(started, skipped), recorded| match recorded.event.kind {
        EventKind::RunStarted { fire_time: Some(_), attempt: 1, .. } => (started + 1, skipped),
        EventKind::TickSkipped { count, .. } => (started, skipped + count),
        _ => (started, skipped),
    })
}

/// Whatever was said is counted, and nothing else. For stories in which everything that was said is decided
/// at the end.
fn assert_all_that_was_said_is_counted(rig: &mut Rig) {
    let (started, skipped) = said_of_ticks(rig);
    assert_eq!(rig.counter("callsheet_ticks_total", "outcome=started"), started, "{}", rig.transcript());
    assert_eq!(rig.counter("callsheet_ticks_total", ""), started + skipped, "{}", rig.transcript());
    assert_eq!(rig.counter("callsheet_ticks_due_total", ""), started + skipped, "{}", rig.transcript());
}

/// Whatever is decided is counted once, by what became of it, and was said once.
fn assert_ticks_are_accounted_for(rig: &mut Rig, claims_lost: u64) {
    let last = rig.store().records().into_iter().filter_map(|record| match record {
        Record::Advanced { to, .. } => Some(to.instant()),
        _ => None,
    });
    let cursor = last.last().expect("ticks were decided");
    let since = cursor - START.parse::<DateTime<Utc>>().expect("an instant");
    let due = since.num_milliseconds().unsigned_abs() / 200;
    let mut said: BTreeMap<SkipReason, u64> = BTreeMap::new();
    let mut started_before = 0;
    for recorded in rig.events() {
        match recorded.event.kind {
            EventKind::RunStarted { fire_time: Some(at), .. } if at.instant() <= cursor => {
                started_before += 1;
            }
            EventKind::TickSkipped { fire_time, reason, count, .. } if fire_time.instant() <= cursor => {
                *said.entry(reason).or_default() += count;
            }
            _ => {}
        }
    }
    let counted = |rig: &mut Rig, outcome: &str| rig.counter("callsheet_ticks_total", outcome);
    assert_eq!(rig.counter("callsheet_ticks_due_total", ""), due, "{}", rig.transcript());
    assert_eq!(counted(rig, ""), due);
    for (reason, said) in said {
        assert_eq!(counted(rig, &format!("outcome={}", reason.as_str())), said, "{reason:?}");
    }
    // A claimed run whose reply was lost was never started.
    let never_started = counted(rig, "outcome=started") - started_before;
    assert_eq!(never_started, claims_lost, "{}", rig.transcript());
}

#[test]
fn ticks_of_a_claim_whose_reply_is_lost_are_counted_once() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([overlapping()])).await;
        // Between the body that ends at 4.9 s and the tick at 5.0 s, which is claimed with two that were
        // skipped.
        rig.advance(ms(4_999)).await;

        loses(rig, node, CallFault::ReplyLost).await;
        rig.advance(secs(10)).await;
        rig.shutdown(node, secs(1)).await;

        assert_ticks_are_accounted_for(rig, 1);
        assert_eq!(ends(rig).values().filter(|end| **end == [Outcome::Lost]).count(), 1);
    });
}

#[test]
fn ticks_of_a_claim_that_never_arrived_are_counted_once() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([overlapping()])).await;
        rig.advance(ms(4_999)).await;

        loses(rig, node, CallFault::RequestLost).await;
        rig.advance(secs(10)).await;
        rig.shutdown(node, secs(1)).await;

        // What was said of the claim that never arrived was decided again, and is said and counted then.
        let (due, counted) =
            (rig.counter("callsheet_ticks_due_total", ""), rig.counter("callsheet_ticks_total", ""));
        assert_eq!((due, counted), (decided(rig), decided(rig)), "{}", rig.transcript());
        let started = rig.counter("callsheet_ticks_total", "outcome=started");
        assert_eq!(started, rig.started("job") as u64, "{}", rig.transcript());
    });
}

/// How many ticks the store has decided.
fn decided(rig: &Rig) -> u64 {
    let moves = rig.store().records().into_iter().filter_map(|record| match record {
        Record::Advanced { to, .. } => Some(to.instant()),
        _ => None,
    });
    let cursor = moves.last().expect("ticks were decided");
    let since = cursor - START.parse::<DateTime<Utc>>().expect("an instant");
    since.num_milliseconds().unsigned_abs() / 200
}

/// A job that is due every 200 ms and takes so long that all ticks but the first overlap: the cursor is moved
/// over them each second.
fn endless() -> Job {
    due_often(secs(30), 0)
}

#[test]
fn ticks_of_a_move_whose_reply_is_lost_are_counted_once() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([endless()])).await;
        // The tick at 0.4 s is the first that is skipped.
        rig.advance(ms(1_399)).await;

        loses(rig, node, CallFault::ReplyLost).await;
        rig.advance(secs(10)).await;
        rig.shutdown(node, secs(1)).await;

        assert_ticks_are_accounted_for(rig, 0);
    });
}

#[test]
fn ticks_of_a_move_that_never_arrived_are_counted_once() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([endless()])).await;
        rig.advance(ms(1_399)).await;

        loses(rig, node, CallFault::RequestLost).await;
        rig.advance(secs(10)).await;
        rig.shutdown(node, secs(1)).await;

        let (due, counted) =
            (rig.counter("callsheet_ticks_due_total", ""), rig.counter("callsheet_ticks_total", ""));
        assert_eq!((due, counted), (decided(rig), decided(rig)), "{}", rig.transcript());
    });
}

#[test]
fn a_job_that_has_run_as_often_as_it_may_skips_nothing_when_it_goes() {
    simulate(START, async |rig| {
        let three = |name: &str| Job::new(name, every(secs(1))).limit(3).run(async |_| {});
        let jobs = [three("done").remove_when_done(), three("removed"), three("changed")];
        let node = rig.node(node_with(jobs)).await;
        rig.advance(mins(60)).await;

        rig.send(node, RemoveJobs("removed".into())).await.expect("it is there");
        rig.reschedule(node, "changed", every(mins(60))).await.expect("it is there");
        rig.advance(secs(10)).await;

        assert_eq!(said_of_ticks(rig), (9, 0), "{}", rig.transcript());
        assert_all_that_was_said_is_counted(rig);
    });
}

#[test]
fn nothing_is_due_before_the_end_of_a_run_from_which_it_counts() {
    simulate(START, async |rig| {
        let rests = |name: &str| {
            Job::new(name, every(mins(1)).from_completion()).run(async |_| tokio::time::sleep(mins(10)).await)
        };
        let node = rig.node(node_with([rests("removed"), rests("changed")])).await;
        rig.advance(mins(8)).await;

        rig.send(node, RemoveJobs("removed".into())).await.expect("it is there");
        rig.reschedule(node, "changed", every(mins(60))).await.expect("it is there");
        rig.advance(mins(10)).await;

        assert_eq!(said_of_ticks(rig), (2, 0), "{}", rig.transcript());
        assert_all_that_was_said_is_counted(rig);
    });
}

#[test]
fn nothing_is_due_before_the_end_of_a_run_that_is_being_claimed() {
    simulate(START, async |rig| {
        let rests = Job::new("job", every(secs(1)).from_completion())
            .run(async |_| tokio::time::sleep(secs(10)).await);
        let node = rig.node(node_with([rests])).await;
        rig.advance(ms(999)).await;
        let id = rig.id(node);
        rig.store().script(id, [CallFault::Stall(secs(3))]);
        rig.advance(ms(2_500)).await;

        rig.reschedule(node, "job", every(mins(60))).await.expect("it is there");
        rig.advance(mins(1)).await;

        assert_eq!(said_of_ticks(rig), (1, 0), "{}", rig.transcript());
        assert_all_that_was_said_is_counted(rig);
    });
}

/// What is done to a job whose ticks before are not accounted for yet.
type Then = fn(Job) -> Option<Job>;

#[test]
fn what_is_changed_twice_is_accounted_for_once_the_store_answers() {
    let then: [Then; 4] = [
        |_| None,
        Some,
        |job| Some(job.fires(Fires::Local)),
        |job| Some(job.overlap(Overlap::Queue(2)).lock_key("another")),
    ];
    for (nth, then) in then.into_iter().enumerate() {
        simulate(START, async |rig| {
            let node = rig.node(node_with([endless()])).await;
            rig.advance(ms(3_250)).await;
            let id = rig.id(node);
            rig.store().script(id, [CallFault::Stall(ms(700))]);

            // The first one moves the cursor, which takes long.
            rig.update(node, due_often(secs(30), 1)).await.expect("it is there");
            rig.advance(ms(50)).await;
            match then(due_often(secs(30), 0)) {
                Some(job) => drop(rig.update(node, job).await.expect("it is there")),
                None => drop(rig.send(node, RemoveJobs("job".into())).await.expect("it is there")),
            }
            rig.advance(ms(740)).await;
            rig.advance(secs(3)).await;
            // Perhaps it is gone.
            let _ = rig.send(node, RemoveJobs("job".into())).await;
            rig.advance(secs(3)).await;

            let (started, skipped) = said_of_ticks(rig);
            assert!(started + skipped >= 16, "{nth}: {}", rig.transcript());
            assert_all_that_was_said_is_counted(rig);
        });
    }
}

#[test]
fn a_job_with_another_policy_and_schedule_accounts_for_what_was_due() {
    let changes: [fn(Job) -> Job; 3] =
        [|job| job.overlap(Overlap::Queue(2)), |job| job.lock_key("another"), |job| job.fires(Fires::Local)];
    for (nth, change) in changes.into_iter().enumerate() {
        simulate(START, async |rig| {
            let node = rig.node(node_with([endless()])).await;
            rig.advance(ms(3_350)).await;

            let other = Job::new("job", every(mins(60))).run(async |_| {});
            rig.update(node, change(other)).await.expect("it is there");
            rig.advance(secs(3)).await;

            assert_eq!(said_of_ticks(rig), (1, 15), "{nth}: {}", rig.transcript());
            assert_all_that_was_said_is_counted(rig);
        });
    }
}

#[test]
fn a_clock_a_little_ahead_of_the_stores_loses_no_skip() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([endless()])).await;
        rig.advance(ms(3_399)).await;

        rig.set_store_skew(TimeDelta::milliseconds(-20));
        rig.advance(ms(2)).await;
        rig.send(node, RemoveJobs("job".into())).await.expect("it is there");
        rig.advance(secs(3)).await;

        assert_eq!(said_of_ticks(rig), (1, 16), "{}", rig.transcript());
        assert_all_that_was_said_is_counted(rig);
    });
}

/// Every second, until it stands still for ever.
#[derive(Debug, Clone, Default)]
struct StandsStill(Arc<AtomicBool>);

impl fmt::Display for StandsStill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every second, for a while")
    }
}

impl Schedule for StandsStill {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if self.0.load(Ordering::Relaxed) { Some(after) } else { Period::seconds(1).next_after(after) }
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Period::seconds(1).previous_before(before)
    }
}

#[test]
fn a_schedule_that_breaks_as_its_job_is_removed_frees_the_name() {
    simulate(START, async |rig| {
        let schedule = StandsStill::default();
        let node = rig.node(node_with([Job::new("job", schedule.clone()).run(async |_| {})])).await;
        rig.advance(ms(2_500)).await;

        schedule.0.store(true, Ordering::Relaxed);
        rig.send(node, RemoveJobs("job".into())).await.expect("it is there");
        rig.advance(secs(1)).await;
        let added = timeout(mins(1), rig.add(node, due_often(ms(0), 0))).await;
        added.expect("its name is free").expect("it is not there");
        rig.advance(secs(1)).await;

        assert_eq!(rig.started("job"), 2 + 5, "{}", rig.transcript());
        // The rig asks it as well.
        schedule.0.store(false, Ordering::Relaxed);
    });
}

/// How each run ended, as is said: that a body of a run is over that is lost is not its end.
fn ends(rig: &Rig) -> HashMap<RunId, Vec<Outcome>> {
    let mut ends: HashMap<_, Vec<_>> = HashMap::new();
    for recorded in rig.events() {
        let (run, outcome) = match recorded.event.kind {
            EventKind::RunSucceeded { run, .. } => (run, Outcome::Succeeded),
            EventKind::RunFailed { run, .. } => (run, Outcome::Failed),
            EventKind::RunLost { run, .. } => (run, Outcome::Lost),
            EventKind::RunCancelled { run, why, .. } if why != CancelReason::LockLost => {
                (run, Outcome::Cancelled)
            }
            _ => continue,
        };
        ends.entry(run).or_default().push(outcome);
    }
    ends
}

/// What is said, counted and kept of the ends of all runs is the same.
fn assert_ends_are_accounted_for(rig: &mut Rig) {
    let said = ends(rig);
    let kept = rig.store().records().into_iter().filter_map(|record| match record {
        Record::Closed { run, outcome } => Some((run, vec![outcome])),
        _ => None,
    });
    assert_eq!(said, kept.collect(), "{}", rig.transcript());
    for outcome in Outcome::ALL {
        let counted = rig.counter("callsheet_runs_total", &format!("outcome={}", outcome.as_str()));
        let said = said.values().filter(|ends| **ends == [outcome]).count() as u64;
        assert_eq!(counted, said, "{outcome}: {}", rig.transcript());
    }
}

#[test]
fn an_end_that_got_no_answer_is_one_end() {
    for (fault, outcome) in
        [(CallFault::ReplyLost, Outcome::Succeeded), (CallFault::RequestLost, Outcome::Lost)]
    {
        simulate(START, async |rig| {
            let node = rig.node(node_with([hourly()])).await;
            rig.advance(secs(1)).await;
            let run = rig.send(node, TriggerJob("job".to_owned())).await.expect("it starts");
            rig.advance(ms(4_998)).await;

            loses(rig, node, fault).await;
            // The run of the next hour closes it, if nobody did.
            rig.advance(mins(61)).await;

            assert_ends_are_accounted_for(rig);
            let id = run.run();
            assert_eq!(ends(rig)[&id], [outcome], "{fault:?}");
            assert_eq!(run.finished().await, outcome, "{fault:?}");
        });
    }
}

#[test]
fn a_body_that_ends_when_its_frozen_node_goes_on_is_no_end_of_a_lost_run() {
    simulate(START, async |rig| {
        rig.set_lease(secs(5));
        let first = rig.node(node_with([hourly()])).await;
        let second = rig.node(node_with([hourly()])).await;
        rig.advance(mins(60) + secs(4)).await;
        assert_eq!(rig.leader(), Some(first));

        rig.freeze(first);
        rig.advance(mins(2)).await;
        assert_eq!(rig.leader(), Some(second));
        rig.thaw(first);
        rig.advance(mins(2)).await;

        assert_ends_are_accounted_for(rig);
        assert_eq!(ends(rig).into_values().collect::<Vec<_>>(), [[Outcome::Lost]]);
    });
}

/// Each tick before `end` has started once, or was said to be skipped once; and is counted once. For stories
/// at whose end the job is removed, so that no skip waits to be counted.
fn assert_ticks_are_in_somebodys_hands(rig: &mut Rig, end: DateTime<Utc>, story: &str) {
    let start: DateTime<Utc> = START.parse().expect("an instant");
    let mut hands: BTreeMap<DateTime<Utc>, Vec<String>> = BTreeMap::new();
    for recorded in rig.events() {
        match recorded.event.kind {
            EventKind::RunStarted { fire_time: Some(at), .. } => {
                hands.entry(at.instant()).or_default().push("started".to_owned());
            }
            EventKind::TickSkipped { fire_time, reason, count, .. } => {
                for nth in 0..u32::try_from(count).expect("few") {
                    let at = fire_time.instant() - PERIOD * nth;
                    hands.entry(at).or_default().push(reason.as_str().to_owned());
                }
            }
            _ => {}
        }
    }
    let ticks = (1..).map(|nth| start + PERIOD * nth).take_while(|tick| *tick < end);
    for tick in ticks {
        let held = hands.get(&tick).map_or(0, Vec::len);
        assert_eq!(held, 1, "{story}, {tick}: {:?}: {}", hands.get(&tick), rig.transcript());
    }
    assert_eq!(rig.counter("callsheet_ticks_due_total", ""), hands.len() as u64, "{story}");
    assert_eq!(rig.counter("callsheet_ticks_total", ""), hands.len() as u64, "{story}");
}

/// A job that is due every 200 ms, and takes so long; one of the same ticks, but of another schedule.
fn due_often(takes: Duration, variant: u64) -> Job {
    let end = Utc.with_ymd_and_hms(2030, 1, 1, 0, 0, u32::try_from(variant % 2).expect("few")).unwrap();
    Job::new("job", every(PERIOD).until(end))
        .run_with(takes, async |_, takes| tokio::time::sleep(takes).await)
}

/// What is done to a job again and again.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Change {
    RemovedAndAdded,
    RemovedAndAddedAsAnother,
    Updated,
}

#[test]
fn a_job_that_is_changed_in_a_loop_leaves_no_tick_in_nobodys_hands() {
    let changes = [Change::RemovedAndAdded, Change::RemovedAndAddedAsAnother, Change::Updated];
    for change in changes {
        for (on_leader, takes, every_ms) in [
            (true, 0, 270),
            (true, 0, 199),
            (true, 0, 7),
            (true, 500, 270),
            (true, 500, 1_700),
            (false, 0, 270),
            (false, 500, 270),
        ] {
            let story = format!("{change:?}, leader {on_leader}, {takes} ms, every {every_ms} ms");
            simulate(START, async |rig| {
                let leader = rig.node(node_with([due_often(ms(takes), 0)])).await;
                let follower = rig.node(node_with([due_often(ms(takes), 0)])).await;
                rig.advance(secs(2)).await;
                assert_eq!(rig.leader(), Some(leader));
                let node = if on_leader { leader } else { follower };
                // Those of the follower have the same ticks.
                for variant in 1..=(20_000 / every_ms).min(60) {
                    let variant = if on_leader && change != Change::RemovedAndAdded { variant } else { 0 };
                    if change == Change::Updated {
                        rig.update(node, due_often(ms(takes), variant)).await.expect("it is there");
                    } else {
                        rig.send(node, RemoveJobs("job".into())).await.expect("it is there");
                        rig.add(node, due_often(ms(takes), variant)).await.expect("it is not");
                    }
                    rig.advance(ms(every_ms)).await;
                }
                rig.advance(ms(2_401)).await;
                let end = rig.now();
                rig.send(leader, RemoveJobs("job".into())).await.expect("it is there");
                rig.advance(secs(1)).await;

                assert_ticks_are_in_somebodys_hands(rig, end, &story);
            });
        }
    }
}

#[test]
fn a_tick_while_a_job_was_removed_is_owed_by_nobody() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([due_often(ms(0), 0)])).await;
        rig.advance(ms(1_100)).await;

        rig.send(node, RemoveJobs("job".into())).await.expect("it is there");
        rig.advance(ms(500)).await;
        rig.add(node, due_often(ms(0), 0)).await.expect("it is not");
        rig.advance(ms(500)).await;

        assert_eq!(rig.started("job"), 5 + 2, "not at 1.2 s, 1.4 s and 1.6 s: {}", rig.transcript());
        assert_eq!(rig.counter("callsheet_ticks_due_total", ""), 7);
    });
}

/// Ticks that the store's ledger says were decided: what the counters must say as well.
fn committed(rig: &Rig) -> u64 {
    let decided = rig.store().records().into_iter().map(|record| match record {
        Record::Advanced { skips, run, .. } => skips.total() + u64::from(run.is_some()),
        Record::Enrolled { .. }
        | Record::Anchored { .. }
        | Record::LostResumed { .. }
        | Record::Closed { .. } => 0,
    });
    decided.sum()
}

#[test]
fn skips_whose_reply_was_lost_are_counted_once() {
    simulate(START, async |rig| {
        let long = Job::new("long", every(secs(10))).run(async |_| tokio::time::sleep(secs(25)).await);
        let node = rig.node(node_with([long])).await;
        // The tick at 20 s is skipped, and the cursor moved at 21 s.
        rig.advance(ms(20_500)).await;
        let id = rig.id(node);
        rig.store().script(id, [CallFault::ReplyLost]);
        rig.advance(secs(30)).await;

        assert_eq!(
            rig.counter("callsheet_coordination_errors_total", "operation=advance"),
            1,
            "the fault hit the move"
        );
        assert_eq!(rig.counter("callsheet_ticks_due_total", ""), committed(rig));
    });
}

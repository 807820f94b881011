//! Backfills: fire times of the past that are run once, whoever dies whenever.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use callsheet::{
    Backfill, BackfillError, BackfillId, BackfillState, BackfillStatus, By, CancelBackfill, EventKind,
    FireTime, Job, ListBackfills, Origin, Overlap, PauseJobs, PreviewBackfill, ResumeJobs, Run, RunHistory,
    RunOrigin,
    schedule::every,
    testkit::{Rig, simulate},
};
use chrono::{DateTime, Utc};

#[path = "../common/mod.rs"]
mod common;
use common::{details, hours, mins, node_with, secs};

#[path = "../common/log.rs"]
mod log;

mod embedded;
mod refused;
mod take_over;

/// Midnight; the jobs of these stories fire at each full hour.
const START: &str = "2026-01-05T00:00:00Z";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("an instant")
}

/// The four hours up to three o'clock of the day before.
fn four_hours() -> Backfill {
    Backfill::new("job", at("2026-01-04T00:00:00Z"), at("2026-01-04T03:00:00Z"))
}

/// Where a run came from, and its fire time.
type SeenRun = (Origin, Option<DateTime<Utc>>);

/// What a body saw of its runs.
#[derive(Clone, Default)]
struct Seen {
    runs: Arc<Mutex<Vec<SeenRun>>>,
    /// How long a body takes.
    takes: Duration,
}

async fn see(run: Run, seen: Seen) {
    seen.runs.lock().expect("nobody panics").push((run.origin().clone(), run.fire_time()));
    tokio::time::sleep(seen.takes).await;
}

impl Seen {
    fn job(&self, takes: Duration) -> Job {
        Job::new("job", every(hours(1))).run_with(Self { takes, ..self.clone() }, see)
    }

    /// The fire times of runs of backfills, in the order of their starts, without their dates.
    fn backfilled(&self) -> Vec<String> {
        let seen = self.runs.lock().expect("nobody panics");
        let of_backfill = |(origin, fire_time): &(Origin, Option<DateTime<Utc>>)| match origin {
            Origin::Backfill { fire_time: planned, .. } => {
                assert_eq!(*fire_time, Some(planned.instant()));
                Some(planned.instant().format("%R").to_string())
            }
            _ => None,
        };
        seen.iter().filter_map(of_backfill).collect()
    }
}

async fn backfill(rig: &mut Rig, node: usize, asked: Backfill) -> BackfillStatus {
    rig.send(node, asked).await.expect("it is kept")
}

async fn status(rig: &mut Rig, node: usize, id: BackfillId) -> BackfillStatus {
    let all = rig.send(node, ListBackfills::default()).await.expect("an answer");
    all.into_iter().find(|backfill| backfill.id == id).expect("it is kept")
}

#[test]
fn each_fire_time_of_the_range_runs_once_and_the_earliest_first() {
    simulate(START, async |rig| {
        let seen = Seen::default();
        let node = rig.node(node_with([seen.job(secs(1))])).await;

        let kept = backfill(rig, node, four_hours().by(By::new("alice").expect("a good name"))).await;
        rig.advance(mins(1)).await;

        assert_eq!(seen.backfilled(), ["00:00", "01:00", "02:00", "03:00"], "both ends are in it");
        let by = Some(By::new("alice").expect("a good name"));
        for (origin, _) in &*seen.runs.lock().expect("nobody panics") {
            assert!(matches!(origin, Origin::Backfill { backfill, by: asked, .. }
                if *backfill == kept.id && *asked == by));
        }
        let finished = status(rig, node, kept.id).await;
        assert_eq!((finished.state, finished.done, finished.failed), (BackfillState::Finished, 4, 0));
        assert_eq!((finished.remaining, finished.in_flight, finished.by), (0, Vec::new(), by));
        let said = rig.events().into_iter().filter_map(|recorded| match recorded.event.kind {
            EventKind::BackfillStarted { backfill, ticks, .. }
            | EventKind::BackfillFinished { backfill, ticks, failed: 0, .. } => Some((backfill, ticks)),
            _ => None,
        });
        assert_eq!(said.collect::<Vec<_>>(), [(kept.id, 4), (kept.id, 4)]);
    });
}

#[test]
fn a_backfill_moves_no_cursor_and_takes_no_tick() {
    simulate(START, async |rig| {
        let seen = Seen::default();
        let node = rig.node(node_with([seen.job(secs(1))])).await;
        let next = details(rig, node, "job").await.next_fire_time;

        backfill(rig, node, four_hours()).await;
        rig.advance(mins(59)).await;

        assert_eq!(details(rig, node, "job").await.next_fire_time, next);
        assert_eq!(rig.counter("callsheet_ticks_total", "name=job"), 0);
        rig.advance(mins(2)).await;
        assert_eq!(rig.counter("callsheet_ticks_total", "outcome=started"), 1, "the tick of one o'clock");
    });
}

#[test]
fn the_history_and_the_metrics_say_what_a_backfill_did() {
    simulate(START, async |rig| {
        let node = rig.node(node_with([Seen::default().job(secs(10))])).await;
        let kept = backfill(rig, node, four_hours().by(By::new("alice").expect("a good name"))).await;
        rig.advance(secs(15)).await;
        assert_eq!(rig.gauge("callsheet_backfill_remaining", "name=job"), 3.0);
        rig.advance(mins(1)).await;
        assert_eq!(rig.gauge("callsheet_backfill_remaining", "name=job"), 0.0);

        let runs = rig.send(node, RunHistory::new()).await.expect("an answer").runs;
        let by = Some(By::new("alice").expect("a good name"));
        assert_eq!(runs.len(), 4);
        for run in &runs {
            assert_eq!(run.origin, RunOrigin::Backfill { backfill: kept.id, by: by.clone() });
        }
        let newest = FireTime::new(at("2026-01-04T03:00:00Z"));
        assert_eq!(runs[0].fire_time, Some(newest));
        let operations = rig.send(node, callsheet::Operations::new()).await.expect("an answer").operations;
        let backfilled = operations.iter().find(|one| one.operation == callsheet::JobOperation::Backfilled);
        assert_eq!(backfilled.expect("it is recorded").by, by);
    });
}

#[test]
fn fire_times_that_had_a_run_are_left_out_unless_they_are_wanted_again() {
    simulate(START, async |rig| {
        let seen = Seen::default();
        let node = rig.node(node_with([seen.job(secs(1))])).await;
        rig.send(node, PauseJobs::new("job")).await.expect("it is there");
        // Paused over one o'clock, of which the newest missed tick would run: resumed after two.
        rig.advance(hours(2) + mins(20)).await;
        rig.send(node, ResumeJobs::new("job")).await.expect("it is there");
        rig.advance(hours(1)).await;
        let night = Backfill::new("job", at("2026-01-04T23:00:00Z"), at("2026-01-05T03:00:00Z"));

        let preview = rig.send(node, PreviewBackfill(night.clone())).await.expect("an answer");

        let hours_of = |fire_times: &[FireTime]| -> Vec<_> {
            fire_times.iter().map(|one| one.instant().format("%R").to_string()).collect()
        };
        assert_eq!(hours_of(&preview.fire_times), ["23:00", "00:00", "01:00"]);
        assert_eq!(
            (preview.count, hours_of(&preview.left_out)),
            (3, ["02:00", "03:00"].map(str::to_owned).to_vec())
        );
        assert_eq!(rig.send(node, ListBackfills::default()).await.expect("an answer"), [], "it was dry");

        let kept = backfill(rig, node, night.clone()).await;
        assert_eq!((kept.ticks, kept.left_out), (3, 2));
        rig.advance(mins(1)).await;
        assert_eq!(seen.backfilled(), ["23:00", "00:00", "01:00"]);
        let nothing = rig.send(node, night.clone()).await.expect_err("all of them ran by now");
        assert!(
            nothing.to_string().contains("5 fire times, all of which had a run; ask for another range"),
            "{nothing}"
        );
        assert_eq!(backfill(rig, node, night.again(true)).await.ticks, 5);
    });
}

#[test]
fn a_paused_job_has_its_backfill_wait() {
    simulate(START, async |rig| {
        let seen = Seen::default();
        let node = rig.node(node_with([seen.job(secs(1))])).await;
        rig.send(node, PauseJobs::new("job")).await.expect("it is there");

        let kept = backfill(rig, node, four_hours()).await;
        rig.advance(mins(10)).await;

        assert_eq!(seen.backfilled(), [""; 0]);
        let waiting = status(rig, node, kept.id).await;
        assert_eq!((waiting.state, waiting.in_flight.len()), (BackfillState::Running, 1));
        rig.send(node, ResumeJobs::new("job")).await.expect("it is there");
        rig.advance(mins(1)).await;
        assert_eq!(seen.backfilled().len(), 4);
    });
}

#[test]
fn a_run_of_a_backfill_waits_for_its_key_and_replaces_nobody() {
    for overlap in [Overlap::Skip, Overlap::Queue(1), Overlap::Replace, Overlap::Allow(1)] {
        simulate(START, async |rig| {
            let seen = Seen::default();
            let node = rig.node(node_with([seen.job(mins(5)).overlap(overlap)])).await;
            // A tick, and while its run is in progress a backfill.
            rig.advance(hours(1) + secs(1)).await;
            assert_eq!(rig.started("job"), 1);

            backfill(rig, node, four_hours()).await;
            rig.advance(mins(4)).await;

            assert_eq!(seen.backfilled(), [""; 0], "{overlap}");
            assert_eq!(rig.count(|kind| matches!(kind, EventKind::RunCancelled { .. })), 0, "{overlap}");
            rig.advance(mins(21)).await;
            assert_eq!(seen.backfilled().len(), 4, "{overlap}: one after the other");
        });
    }
}

#[test]
fn several_run_at_a_time_where_the_policy_allows_it_and_starts_are_spaced() {
    simulate(START, async |rig| {
        let seen = Seen::default();
        let node = rig.node(node_with([seen.job(mins(1)).overlap(Overlap::Allow(3))])).await;

        backfill(rig, node, four_hours().max_concurrent(2)).await;
        rig.advance(secs(30)).await;
        assert_eq!(seen.backfilled(), ["00:00", "01:00"]);
        rig.advance(mins(2)).await;

        backfill(rig, node, four_hours().again(true).max_concurrent(3).spacing(secs(10))).await;
        for started in 1..=3 {
            rig.advance(secs(5)).await;
            assert_eq!(seen.backfilled().len(), 4 + started);
            rig.advance(secs(5)).await;
        }
        rig.advance(secs(10)).await;
        assert_eq!(seen.backfilled().len(), 7, "as many as may are in progress");
    });
}

#[test]
fn a_backfill_that_is_cancelled_starts_nothing_more() {
    simulate(START, async |rig| {
        let seen = Seen::default();
        for _ in 0..2 {
            rig.node(node_with([seen.job(mins(1))])).await;
        }
        let kept = backfill(rig, 0, four_hours()).await;
        rig.advance(secs(90)).await;
        let who = By::new("bob").expect("a good name");

        // On the node that does not lead.
        let left = rig.send(1, CancelBackfill::new(kept.id).by(who.clone())).await.expect("it is running");

        assert_eq!((left.state, left.done, left.remaining), (BackfillState::Cancelled, 1, 3));
        rig.advance(mins(10)).await;
        assert_eq!(seen.backfilled().len(), 2, "the one in progress went on");
        assert_eq!(rig.gauge("callsheet_backfill_remaining", "name=job"), 0.0);
        let cancelled = |kind: &EventKind| {
            matches!(kind, EventKind::BackfillCancelled { backfill, remaining: 3, by, .. }
                if *backfill == kept.id && by.as_ref() == Some(&who))
        };
        assert_eq!(rig.count(cancelled), 1);
        let again = rig.send(0, CancelBackfill::new(kept.id)).await.expect_err("it is over");
        assert_eq!(again, BackfillError::UnknownBackfill { backfill: kept.id });
    });
}

#[test]
fn a_run_in_progress_of_a_cancelled_backfill_is_not_run_again() {
    simulate(START, async |rig| {
        let seen = Seen::default();
        for _ in 0..2 {
            rig.node(node_with([seen.job(mins(10))])).await;
        }
        // The history of this node does not tell what the leader runs.
        let node = 1 - rig.leader().expect("somebody leads");
        let kept = backfill(rig, node, four_hours()).await;
        rig.advance(secs(90)).await;
        rig.send(node, CancelBackfill::new(kept.id)).await.expect("it is running");
        assert_eq!(seen.backfilled(), ["00:00"], "it is in progress");

        let anew = backfill(rig, node, four_hours()).await;
        rig.advance(hours(1)).await;

        assert_eq!(seen.backfilled(), ["00:00", "01:00", "02:00", "03:00"]);
        assert_eq!((anew.ticks, anew.left_out), (3, 1));
        assert_eq!(status(rig, node, anew.id).await.state, BackfillState::Finished);
    });
}

#[test]
fn a_run_that_fails_is_counted_and_the_next_one_starts() {
    simulate(START, async |rig| {
        let fails = Job::new("job", every(hours(1))).run(async |run: Run| match run.fire_time() {
            Some(at) if at.format("%R").to_string() == "01:00" => Err("no paper"),
            _ => Ok(()),
        });
        let node = rig.node(node_with([fails])).await;

        let kept = backfill(rig, node, four_hours()).await;
        rig.advance(mins(1)).await;

        let finished = status(rig, node, kept.id).await;
        assert_eq!((finished.state, finished.done, finished.failed), (BackfillState::Finished, 4, 1));
    });
}

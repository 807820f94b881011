//! What is refused whole, and how it is told.

use callsheet::{
    Decision, DecisionRecord, ErrorKind, Fires, HistoryOptions, MemoryBounds, Retry,
    port::{Backend, Batch, History},
};
use callsheet_actors::adapter::MemoryHistory;

use super::*;

async fn refusal(rig: &mut Rig, asked: Backfill) -> (ErrorKind, String) {
    let error = rig.send(0, asked).await.expect_err("it breaks a rule");
    (error.kind(), error.to_string())
}

#[test]
fn a_backfill_that_breaks_a_rule_is_refused_with_value_rule_and_cure() {
    simulate(START, async |rig| {
        let local = Job::new("local", every(hours(1))).fires(Fires::Local).run(async |_| {});
        let counts = Job::new("counts", every(hours(1)).from_completion()).run(async |_| {});
        rig.node(node_with([Seen::default().job(secs(1)), local, counts])).await;
        let (from, to) = (at("2026-01-04T00:00:00Z"), at("2026-01-04T03:00:00Z"));
        for (asked, expected) in [
            (
                Backfill::new("job", from, at("2026-01-06T00:00:00Z")),
                "to \"2026-01-06T00:00:00Z\": a backfill ends in the past",
            ),
            (Backfill::new("job", to, from), "the earlier instant first"),
            (four_hours().max_concurrent(0), "max_concurrent \"0\": 1 to 100 runs of a backfill"),
            (four_hours().max_concurrent(101), "max_concurrent \"101\""),
            (four_hours().spacing(hours(25)), "starts are at most"),
            (four_hours().max_ticks(0), "max_ticks \"0\""),
            (four_hours().max_ticks(1_001), "max_ticks \"1001\": a backfill has 1 to 1000 fire times"),
            (
                four_hours().max_ticks(3),
                "at most 3 fire times (max_ticks), and this has more; ask for a shorter range",
            ),
            (
                Backfill::new("job", at("2025-11-01T00:00:00Z"), to),
                "1000 fire times (max_ticks), and this has more",
            ),
            (
                Backfill::new("local", from, to),
                "a job that fires on its node only claims nothing; trigger it",
            ),
            (Backfill::new("counts", from, to), "that follow from the ends of runs are not known any more"),
            (
                Backfill::new("job", at("2026-01-04T00:10:00Z"), at("2026-01-04T00:20:00Z")),
                "this has nothing: 0 fire times",
            ),
            (
                Backfill::new("job", at("2025-11-01T00:00:00Z"), at("2025-11-01T03:00:00Z")),
                "are not kept; ask for a later range, or with again(true)",
            ),
        ] {
            let (kind, text) = refusal(rig, asked).await;
            assert_eq!(kind, ErrorKind::Invalid, "{text}");
            assert!(text.contains(expected), "{text}\ndoes not say\n{expected}");
        }
        let (kind, text) = refusal(rig, Backfill::new("jop", from, to)).await;
        assert_eq!(
            (kind, text.contains("there is no job \"jop\" on this node")),
            (ErrorKind::NotFound, true)
        );
        assert_eq!(rig.send(0, ListBackfills::default()).await.expect("an answer"), [], "nothing is kept");
    });
}

#[test]
fn what_the_history_does_not_know_any_more_is_run_if_it_is_wanted_again() {
    simulate(START, async |rig| {
        rig.node(node_with([Seen::default().job(secs(1))])).await;
        let long_ago = Backfill::new("job", at("2025-11-01T00:00:00Z"), at("2025-11-01T03:00:00Z"));
        assert_eq!(backfill(rig, 0, long_ago.again(true)).await.ticks, 4);
    });
}

#[test]
fn a_fire_time_whose_tick_may_still_run_is_refused_unless_it_is_wanted_again() {
    simulate(START, async |rig| {
        rig.node(node_with([Seen::default().job(secs(1))])).await;
        rig.send(0, PauseJobs::new("job")).await.expect("it is there");
        rig.advance(hours(3) + mins(1)).await;
        let night = Backfill::new("job", at("2026-01-04T23:00:00Z"), at("2026-01-05T03:00:00Z"));

        let (kind, text) = refusal(rig, night.clone()).await;

        assert_eq!(kind, ErrorKind::Invalid, "{text}");
        let expected = "those after 2026-01-05T02:00:00Z are not decided yet; end the range there";
        assert!(text.contains(expected), "{text}");
        backfill(rig, 0, night.again(true)).await;
    });
}

#[test]
fn what_another_backfill_of_the_job_is_to_run_is_left_out() {
    simulate(START, async |rig| {
        let seen = Seen::default();
        rig.node(node_with([seen.job(mins(1))])).await;
        backfill(rig, 0, four_hours()).await;
        let longer = Backfill::new("job", at("2026-01-04T02:00:00Z"), at("2026-01-04T05:00:00Z"));

        let second = backfill(rig, 0, longer).await;
        rig.advance(mins(20)).await;

        assert_eq!((second.ticks, second.left_out), (2, 2));
        let mut ran = seen.backfilled();
        ran.sort();
        assert_eq!(ran, ["00:00", "01:00", "02:00", "03:00", "04:00", "05:00"]);
    });
}

/// Such a run is in no history yet.
#[test]
fn a_run_between_two_attempts_or_in_a_hook_is_not_run_again() {
    simulate(START, async |rig| {
        for _ in 0..2 {
            let retry = Retry::attempts(3).initial(mins(10)).max(mins(10)).jitter(0.0);
            let fails = Job::new("fails", every(hours(1))).retry(retry);
            let before = async |_| tokio::time::sleep(mins(20)).await;
            let waits = Job::new("waits", every(hours(1))).before(before).hook_timeout(hours(1));
            let jobs = [fails.run(async |_| Err::<(), _>("no paper")), waits.run(async |_| {})];
            rig.node(node_with(jobs)).await;
        }
        rig.advance(hours(1) + mins(5)).await;

        for (node, job) in [(0, "fails"), (1, "fails"), (0, "waits"), (1, "waits")] {
            let night = Backfill::new(job, at("2026-01-05T01:00:00Z"), at("2026-01-05T01:04:00Z"));
            let refused = rig.send(node, night).await.expect_err("its run is not over").to_string();
            assert!(refused.contains("1 fire times, all of which had a run"), "{refused}");
        }
    });
}

#[test]
fn a_range_of_which_the_history_has_dropped_runs_is_refused() {
    simulate(START, async |rig| {
        let mut bounds = MemoryBounds::default();
        bounds.runs = 3;
        let mut history = HistoryOptions::default();
        history.store = Some(Arc::new(MemoryHistory::new(bounds)));
        rig.node(node_with([Seen::default().job(secs(1))]).history(history)).await;
        rig.advance(hours(6) + mins(1)).await;
        let all = Backfill::new("job", at("2026-01-05T01:00:00Z"), at("2026-01-05T06:00:00Z"));

        let (kind, text) = refusal(rig, all.clone()).await;

        assert_eq!(kind, ErrorKind::Invalid, "{text}");
        assert!(text.contains("some are not kept any more; ask for a later range"), "{text}");
        assert_eq!(backfill(rig, 0, all.again(true)).await.ticks, 6);
    });
}

#[test]
fn a_range_since_which_records_were_dropped_is_refused() {
    simulate(START, async |rig| {
        let store = Arc::new(MemoryHistory::new(MemoryBounds::default()));
        let mut history = HistoryOptions::default();
        history.store = Some(store.clone());
        let node = rig.node(node_with([Seen::default().job(secs(1))]).history(history)).await;
        rig.advance(hours(6) + mins(1)).await;
        let (from, to) = (at("2026-01-05T03:10:00Z"), at("2026-01-05T03:11:00Z"));
        let dropped = Decision::RecordsDropped { count: 7, from, to };
        let mut batch = Batch::default();
        batch.decisions.push(DecisionRecord::new(None, to, rig.id(node), dropped));
        store.write(&batch).await.expect("it is written");
        let since = |from| Backfill::new("job", at(from), at("2026-01-05T06:00:00Z"));

        let (kind, text) = refusal(rig, since("2026-01-05T03:00:00Z")).await;

        assert_eq!(kind, ErrorKind::Invalid, "{text}");
        assert!(
            text.contains("7 records from after 2026-01-05T03:00:00Z were dropped; ask for a later"),
            "{text}"
        );
        let (_, text) = refusal(rig, since("2026-01-05T04:00:00Z")).await;
        assert!(text.contains("this has nothing: 3 fire times, all of which had a run"), "{text}");
    });
}

/// A store that keeps no backfills.
struct Plain(Arc<dyn Backend>);

impl Backend for Plain {
    fn name(&self) -> &'static str {
        "plain"
    }

    fn scope(&self) -> Arc<str> {
        self.0.scope()
    }

    fn elector(&self) -> Arc<dyn callsheet::port::Elector> {
        self.0.elector()
    }

    fn locker(&self) -> Arc<dyn callsheet::port::Locker> {
        self.0.locker()
    }
}

#[tokio::test]
async fn a_store_that_keeps_no_backfills_refuses_them_by_name() {
    let local = callsheet::backend::Local::new(Arc::new(callsheet::port::SystemClock::default()));
    let jobs = callsheet::Callsheet::builder()
        .backend(Plain(Arc::new(local)))
        .job(Seen::default().job(Duration::ZERO))
        .start()
        .await
        .expect("it starts");

    let error = jobs.backfill(four_hours().again(true)).await.expect_err("it keeps none");

    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().starts_with("the plain store keeps no backfills; trigger the job"), "{error}");
    jobs.shutdown(secs(5)).await;
}

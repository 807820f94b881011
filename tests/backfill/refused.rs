//! What is refused whole, and how it is told.

use callsheet::{ErrorKind, Fires, port::Backend};

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

//! Runs of backfills, which the leader asks for.

use super::*;
use crate::core::backfill::BackfillId;

/// The first run of a backfill, which the leader asks for.
fn of_backfill() -> RunId {
    BackfillId::new(RunIds::of(NodeId::numbered(1)).next(at("00:30"))).run(0)
}

#[test]
fn a_run_of_a_backfill_starts_whoever_handled_the_job_when_its_claim_was_under_way() {
    for actor_died in [false, true] {
        for removed in [false, true] {
            let mut job = hourly();
            let run = of_backfill();
            assert_eq!(job.step("00:40", Input::Backfill { run }), [Effect::Claim(Claim::new(run))]);

            if actor_died {
                job.machine = job.machine.revive();
            }
            if removed {
                job.step("00:40", Input::Drain);
            }
            let effects = job.step("00:40", granted(run));

            let started =
                matches!(&effects[..], [Effect::Answer { .. }, Effect::Start(start)] if start.run == run);
            assert!(started, "died: {actor_died}, removed: {removed}: {effects:?}");
        }
    }
}

#[test]
fn the_leader_hears_how_a_run_of_a_backfill_ended_that_was_granted_before() {
    for outcome in [None, Some(Outcome::Failed)] {
        let mut job = hourly();
        let run = of_backfill();
        job.step("00:40", Input::Backfill { run });

        let effects = job.step("00:40", Input::Claimed { run, verdict: Verdict::RanBefore { outcome } });

        assert_eq!(effects, [Effect::Answer { run, answer: Err(Refusal::RanBefore { outcome }) }]);
    }
}

//! A job that the store refuses for its data.

use super::*;

fn bad(run: RunId) -> Input {
    Input::Claimed { run, verdict: Verdict::BadData { reason: "bad".to_owned() } }
}

fn parked(newest: &str, count: u64) -> Vec<Effect> {
    let skips = Skips::new(SkipReason::Parked, count, false);
    vec![skipped(newest, SkipReason::Parked, count), Effect::Count { started: 0, skips }]
}

#[test]
fn a_refused_claim_skips_its_tick_and_all_that_follow() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));

    assert_eq!(job.step("01:00:01", bad(run)), parked("01:00", 1));

    assert_eq!(job.wake_in("01:30"), minutes(30));
    assert_eq!(job.step("02:00", Input::WakeUp), parked("02:00", 1));
    assert_eq!(job.step("05:30", Input::WakeUp), parked("05:00", 3));
    assert_eq!(job.machine.firing(), None);
}

#[test]
fn the_store_hears_of_skipped_ticks_once_it_takes_the_job_again() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    job.step("01:00", bad(run));
    job.step("03:00", Input::WakeUp);

    let resumed = job.step("03:30", resume(at("00:30"), Some(Authority::Term(TERM))));

    assert_eq!(resumed, [], "none of them is decided again");
    let (_, claim) = claim_of(&job.step("04:00", Input::WakeUp));
    let skips = Skips::new(SkipReason::Parked, 3, false);
    assert_eq!((claim.expected, claim.skips), (at("00:30"), skips));
}

#[test]
fn whoever_comes_to_decide_the_ticks_begins_then() {
    let mut job = Rehearsal::dormant(Period::hours(1), Policies::default());

    let effects = job.step("03:10", Input::Park { since: at("02:30") });
    assert_eq!(effects, parked("03:00", 1));

    assert_eq!(job.step("03:20", Input::Suspend), []);
    assert_eq!((job.step("04:00", Input::WakeUp), job.wake_in("04:00")), (vec![], None));
    let again = job.step("05:30", Input::Park { since: at("04:30") });
    assert_eq!(again, parked("05:00", 1), "of 04:00 it was not to decide");
}

#[test]
fn an_answer_to_another_definition_parks_nothing() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    job.machine.redefine(Arc::new(Period::hours(2)), Policies::default());
    job.step("01:00:01", resume(at("01:00:01"), Some(Authority::Term(TERM))));

    assert_eq!(job.step("01:00:02", bad(run)), []);

    claim_of(&job.step("02:00", Input::WakeUp));
}

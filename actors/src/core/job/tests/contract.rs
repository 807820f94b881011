//! Schedules that break their contract.

use super::*;
use crate::core::contract::Breach;

/// Every hour up to 03:00; then it answers 03:00 for ever.
#[derive(Debug)]
struct StuckAtThree;

impl fmt::Display for StuckAtThree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("every hour up to three")
    }
}

impl Schedule for StuckAtThree {
    fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Period::hours(1).next_after(after).map(|next| next.min(at("03:00")))
    }

    fn previous_before(&self, before: DateTime<Utc>) -> Option<DateTime<Utc>> {
        Period::hours(1).previous_before(before)
    }
}

fn breach() -> Breach {
    Breach::NotLater { after: at("03:00"), answer: at("03:00") }
}

#[test]
fn a_schedule_that_does_not_move_forward_breaks_its_job_once() {
    let mut job = Rehearsal::new(StuckAtThree, Policies::default());
    let run = job.run_tick("01:00");
    job.step("01:01", ended(run, BodyEnd::Returned));
    let run = job.run_tick("02:00");

    // The tick of 03:00 is not decided: what follows it is not known.
    let effects = job.step("03:00", Input::WakeUp);

    assert_eq!(effects, [Effect::Broken(breach())]);
    assert_eq!((job.machine.cursor(), job.machine.fires()), (at("02:00"), false));
    assert_eq!(job.wake_in("03:00"), None, "it is not asked again");
    assert_eq!(job.step("04:00", Input::WakeUp), []);
    let effects = job.step("04:01", ended(run, BodyEnd::Returned));
    assert!(
        matches!(effects[..], [Effect::Complete { .. }, Effect::RunEnded(_)]),
        "its run goes on: {effects:?}"
    );
}

#[test]
fn a_job_that_is_resumed_before_its_schedule_is_mended_breaks_again() {
    let mut job = Rehearsal::dormant(StuckAtThree, Policies::default());

    let effects = job.step("03:10", resume(at("03:00"), Some(Authority::Term(TERM))));
    assert_eq!(effects, [Effect::Broken(breach())]);

    job.machine.redefine(Arc::new(Period::hours(1)), Policies::default());
    let effects = job.step("04:00", resume(at("03:00"), Some(Authority::Term(TERM))));
    assert_eq!(claim_of(&effects).1.fire_time.instant(), at("04:00"), "it is mended");
}

#[test]
fn a_tick_that_waited_when_its_schedule_broke_is_decided_later() {
    let mut job = Rehearsal::new(StuckAtThree, Policies::default());
    let pause = Pause { until: None, note: None, by: None };
    job.step("01:59:59", Input::Pause(Some(pause)));
    job.step("02:00", Input::WakeUp);
    job.step("02:00", Input::Advanced(Advanced::Done));
    assert_eq!(job.machine.held().count(), 1);

    let effects = job.step("03:00", Input::WakeUp);

    assert_eq!(effects.last(), Some(&Effect::Broken(breach())), "{effects:?}");
    assert_eq!((job.machine.held().count(), job.machine.cursor()), (0, at("01:00")));
}

//! Timers that would spin: a machine with nothing to do is not woken up at once, again and again.

use super::*;

fn every_second() -> Rehearsal {
    Rehearsal::new(Period::seconds(1), Policies::default())
}

#[test]
fn a_busy_answer_after_the_term_was_lost_arms_no_timer_that_spins() {
    let mut job = every_second();
    let (run, _) = claim_of(&job.step("00:30:01.000", Input::WakeUp));
    job.step("00:30:01.001", Input::Suspend);
    job.step("00:30:01.002", Input::Claimed { run, verdict: Verdict::Busy { holder: None, own: false } });

    // When its timer fires, and ever after, it has nothing to do.
    job.step("00:30:02.100", Input::WakeUp);

    assert_eq!(job.wake_in("00:30:02.100"), None, "a dormant job is woken up again and again, at once");
}

#[test]
fn skips_that_wait_during_a_hold_arm_no_timer_that_spins() {
    let mut job = every_second();
    let (run, _) = claim_of(&job.step("00:30:01.000", Input::WakeUp));
    job.step("00:30:01.001", Input::Claimed { run, verdict: Verdict::Busy { holder: None, own: false } });
    let (run, _) = claim_of(&job.step("00:30:02.000", Input::WakeUp));
    let verdict = Verdict::NotYet { wait: Duration::from_secs(5) };
    job.step("00:30:02.001", Input::Claimed { run, verdict });

    job.step("00:30:02.100", Input::WakeUp);

    let wake_in = job.wake_in("00:30:02.100");
    assert!(wake_in > Some(Duration::ZERO), "{wake_in:?}");
}

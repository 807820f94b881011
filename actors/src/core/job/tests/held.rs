//! Ticks that come due while their job is paused: held, then run or skipped.

use super::*;
use crate::core::policy::Overlap;

const NONE: [DateTime<Utc>; 0] = [];

fn pause() -> Input {
    Input::Pause(Some(Pause { until: None, note: None, by: None }))
}

/// Hourly, and paused at 00:59:30: what is known of the pause is a minute old at 01:00:30.
fn paused(policies: Policies) -> Rehearsal {
    let mut job = Rehearsal::new(Period::hours(1), policies);
    job.step("00:59:30", pause());
    job
}

fn all(max: u32) -> Policies {
    let misfire = Misfire::All { max, within: Duration::from_mins(90) };
    Policies { misfire, fires: Fires::Local, ..Policies::default() }
}

fn held_by(job: &Rehearsal) -> Vec<DateTime<Utc>> {
    job.machine.held().map(FireTime::instant).collect()
}

/// The pause goes on by the store's word, whenever it is asked.
fn still_paused(job: &mut Rehearsal, time: &str) -> Vec<Effect> {
    let (run, _) = claim_of(&job.step(time, Input::WakeUp));
    let verdict = Verdict::Paused(Pause { until: None, note: None, by: None });
    job.step(time, Input::Claimed { run, verdict })
}

#[test]
fn what_waits_is_not_looked_at_for_held_ticks_unless_its_job_is_paused() {
    let mut job = paused(all(9));
    job.step("02:00", Input::WakeUp);
    assert_eq!((job.machine.backlog.len(), job.machine.held().size_hint().1), (2, Some(2)));

    job.step("02:00", Input::Pause(None));

    assert_eq!((job.machine.backlog.len(), job.machine.held().size_hint().1), (1, Some(0)));
}

#[test]
fn a_held_tick_is_said_once_however_often_its_pause_is_asked_for() {
    let mut job = paused(Policies::default());

    assert_eq!(job.step("01:00", Input::WakeUp), [held("01:00")]);

    assert_eq!(held_by(&job), [at("01:00")]);
    assert_eq!(job.step("01:00:10", Input::WakeUp), []);
    let (run, _) = claim_of(&job.step("01:00:30", Input::WakeUp));
    assert_eq!(held_by(&job), [at("01:00")], "while the store is asked");
    let verdict = Verdict::Paused(Pause { until: None, note: None, by: None });
    assert_eq!(job.step("01:00:30", Input::Claimed { run, verdict }), []);
    assert_eq!(still_paused(&mut job, "01:01:30"), []);
    assert_eq!(held_by(&job), [at("01:00")]);
}

#[test]
fn a_tick_that_asks_first_is_held_once_the_store_has_answered() {
    let mut job = Rehearsal::new(Period::hours(1), Policies::default());
    job.step("00:40", pause());

    assert_eq!(still_paused(&mut job, "01:00"), [held("01:00")]);

    assert_eq!(held_by(&job), [at("01:00")]);
}

#[test]
fn a_held_tick_is_skipped_when_its_window_is_over_and_the_cursor_moves_on() {
    let mut job = paused(Policies { fires: Fires::Local, ..Policies::default() });
    job.step("01:00", Input::WakeUp);

    assert_eq!(job.wake_in("01:00"), Some(Duration::from_mins(30) + Duration::from_millis(1)));
    assert_eq!(job.step("01:30", Input::WakeUp), []);
    let effects = job.step("01:30:00.001", Input::WakeUp);

    let one = Skips::new(SkipReason::Paused, 1, false);
    let counted = Effect::Count { started: 0, skips: one };
    assert_eq!(effects, [skipped("01:00", SkipReason::Paused, 1), counted]);
    assert_eq!((held_by(&job), job.machine.cursor()), (vec![], at("01:00")));

    // With a store, within another second.
    let mut job = paused(Policies::default());
    job.step("01:00", Input::WakeUp);
    assert_eq!(still_paused(&mut job, "01:29:59"), []);
    assert_eq!(job.step("01:30:00.001", Input::WakeUp), [skipped("01:00", SkipReason::Paused, 1)]);
    assert_eq!(job.wake_in("01:30:00.001"), Some(FLUSH_AFTER));
    let effects = job.step("01:30:01.001", Input::WakeUp);
    let (expected, to) = (at("00:30"), FireTime::new(at("01:00")));
    let [Effect::Advance(Advance { id, .. })] = effects[..] else { panic!("{effects:?}") };
    let advance = Advance { id, expected, to, skips: one, authority: Authority::Term(TERM) };
    assert_eq!(effects, [Effect::Advance(advance)]);
}

#[test]
fn a_held_tick_is_skipped_when_the_next_one_comes_first() {
    let misfire = Misfire::Latest { within: Duration::from_hours(5) };
    let mut job = paused(Policies { misfire, fires: Fires::Local, ..Policies::default() });
    job.step("01:00", Input::WakeUp);

    let effects = job.step("02:00", Input::WakeUp);

    assert_eq!(effects[0], skipped("01:00", SkipReason::Paused, 1));
    assert_eq!(effects.last(), Some(&held("02:00")));
    assert_eq!(held_by(&job), [at("02:00")]);
}

#[test]
fn several_held_ticks_are_said_one_by_one_and_skipped_the_oldest_first() {
    let mut job = paused(all(2));
    assert_eq!(job.step("01:00", Input::WakeUp), [held("01:00")]);
    assert_eq!(job.step("02:00", Input::WakeUp), [held("02:00")]);
    assert_eq!(held_by(&job), [at("01:00"), at("02:00")]);

    let effects = job.step("02:30:00.001", Input::WakeUp);
    assert_eq!(effects[0], skipped("01:00", SkipReason::Paused, 1));
    assert_eq!(held_by(&job), [at("02:00")], "the window of the other one goes on");

    assert_eq!(job.step("03:00", Input::WakeUp), [held("03:00")]);
    let effects = job.step("03:20", Input::Pause(None));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Start(_))), "{effects:?}");
    assert_eq!(held_by(&job), NONE);
}

#[test]
fn ticks_that_come_due_during_a_pause_are_held_if_they_may_still_run() {
    let mut job = paused(all(5));

    let effects = job.step("04:10", Input::WakeUp);

    assert_eq!(effects[0], skipped("01:00", SkipReason::Paused, 1));
    assert_eq!(effects.last(), Some(&held("04:00")));
    assert_eq!(held_by(&job), [at("03:00"), at("04:00")]);
}

#[test]
fn the_end_of_a_pause_ends_what_it_holds_however_it_comes() {
    let mut job = paused(Policies::default());
    job.step("01:00", Input::WakeUp);
    let effects = job.step("01:20", Input::Pause(None));
    assert_eq!(claim_of(&effects).1.fire_time.instant(), at("01:00"), "it is resumed");
    assert_eq!(held_by(&job), NONE);

    let mut job = hourly();
    job.step("00:59:30", Input::Pause(Some(Pause { until: Some(at("01:20")), note: None, by: None })));
    assert_eq!(job.step("01:00", Input::WakeUp), [held("01:00")]);
    assert_eq!(claim_of(&job.step("01:20", Input::WakeUp)).1.fire_time.instant(), at("01:00"), "it expires");
    assert_eq!(held_by(&job), NONE);

    let mut job = paused(Policies::default());
    job.step("01:00", Input::WakeUp);
    let (run, _) = claim_of(&job.step("01:00:30", Input::WakeUp));
    job.step("01:00:30", granted(run));
    assert_eq!(held_by(&job), NONE, "it was resumed, unheard");
}

#[test]
fn a_tick_that_waits_through_a_second_pause_is_reported_as_held_once() {
    let mut job = paused(Policies { overlap: Overlap::Queue(1), ..Policies::default() });
    job.step("01:00", Input::WakeUp);
    let (run, _) = claim_of(&job.step("01:10", Input::Pause(None)));
    job.step("01:10", Input::Claimed { run, verdict: Verdict::Busy { holder: None, own: false } });
    assert_eq!(held_by(&job), NONE, "it waits for its key");

    assert_eq!(job.step("01:10:00.100", pause()), []);

    assert_eq!(held_by(&job), [at("01:00")]);
}

#[test]
fn a_pause_during_the_claim_of_a_tick_holds_it_once_the_claim_is_refused() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    assert_eq!(job.step("01:00", pause()), []);
    assert_eq!(held_by(&job), NONE, "it may have been granted before");

    let verdict = Verdict::Paused(Pause { until: None, note: None, by: None });
    assert_eq!(job.step("01:00:00.100", Input::Claimed { run, verdict }), [held("01:00")]);
}

#[test]
fn a_node_that_does_not_decide_ticks_holds_none() {
    for suspend in [Input::Suspend, Input::Drain] {
        let mut job = paused(Policies::default());
        job.step("01:00", Input::WakeUp);
        // The store does not answer whether it is paused still.
        claim_of(&job.step("01:04", Input::WakeUp));

        job.step("01:05", suspend);

        assert_eq!(held_by(&job), NONE);
    }

    let stored = || {
        Box::new(StoredState {
            pause: Some(Pause { until: None, note: None, by: None }),
            ..StoredState::default()
        })
    };
    let again =
        |authority| Input::Resume { cursor: at("00:30"), authority: Some(authority), stored: stored() };
    let mut job = paused(Policies::default());
    job.step("01:00", Input::WakeUp);
    job.term = Some(Term(5));
    job.step("01:05", Input::Suspend);
    assert_eq!(job.step("01:10", again(Authority::Term(Term(5)))), [], "it said so before");
    assert_eq!(held_by(&job), [at("01:00")]);

    let mut actor_died = paused(Policies::default());
    actor_died.step("01:00", Input::WakeUp);
    actor_died.machine = actor_died.machine.revive();
    assert_eq!(held_by(&actor_died), NONE);
    assert_eq!(actor_died.step("01:00:01", again(Authority::Term(TERM))), []);
    assert_eq!(held_by(&actor_died), [at("01:00")]);

    let mut another_node = Rehearsal::dormant(Period::hours(1), Policies::default());
    assert_eq!(another_node.step("01:10", again(Authority::Term(TERM))), [held("01:00")]);
    let mut too_late = Rehearsal::dormant(Period::hours(1), Policies::default());
    let effects = too_late.step("01:31", again(Authority::Term(TERM)));
    assert_eq!(effects, [skipped("01:00", SkipReason::Paused, 1)]);
}

#[test]
fn a_job_that_makes_up_for_nothing_holds_nothing() {
    let mut job = paused(Policies { misfire: Misfire::Skip, ..Policies::default() });

    assert_eq!(job.step("01:00", Input::WakeUp), [skipped("01:00", SkipReason::Paused, 1)]);

    assert_eq!(held_by(&job), NONE);
}

#[test]
fn a_tick_held_before_a_clock_is_set_back_is_held_again_when_it_is_due() {
    let mut job = paused(Policies { fires: Fires::Local, ..Policies::default() });
    assert_eq!(job.step("05:00", Input::WakeUp).last(), Some(&held("05:00")));

    job.machine.redefine(Arc::new(Period::hours(1)), Policies { fires: Fires::Local, ..Policies::default() });
    job.step("01:10", resume(at("01:10"), None));

    assert_eq!(job.step("06:00", Input::WakeUp).last(), Some(&held("06:00")));
}

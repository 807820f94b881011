//! Missed ticks wait for their turn.

use super::*;

/// Resumed at `now` from a cursor at 00:30, on a node that bounds how fast it makes up for missed ticks.
fn resumed(schedule: impl Schedule, policies: Policies, now: &str) -> (Rehearsal, Vec<Effect>) {
    let bounds = NodeBounds { runs: false, catch_ups: true };
    let machine = JobMachine::new(Arc::new(schedule), policies, at("00:30"), bounds);
    let mut job = Rehearsal { machine, ids: RunIds::of(NodeId::numbered(1)), term: Some(TERM) };
    let authority = (policies.fires != Fires::Local).then_some(Authority::Term(TERM));
    let effects = job.step(now, resume(at("00:30"), authority));
    (job, effects)
}

const HOUR: Duration = Duration::from_hours(1);

fn misfire(misfire: Misfire) -> Policies {
    Policies { misfire, ..Policies::default() }
}

fn asks(deadline: &str) -> Effect {
    Effect::AskTurn { deadline: at(deadline) }
}

fn claimed(effects: &[Effect]) -> Option<FireTime> {
    effects.iter().find_map(|effect| match effect {
        Effect::Claim(claim) => claim.tick.map(|tick| tick.fire_time),
        _ => None,
    })
}

#[test]
fn only_a_tick_that_is_found_late_waits_for_its_turn() {
    for (policies, now, asked) in [
        (Policies::default(), "01:00", None),
        (Policies::default(), "01:00:01", None),
        // Half an hour is the window of an hourly job.
        (Policies::default(), "01:00:01.001", Some("01:30:00.001")),
        (Policies { misfire_after: Duration::from_secs(9), ..Policies::default() }, "01:00:09", None),
        (misfire(Misfire::Latest { within: Duration::from_secs(60) }), "01:00:02", Some("01:01:00.001")),
        (Policies { fires: Fires::Local, ..Policies::default() }, "01:10", Some("01:30:00.001")),
    ] {
        let (mut job, effects) = resumed(Period::hours(1), policies, now);

        let Some(deadline) = asked else {
            assert!(matches!(effects[..], [Effect::Claim(_)]), "{now}: {effects:?}");
            continue;
        };
        assert_eq!(effects, [asks(deadline)], "{now}");
        assert!(!job.step(now, Input::Turn).is_empty(), "it is its turn");
    }
}

#[test]
fn a_tick_that_may_wait_for_ever_is_the_last_to_have_its_turn() {
    let (_, effects) =
        resumed(Period::hours(1), misfire(Misfire::Latest { within: Duration::MAX }), "01:00:02");

    assert_eq!(effects, [Effect::AskTurn { deadline: DateTime::<Utc>::MAX_UTC }]);
}

#[test]
fn a_tick_for_which_a_busy_node_comes_late_needs_no_turn() {
    for (input, waits) in [(Input::WakeUp, false), (Input::ClockMoved, true)] {
        let (mut job, _) = resumed(Period::hours(1), Policies::default(), "00:59");

        let effects = job.step("01:00:05", input);

        assert_eq!(effects == [asks("01:30:00.001")], waits, "{effects:?}");
        assert_eq!(claimed(&effects).is_none(), waits, "{effects:?}");
    }
}

#[test]
fn a_tick_that_had_its_turn_asks_for_no_other_one_while_its_key_is_busy() {
    let (mut job, _) =
        resumed(Period::hours(1), Policies { overlap: Overlap::Queue(1), ..Policies::default() }, "01:10");
    let effects = job.step("01:10:01", Input::Turn);
    let [Effect::Claim(Claim { run, .. })] = effects[..] else { panic!("it is claimed: {effects:?}") };

    job.step("01:10:02", Input::Claimed { run, verdict: Verdict::Busy { holder: None, own: false } });
    let effects = job.step("01:10:03", Input::WakeUp);

    assert_eq!(claimed(&effects), Some(FireTime::new(at("01:00"))), "{effects:?}");
}

#[test]
fn a_tick_whose_window_ends_while_it_waits_for_its_turn_is_skipped() {
    let (mut job, effects) =
        resumed(Period::hours(1), misfire(Misfire::Latest { within: Duration::from_secs(60) }), "01:00:30");
    assert_eq!(effects, [asks("01:01:00.001")]);
    assert_eq!(job.wake_in("01:00:30"), Some(Duration::from_millis(30_001)));

    let effects = job.step("01:01:00.001", Input::WakeUp);

    assert_eq!(effects, [skipped("01:00", SkipReason::Misfire, 1), Effect::LeaveTurn]);
    assert!(job.step("01:01:01", Input::Turn).iter().all(|effect| !matches!(effect, Effect::Claim(_))));
}

#[test]
fn a_tick_on_time_takes_the_place_of_one_that_waits_for_its_turn() {
    let (mut job, _) = resumed(Period::hours(1), misfire(Misfire::Latest { within: 3 * HOUR }), "01:10");

    let effects = job.step("02:00", Input::WakeUp);

    assert_eq!(claimed(&effects), Some(FireTime::new(at("02:00"))), "{effects:?}");
    assert_eq!(effects.last(), Some(&Effect::LeaveTurn));
}

#[test]
fn a_job_that_does_not_decide_any_more_leaves_its_turn_to_others() {
    for input in [Input::Suspend, Input::Drain] {
        let (mut job, effects) = resumed(Period::hours(1), Policies::default(), "01:10");
        assert_eq!(effects.len(), 1);

        assert_eq!(job.step("01:11", input), [Effect::LeaveTurn]);

        assert_eq!(job.step("01:12", Input::Turn), [], "it comes too late");
    }
}

#[test]
fn what_a_pause_held_waits_for_its_turn_when_it_ends_late() {
    let (mut job, _) = resumed(Period::hours(1), Policies::default(), "00:40");
    job.step("00:59:30", Input::Pause(Some(Pause::until_resumed())));
    job.step("01:00", Input::WakeUp);

    let effects = job.step("01:00:20", Input::Pause(None));

    assert_eq!(effects, [asks("01:30:00.001")]);
}

#[test]
fn each_tick_that_all_makes_up_for_waits_for_a_turn_of_its_own() {
    let (mut job, effects) =
        resumed(Period::hours(1), misfire(Misfire::All { max: 5, within: 9 * HOUR }), "02:30");
    assert_eq!(effects, [asks("10:00:00.001")]);
    let effects = job.step("02:30:01", Input::Turn);
    let [Effect::Claim(Claim { run, .. })] = effects[..] else { panic!("it is claimed: {effects:?}") };
    job.step("02:30:01", granted(run));

    let effects = job.step("02:30:09", ended(run, BodyEnd::Returned));

    assert!(effects.contains(&asks("11:00:00.001")), "{effects:?}");
}

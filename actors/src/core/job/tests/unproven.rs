//! Ticks that a leader before may have started.

use super::*;

fn resume_unproven(cursor: &str, unproven_to: &str) -> Input {
    let stored = Box::new(StoredState { unproven_to: Some(at(unproven_to)), ..StoredState::default() });
    Input::Resume { cursor: at(cursor), authority: Some(Authority::Term(TERM)), stored }
}

fn resumed_at(time: &str, cursor: &str, unproven_to: &str, misfire: Misfire) -> (Rehearsal, Vec<Effect>) {
    let mut job = Rehearsal::dormant(Period::hours(1), Policies { misfire, ..Policies::default() });
    let effects = job.step(time, resume_unproven(cursor, unproven_to));
    (job, effects)
}

#[test]
fn they_are_skipped_whatever_the_misfire_policy_says_and_later_ones_are_not() {
    let day = Duration::from_secs(24 * 3600);
    for misfire in [Misfire::Latest { within: day }, Misfire::All { max: 9, within: day }] {
        let (mut job, effects) = resumed_at("05:30", "00:30", "03:30", misfire);

        assert_eq!(effects[0], skipped("03:00", SkipReason::Unproven, 3), "{misfire:?}");
        let (_, claim) = claim_of(&effects[1..]);
        let first = if matches!(misfire, Misfire::All { .. }) { "04:00" } else { "05:00" };
        assert_eq!((claim.expected, claim.fire_time.instant()), (at("00:30"), at(first)), "{misfire:?}");
        assert_eq!(claim.skips.of(SkipReason::Unproven), 3);
        assert_eq!(job.step("05:30", Input::WakeUp), [], "it is asked for");
    }
}

#[test]
fn those_that_are_still_to_come_are_skipped_when_they_are_due() {
    let (mut job, effects) = resumed_at("01:30", "00:30", "03:00", Misfire::Auto);
    assert_eq!(effects, [skipped("01:00", SkipReason::Unproven, 1)]);

    let written = |job: &mut Rehearsal, time: &str, expected: &str, to: &str| {
        let effects = job.step(time, Input::WakeUp);
        let [Effect::Advance(advance)] = effects[..] else { panic!("no move, but {effects:?}") };
        assert_eq!((advance.expected, advance.to.instant()), (at(expected), at(to)));
        assert_eq!(job.step(time, Input::Advanced(Advanced::Done)), []);
    };
    written(&mut job, "01:30:01", "00:30", "01:00");

    assert_eq!(job.wake_in("01:31"), minutes(29), "a tick is a tick");
    assert_eq!(job.step("02:00", Input::WakeUp), [skipped("02:00", SkipReason::Unproven, 1)]);
    written(&mut job, "02:00:01", "01:00", "02:00");
    assert_eq!(job.step("03:00", Input::WakeUp), [skipped("03:00", SkipReason::Unproven, 1)]);
    written(&mut job, "03:00:01", "02:00", "03:00");

    let (_, claim) = claim_of(&job.step("04:00", Input::WakeUp));
    assert_eq!((claim.expected, claim.skips), (at("03:00"), Skips::default()));
}

#[test]
fn what_another_resumption_says_counts() {
    let (mut job, effects) = resumed_at("00:40", "00:30", "03:00", Misfire::Auto);
    assert_eq!(effects, []);

    job.step("00:41", resume(at("00:30"), Some(Authority::Term(TERM))));

    let (_, claim) = claim_of(&job.step("01:00", Input::WakeUp));
    assert_eq!(claim.fire_time.instant(), at("01:00"));
}

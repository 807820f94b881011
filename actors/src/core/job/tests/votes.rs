//! Ticks that votes give away: what is split, what nobody gets any more, and what another node got.

use super::*;

fn votes(misfire: Misfire) -> Rehearsal {
    Rehearsal::new(Period::hours(1), Policies { misfire, ..Policies::default() })
}

fn told(run: RunId, verdict: Verdict) -> Input {
    Input::Claimed { run, verdict }
}

fn unavailable() -> Verdict {
    Verdict::Unavailable { reason: "no majority".to_owned() }
}

#[test]
fn a_split_tick_is_asked_for_by_one_run_until_its_window_is_over() {
    let mut job = votes(Misfire::Latest { within: Duration::from_secs(60) });
    let effects = job.step("01:00", Input::WakeUp);
    let [Effect::Claim(Claim { run, window, .. })] = effects[..] else { panic!("{effects:?}") };
    assert_eq!(window, Duration::from_secs(60), "the store hears how late it may be");

    let contended = Effect::Contended { holder: None };
    assert_eq!(job.step("01:00", told(run, Verdict::Contended)), [contended]);
    let (again, claim) = claim_of(&job.step("01:00:01", Input::WakeUp));
    assert_eq!((claim.fire_time.instant(), again), (at("01:00"), run), "what it took is its own");
    assert_eq!(job.step("01:00:01", told(run, Verdict::Contended)), [], "it was said");
    for _ in 0..9 {
        let wake_in = job.wake_in("01:00:59").expect("it asks again");
        assert!(wake_in <= KEY_AGAIN, "{wake_in:?}");
        job.step("01:00:59", Input::WakeUp);
        job.step("01:00:59", told(run, Verdict::Contended));
    }

    job.step("01:01:01", Input::WakeUp);
    let contended = skipped("01:00", SkipReason::Contended, 1);
    assert_eq!(job.step("01:01:01", told(run, Verdict::Contended)), [contended]);
}

#[test]
fn a_split_tick_is_one_that_nobody_decides() {
    let mut job = votes(Misfire::Latest { within: Duration::from_secs(60) });
    let (run, claim) = claim_of(&job.step("01:00", Input::WakeUp));
    job.step("01:00", told(run, unavailable()));
    assert_eq!(job.machine.asked_tick(), Some((claim.fire_time, true)));

    job.step("01:00:01", Input::WakeUp);
    job.step("01:00:01", told(run, Verdict::Contended));

    assert_eq!(job.machine.asked_tick(), Some((claim.fire_time, true)), "it is overdue on");
    assert!(job.machine.asks_in_vain());
}

#[test]
fn a_tick_that_nobody_gets_any_more_is_skipped_at_once() {
    for (asked_in_vain, reason) in [(false, SkipReason::Unproven), (true, SkipReason::Misfire)] {
        let mut job = votes(Misfire::All { max: 100, within: Duration::from_secs(86_400) });
        let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
        if asked_in_vain {
            job.step("01:00", told(run, unavailable()));
            job.step("01:00:01", Input::WakeUp);
        }

        assert_eq!(
            job.step("01:00:01", told(run, Verdict::Lapsed { reason })),
            [skipped("01:00", reason, 1)]
        );

        assert_eq!(job.machine.asked_tick().filter(|(_, in_vain)| *in_vain), None);
    }
}

#[test]
fn what_was_missed_before_a_tick_that_another_node_got_is_told() {
    for asked_in_vain in [false, true] {
        let mut job = votes(Misfire::default());
        let (run, claim) = claim_of(&job.step("03:00", Input::WakeUp));
        assert_eq!(claim.skips, Skips::new(SkipReason::Misfire, 2, false));
        if asked_in_vain {
            job.step("03:00", told(run, unavailable()));
            job.step("03:00:01", Input::WakeUp);
        }

        let other = RunIds::of(NodeId::numbered(9)).next(at("03:00"));
        let elsewhere = Verdict::TakenElsewhere { run: other, cursor: at("03:00") };
        let missed = skipped("02:00", SkipReason::Misfire, 2);
        assert_eq!(job.step("03:00:01", told(run, elsewhere)), [Effect::Elsewhere, missed]);

        assert_eq!(job.machine.cursor(), at("03:00"));
    }
}

//! The truth tables of the policies, and what follows from each verdict and refusal.

use super::*;
use crate::{
    core::policy::{OnLost, Overlap},
    port::PendingRetry,
};

fn by(policies: Policies) -> Rehearsal {
    Rehearsal::new(Period::hours(1), policies)
}

fn overlapping(overlap: Overlap) -> Rehearsal {
    by(Policies { overlap, ..Policies::default() })
}

fn refused(run: RunId, verdict: Verdict) -> Input {
    Input::Claimed { run, verdict }
}

fn skipped_02(reason: SkipReason) -> Vec<Effect> {
    vec![skipped("02:00", reason, 1)]
}

#[test]
fn the_truth_table_of_overlap_with_a_run_of_this_node() {
    let overlap = SkipReason::Overlap;
    for policy in [Overlap::Skip, Overlap::Allow(1)] {
        let mut job = overlapping(policy);
        job.run_tick("01:00");
        assert_eq!(job.step("02:00", Input::WakeUp), skipped_02(overlap), "{policy:?}");
    }

    let mut job = overlapping(Overlap::Allow(2));
    job.run_tick("01:00");
    job.run_tick("02:00");
    assert_eq!(job.step("03:00", Input::WakeUp), [skipped("03:00", overlap, 1)]);

    for (policy, asked_to_stop) in [(Overlap::Queue(1), false), (Overlap::Replace, true)] {
        let mut job = overlapping(policy);
        let run = job.run_tick("01:00");
        let stop = Effect::Cancel { run, why: CancelReason::Replaced };
        let effects = job.step("02:00", Input::WakeUp);
        assert_eq!(effects, if asked_to_stop { vec![stop] } else { vec![] }, "{policy:?}");
        let effects = job.step("03:00", Input::WakeUp);
        assert_eq!(effects.last(), skipped_02(overlap).last(), "the older one: {policy:?}");

        let effects = job.step("03:00:01", ended(run, BodyEnd::Returned));

        let Some(Effect::Claim(Claim { tick: Some(claim), .. })) = effects.last() else {
            panic!("{effects:?}")
        };
        assert_eq!((claim.fire_time.instant(), claim.skips.of(overlap)), (at("03:00"), 1));
    }
}

#[test]
fn the_truth_table_of_overlap_with_a_run_of_another_node() {
    let contended = || Effect::Contended { holder: None };
    let busy = || Verdict::Busy { holder: None, own: false };
    for policy in [Overlap::Skip, Overlap::Queue(1), Overlap::Replace] {
        let mut job = overlapping(policy);
        let effects = job.step("01:00", Input::WakeUp);
        let [Effect::Claim(Claim { run, replace, .. })] = effects[..] else { panic!("{effects:?}") };
        assert_eq!(replace, policy == Overlap::Replace);

        let effects = job.step("01:00", refused(run, busy()));

        if policy == Overlap::Skip {
            assert_eq!(effects, [contended(), skipped("01:00", SkipReason::Overlap, 1)]);
        } else {
            assert_eq!(effects, [contended()], "{policy:?} waits");
            assert_eq!(job.wake_in("01:00"), Some(KEY_AGAIN));
            let effects = job.step("01:00:00.250", Input::WakeUp);
            assert!(matches!(effects[..], [Effect::Claim(Claim { tick: Some(_), .. })]), "{effects:?}");
        }
    }

    let mut job = overlapping(Overlap::Allow(2));
    let (run, claim) = claim_of(&job.step("01:00", Input::WakeUp));
    let next_slot = Effect::Claim(Claim { tick: Some(claim), window: WINDOW, slot: 1, ..Claim::new(run) });
    assert_eq!(job.step("01:00", refused(run, busy())), [contended(), next_slot]);
    let effects = job.step("01:00", refused(run, busy()));
    assert_eq!(effects, [skipped("01:00", SkipReason::Overlap, 1)], "every slot is taken, said once");
}

/// Every 100 ms: the refused tick waits for longer, and there is room for one.
#[test]
fn a_tick_behind_a_refused_one_is_an_overlap_if_the_key_was_busy() {
    let over = Pause { until: Some(at("00:30")), note: None, by: None };
    for (verdict, overlaps) in [
        (Verdict::Busy { holder: None, own: false }, [1, 1]),
        (Verdict::NotYet { wait: Duration::from_millis(250) }, [0, 0]),
        (Verdict::NotYet { wait: CLAIM_LATER_MAX * 2 }, [0, 0]),
        (Verdict::Paused(over), [0, 0]),
        (Verdict::Unknown, [0, 0]),
    ] {
        let policies = Policies { overlap: Overlap::Queue(1), ..Policies::default() };
        let mut job = Rehearsal::new(Period::millis(100), policies);
        let (run, _) = claim_of(&job.step("00:30:00.100", Input::WakeUp));
        job.step("00:30:00.100", refused(run, verdict.clone()));

        let said = ["00:30:00.200", "00:30:00.300"].map(|time| job.step(time, Input::WakeUp).len());
        let effects = job.step("00:30:01.500", Input::WakeUp);

        assert_eq!(said, overlaps, "{verdict:?}");
        let claim = effects.iter().find_map(|effect| match effect {
            Effect::Claim(Claim { tick, .. }) => *tick,
            _ => None,
        });
        let skips = claim.map(|claim| (claim.skips.of(SkipReason::Overlap), claim.skips.total()));
        assert_eq!(skips, Some((overlaps.iter().sum::<usize>() as u64, 14)), "{verdict:?}: {effects:?}");
    }
}

#[test]
fn missed_ticks_are_made_up_for_one_after_the_other_and_paced() {
    let misfire = Misfire::All { max: 2, within: Duration::from_hours(3) };
    let mut job = Rehearsal::dormant(Period::hours(1), Policies { misfire, ..Policies::default() });

    let (run, claim) = claim_of(&job.step("03:10", resume(at("00:30"), Some(Authority::Term(TERM)))));
    assert_eq!(claim.fire_time.instant(), at("02:00"));
    assert_eq!(claim.skips, Skips::new(SkipReason::Misfire, 1, false));
    job.step("03:10", granted(run));
    assert_eq!(job.step("03:10:00.010", Input::WakeUp), [], "not beside it");
    let effects = job.step("03:10:00.010", ended(run, BodyEnd::Returned));
    assert!(matches!(effects[..], [Effect::Complete { .. }, Effect::RunEnded(_)]), "{effects:?}");

    assert_eq!(job.wake_in("03:10:00.010"), Some(Duration::from_millis(90)), "of the pace");
    let (_, claim) = claim_of(&job.step("03:10:00.100", Input::WakeUp));
    assert_eq!(claim.fire_time.instant(), at("03:00"));
}

#[test]
fn what_is_too_late_for_any_misfire_policy_is_skipped() {
    for misfire in [
        Misfire::All { max: 9, within: Duration::from_secs(60) },
        Misfire::Latest { within: Duration::from_secs(60) },
        Misfire::Skip,
    ] {
        let mut job = Rehearsal::dormant(Period::hours(1), Policies { misfire, ..Policies::default() });

        let effects = job.step("02:10", resume(at("00:30"), Some(Authority::Term(TERM))));

        let count: u64 = effects
            .iter()
            .map(|effect| match effect {
                Effect::Skipped { reason: SkipReason::Misfire, count, .. } => *count,
                other => panic!("{other:?}"),
            })
            .sum();
        assert_eq!(count, 2, "{misfire:?}");
    }
}

#[test]
fn the_truth_table_of_who_fires() {
    let cases = [
        (Fires::Leader, Authority::Term(TERM), false),
        (Fires::AnyNode, Authority::Any, true),
        (Fires::Leader, Authority::Leaderless, true),
    ];
    for (fires, authority, without_a_term) in cases {
        let mut job = Rehearsal::dormant(Period::hours(1), Policies { fires, ..Policies::default() });
        job.step("00:30", resume(at("00:30"), Some(authority)));
        job.term = None;

        let effects = job.step("01:00", Input::WakeUp);

        if without_a_term {
            let (run, claim) = claim_of(&effects);
            assert_eq!(claim.authority, authority);
            let effects = job.step("01:00", refused(run, Verdict::Elsewhere { cursor: at("01:00") }));
            assert_eq!(effects, [Effect::Elsewhere]);
            assert_eq!(job.wake_in("01:00"), minutes(60));
        } else {
            assert_eq!(effects, [], "a doubt is not a term");
        }
    }
}

#[test]
fn a_job_that_the_leader_schedules_again_is_left_to_it() {
    let mut job = Rehearsal::dormant(Period::hours(1), Policies::default());
    job.step("00:30", resume(at("00:30"), Some(Authority::Leaderless)));
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));

    assert_eq!(job.step("01:00", refused(run, Verdict::HasLeader)), []);

    assert_eq!((job.machine.fires(), job.wake_in("01:00")), (false, None));
}

#[test]
fn a_pause_that_a_claim_meets_keeps_the_tick_until_it_is_over() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    let pause = Pause { until: Some(at("01:02")), note: None, by: None };

    assert_eq!(job.step("01:00", refused(run, Verdict::Paused(pause.clone()))), [held("01:00")]);

    assert_eq!(job.machine.pause(), Some(&pause));
    assert_eq!(job.wake_in("01:00"), Some(PAUSE_CHECK), "it may be resumed, and the notification be lost");
    let (_, claim) = claim_of(&job.step("01:02", Input::WakeUp));
    assert_eq!(claim.fire_time.instant(), at("01:00"), "it is not too late");

    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    let pause = Pause { until: Some(at("01:31")), note: None, by: None };
    job.step("01:00", refused(run, Verdict::Paused(pause)));
    assert_eq!(job.step("01:31", Input::WakeUp), [skipped("01:00", SkipReason::Paused, 1)], "it is");
}

#[test]
fn a_resume_without_a_notification_is_found_by_a_tick_a_minute_later() {
    for misfire in [Misfire::default(), Misfire::Skip] {
        let mut job = Rehearsal::new(Period::hours(1), Policies { misfire, ..Policies::default() });
        let pause = Pause { until: None, note: None, by: None };
        job.step("00:40", Input::Pause(Some(pause.clone())));

        let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
        job.step("01:00", refused(run, Verdict::Paused(pause)));
        assert!(job.machine.pause().is_some(), "it is paused still");

        let effects = job.step("02:00", Input::WakeUp);
        let run = effects.iter().find_map(|effect| match effect {
            Effect::Claim(claim) => Some(claim.run),
            _ => None,
        });
        job.step("02:00", granted(run.unwrap_or_else(|| panic!("no claim: {effects:?}"))));

        assert_eq!((job.machine.pause(), job.machine.active_runs().len()), (None, 1), "{misfire:?}");
    }
}

#[test]
fn after_lagged_notifications_a_waiting_tick_asks_at_once() {
    let mut job = hourly();
    let pause = Pause { until: None, note: None, by: None };
    job.step("00:59:59", Input::Pause(Some(pause.clone())));
    assert_eq!(job.step("01:00", Input::WakeUp), [held("01:00")], "it waits");

    let (run, _) = claim_of(&job.step("01:00:01", Input::NotificationsLagged));
    job.step("01:00:01", refused(run, Verdict::Paused(pause.clone())));
    assert_eq!((job.machine.pause(), job.wake_in("01:00:01")), (Some(&pause), Some(PAUSE_CHECK)));

    let (run, _) = claim_of(&job.step("01:00:02", Input::NotificationsLagged));
    job.step("01:00:02", granted(run));
    assert_eq!((job.machine.pause(), job.machine.active_runs().len()), (None, 1));
}

#[test]
fn after_lagged_notifications_a_node_that_does_not_fire_forgets_the_pause() {
    let mut job = Rehearsal::dormant(Period::hours(1), Policies::default());
    job.step("00:30", Input::Pause(Some(Pause { until: None, note: None, by: None })));
    assert!(job.machine.pause().is_some());

    assert_eq!(job.step("00:31", Input::NotificationsLagged), []);

    assert_eq!(job.machine.pause(), None);
}

#[test]
fn a_job_that_has_run_as_often_as_it_may_arms_nothing() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));

    assert_eq!(job.step("01:00", refused(run, Verdict::Exhausted)), []);

    assert!(job.machine.is_exhausted());
    assert_eq!((job.wake_in("01:00"), job.machine.next_fire_time()), (None, None));
}

#[test]
fn what_was_skipped_before_the_limit_was_found_reached_is_decided() {
    let mut job = Rehearsal::new(Period(TimeDelta::milliseconds(500)), Policies::default());
    let run = job.run_tick("00:30:00.500");
    let skipped = job.step("00:30:01", Input::WakeUp);
    assert!(matches!(skipped[..], [Effect::Skipped { reason: SkipReason::Overlap, .. }]), "{skipped:?}");
    job.step("00:30:01", ended(run, BodyEnd::Returned));
    let (run, claim) = claim_of(&job.step("00:30:01.500", Input::WakeUp));

    let effects = job.step("00:30:01.500", refused(run, Verdict::Exhausted));

    let [Effect::Advance(advance)] = effects[..] else { panic!("{effects:?}") };
    assert_eq!((advance.expected, advance.to.instant()), (at("00:30:00.500"), at("00:30:01")));
    assert_eq!((advance.skips, advance.authority), (claim.skips, claim.authority));
    assert_eq!(job.step("00:30:01.500", Input::Advanced(Advanced::Done)), []);
    assert_eq!((job.wake_in("00:30:01.500"), job.machine.next_fire_time()), (None, None));
}

#[test]
fn the_truth_table_of_lost_runs() {
    for (on_lost, again) in [(OnLost::Record, false), (OnLost::Retry, true)] {
        let mut job = by(Policies { on_lost, ..Policies::default() });
        let run = job.ids.next(at("00:10"));
        let retry = PendingRetry { run, fire_time: None, named: None, losses: 2 };

        let effects = job.step("00:40", Input::PendingRetry(retry));

        let resume_lost = Effect::Claim(Claim { resume_lost: true, ..Claim::new(run) });
        assert_eq!(effects, if again { vec![resume_lost] } else { vec![] }, "{on_lost:?}");
        if again {
            let effects = job.step("00:40", granted(run));
            assert!(matches!(effects[..], [Effect::Start(Start { attempt: 3, .. })]), "{effects:?}");
        }
    }
}

#[test]
fn the_truth_table_of_triggers_during_a_run() {
    let cases = [
        (Overlap::Skip, 1, false),
        (Overlap::Queue(1), 1, true),
        (Overlap::Queue(1), 2, false),
        (Overlap::Replace, 1, true),
        (Overlap::Replace, 2, false),
        (Overlap::Allow(1), 1, false),
    ];
    for (policy, nth, waits) in cases {
        let mut job = overlapping(policy);
        let holder = job.run_tick("01:00");
        let times = ["01:01", "01:02"];
        let answers: Vec<_> = times[..nth]
            .iter()
            .flat_map(|time| job.step(time, Input::Trigger))
            .filter_map(|effect| match effect {
                Effect::Answer { answer, .. } => Some(answer),
                _ => None,
            })
            .collect();

        let expected =
            if waits { Ok(TriggerAnswer::Queued) } else { Err(Refusal::Overlap { holder: Some(holder) }) };
        assert_eq!(answers.last(), Some(&expected), "{policy:?}, the {nth}th");
    }
}

#[test]
fn an_unknown_job_keeps_its_tick_until_it_is_enrolled_again() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));

    assert_eq!(job.step("01:00", refused(run, Verdict::Unknown)), []);
    assert_eq!(job.wake_in("01:00"), Some(FLUSH_AFTER), "nothing is gained by asking before");
    job.step("01:00", resume(at("00:30"), Some(Authority::Term(TERM))));

    let (_, claim) = claim_of(&job.step("01:01", Input::WakeUp));
    assert_eq!((claim.fire_time.instant(), claim.expected), (at("01:00"), at("00:30")));
}

#[test]
fn a_tick_that_was_decided_is_not_again_by_a_store_that_was_restored() {
    let older: [fn(&mut Rehearsal) -> Vec<Effect>; 2] = [
        // The store says it as the job is enrolled again,
        |job| {
            job.step("01:30", resume(at("00:10"), Some(Authority::Term(TERM))));
            job.step("02:00", Input::WakeUp)
        },
        // or refuses a claim.
        |job| {
            let (run, _) = claim_of(&job.step("02:00", Input::WakeUp));
            job.step("02:00", refused(run, Verdict::Elsewhere { cursor: at("00:10") }))
        },
    ];
    for older in older {
        let mut job = hourly();
        let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
        job.step("01:00", granted(run));
        job.step("01:10", ended(run, BodyEnd::Returned));

        let (_, claim) = claim_of(&older(&mut job));

        assert_eq!(claim.fire_time.instant(), at("02:00"), "not 01:00 again");
        assert_eq!(
            (claim.expected, claim.skips),
            (at("00:10"), Skips::default()),
            "the store goes on from where it is"
        );
    }
}

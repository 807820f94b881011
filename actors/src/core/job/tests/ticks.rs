//! The ticks: claimed, skipped, asked for again.

use super::*;

#[test]
fn a_due_tick_is_claimed_run_and_completed() {
    let mut job = hourly();
    assert_eq!(job.wake_in("00:30"), minutes(30));

    let effects = job.step("01:00", Input::WakeUp);
    let (run, claim) = claim_of(&effects);
    let fire_time = FireTime::new(at("01:00"));
    assert_eq!(
        claim,
        TickClaim {
            fire_time,
            expected: at("00:30"),
            skips: Skips::default(),
            authority: Authority::Term(TERM)
        }
    );

    let effects = job.step("01:00", granted(run));
    let start = Start {
        run,
        tick: Some(fire_time),
        term: Some(TERM),
        token: Some(TOKEN),
        deadline: None,
        attempt: 1,
        begins: true,
        slot: 0,
    };
    assert_eq!(effects, [Effect::Start(start)]);
    assert_eq!(job.wake_in("01:00"), minutes(60));

    let effects = job.step("01:01", ended(run, BodyEnd::Returned));
    assert_eq!(effects[0], Effect::Complete { run, outcome: Outcome::Succeeded });
    assert!(matches!(&effects[1], Effect::RunEnded(ended) if ended.outcome == Outcome::Succeeded));
    assert_eq!(job.machine.last_runs().next().unwrap().outcome, Outcome::Succeeded);
}

#[test]
fn a_wake_up_that_comes_early_or_twice_is_harmless() {
    let mut job = hourly();

    assert_eq!(job.step("00:59:59.999", Input::WakeUp), []);
    assert_eq!(job.wake_in("00:59:59.999"), Some(Duration::from_millis(1)));
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    assert_eq!(job.step("01:00", Input::WakeUp), []);
    job.step("01:00", granted(run));
    assert_eq!(job.step("01:00", Input::WakeUp), []);
}

#[test]
fn a_job_far_behind_decides_thousands_of_ticks_in_one_step_and_sleeps() {
    let mut job = Rehearsal::new(Period::millis(1), Policies::default());

    let effects = job.step("00:30:07", Input::WakeUp);

    let [Effect::Claim(claim)] = &effects[..] else { panic!("{effects:?}") };
    let claim = claim.tick.unwrap();
    assert_eq!(claim.fire_time.instant(), at("00:30:07"), "the newest one");
    assert_eq!(claim.skips, Skips::new(SkipReason::Misfire, 6_999, false));
    assert_eq!(job.wake_in("00:30:07"), None, "whatever is due meanwhile waits for the answer");
}

#[test]
fn a_tick_during_a_run_is_skipped_not_queued() {
    let mut job = hourly();
    let run = job.run_tick("01:00");

    let effects = job.step("02:00", Input::WakeUp);

    assert_eq!(effects, [skipped("02:00", SkipReason::Overlap, 1)]);
    let effects = job.step("02:00:00.500", ended(run, BodyEnd::Returned));
    assert!(
        matches!(effects[..], [Effect::Complete { .. }, Effect::RunEnded(_)]),
        "no run in its place: {effects:?}"
    );
}

#[test]
fn skips_that_nobody_runs_move_the_cursor_after_a_second_and_together() {
    let mut job = Rehearsal::new(Period::millis(200), Policies::default());
    let effects = job.step("01:00", Input::WakeUp);
    let (run, _) = claim_of(&effects);
    job.step("01:00", granted(run));

    for time in ["01:00:00.200", "01:00:00.400", "01:00:00.600", "01:00:00.800", "01:00:01.000"] {
        assert!(matches!(job.step(time, Input::WakeUp)[..], [Effect::Skipped { count: 1, .. }]), "{time}");
    }
    let effects = job.step("01:00:01.200", Input::WakeUp);

    let [Effect::Skipped { .. }, Effect::Advance(advance)] = effects[..] else { panic!("{effects:?}") };
    assert_eq!((advance.expected, advance.to.instant()), (at("01:00"), at("01:00:01.200")));
    assert_eq!(advance.skips, Skips::new(SkipReason::Overlap, 6, false));
    assert_eq!(job.step("01:00:01.201", Input::Advanced(Advanced::Done)), []);
    assert_eq!(job.machine.cursor(), at("01:00:01.200"));
}

#[test]
fn the_truth_table_of_misfire() {
    let latest = Misfire::Latest { within: Duration::from_secs(1800) };
    // From the cursor 00:30 on; the node comes back at the given time.
    let cases = [
        (latest, "03:10", Some("03:00"), 2),
        (latest, "03:40", None, 3),
        (latest, "01:00:00.900", Some("01:00"), 0),
        (Misfire::Skip, "03:10", None, 3),
        (Misfire::Skip, "03:00:00.900", Some("03:00"), 2),
        (Misfire::Latest { within: Duration::ZERO }, "01:00:01", Some("01:00"), 0),
    ];
    for (misfire, now, runs, missed) in cases {
        let mut job = Rehearsal::dormant(Period::hours(1), Policies { misfire, ..Policies::default() });

        let effects = job.step(now, resume(at("00:30"), Some(Authority::Term(TERM))));

        match runs {
            Some(tick) => {
                let (_, claim) = claim_of(&effects);
                assert_eq!(claim.fire_time.instant(), at(tick), "{misfire:?} {now}");
                assert_eq!(claim.skips.of(SkipReason::Misfire), missed, "{misfire:?} {now}");
            }
            None => assert_eq!(effects, [skipped("03:00", SkipReason::Misfire, missed)], "{misfire:?} {now}"),
        }
    }
}

#[test]
fn a_busy_key_is_an_overlap_and_its_skip_rides_along_with_the_next_claim() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    let holder = Some(run);

    let effects = job.step("01:00", Input::Claimed { run, verdict: Verdict::Busy { holder, own: false } });

    assert_eq!(effects, [Effect::Contended { holder }, skipped("01:00", SkipReason::Overlap, 1)]);
    assert_eq!(job.wake_in("01:00"), Some(FLUSH_AFTER));
    let effects = job.step("01:00:01", Input::WakeUp);
    let [Effect::Advance(advance)] = effects[..] else { panic!("{effects:?}") };
    assert_eq!((advance.expected, advance.to.instant()), (at("00:30"), at("01:00")));
}

#[test]
fn a_cursor_that_was_moved_by_somebody_else_is_adopted() {
    let run = RunIds::of(NodeId::numbered(2)).next(at("01:00"));
    for (verdict, next) in [
        (Verdict::Elsewhere { cursor: at("02:30") }, 150),
        (Verdict::AlreadyRun { run, cursor: at("01:00") }, 90),
    ] {
        let mut job = hourly();
        let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));

        assert_eq!(job.step("00:30", Input::Claimed { run, verdict }), []);

        assert_eq!(job.wake_in("00:30"), minutes(next));
    }
}

#[test]
fn a_deposed_node_decides_nothing_until_it_is_resumed() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));

    job.step("01:00", Input::Claimed { run, verdict: Verdict::Deposed { term: Term(4) } });

    assert_eq!(job.wake_in("01:00"), None);
    assert_eq!(job.step("02:00", Input::WakeUp), []);
    job.term = Some(Term(5));
    let (_, claim) = claim_of(&job.step("02:00", resume(at("01:00"), Some(Authority::Term(Term(5))))));
    assert_eq!((claim.authority, claim.expected), (Authority::Term(Term(5)), at("01:00")));
}

#[test]
fn a_refused_old_term_does_not_stop_a_job_of_a_newer_one() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    job.term = Some(Term(5));
    assert_eq!(job.step("01:00", resume(at("00:30"), Some(Authority::Term(Term(5))))), []);

    let effects = job.step("01:00", Input::Claimed { run, verdict: Verdict::Deposed { term: Term(5) } });

    let (_, claim) = claim_of(&effects);
    assert_eq!(claim.authority, Authority::Term(Term(5)));
}

#[test]
fn a_leader_without_trust_claims_nothing() {
    let mut job = hourly();
    job.term = None;

    assert_eq!(job.step("01:00", Input::WakeUp), []);
    assert!(!job.machine.fires());
}

#[test]
fn a_store_whose_clock_is_behind_is_asked_when_the_tick_is_due_there() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    let wait = Duration::from_millis(250);

    assert_eq!(job.step("01:00", Input::Claimed { run, verdict: Verdict::NotYet { wait } }), []);

    assert_eq!(job.wake_in("01:00"), Some(wait));
    assert_eq!(job.step("01:00:00.100", Input::WakeUp), []);
    let (_, claim) = claim_of(&job.step("01:00:00.250", Input::WakeUp));
    assert_eq!(claim.fire_time.instant(), at("01:00"));
}

#[test]
fn a_clock_that_is_hours_ahead_silences_a_job_for_a_second_at_most() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("06:00", Input::WakeUp));
    let verdict = || Verdict::NotYet { wait: Duration::from_hours(5) };

    job.step("06:00", Input::Claimed { run, verdict: verdict() });

    assert_eq!(
        job.wake_in("06:00"),
        Some(CLAIM_LATER_MAX),
        "by a store that does not say how far its clock is off"
    );

    let mut job = hourly();
    let (run, _) = claim_of(&job.step("06:00", Input::WakeUp));

    // The answer came with the store's time, and the clock is read in that from now on.
    job.step("00:59:59.900", Input::Claimed { run, verdict: verdict() });

    assert_eq!(job.wake_in("00:59:59.900"), Some(Duration::from_millis(100)));
    let (_, claim) = claim_of(&job.step("01:00", Input::WakeUp));
    assert_eq!(claim.fire_time.instant(), at("01:00"));
}

#[test]
fn a_claim_without_an_answer_is_asked_again_with_the_same_run_id() {
    let mut job = hourly();
    let (run, first) = claim_of(&job.step("01:00", Input::WakeUp));
    let unavailable = || Verdict::Unavailable { reason: "no answer".to_owned() };

    let effects = job.step("01:00", Input::Claimed { run, verdict: unavailable() });
    assert_eq!(effects, [Effect::Unavailable { reason: "no answer".to_owned() }]);
    assert_eq!(job.wake_in("01:00"), Some(ASK_AGAIN_MIN));
    let again = claim_of(&job.step("01:00:00.100", Input::WakeUp));

    assert_eq!(again, (run, first));
    job.step("01:00:00.100", Input::Claimed { run, verdict: unavailable() });
    assert_eq!(job.wake_in("01:00:00.100"), Some(ASK_AGAIN_MIN * 2));
}

#[test]
fn a_claim_without_an_answer_is_only_settled_once_a_newer_tick_is_due() {
    let mut job = hourly();
    let (run, claim) = claim_of(&job.step("01:00", Input::WakeUp));
    let verdict = Verdict::Unavailable { reason: "no answer".to_owned() };
    job.step("01:59:59.950", Input::Claimed { run, verdict });

    let effects = job.step("02:00:00.050", Input::WakeUp);
    assert_eq!(
        effects,
        [Effect::Claim(Claim { tick: Some(claim), window: WINDOW, recheck: true, ..Claim::new(run) })]
    );
    let effects = job.step("02:00:00.060", Input::Claimed { run, verdict: Verdict::NotGranted });

    let (_, newest) = claim_of(&effects);
    assert_eq!((newest.fire_time.instant(), newest.expected), (at("02:00"), at("00:30")));
    assert_eq!(newest.skips, Skips::new(SkipReason::Misfire, 1, false));
}

#[test]
fn a_claim_that_is_granted_too_late_is_closed_not_run() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));

    let effects = job.step("01:30:00.001", granted(run));

    assert_eq!(effects[0], Effect::Complete { run, outcome: Outcome::Cancelled });
    let Effect::RunEnded(ended) = &effects[1] else { panic!("{effects:?}") };
    assert_eq!(ended.cancelled, Some(CancelReason::NotStarted));
    assert!(job.machine.is_idle());
}

#[test]
fn a_local_job_needs_neither_term_nor_claim() {
    let mut job = Rehearsal::new(Period::hours(1), Policies { fires: Fires::Local, ..Policies::default() });
    job.term = None;

    let effects = job.step("03:00", Input::WakeUp);

    assert_eq!(effects[0], skipped("02:00", SkipReason::Misfire, 2));
    assert_eq!(effects[1], Effect::Count { started: 1, skips: Skips::new(SkipReason::Misfire, 2, false) });
    assert!(matches!(effects[2], Effect::Start(Start { token: None, term: None, .. })));
    let effects = job.step("04:00", Input::WakeUp);
    assert_eq!(
        effects,
        [
            skipped("04:00", SkipReason::Overlap, 1),
            Effect::Count { started: 0, skips: Skips::new(SkipReason::Overlap, 1, false) },
        ]
    );
    assert_eq!(job.machine.cursor(), at("04:00"));
}

#[test]
fn a_clock_that_steps_back_does_not_fire_a_tick_twice() {
    let mut job = hourly();
    let run = job.run_tick("01:00");
    job.step("01:01", ended(run, BodyEnd::Returned));

    let now = Now { wall: at("00:10"), ..job.now("01:02") };
    assert!(job.machine.step(now, Input::WakeUp).is_empty());

    assert_eq!(job.machine.wake_in(now), minutes(110));
}

#[test]
fn an_exhausted_schedule_arms_nothing() {
    let mut job = Rehearsal::dormant(Once(at("01:00")), Policies::default());
    job.step("00:30", resume(at("00:30"), Some(Authority::Term(TERM))));
    assert_eq!(job.wake_in("00:30"), minutes(30));

    let run = job.run_tick("01:00");
    job.step("01:01", ended(run, BodyEnd::Returned));

    assert_eq!((job.wake_in("01:01"), job.machine.next_fire_time()), (None, None));
}

//! What an operator has skipped.

use super::*;

fn skip(job: &mut Rehearsal, now: &str, until: &str) -> (Result<Skipped, NotSkipped>, Vec<Effect>) {
    let mut effects = Effects::new();
    let skipped = job.machine.skip_missed(job.now(now), at(until), &mut effects);
    effects.extend(job.step(now, Input::WakeUp));
    (skipped, effects.into_vec())
}

const DECIDED: Result<Skipped, NotSkipped> = Ok(Skipped::Decided { in_vain: false });

/// Of an hourly job.
fn missed(first: &str, newest: &str) -> Missed {
    let (first, newest) = (FireTime::new(at(first)), FireTime::new(at(newest)));
    let hours = (newest.instant() - first.instant()).num_hours();
    Missed { first, newest, count: u64::try_from(hours).expect("not negative") + 1, at_least: false }
}

fn advanced_to(effects: &[Effect]) -> (FireTime, Skips) {
    let moves = effects.iter().filter_map(|effect| match effect {
        Effect::Advance(advance) => Some((advance.to, advance.skips)),
        _ => None,
    });
    let moves: Vec<_> = moves.collect();
    let [one] = moves[..] else { panic!("one move of the cursor: {effects:?}") };
    one
}

#[test]
fn what_is_due_is_skipped_and_the_cursor_moves_over_it() {
    let all = Policies { misfire: Misfire::All { max: 9, within: Duration::MAX }, ..Policies::default() };
    // What is not due by now is not missed.
    for (policies, until) in [(Policies::default(), "05:30"), (Policies::default(), "23:00"), (all, "05:30")]
    {
        let mut job = Rehearsal::new(Period::hours(1), policies);

        let (skipped, effects) = skip(&mut job, "05:30", until);

        let expected = missed("01:00", "05:00");
        assert_eq!(skipped, Ok(Skipped::Now(expected)), "{until}");
        let (to, skips) = advanced_to(&effects);
        assert_eq!((to, skips), (expected.newest, Skips::new(SkipReason::Operator, 5, false)));
        assert_eq!(effects.len(), 1, "nothing is claimed: {effects:?}");
        assert_eq!(skip(&mut job, "05:30", until).0, Err(NotSkipped::Asked), "the store does not know yet");
        job.step("05:30", Input::Advanced(Advanced::Done));
        assert_eq!(skip(&mut job, "05:30", until).0, DECIDED);
    }
}

#[test]
fn what_came_due_after_the_instant_is_decided_by_its_policy() {
    let mut job = hourly();

    let (skipped, effects) = skip(&mut job, "05:10", "03:30");

    assert_eq!(skipped, Ok(Skipped::Now(missed("01:00", "03:00"))));
    let (run, claim) = claim_of(&effects);
    let mut skips = Skips::new(SkipReason::Operator, 3, false);
    skips.add(SkipReason::Misfire, 1);
    assert_eq!((claim.fire_time.instant(), claim.skips), (at("05:00"), skips));
    assert_eq!(skip(&mut job, "05:11", "03:30").0, Err(NotSkipped::Asked), "the claim moves the cursor");
    job.step("05:12", granted(run));
    assert_eq!(skip(&mut job, "05:13", "03:30").0, DECIDED);
}

#[test]
fn ticks_that_wait_for_their_turn_or_that_a_pause_holds_are_skipped() {
    let bounds = NodeBounds { runs: false, catch_ups: true };
    for is_paused in [false, true] {
        let machine = JobMachine::new(Arc::new(Period::hours(1)), Policies::default(), at("00:30"), bounds);
        let mut job = Rehearsal { machine, ids: RunIds::of(NodeId::numbered(1)), term: Some(TERM) };
        let pause = is_paused.then(Pause::until_resumed);
        let stored = Box::new(StoredState { pause, ..StoredState::default() });
        let authority = Some(Authority::Term(TERM));
        job.step("05:10", Input::Resume { cursor: at("00:30"), authority, stored });
        assert_eq!(job.machine.waiting(), 1);

        let (skipped, effects) = skip(&mut job, "05:11", "05:11");

        // Four were missed before it, and are told with it.
        let newest = FireTime::new(at("05:00"));
        let Ok(Skipped::Now(all)) = skipped else { panic!("{skipped:?}") };
        assert_eq!(all.newest, newest, "{is_paused}");
        assert_eq!(advanced_to(&effects).0, newest);
        assert_eq!(effects.contains(&Effect::LeaveTurn), !is_paused, "{effects:?}");
        assert_eq!(job.machine.waiting(), 0);
        if !is_paused {
            assert_eq!(skipped, Ok(Skipped::Now(missed("01:00", "05:00"))));
            assert_eq!(advanced_to(&effects).1, Skips::new(SkipReason::Operator, 5, false));
        }
    }
}

#[test]
fn a_tick_that_is_being_claimed_is_decided_by_the_store() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));

    assert_eq!(skip(&mut job, "01:00:01", "01:00:01").0, Err(NotSkipped::Asked));
    assert_eq!(skip(&mut job, "01:00:01", "00:30").0, DECIDED, "that is decided");

    job.step("01:00:02", granted(run));
    assert_eq!(skip(&mut job, "01:00:03", "01:00:01").0, DECIDED, "it runs");
}

#[test]
fn nothing_is_skipped_where_another_node_decides() {
    let mut job = Rehearsal::dormant(Period::hours(1), Policies::default());
    assert_eq!(skip(&mut job, "05:00", "05:00").0, Err(NotSkipped::NotDecidedHere));

    let mut deposed = hourly();
    deposed.term = None;
    assert_eq!(skip(&mut deposed, "05:00", "05:00"), (Err(NotSkipped::NotDecidedHere), Vec::new()));
}

#[test]
fn a_local_job_counts_what_is_skipped_itself() {
    let mut job = Rehearsal::new(Period::hours(1), Policies { fires: Fires::Local, ..Policies::default() });

    let (skipped, effects) = skip(&mut job, "03:30", "03:30");

    assert_eq!(skipped, Ok(Skipped::Now(missed("01:00", "03:00"))));
    assert_eq!(effects, [Effect::Count { started: 0, skips: Skips::new(SkipReason::Operator, 3, false) }]);
    assert_eq!(skip(&mut job, "03:31", "03:30").0, DECIDED);
}

#[test]
fn a_schedule_that_breaks_its_contract_has_nothing_skipped() {
    let mut job = Rehearsal::new(Stuck(at("01:00")), Policies::default());

    let (skipped, effects) = skip(&mut job, "03:30", "03:30");

    assert_eq!(skipped, Err(NotSkipped::NotDecidedHere));
    assert!(matches!(effects[..], [Effect::Broken(_), ..]), "{effects:?}");
}

#[test]
fn what_another_node_has_decided_before_was_skipped_in_vain() {
    let mut job = hourly();
    assert_eq!(skip(&mut job, "03:30", "03:30").0, Ok(Skipped::Now(missed("01:00", "03:00"))));

    job.step("03:30", Input::Advanced(Advanced::Elsewhere { cursor: at("03:00") }));

    assert_eq!(skip(&mut job, "03:31", "03:30").0, Ok(Skipped::Decided { in_vain: true }));
    // Part of it is skipped anew.
    let mut job = hourly();
    let _ = skip(&mut job, "03:30", "03:30");
    let effects = job.step("03:30", Input::Advanced(Advanced::Elsewhere { cursor: at("02:00") }));
    let (run, _) = claim_of(&effects);
    job.step("03:31", granted(run));
    assert_eq!(skip(&mut job, "03:32", "03:30").0, Ok(Skipped::Decided { in_vain: true }));
}

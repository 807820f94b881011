//! A job that the store refuses for its data.

use super::*;
use crate::core::policy::Overlap;

fn bad(run: RunId) -> Input {
    Input::Claimed { run, verdict: Verdict::BadData { reason: "bad".to_owned() } }
}

/// The leader is to skip the ticks, and has led since then.
fn park(since: &str) -> Input {
    Input::Park { since: at(since), authority: Authority::Term(TERM) }
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
    assert!(!job.machine.fires());
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

    let effects = job.step("03:10", park("02:30"));
    assert_eq!(effects, parked("03:00", 1));

    assert_eq!(job.step("03:20", Input::Suspend), []);
    assert_eq!((job.step("04:00", Input::WakeUp), job.wake_in("04:00")), (vec![], None));
    let again = job.step("05:30", park("04:30"));
    assert_eq!(again, parked("05:00", 1), "of 04:00 it was not to decide");
}

/// More ticks than are counted, of a schedule that cannot be searched backwards.
#[test]
fn a_job_that_counts_from_completion_is_parked_for_any_time() {
    let schedule = Moody { period: 50, from_end: true, panics: Arc::default() };
    let mut job = Rehearsal::dormant(schedule, Policies::default());
    job.step("01:00", park("01:00"));

    let effects = job.step("01:21", Input::WakeUp);

    let broken = effects.iter().any(|effect| matches!(effect, Effect::Broken { .. }));
    assert!(!broken, "{effects:?}");
    let many =
        |effect: &Effect| matches!(effect, Effect::Skipped { count, at_least: true, .. } if *count >= 10_000);
    assert!(effects.iter().any(many), "{effects:?}");
    assert_eq!(job.wake_in("01:21"), Some(Duration::from_millis(50)), "it goes on from now");
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

#[test]
fn what_was_due_before_a_job_was_parked_is_missed_as_any_tick() {
    let day = Duration::from_secs(24 * 3600);
    let cases = [
        (Misfire::Latest { within: day }, Some(("02:00", 1))),
        (Misfire::Skip, None),
        (Misfire::All { max: 2, within: day }, Some(("01:00", 0))),
    ];
    for (misfire, runs) in cases {
        let mut job = Rehearsal::dormant(Period::hours(1), Policies { misfire, ..Policies::default() });
        assert_eq!(job.step("05:10", park("02:30")), parked("05:00", 3));

        let effects = job.step("05:30", resume(at("00:30"), Some(Authority::Term(TERM))));

        let parked = Skips::new(SkipReason::Parked, 3, false);
        let Some((tick, missed)) = runs else {
            assert_eq!(effects, [skipped("02:00", SkipReason::Misfire, 2)]);
            let [Effect::Advance(advance)] = job.step("05:30:01", Input::WakeUp)[..] else {
                panic!("no move")
            };
            let mut skips = Skips::new(SkipReason::Misfire, 2, false);
            skips.extend(&parked);
            assert_eq!((advance.to.instant(), advance.skips), (at("05:00"), skips));
            continue;
        };
        let claim = effects.iter().find_map(|effect| match effect {
            Effect::Claim(Claim { tick: Some(claim), .. }) => Some(*claim),
            _ => None,
        });
        let claim = claim.unwrap_or_else(|| panic!("no claim, but {effects:?}"));
        assert_eq!((claim.expected, claim.fire_time.instant()), (at("00:30"), at(tick)), "{misfire:?}");
        assert_eq!(claim.skips, Skips::new(SkipReason::Misfire, missed, false), "{misfire:?}");
    }
}

#[test]
fn what_is_due_between_two_times_of_a_parked_job_is_missed_as_any_tick() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    assert_eq!(job.step("01:00:01", bad(run)), parked("01:00", 1));
    job.step("01:30", Input::Suspend);
    assert_eq!(job.step("04:10", park("03:30")), parked("04:00", 1));

    let effects = job.step("04:20", resume(at("00:30"), Some(Authority::Term(TERM))));

    assert_eq!(effects, [skipped("03:00", SkipReason::Misfire, 2)], "1 and 4 were said before");
    let (run, claim) = claim_of(&job.step("05:00", Input::WakeUp));
    let mut skips = Skips::new(SkipReason::Misfire, 2, false);
    skips.extend(&Skips::new(SkipReason::Parked, 2, false));
    assert_eq!((claim.expected, claim.skips), (at("00:30"), skips));

    let refused = job.step("05:00:01", bad(run));
    let said: Vec<_> = parked("03:00", 2).into_iter().chain(parked("05:00", 1)).collect();
    assert_eq!(refused, said, "each is counted once");
}

#[test]
fn a_parked_job_that_becomes_local_does_not_spin() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    job.step("01:00:01", bad(run));
    job.step("03:00", Input::WakeUp);

    let local = Policies { fires: Fires::Local, ..Policies::default() };
    job.machine.redefine(Arc::new(Period::hours(1)), local);
    // By its own clock, which is behind that of the store.
    assert_eq!(job.step("02:59:59", resume(at("02:59:59"), None)), []);

    assert_eq!(job.step("02:59:59.500", Input::WakeUp), []);
    assert_eq!(job.wake_in("02:59:59.500"), Some(Duration::from_millis(500)));
    let effects = job.step("03:00", Input::WakeUp);
    assert!(matches!(effects[..], [Effect::Count { started: 1, .. }, Effect::Start(_)]), "{effects:?}");
    assert_eq!(job.wake_in("03:00"), minutes(60));
}

#[test]
fn a_leader_in_doubt_skips_nothing_of_a_parked_job() {
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    job.step("01:00:01", bad(run));

    job.term = None;
    assert_eq!(job.step("02:00", Input::WakeUp), []);

    assert_eq!(job.wake_in("02:00"), None);
}

#[test]
fn a_refusal_that_may_concern_everybody_parks_nothing() {
    let refused = |run| Input::ClaimRefused { run, reason: "bad".to_owned() };
    let told = || Refusal::Unavailable { reason: "bad".to_owned() };
    let unavailable = || Effect::Unavailable { reason: "bad".to_owned() };

    // The claim of a tick is asked for again.
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    assert_eq!(job.step("01:00", refused(run)), [unavailable()]);
    assert_eq!(claim_of(&job.step("01:00:01", Input::WakeUp)).0, run);

    // If a newer one is due by then, it takes its place: there is nothing to settle.
    let mut job = hourly();
    let (run, _) = claim_of(&job.step("01:00", Input::WakeUp));
    job.step("01:59:59.950", refused(run));
    let (other, claim) = claim_of(&job.step("02:00:00.050", Input::WakeUp));
    assert_eq!((claim.fire_time.instant(), claim.expected), (at("02:00"), at("00:30")));
    assert!(other != run && claim.skips == Skips::new(SkipReason::Misfire, 1, false));

    // Who waits for a run is told, and nothing is left of it.
    let mut job = hourly();
    let (run, _) = trigger(&mut job, "00:40");
    let answer = Effect::Answer { run, answer: Err(told()) };
    assert_eq!(job.step("00:40", refused(run)), [unavailable(), answer]);
    assert!(job.machine.is_idle());

    // What was promised is asked for again.
    let mut job =
        Rehearsal::new(Period::hours(1), Policies { overlap: Overlap::Queue(1), ..Policies::default() });
    let first = job.run_tick("01:00");
    let (queued, effects) = trigger(&mut job, "01:01");
    assert_eq!(effects, [Effect::Answer { run: queued, answer: Ok(TriggerAnswer::Queued) }]);
    let claims = job.step("01:02", ended(first, BodyEnd::Returned));
    assert!(claims.contains(&Effect::Claim(Claim::new(queued))), "{claims:?}");
    assert_eq!(job.step("01:02", refused(queued)), [unavailable()]);
    assert_eq!(job.step("01:02:01", Input::WakeUp), [Effect::Claim(Claim::new(queued))]);
    assert!(job.machine.fires());
}

fn trigger(job: &mut Rehearsal, time: &str) -> (RunId, Vec<Effect>) {
    let now = job.now(time);
    (now.spare, job.machine.step(now, Input::Trigger).into_vec())
}

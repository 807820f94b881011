//! What a leader does next for one backfill, input by input.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    BackfillId, BackfillProgress, BackfillState, StoredBackfill,
    machine::{AGAIN_MAX, AGAIN_MIN, Asked, BackfillEffect, BackfillInput, BackfillMachine, Moved},
};
use crate::{
    core::{outcome::Outcome, time::FireTime},
    name::{JobName, NodeId, RunIds},
};

const NOW: Duration = Duration::from_secs(100);

fn row(ticks: i64) -> StoredBackfill {
    let from: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
    let id = BackfillId::new(RunIds::of(NodeId::numbered(1)).next(from));
    let fire_times: Arc<_> =
        (0..ticks).map(|nth| FireTime::new(from + TimeDelta::hours(nth))).collect::<Vec<_>>().into();
    StoredBackfill::new(id, JobName::new("job").unwrap(), (from, from + TimeDelta::hours(ticks)), fire_times)
}

fn machine(row: StoredBackfill) -> BackfillMachine {
    BackfillMachine::new(row, NOW, 7)
}

fn progress(revision: u64, taken: u32, in_flight: &[u32]) -> BackfillProgress {
    BackfillProgress { revision, taken, in_flight: in_flight.to_vec(), ..BackfillProgress::new() }
}

fn ask(machine: &BackfillMachine, nth: u32) -> BackfillEffect {
    let (run, fire_time) = (machine.stored().id.run(nth), machine.stored().fire_times[nth as usize]);
    BackfillEffect::Ask { nth, run, fire_time }
}

fn started(nth: u32) -> BackfillInput {
    BackfillInput::Asked { nth, answer: Asked::Started }
}

fn ran_before(nth: u32, outcome: Option<Outcome>) -> BackfillInput {
    BackfillInput::Asked { nth, answer: Asked::RanBefore { outcome } }
}

fn ended(nth: u32, outcome: Outcome) -> BackfillInput {
    BackfillInput::Ended { nth, outcome }
}

#[test]
fn a_fire_time_is_written_to_the_row_before_its_run_is_asked_for() {
    let mut machine = machine(row(2));

    assert_eq!(machine.step(NOW, BackfillInput::WakeUp), [BackfillEffect::Move(progress(1, 1, &[0]))]);
    assert_eq!(machine.step(NOW, BackfillInput::Moved(Moved::Done)), [ask(&machine, 0)]);
}

#[test]
fn it_is_finished_when_the_last_run_has_ended() {
    let mut machine = machine(row(2));
    machine.step(NOW, BackfillInput::WakeUp);
    machine.step(NOW, BackfillInput::Moved(Moved::Done));
    assert_eq!(machine.step(NOW, started(0)), []);

    let next = machine.step(NOW, ended(0, Outcome::Failed));
    let failed = BackfillProgress { failed: 1, ..progress(2, 2, &[1]) };
    assert_eq!(next, [BackfillEffect::Move(failed.clone())], "the end and the next in one change");
    machine.step(NOW, BackfillInput::Moved(Moved::Done));
    machine.step(NOW, started(1));
    let finished =
        BackfillProgress { revision: 3, in_flight: Vec::new(), state: BackfillState::Finished, ..failed };
    assert_eq!(machine.step(NOW, ended(1, Outcome::Succeeded)), [BackfillEffect::Move(finished)],);
    assert_eq!(
        machine.step(NOW, BackfillInput::Moved(Moved::Done)),
        [BackfillEffect::Over(BackfillState::Finished)]
    );
    assert_eq!(machine.wakes_at(), None);
}

#[test]
fn so_many_runs_are_in_flight_at_a_time() {
    let mut machine = machine(StoredBackfill { max_concurrent: 3, ..row(5) });

    let taken = machine.step(NOW, BackfillInput::WakeUp);
    assert_eq!(taken, [BackfillEffect::Move(progress(1, 3, &[0, 1, 2]))]);
    let asks = machine.step(NOW, BackfillInput::Moved(Moved::Done));
    assert_eq!(asks, [ask(&machine, 0), ask(&machine, 1), ask(&machine, 2)]);
    machine.step(NOW, started(1));
    let next = machine.step(NOW, ended(1, Outcome::Succeeded));
    assert_eq!(next, [BackfillEffect::Move(progress(2, 4, &[0, 2, 3]))]);
}

#[test]
fn starts_are_spaced() {
    let spacing = Duration::from_secs(10);
    let mut machine = machine(StoredBackfill { spacing, max_concurrent: 2, ..row(3) });
    machine.step(NOW, BackfillInput::WakeUp);
    machine.step(NOW, BackfillInput::Moved(Moved::Done));
    // Its key is busy for a while.
    let not_now = BackfillInput::Asked { nth: 0, answer: Asked::NotNow };
    assert_eq!(machine.step(NOW, not_now), [], "the next one waits as well");
    let later = NOW + Duration::from_secs(30);
    assert_eq!(machine.step(later, BackfillInput::WakeUp), [ask(&machine, 0)]);

    assert_eq!(machine.step(later, started(0)), []);

    assert_eq!(machine.wakes_at(), Some(later + spacing));
    let next = machine.step(later + spacing, BackfillInput::WakeUp);
    assert_eq!(next, [BackfillEffect::Move(progress(2, 2, &[0, 1]))]);
}

#[test]
fn what_cannot_run_now_is_asked_for_again_and_less_and_less_often() {
    let mut machine = machine(row(1));
    machine.step(NOW, BackfillInput::WakeUp);
    machine.step(NOW, BackfillInput::Moved(Moved::Done));

    let (mut now, mut pauses) = (NOW, Vec::new());
    for _ in 0..10 {
        assert_eq!(machine.step(now, BackfillInput::Asked { nth: 0, answer: Asked::NotNow }), []);
        let at = machine.wakes_at().unwrap();
        pauses.push(at - now);
        now = at;
        assert_eq!(machine.step(now, BackfillInput::WakeUp), [ask(&machine, 0)]);
    }

    assert!(pauses.iter().all(|pause| (AGAIN_MIN / 2..=AGAIN_MAX).contains(pause)), "{pauses:?}");
    assert!(pauses[9] > pauses[0] * 4, "{pauses:?}");
}

#[test]
fn a_run_that_may_never_have_been_granted_is_asked_for_once_more() {
    for outcome in [Outcome::Cancelled, Outcome::Lost] {
        let mut machine = machine(row(1));
        machine.step(NOW, BackfillInput::WakeUp);
        machine.step(NOW, BackfillInput::Moved(Moved::Done));
        machine.step(NOW, started(0));

        assert_eq!(machine.step(NOW, ended(0, outcome)), []);
        let later = machine.wakes_at().unwrap();
        assert_eq!(machine.step(later, BackfillInput::WakeUp), [ask(&machine, 0)]);
        let answer = Asked::RanBefore { outcome: Some(outcome) };
        let before = BackfillInput::Asked { nth: 0, answer };
        let finished = BackfillProgress { state: BackfillState::Finished, failed: 1, ..progress(2, 1, &[]) };
        assert_eq!(machine.step(later, before), [BackfillEffect::Move(finished)], "{outcome}");
    }
}

#[test]
fn whoever_takes_over_asks_for_what_is_in_flight_and_no_more() {
    let taken = StoredBackfill { progress: progress(5, 3, &[2]), ..row(4) };
    let mut machine = machine(taken);

    assert_eq!(machine.step(NOW, BackfillInput::WakeUp), [ask(&machine, 2)]);
    let before = ran_before(2, Some(Outcome::Failed));
    let next = BackfillProgress { failed: 1, ..progress(6, 4, &[3]) };
    assert_eq!(machine.step(NOW, before), [BackfillEffect::Move(next)], "how it ended is known");
}

#[test]
fn a_run_that_goes_on_elsewhere_stays_in_flight_until_it_has_ended() {
    let taken = StoredBackfill { progress: progress(5, 3, &[2]), ..row(4) };
    let mut machine = machine(taken);
    machine.step(NOW, BackfillInput::WakeUp);

    let mut now = NOW;
    for _ in 0..5 {
        assert_eq!(machine.step(now, ran_before(2, None)), []);
        now = machine.wakes_at().expect("it asks again");
        assert_eq!(machine.step(now, BackfillInput::WakeUp), [ask(&machine, 2)]);
    }

    let next = machine.step(now, ran_before(2, Some(Outcome::Succeeded)));
    assert_eq!(next, [BackfillEffect::Move(progress(6, 4, &[3]))]);
}

#[test]
fn what_goes_on_elsewhere_has_started_and_keeps_no_other_from_it() {
    let spacing = Duration::from_secs(10);
    let taken = StoredBackfill { progress: progress(5, 1, &[0]), max_concurrent: 2, spacing, ..row(4) };
    let mut machine = machine(StoredBackfill { since_start: Some(spacing), ..taken });
    machine.step(NOW, BackfillInput::WakeUp);

    let next = machine.step(NOW, ran_before(0, None));

    assert_eq!(next, [BackfillEffect::Move(progress(6, 2, &[0, 1]))]);
}

#[test]
fn the_spacing_goes_on_with_the_next_leader() {
    let spacing = Duration::from_hours(24);
    let hour = Duration::from_hours(1);
    for (since_start, left) in [
        (None, Duration::ZERO),
        (Some(hour * 5), hour * 19),
        (Some(hour * 24), Duration::ZERO),
        (Some(hour * 50), Duration::ZERO),
        // The store's clock was set back.
        (Some(Duration::ZERO), spacing),
    ] {
        let stored = StoredBackfill { progress: progress(4, 2, &[]), spacing, since_start, ..row(4) };
        let mut machine = machine(stored);
        let early = machine.step(NOW, BackfillInput::WakeUp);
        assert_eq!(early.is_empty(), !left.is_zero(), "{since_start:?}");
        if !left.is_zero() {
            assert_eq!(machine.wakes_at(), Some(NOW + left), "{since_start:?}");
            let next = machine.step(NOW + left, BackfillInput::WakeUp);
            assert_eq!(next, [BackfillEffect::Move(progress(5, 3, &[2]))]);
        }
    }
}

#[test]
fn a_change_without_an_answer_is_asked_for_again_and_found_done() {
    let mut machine = machine(row(2));
    machine.step(NOW, BackfillInput::WakeUp);

    assert_eq!(machine.step(NOW, BackfillInput::Moved(Moved::Unknown)), []);
    let later = machine.wakes_at().unwrap();
    let again = machine.step(later, BackfillInput::WakeUp);
    assert_eq!(again, [BackfillEffect::Move(progress(1, 1, &[0]))]);
    let found = StoredBackfill { progress: progress(1, 1, &[0]), ..row(2) };
    let moved = Moved::Elsewhere(Some(Box::new(StoredBackfill { id: machine.stored().id, ..found })));
    assert_eq!(machine.step(later, BackfillInput::Moved(moved)), [ask(&machine, 0)]);
}

#[test]
fn nothing_is_asked_for_once_it_is_cancelled() {
    let mut machine = machine(row(2));
    machine.step(NOW, BackfillInput::WakeUp);

    let cancelled = BackfillProgress { state: BackfillState::Cancelled, ..progress(1, 0, &[]) };
    let row = StoredBackfill { progress: cancelled, ..machine.stored().clone() };
    let moved = Moved::Elsewhere(Some(Box::new(row)));

    assert_eq!(
        machine.step(NOW, BackfillInput::Moved(moved)),
        [BackfillEffect::Over(BackfillState::Cancelled)]
    );
    assert_eq!(machine.step(NOW, BackfillInput::WakeUp), []);
}

#[test]
fn one_that_is_gone_is_let_go_unless_its_last_change_is_under_way() {
    let mut machine = machine(row(1));
    machine.step(NOW, BackfillInput::WakeUp);
    assert_eq!(machine.step(NOW, BackfillInput::Gone), [], "the answer will say what became of it");
    machine.step(NOW, BackfillInput::Moved(Moved::Done));

    assert_eq!(machine.step(NOW, BackfillInput::Gone), [BackfillEffect::Stop]);
    assert_eq!(machine.step(NOW, BackfillInput::Gone), []);
}

#[test]
fn a_term_that_is_over_ends_it_here() {
    for moved in [Moved::Deposed, Moved::Elsewhere(None)] {
        let mut machine = machine(row(2));
        machine.step(NOW, BackfillInput::WakeUp);

        assert_eq!(machine.step(NOW, BackfillInput::Moved(moved)), [BackfillEffect::Stop]);
        assert_eq!(machine.step(NOW, BackfillInput::WakeUp), []);
    }
}

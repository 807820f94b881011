//! What the leader does next for one backfill.

use std::{collections::BTreeMap, time::Duration};

use super::{BackfillProgress, BackfillState, StoredBackfill};
use crate::{
    core::{backoff::Backoff, outcome::Outcome, time::FireTime},
    name::RunId,
};

/// The first pause before something is asked once more that could not be done; it doubles up to
/// [`AGAIN_MAX`].
const AGAIN_MIN: Duration = Duration::from_millis(250);
/// The longest such pause.
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// What the machine is told.
#[derive(Debug)]
pub(crate) enum BackfillInput {
    /// A timer fired, or something may have changed.
    WakeUp,
    /// The row was read again.
    Read(StoredBackfill),
    /// The store answered that it is not running any more.
    Gone,
    /// What the store answered to [`BackfillEffect::Move`].
    Moved(Moved),
    /// What the job answered to [`BackfillEffect::Ask`].
    Asked {
        /// Which fire time, from 0.
        nth: u32,
        /// The answer.
        answer: Asked,
    },
    /// A run that was started has ended, as far as this node knows.
    Ended {
        /// Which fire time, from 0.
        nth: u32,
        /// How.
        outcome: Outcome,
    },
}

/// What the store answers to a change of the row.
#[derive(Debug)]
pub(crate) enum Moved {
    /// It is done.
    Done,
    /// The row is another one by now; `None`: it is gone.
    Elsewhere(Option<Box<StoredBackfill>>),
    /// The term is over.
    Deposed,
    /// There was no answer: it may be done.
    Unknown,
}

/// What a job answers that is asked for a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// It has started, or does as soon as the node has room for it.
    Started,
    /// The run was granted before.
    RanBefore {
        /// How it ended; `None` if it has not, as far as the store knows: it goes on, here or elsewhere.
        outcome: Option<Outcome>,
    },
    /// Not now: its key is held, the job is paused, the store did not answer.
    NotNow,
}

/// What the shell must do.
#[derive(Debug, PartialEq)]
pub(crate) enum BackfillEffect {
    /// Ask the store to change the row from the revision before to this one.
    Move(BackfillProgress),
    /// Ask the job for a run.
    Ask {
        /// Which fire time, from 0.
        nth: u32,
        /// The run.
        run: RunId,
        /// The fire time.
        fire_time: FireTime,
    },
    /// It is over, as the store says.
    Over(BackfillState),
    /// Somebody else drives it from now on.
    Stop,
}

/// Where a fire time in flight stands.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// A run of it is to be asked for, not before this reading.
    Waiting(Duration),
    /// The job was asked for it.
    Asked,
    /// It started here.
    Started,
    /// It started otherwise, and its end is to be asked for at this reading.
    GoesOn(Duration),
}

impl Stage {
    fn has_started(self) -> bool {
        match self {
            Self::Started | Self::GoesOn(_) => true,
            Self::Waiting(_) | Self::Asked => false,
        }
    }
}

#[derive(Debug)]
struct InFlight {
    stage: Stage,
    again: Backoff,
}

#[derive(Debug)]
enum Move {
    None,
    /// The store was asked for this.
    Asked(BackfillProgress),
    /// It did not answer: to be asked again at this reading.
    Again(Duration),
}

/// Decides for one backfill, while this node leads.
#[derive(Debug)]
pub(crate) struct BackfillMachine {
    /// As the store has it, as far as is known.
    stored: StoredBackfill,
    in_flight: BTreeMap<u32, InFlight>,
    /// Those in flight whose runs have ended, and how; the row does not say so yet.
    ended: BTreeMap<u32, Outcome>,
    moving: Move,
    move_again: Backoff,
    /// Nothing is taken up before this reading.
    take_at: Duration,
    seed: u64,
    is_over: bool,
}

impl BackfillMachine {
    /// Goes on with a backfill where its row says. What is in flight may have been granted, or not.
    pub(crate) fn new(stored: StoredBackfill, now: Duration, seed: u64) -> Self {
        let mut machine = Self {
            stored,
            in_flight: BTreeMap::new(),
            ended: BTreeMap::new(),
            moving: Move::None,
            move_again: Backoff::new(AGAIN_MIN, AGAIN_MAX, seed),
            take_at: now,
            seed,
            is_over: false,
        };
        machine.space(now, machine.stored.since_start);
        machine.follow_row(now);
        machine
    }

    /// The row, as far as is known.
    pub(crate) fn stored(&self) -> &StoredBackfill {
        &self.stored
    }

    /// Feeds an input; `now` is the shell's monotonic reading.
    pub(crate) fn step(&mut self, now: Duration, input: BackfillInput) -> Vec<BackfillEffect> {
        let mut effects = Vec::new();
        match input {
            BackfillInput::WakeUp => {}
            // The answer that is awaited says what the row is.
            BackfillInput::Read(_) | BackfillInput::Gone if matches!(self.moving, Move::Asked(_)) => {}
            BackfillInput::Gone => self.stop(&mut effects),
            BackfillInput::Read(row) => self.adopt_read(now, row),
            BackfillInput::Moved(moved) => self.on_moved(now, moved, &mut effects),
            BackfillInput::Asked { nth, answer } => self.on_asked(now, nth, answer),
            BackfillInput::Ended { nth, outcome } => self.on_ended(now, nth, outcome),
        }
        self.decide(now, &mut effects);
        effects
    }

    /// When it is to be woken up, if time alone changes anything.
    pub(crate) fn wakes_at(&self) -> Option<Duration> {
        if self.is_over {
            return None;
        }
        let asks = self.in_flight.values().filter_map(|one| match one.stage {
            Stage::Waiting(at) | Stage::GoesOn(at) => Some(at),
            Stage::Asked | Stage::Started => None,
        });
        let moves = match self.moving {
            Move::Again(at) => Some(at),
            Move::Asked(_) => None,
            Move::None => self.has_room(&self.stored.progress).then_some(self.take_at),
        };
        asks.chain(moves).min()
    }

    fn on_moved(&mut self, now: Duration, moved: Moved, effects: &mut Vec<BackfillEffect>) {
        let Move::Asked(asked) = std::mem::replace(&mut self.moving, Move::None) else { return };
        match moved {
            Moved::Done => {
                self.move_again.succeeded();
                let row = StoredBackfill { progress: asked, ..self.stored.clone() };
                self.adopt(now, row);
            }
            Moved::Elsewhere(Some(row)) => self.adopt_read(now, *row),
            Moved::Elsewhere(None) | Moved::Deposed => self.stop(effects),
            Moved::Unknown => self.moving = Move::Again(now.saturating_add(self.move_again.failed())),
        }
    }

    fn stop(&mut self, effects: &mut Vec<BackfillEffect>) {
        if !std::mem::replace(&mut self.is_over, true) {
            effects.push(BackfillEffect::Stop);
        }
    }

    fn on_asked(&mut self, now: Duration, nth: u32, answer: Asked) {
        let Some(one) = self.in_flight.get_mut(&nth) else { return };
        match answer {
            Asked::Started => {
                one.stage = Stage::Started;
                self.take_at = self.take_at.max(now.saturating_add(self.stored.spacing));
            }
            Asked::RanBefore { outcome: Some(outcome) } => {
                one.stage = Stage::Started;
                self.ended.insert(nth, outcome);
            }
            Asked::RanBefore { outcome: None } => {
                one.stage = Stage::GoesOn(now.saturating_add(one.again.failed()));
            }
            Asked::NotNow => one.stage = Stage::Waiting(now.saturating_add(one.again.failed())),
        }
    }

    fn on_ended(&mut self, now: Duration, nth: u32, outcome: Outcome) {
        let Some(one) = self.in_flight.get_mut(&nth) else { return };
        match outcome {
            // It may have been dropped before it was granted, or goes on with another attempt: the store knows.
            Outcome::Cancelled | Outcome::Lost => {
                one.stage = Stage::Waiting(now.saturating_add(one.again.failed()));
            }
            Outcome::Succeeded | Outcome::Failed | Outcome::Panicked | Outcome::TimedOut => {
                self.ended.insert(nth, outcome);
            }
        }
    }

    /// Adopts what the store says of the row.
    fn adopt_read(&mut self, now: Duration, row: StoredBackfill) {
        let since_start = row.since_start;
        self.adopt(now, row);
        self.space(now, since_start);
    }

    /// Nothing is taken up before the last start, as the store has just said, is long enough ago.
    fn space(&mut self, now: Duration, since_start: Option<Duration>) {
        if let Some(since) = since_start {
            let left = self.stored.spacing.saturating_sub(since);
            self.take_at = self.take_at.max(now.saturating_add(left));
        }
    }

    fn adopt(&mut self, now: Duration, row: StoredBackfill) {
        if row.progress.revision < self.stored.progress.revision {
            return;
        }
        self.stored = row;
        self.follow_row(now);
    }

    fn follow_row(&mut self, now: Duration) {
        let in_flight = &self.stored.progress.in_flight;
        self.in_flight.retain(|nth, _| in_flight.contains(nth));
        self.ended.retain(|nth, _| in_flight.contains(nth));
        for nth in in_flight {
            let again = Backoff::new(AGAIN_MIN, AGAIN_MAX, self.seed ^ u64::from(*nth));
            let taken_up = InFlight { stage: Stage::Waiting(now), again };
            self.in_flight.entry(*nth).or_insert(taken_up);
        }
    }

    fn decide(&mut self, now: Duration, effects: &mut Vec<BackfillEffect>) {
        if self.is_over {
            return;
        }
        if !self.stored.is_running() {
            self.is_over = true;
            effects.push(BackfillEffect::Over(self.stored.progress.state));
            return;
        }
        self.ask(now, effects);
        let may_move = match self.moving {
            Move::None => true,
            Move::Again(at) => at <= now,
            Move::Asked(_) => false,
        };
        let next = self.next_progress(now);
        if may_move && next != self.stored.progress {
            self.moving = Move::Asked(next.clone());
            effects.push(BackfillEffect::Move(next));
        }
    }

    /// Asks for what is in flight and may not have been granted, or may have ended.
    fn ask(&mut self, now: Duration, effects: &mut Vec<BackfillEffect>) {
        for (nth, one) in &mut self.in_flight {
            let at = usize::try_from(*nth).unwrap_or(usize::MAX);
            let (Stage::Waiting(not_before) | Stage::GoesOn(not_before), Some(fire_time)) =
                (one.stage, self.stored.fire_times.get(at))
            else {
                continue;
            };
            if not_before <= now {
                one.stage = Stage::Asked;
                let (run, fire_time) = (self.stored.id.run(*nth), *fire_time);
                effects.push(BackfillEffect::Ask { nth: *nth, run, fire_time });
            }
        }
    }

    /// What the row is to be: without what has ended, with what is taken up now. As it is, if nothing is.
    fn next_progress(&self, now: Duration) -> BackfillProgress {
        let mut next = self.stored.progress.clone();
        next.in_flight.retain(|nth| !self.ended.contains_key(nth));
        let failed = self.ended.values().filter(|outcome| **outcome != Outcome::Succeeded).count();
        next.failed = next.failed.saturating_add(u32::try_from(failed).unwrap_or(u32::MAX));
        while self.take_at <= now && self.has_room(&next) {
            next.in_flight.push(next.taken);
            next.taken += 1;
        }
        if next.in_flight.is_empty() && next.taken >= self.stored.ticks() {
            next.state = BackfillState::Finished;
        }
        if next != self.stored.progress {
            next.revision += 1;
        }
        next
    }

    /// Whether another fire time may be taken up after these, as far as it is not a matter of time.
    fn has_room(&self, progress: &BackfillProgress) -> bool {
        let in_flight = u32::try_from(progress.in_flight.len()).unwrap_or(u32::MAX);
        // Who spaces starts waits for each: those that waited for one key would start together.
        let all_started = |nth: &u32| self.in_flight.get(nth).is_some_and(|one| one.stage.has_started());
        progress.taken < self.stored.ticks()
            && in_flight < self.stored.max_concurrent
            && (self.stored.spacing.is_zero() || progress.in_flight.iter().all(all_started))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::{DateTime, TimeDelta, Utc};

    use super::*;
    use crate::{
        core::backfill::BackfillId,
        name::{JobName, NodeId, RunIds},
    };

    const NOW: Duration = Duration::from_secs(100);

    fn row(ticks: i64) -> StoredBackfill {
        let from: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
        let id = BackfillId::new(RunIds::of(NodeId::numbered(1)).next(from));
        let fire_times: Arc<_> =
            (0..ticks).map(|nth| FireTime::new(from + TimeDelta::hours(nth))).collect::<Vec<_>>().into();
        StoredBackfill::new(
            id,
            JobName::new("job").unwrap(),
            (from, from + TimeDelta::hours(ticks)),
            fire_times,
        )
    }

    fn machine(row: StoredBackfill) -> BackfillMachine {
        BackfillMachine::new(row, NOW, 7)
    }

    fn progress(revision: u64, taken: u32, in_flight: &[u32]) -> BackfillProgress {
        BackfillProgress { revision, taken, in_flight: in_flight.to_vec(), ..BackfillProgress::new() }
    }

    fn ask(machine: &BackfillMachine, nth: u32) -> BackfillEffect {
        let (run, fire_time) = (machine.stored.id.run(nth), machine.stored.fire_times[nth as usize]);
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
            let finished =
                BackfillProgress { state: BackfillState::Finished, failed: 1, ..progress(2, 1, &[]) };
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
        let moved = Moved::Elsewhere(Some(Box::new(StoredBackfill { id: machine.stored.id, ..found })));
        assert_eq!(machine.step(later, BackfillInput::Moved(moved)), [ask(&machine, 0)]);
    }

    #[test]
    fn nothing_is_asked_for_once_it_is_cancelled() {
        let mut machine = machine(row(2));
        machine.step(NOW, BackfillInput::WakeUp);

        let cancelled = BackfillProgress { state: BackfillState::Cancelled, ..progress(1, 0, &[]) };
        let row = StoredBackfill { progress: cancelled, ..machine.stored.clone() };
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
}

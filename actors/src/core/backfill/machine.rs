//! What the leader does next for one backfill.

use std::{collections::BTreeMap, time::Duration};

use super::{BackfillProgress, BackfillState, StoredBackfill};
use crate::{
    core::{backoff::Backoff, outcome::Outcome, time::FireTime},
    name::RunId,
};

/// The first pause before something is asked once more that could not be done; it doubles up to
/// [`AGAIN_MAX`].
pub(super) const AGAIN_MIN: Duration = Duration::from_millis(250);
/// The longest such pause.
pub(super) const AGAIN_MAX: Duration = Duration::from_secs(5);

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

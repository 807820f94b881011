//! When each job that makes up for a missed tick has its turn, so that many of them do not start at once.
//!
//! A [`Pacer`] gives turns at a steady pace, first to the job whose time ends soonest. It keeps one entry a job.
//!
//! ```text
//! asks       a(9) b(4) c(7)  d(2)                  the deadline of each in brackets
//! 1 a second a    ·    ·     d     b     c         a comes first, as nobody waits then
//! ```
//!
//! # By when a job is to have its turn
//!
//! The jobs that a gap left behind ask within moments of each other: those that ask within [`WAVE`] are a wave. When it
//! is over, the bound of all of them is fixed: the time that all who wait then take, one after the other. Who asks
//! later and has a sooner deadline comes first all the same, and moves no bound. So whoever still waits at its bound
//! has been overtaken, and that is to be known.
//!
//! ```text
//! 1 a second, WAVE 30 s    0 s         30 s          50 s                    70 s
//! 50 ask                   wave 1      20 wait:      bound of wave 1: who
//!                                      it is 50 s    still waits is late
//! 40 ask, at 40 s                             wave 2                         closes
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use chrono::{DateTime, Utc};

use crate::core::time::FireTime;

/// The most turns in a second, one a microsecond.
pub const CATCH_UP_PER_SECOND_MAX: u32 = 1_000_000;

/// Turns that are closer together than this are given together, so that whoever gives them wakes up no more
/// often.
const TOGETHER: Duration = Duration::from_millis(10);

/// Those who ask within so long of the first are of one wave, and have one bound.
pub(crate) const WAVE: Duration = Duration::from_secs(30);

/// How long after its turn a tick is started, as a rule.
const STARTS_WITHIN: Duration = Duration::from_secs(1);

/// How many of those who wait are looked at for the names of those who are late.
const LOOKED_AT_MAX: usize = 1_000;

/// The turns of the jobs of a node.
#[derive(Debug)]
pub(crate) struct Pacer<W> {
    /// From turn to turn.
    spacing: Duration,
    /// How much earlier than it would be by the spacing a turn may be.
    together: Duration,
    /// When the next turn is by the spacing, by the monotonic clock.
    next_at: Duration,
    asked: u64,
    waiting: BTreeMap<Place, Waiter<W>>,
    places: HashMap<u64, Place>,
    /// Those of whom anybody waits, by their numbers, and the one that is open.
    waves: BTreeMap<u64, Wave>,
    /// How many there were.
    wave_count: u64,
}

/// Who waits first: whose time ends sooner, then who asked first.
type Place = (DateTime<Utc>, u64);

#[derive(Debug)]
struct Waiter<W> {
    job: u64,
    wave: u64,
    waits: W,
}

/// Those who asked within [`WAVE`] of each other.
#[derive(Debug)]
struct Wave {
    closes_at: Duration,
    /// By when each of them is to have its turn; `None` while it is open.
    bound: Option<Duration>,
    /// How many of them wait.
    count: usize,
    /// The first tick of all of them, whether it waits still or not.
    first: FireTime,
}

/// The answer to whoever asks for a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It has one.
    Now,
    /// It waits for one.
    Later {
        /// Nobody waited before.
        is_first: bool,
    },
}

/// What a [`Pacer`] has to give.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NextTurn<W> {
    /// It is the turn of this one.
    Of(W),
    /// There are some at this reading of the monotonic clock.
    At(Duration),
    /// Nobody waits.
    Nobody,
}

/// Those who wait for a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// How many.
    pub(crate) count: usize,
    /// When the last of them has its turn, by the monotonic clock, if nobody else asks.
    pub(crate) until: Duration,
    /// The last of their bounds, as they are known now.
    pub(crate) bound: Duration,
    /// The first of their ticks. It may have had its turn already, if it was of a wave of which others wait.
    pub(crate) first: FireTime,
}

/// Those who wait beyond their bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Late<W> {
    /// How many.
    pub(crate) count: usize,
    /// The first of their ticks, as in [`Waiting`].
    pub(crate) first: FireTime,
    /// Some of them.
    pub(crate) some: Vec<W>,
}

impl<W> Pacer<W> {
    /// So many turns in a second, at least one.
    pub(crate) fn new(per_second: u32) -> Self {
        let spacing = Duration::from_secs(1) / per_second.clamp(1, CATCH_UP_PER_SECOND_MAX);
        let together = if spacing < TOGETHER { TOGETHER } else { Duration::ZERO };
        Self {
            spacing,
            together,
            next_at: Duration::ZERO,
            asked: 0,
            waiting: BTreeMap::new(),
            places: HashMap::new(),
            waves: BTreeMap::new(),
            wave_count: 0,
        }
    }

    /// Gives a turn to a job that makes up for a tick, or keeps in mind that it waits for one; whatever it asked before
    /// is forgotten, but for its bound.
    pub(crate) fn ask(
        &mut self,
        now: Duration,
        job: u64,
        (tick, deadline): (FireTime, DateTime<Utc>),
        waits: W,
    ) -> Turn {
        self.close_wave(now);
        let former = self.take_out(job).map(|former| former.wave);
        if self.waiting.is_empty() && self.take(now) {
            former.into_iter().for_each(|wave| self.leave_wave(wave));
            return Turn::Now;
        }
        let (place, is_first) = ((deadline, self.asked), self.waiting.is_empty());
        self.asked += 1;
        let wave = former.unwrap_or_else(|| self.join_wave(now, tick));
        self.waiting.insert(place, Waiter { job, wave, waits });
        self.places.insert(job, place);
        Turn::Later { is_first }
    }

    /// The turn that is to be given now, or when there is one.
    pub(crate) fn next(&mut self, now: Duration) -> NextTurn<W> {
        self.close_wave(now);
        if self.waiting.is_empty() {
            return NextTurn::Nobody;
        }
        if !self.take(now) {
            return NextTurn::At(self.next_at);
        }
        let Some((_, Waiter { job, wave, waits })) = self.waiting.pop_first() else {
            return NextTurn::Nobody;
        };
        self.places.remove(&job);
        self.leave_wave(wave);
        NextTurn::Of(waits)
    }

    /// A job waits no more.
    pub(crate) fn leave(&mut self, now: Duration, job: u64) -> Option<W> {
        self.close_wave(now);
        let Waiter { wave, waits, .. } = self.take_out(job)?;
        self.leave_wave(wave);
        Some(waits)
    }

    /// By when a job that waits is to have begun. Once its wave is over, nothing moves that any more.
    pub(crate) fn bound(&mut self, now: Duration, job: u64) -> Option<Duration> {
        self.close_wave(now);
        let wave = self.waiting.get(self.places.get(&job)?)?.wave;
        let until = self.until();
        self.waves.get(&wave).map(|wave| wave.bound_or(until) + STARTS_WITHIN)
    }

    /// Who waits, if anybody does.
    pub(crate) fn waiting(&mut self, now: Duration) -> Option<Waiting> {
        self.close_wave(now);
        let (count, until) = (self.waiting.len(), self.until());
        let waves = || self.waves.values().filter(|wave| wave.count > 0);
        let bound = waves().map(|wave| wave.bound_or(until)).max()? + STARTS_WITHIN;
        let first = waves().map(|wave| wave.first).min()?;
        Some(Waiting { count, until, bound, first })
    }

    /// Who waits beyond its bound, if anybody does.
    pub(crate) fn late(&mut self, now: Duration, named_max: usize) -> Option<Late<W>>
    where
        W: Clone,
    {
        self.close_wave(now);
        let is_over = |wave: &Wave| wave.bound.is_some_and(|bound| bound + STARTS_WITHIN < now);
        let over = || self.waves.values().filter(|wave| wave.count > 0 && is_over(wave));
        let first = over().map(|wave| wave.first).min()?;
        let count = over().map(|wave| wave.count).sum();
        // Whose time ends last is overtaken first.
        let last = self.waiting.values().rev().take(LOOKED_AT_MAX);
        let late = last.filter(|waiter| self.waves.get(&waiter.wave).is_some_and(is_over));
        let some = late.map(|waiter| waiter.waits.clone()).take(named_max).collect();
        Some(Late { count, first, some })
    }

    /// Nobody waits any more.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = W> + use<W> {
        self.places.clear();
        self.waves.clear();
        std::mem::take(&mut self.waiting).into_values().map(|waiter| waiter.waits)
    }

    /// When the last of those who wait has its turn, if nobody else asks.
    fn until(&self) -> Duration {
        let after_first = u32::try_from(self.waiting.len().saturating_sub(1)).unwrap_or(u32::MAX);
        self.next_at.saturating_add(self.spacing.saturating_mul(after_first))
    }

    fn take_out(&mut self, job: u64) -> Option<Waiter<W>> {
        let place = self.places.remove(&job)?;
        self.waiting.remove(&place)
    }

    /// Takes a turn, if there is one.
    fn take(&mut self, now: Duration) -> bool {
        if now.saturating_add(self.together) < self.next_at {
            return false;
        }
        self.next_at = self.next_at.max(now) + self.spacing;
        true
    }

    /// Fixes the bound of the wave that is open, once its time is over.
    fn close_wave(&mut self, now: Duration) {
        let until = self.until().max(now);
        let newest = self.waves.last_entry().filter(|wave| wave.get().bound.is_none());
        if let Some(mut open) = newest.filter(|wave| wave.get().closes_at <= now) {
            open.get_mut().bound = Some(until);
            if open.get().count == 0 {
                open.remove();
            }
        }
    }

    fn join_wave(&mut self, now: Duration, tick: FireTime) -> u64 {
        if let Some(mut open) = self.waves.last_entry().filter(|wave| wave.get().bound.is_none()) {
            let wave = open.get_mut();
            let first = if wave.count == 0 { tick } else { wave.first.min(tick) };
            (wave.count, wave.first) = (wave.count + 1, first);
            return *open.key();
        }
        self.wave_count += 1;
        let wave = Wave { closes_at: now.saturating_add(WAVE), bound: None, count: 1, first: tick };
        self.waves.insert(self.wave_count, wave);
        self.wave_count
    }

    /// One of a wave waits no more. One that is open stays, for those who are still to ask.
    fn leave_wave(&mut self, number: u64) {
        let Some(wave) = self.waves.get_mut(&number) else { return };
        wave.count -= 1;
        if wave.count == 0 && wave.bound.is_some() {
            self.waves.remove(&number);
        }
    }
}

impl Wave {
    /// The bound, or that of all who wait while it is open.
    fn bound_or(&self, until: Duration) -> Duration {
        self.bound.unwrap_or(until)
    }
}

#[cfg(test)]
mod tests;

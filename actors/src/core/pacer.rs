//! When each job that makes up for a missed tick has its turn, so that many of them do not start at once.
//!
//! A [`Pacer`] gives turns at a steady pace, first to the job whose time ends soonest. It keeps one entry a job.
//!
//! ```text
//! asks       a(9) b(4) c(7)  d(2)                  the deadline of each in brackets
//! 1 a second a    ·    ·     d     b     c         a comes first, as nobody waits then
//! ```

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use chrono::{DateTime, Utc};

/// The most turns in a second, one a microsecond.
pub const CATCH_UP_PER_SECOND_MAX: u32 = 1_000_000;

/// Turns that are closer together than this are given together, so that whoever gives them wakes up no more
/// often.
const TOGETHER: Duration = Duration::from_millis(10);

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
    waiting: BTreeMap<Place, (u64, W)>,
    places: HashMap<u64, Place>,
}

/// Who waits first: whose time ends sooner, then who asked first.
type Place = (DateTime<Utc>, u64);

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
        }
    }

    /// Gives a turn to a job, or keeps in mind that it waits for one; whatever it asked before is forgotten.
    pub(crate) fn ask(&mut self, now: Duration, job: u64, deadline: DateTime<Utc>, waits: W) -> Turn {
        drop(self.leave(job));
        if self.waiting.is_empty() && self.take(now) {
            return Turn::Now;
        }
        let (place, is_first) = ((deadline, self.asked), self.waiting.is_empty());
        self.asked += 1;
        self.waiting.insert(place, (job, waits));
        self.places.insert(job, place);
        Turn::Later { is_first }
    }

    /// The turn that is to be given now, or when there is one.
    pub(crate) fn next(&mut self, now: Duration) -> NextTurn<W> {
        if self.waiting.is_empty() {
            return NextTurn::Nobody;
        }
        if !self.take(now) {
            return NextTurn::At(self.next_at);
        }
        let Some((_, (job, waits))) = self.waiting.pop_first() else { return NextTurn::Nobody };
        self.places.remove(&job);
        NextTurn::Of(waits)
    }

    /// A job waits no more.
    pub(crate) fn leave(&mut self, job: u64) -> Option<W> {
        let place = self.places.remove(&job)?;
        self.waiting.remove(&place).map(|(_, waits)| waits)
    }

    /// A job waits.
    pub(crate) fn has(&self, job: u64) -> bool {
        self.places.contains_key(&job)
    }

    /// Who waits, if anybody does.
    pub(crate) fn waiting(&self) -> Option<Waiting> {
        let count = self.waiting.len();
        let after_first = u32::try_from(count.checked_sub(1)?).unwrap_or(u32::MAX);
        let until = self.next_at.saturating_add(self.spacing.saturating_mul(after_first));
        Some(Waiting { count, until })
    }

    /// Nobody waits any more.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = W> + use<W> {
        self.places.clear();
        std::mem::take(&mut self.waiting).into_values().map(|(_, waits)| waits)
    }

    /// Takes a turn, if there is one.
    fn take(&mut self, now: Duration) -> bool {
        if now.saturating_add(self.together) < self.next_at {
            return false;
        }
        self.next_at = self.next_at.max(now) + self.spacing;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::job::tests::at;

    const LATER: Turn = Turn::Later { is_first: false };
    const FIRST: Turn = Turn::Later { is_first: true };

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// All who have their turn at an instant.
    fn turns(pacer: &mut Pacer<u64>, now: Duration) -> Vec<u64> {
        let next = || match pacer.next(now) {
            NextTurn::Of(who) => Some(who),
            NextTurn::At(_) | NextTurn::Nobody => None,
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn turns_go_to_the_soonest_deadline_and_then_to_who_asked_first() {
        for (asked, served) in [
            (&[(1, "03:00"), (2, "02:00"), (3, "01:00")][..], &[3, 2, 1][..]),
            (&[(1, "02:00"), (2, "02:00"), (3, "01:00"), (4, "02:00")], &[3, 1, 2, 4]),
            // Who asks again has one place: that of the last question.
            (&[(1, "01:00"), (2, "02:00"), (1, "03:00")], &[2, 1]),
            (&[(1, "03:00"), (2, "02:00"), (1, "01:00")], &[1, 2]),
        ] {
            let mut pacer = Pacer::new(1);
            assert_eq!(pacer.ask(millis(500), 9, at("00:30"), 9), Turn::Now);
            for (nth, (job, deadline)) in asked.iter().enumerate() {
                let turn = pacer.ask(millis(500), *job, at(deadline), *job);
                assert_eq!(turn, if nth == 0 { FIRST } else { LATER }, "{asked:?}");
            }

            let in_order: Vec<_> =
                (1..9).flat_map(|second| turns(&mut pacer, millis(second * 1_000 + 500))).collect();

            assert_eq!(in_order, served, "{asked:?}");
        }
    }

    #[test]
    fn turns_come_at_the_pace_and_those_that_are_close_come_together() {
        for (per_second, at_once, wakes) in [
            // How many have their turn when they ask; then at which millisecond somebody looks, how many have
            // their turn, and when to look next.
            (1, 1, &[(0, 0, 1_000), (999, 0, 1_000), (1_000, 1, 2_000), (3_500, 1, 4_500)][..]),
            (100, 1, &[(9, 0, 10), (10, 1, 20), (30, 1, 40)]),
            (1_000, 11, &[(0, 0, 11), (11, 11, 22), (12, 1, 23)]),
        ] {
            let mut pacer = Pacer::new(per_second);
            let asked = (0..100).map(|job| pacer.ask(millis(0), job, at("01:00"), job));
            assert_eq!(asked.filter(|turn| *turn == Turn::Now).count(), at_once, "{per_second}");

            for (now, count, next) in wakes {
                let now = millis(*now);
                assert_eq!(turns(&mut pacer, now).len(), *count, "{per_second} {now:?}");
                assert_eq!(pacer.next(now), NextTurn::At(millis(*next)), "{per_second} {now:?}");
            }
        }
    }

    #[test]
    fn who_waits_is_counted_until_the_last_has_its_turn() {
        let mut pacer = Pacer::new(2);
        assert_eq!(pacer.waiting(), None);
        for job in 0..5 {
            pacer.ask(millis(100), job, at("01:00"), job);
        }

        assert_eq!(pacer.waiting(), Some(Waiting { count: 4, until: millis(100 + 4 * 500) }));
        assert_eq!((pacer.has(0), pacer.has(4)), (false, true));

        assert_eq!((pacer.leave(4), pacer.leave(4), pacer.has(4)), (Some(4), None, false));
        assert_eq!(pacer.waiting(), Some(Waiting { count: 3, until: millis(100 + 3 * 500) }));
        assert_eq!(pacer.clear().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!((pacer.waiting(), pacer.next(millis(9_000))), (None, NextTurn::Nobody));
    }

    /// What happens to a pacer.
    #[derive(Debug, Clone)]
    enum Step {
        Ask(u64, i64),
        Leave(u64),
        Pass(u64),
        Serve,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..20_u64, 0..100_i64).prop_map(|(job, deadline)| Step::Ask(job, deadline)),
            1 => (0..20_u64).prop_map(Step::Leave),
            2 => (0..2_000_u64).prop_map(Step::Pass),
            4 => Just(Step::Serve),
        ]
    }

    proptest! {
        /// A list that is searched each time stands for the heap.
        #[test]
        fn no_second_has_more_turns_than_the_pace_and_the_soonest_deadline_is_first(
            per_second in prop_oneof![Just(1_u32), Just(7), Just(100), Just(333), Just(1_000)],
            steps in proptest::collection::vec(step(), 1..400),
        ) {
            let mut pacer = Pacer::new(per_second);
            let (mut now, mut waiting, mut given) = (millis(0), Vec::<(u64, i64)>::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Ask(job, deadline) => {
                        waiting.retain(|(known, _)| *known != job);
                        let until = DateTime::from_timestamp(deadline, 0).unwrap();
                        match pacer.ask(now, job, until, job) {
                            Turn::Now => {
                                prop_assert!(waiting.is_empty());
                                given.push(now);
                            }
                            Turn::Later { is_first } => {
                                prop_assert_eq!(is_first, waiting.is_empty());
                                waiting.push((job, deadline));
                            }
                        }
                    }
                    Step::Leave(job) => {
                        let was_there = waiting.iter().any(|(known, _)| *known == job);
                        waiting.retain(|(known, _)| *known != job);
                        prop_assert_eq!(pacer.leave(job).is_some(), was_there);
                    }
                    Step::Pass(more) => now += millis(more),
                    Step::Serve => match pacer.next(now) {
                        NextTurn::Of(job) => {
                            let soonest = *waiting.iter().min_by_key(|(_, deadline)| *deadline).unwrap();
                            prop_assert_eq!(job, soonest.0);
                            waiting.retain(|(known, _)| *known != job);
                            given.push(now);
                        }
                        NextTurn::At(at) => prop_assert!(at > now && !waiting.is_empty()),
                        NextTurn::Nobody => prop_assert!(waiting.is_empty()),
                    },
                }
                prop_assert_eq!(pacer.waiting().map_or(0, |waiting| waiting.count), waiting.len());
            }
            let most = u64::from(per_second) + u64::from(per_second) / 100 + 1;
            for (nth, from) in given.iter().enumerate() {
                let in_second = given[nth..].iter().take_while(|at| **at < *from + millis(1_000)).count();
                prop_assert!(in_second as u64 <= most, "{} from {:?}", in_second, from);
            }
        }
    }
}

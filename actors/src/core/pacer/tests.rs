//! When turns are given, and by when each is to be had.

use proptest::prelude::*;

use super::*;
use crate::core::job::tests::at;

const LATER: Turn = Turn::Later { is_first: false };
const FIRST: Turn = Turn::Later { is_first: true };

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn tick() -> FireTime {
    FireTime::new(at("00:00"))
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
        assert_eq!(pacer.ask(millis(500), 9, (tick(), at("00:30")), 9), Turn::Now);
        for (nth, (job, deadline)) in asked.iter().enumerate() {
            let turn = pacer.ask(millis(500), *job, (tick(), at(deadline)), *job);
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
        let asked = (0..100).map(|job| pacer.ask(millis(0), job, (tick(), at("01:00")), job));
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
    let (mut pacer, now) = (Pacer::new(2), millis(100));
    assert_eq!(pacer.waiting(now), None);
    let first = FireTime::new(at("00:10"));
    for job in 0..5 {
        pacer.ask(now, job, (if job == 3 { first } else { FireTime::new(at("00:20")) }, at("01:00")), job);
    }

    let waiting = |count, until| Some(Waiting { count, until, bound: until + STARTS_WITHIN, first });
    assert_eq!(pacer.waiting(now), waiting(4, millis(100 + 4 * 500)));
    assert_eq!((pacer.bound(now, 0), pacer.bound(now, 4)), (None, Some(millis(3_100))));

    assert_eq!((pacer.leave(now, 4), pacer.leave(now, 4), pacer.bound(now, 4)), (Some(4), None, None));
    assert_eq!(pacer.waiting(now), waiting(3, millis(100 + 3 * 500)));
    assert_eq!(pacer.clear().collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!((pacer.waiting(now), pacer.next(millis(9_000))), (None, NextTurn::Nobody));
}

#[test]
fn the_bound_of_a_wave_is_fixed_when_it_is_over_and_who_waits_beyond_it_is_late() {
    let mut pacer = Pacer::new(1);
    let second = Duration::from_secs;
    let ask = |pacer: &mut Pacer<u64>, now, job, deadline| pacer.ask(now, job, (tick(), at(deadline)), job);
    assert_eq!(ask(&mut pacer, second(0), 100, "01:00"), Turn::Now);
    for job in 0..40 {
        ask(&mut pacer, second(0), job, "02:00");
    }
    assert_eq!(
        pacer.bound(second(0), 39),
        Some(second(41)),
        "the last of 40, a second each, and one to start"
    );
    assert_eq!(ask(&mut pacer, second(29), 40, "09:00"), LATER);
    (1..=29).for_each(|now| drop(turns(&mut pacer, second(now))));

    // The wave is over: twelve wait. What comes now has sooner deadlines.
    assert_eq!(pacer.bound(second(30), 40), Some(second(42)));
    for now in 30..=43 {
        ask(&mut pacer, second(now), 100 + now, "01:00");
        assert_eq!(turns(&mut pacer, second(now)), [100 + now]);
        assert_eq!(pacer.bound(second(now), 40), Some(second(42)), "at {now}");
        let late = pacer.late(second(now), 3);
        let expected = Late { count: 12, first: tick(), some: vec![40, 39, 38] };
        assert_eq!(late, (now > 42).then_some(expected), "at {now}");
    }
    assert_eq!(ask(&mut pacer, second(43), 40, "00:10"), LATER);
    assert_eq!(pacer.bound(second(43), 40), Some(second(42)), "who asks again has the same bound");
    (44..=56).for_each(|now| drop(turns(&mut pacer, second(now))));
    assert_eq!((pacer.late(second(60), 3), pacer.waiting(second(60))), (None, None));
    assert!(pacer.waves.is_empty());
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
                    match pacer.ask(now, job, (tick(), until), job) {
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
                    prop_assert_eq!(pacer.leave(now, job).is_some(), was_there);
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
            prop_assert_eq!(pacer.waiting(now).map_or(0, |waiting| waiting.count), waiting.len());
        }
        let most = u64::from(per_second) + u64::from(per_second) / 100 + 1;
        for (nth, from) in given.iter().enumerate() {
            let in_second = given[nth..].iter().take_while(|at| **at < *from + millis(1_000)).count();
            prop_assert!(in_second as u64 <= most, "{} from {:?}", in_second, from);
        }
    }

    /// Turns are given as soon as they are there.
    #[test]
    fn a_bound_stays_where_it_is_and_who_waits_beyond_it_was_overtaken(
        per_second in prop_oneof![Just(1_u32), Just(3), Just(100)],
        steps in proptest::collection::vec(bounded_step(), 1..300),
    ) {
        let mut world = World::new(per_second);
        for step in steps {
            let waited = world.waiting.len();
            match step {
                Step::Ask(job, deadline) => world.ask(job, deadline),
                Step::Leave(job) => world.leave(job),
                Step::Pass(millis) => world.pass(Duration::from_millis(millis)),
                Step::Serve => {}
            }
            world.check(waited)?;
        }
    }
}

fn bounded_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..80_u64, 0..100_i64).prop_map(|(job, deadline)| Step::Ask(job, deadline)),
        1 => (0..80_u64).prop_map(Step::Leave),
        1 => (0..3_000_u64).prop_map(Step::Pass),
    ]
}

/// A pacer, and what is known of those who wait.
struct World {
    pacer: Pacer<u64>,
    spacing: Duration,
    now: Duration,
    /// When the wave began that was opened last.
    wave: Option<Duration>,
    waiting: BTreeMap<u64, Known>,
}

struct Known {
    asked_at: Duration,
    /// When its wave is over.
    over_at: Duration,
    bound: Option<Duration>,
    /// Somebody had a turn who asked once its wave was over.
    is_overtaken: bool,
}

impl World {
    fn new(per_second: u32) -> Self {
        let spacing = Duration::from_secs(1) / per_second;
        let waiting = BTreeMap::new();
        Self { pacer: Pacer::new(per_second), spacing, now: Duration::ZERO, wave: None, waiting }
    }

    fn ask(&mut self, job: u64, deadline: i64) {
        let deadline = DateTime::from_timestamp(deadline, 0).unwrap();
        if self.pacer.ask(self.now, job, (tick(), deadline), job) == Turn::Now {
            self.waiting.remove(&job);
            return;
        }
        let now = self.now;
        if !self.waiting.contains_key(&job) {
            let wave = self.wave.filter(|began| now < *began + WAVE).unwrap_or(now);
            self.wave = Some(wave);
            let known = Known { asked_at: now, over_at: wave + WAVE, bound: None, is_overtaken: false };
            self.waiting.insert(job, known);
        }
    }

    fn leave(&mut self, job: u64) {
        self.pacer.leave(self.now, job);
        self.waiting.remove(&job);
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            match self.pacer.next(self.now) {
                NextTurn::Of(job) => {
                    let served = self.waiting.remove(&job).expect("it waits");
                    for known in self.waiting.values_mut() {
                        known.is_overtaken |= served.asked_at >= known.over_at;
                    }
                }
                NextTurn::At(at) if at <= until => self.now = at,
                NextTurn::At(_) | NextTurn::Nobody => break,
            }
        }
        self.now = until;
    }

    /// `waited`: so many did before the last step.
    fn check(&mut self, waited: usize) -> Result<(), TestCaseError> {
        let (now, mut late) = (self.now, 0);
        for (job, known) in &mut self.waiting {
            let bound = self.pacer.bound(now, *job).expect("it waits");
            if now >= known.over_at {
                let all = self.spacing * (waited as u32 + 1);
                let is_bounded = bound <= now + all + TOGETHER + STARTS_WITHIN;
                prop_assert!(is_bounded || known.bound.is_some(), "{:?} at {:?}", bound, now);
                let before = *known.bound.get_or_insert(bound);
                prop_assert_eq!(bound, before, "it stays where it is");
            }
            late += usize::from(now > bound);
            prop_assert!(now <= bound || known.is_overtaken, "{} at {:?}: {:?}", job, now, bound);
        }
        prop_assert_eq!(self.pacer.late(now, 10).map_or(0, |late| late.count), late);
        Ok(())
    }
}

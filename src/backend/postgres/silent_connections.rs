//! Which connections are silent beyond their lease: decided by what an observer sees of them, look by look.
//!
//! A connection shows a mark that changes with everything it does. How long it stands still is counted by the
//! observer's monotonic clock, in steps between its own looks; of one step never more than half of the lease
//! counts, and nothing of a look that the server was slow to answer. So nobody is taken for silent before the
//! third look, and neither a server that stood still for everybody nor an observer that did makes a living
//! one look silent.
//!
//! The server's clock is asked for one thing only: how far back, between two looks, a mark changed. What lies
//! before the last look cannot be, so it counts for nothing: the clock was set. A smaller step of the clock
//! shortens one silence by no more than it was stepped, nor by more than half of the lease.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

/// Of one step, what counts is at most the lease divided by this.
const STEPS_MIN: u32 = 2;
/// A look whose answer took more than the lease divided by this proves nothing: the server may have stood
/// still.
const PROMPT_PART: u32 = 4;
/// After which part of its lease a silent connection is looked at more closely, and how closely.
const SUSPECT_PART: u32 = 2;
const CLOSER_MIN: Duration = Duration::from_millis(50);
/// How long a connection that was to be ended may take to go, before it is said that it does not.
const END_TAKES: Duration = Duration::from_millis(500);

/// A connection: its process, and the beacon that it is looked at for, if any. A server that is started again
/// gives the numbers of its processes again, so two sessions in the table may name one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Who {
    pub(super) pid: i32,
    pub(super) beacon: Option<i64>,
}

/// What one look shows of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) who: Who,
    /// Changes with each thing that it does.
    pub(super) mark: String,
    /// Since when the mark stands, by the server's clock; zero if that is not known.
    pub(super) quiet: Duration,
    /// For how long it may be silent.
    pub(super) lease: Duration,
}

/// What is to be done about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// It may be alive.
    Watched,
    /// It was silent beyond its lease: it is to be ended.
    Silent,
    /// It was to be ended a moment ago.
    Ending,
    /// It was to be ended, and is still there.
    Stuck,
}

/// The connections that one observer looks at.
#[derive(Debug, Default)]
pub(super) struct Silences {
    followed: HashMap<Who, Followed>,
    /// When the last look was answered.
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Followed {
    mark: String,
    lease: Duration,
    silent: Duration,
    /// When it was judged silent, and was to be ended.
    ended_at: Option<Instant>,
}

impl Silences {
    /// Takes in a look that was asked at `asked` and answered at `answered`: one answer for each connection
    /// that was seen.
    pub(super) fn look(&mut self, asked: Instant, answered: Instant, seen: &[Seen]) -> Vec<Judged> {
        let since = self.looked.replace(answered).map(|looked| asked.saturating_duration_since(looked));
        let took = answered.saturating_duration_since(asked);
        let mut before = std::mem::take(&mut self.followed);
        let mut judge = |seen: &Seen| {
            let step = match since {
                Some(since) if took <= seen.lease / PROMPT_PART => since.min(seen.lease / STEPS_MIN),
                _ => Duration::ZERO,
            };
            let mut followed = match before.remove(&seen.who).filter(|before| before.mark == seen.mark) {
                Some(before) => Followed { silent: before.silent + step, lease: seen.lease, ..before },
                None => {
                    // It stands since some instant after the last look; if not, the server's clock was set,
                    // or it is new.
                    let is_possible = since.is_some_and(|since| seen.quiet <= since + took);
                    let silent = if is_possible { step.min(seen.quiet) } else { Duration::ZERO };
                    Followed { mark: seen.mark.clone(), lease: seen.lease, silent, ended_at: None }
                }
            };
            let is_silent = followed.silent >= followed.lease;
            let judged = match followed.ended_at {
                // Again once a lease: somebody may have granted the right to end it.
                Some(ended_at) if answered < ended_at + followed.lease.max(END_TAKES) => {
                    if answered < ended_at + END_TAKES { Judged::Ending } else { Judged::Stuck }
                }
                _ if is_silent => {
                    followed.ended_at = Some(answered);
                    Judged::Silent
                }
                _ => Judged::Watched,
            };
            self.followed.insert(seen.who, followed);
            judged
        };
        seen.iter().map(&mut judge).collect()
    }

    /// How long after the last look the next one is due, if sooner than it would come anyway.
    pub(super) fn next(&self) -> Option<Duration> {
        let looked = self.looked?;
        self.followed.values().filter_map(|followed| followed.next(looked)).min()
    }
}

impl Followed {
    fn next(&self, looked: Instant) -> Option<Duration> {
        match self.ended_at {
            Some(ended_at) => (looked < ended_at + END_TAKES).then_some(END_TAKES),
            None if self.silent >= self.lease / SUSPECT_PART => {
                let step = (self.lease - self.silent.min(self.lease)).max(CLOSER_MIN);
                Some(step.min(self.lease / STEPS_MIN))
            }
            None => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(2);
    const PROMPT: Duration = Duration::from_millis(1);

    fn seen(mark: &str, quiet: u64, lease: Duration) -> Seen {
        let who = Who { pid: 7, beacon: None };
        Seen { who, mark: mark.to_owned(), quiet: Duration::from_millis(quiet), lease }
    }

    /// Looks at one connection at these milliseconds, each answered at once.
    fn judge(looks: &[(u64, Seen)]) -> Vec<Judged> {
        let (start, mut silences) = (Instant::now(), Silences::default());
        let look = |(at, seen): &(u64, Seen)| {
            let asked = start + Duration::from_millis(*at);
            silences.look(asked, asked + PROMPT, std::slice::from_ref(seen))[0]
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn who_stands_still_for_a_lease_is_silent_and_who_does_not_go_is_stuck() {
        let still = |at| (at, seen("a", 0, LEASE));

        let at = [0, 900, 1_800, 2_100, 2_200, 2_700, 4_200];
        let judged = judge(&at.map(still));

        use Judged::{Ending, Silent, Stuck, Watched};
        assert_eq!(judged, [Watched, Watched, Watched, Silent, Ending, Stuck, Silent]);
    }

    #[test]
    fn who_does_anything_is_not_silent() {
        let judged = judge(&[
            (0, seen("a", 0, LEASE)),
            (900, seen("a", 0, LEASE)),
            (1_800, seen("b", 100, LEASE)),
            (2_700, seen("b", 0, LEASE)),
            (3_600, seen("c", 0, LEASE)),
        ]);

        assert_eq!(judged, [Judged::Watched; 5]);
    }

    #[test]
    fn each_is_judged_by_its_own_lease() {
        let long = Duration::from_secs(15);
        let looks: Vec<_> = (0..16).map(|nth| (nth * 960, seen("a", 0, long))).collect();

        assert_eq!(judge(&looks), [Judged::Watched; 16]);
    }

    #[test]
    fn a_clock_that_is_stepped_halves_no_lease() {
        // It does something just before the second look, and then nothing. When is it silent?
        for (step, quiet, silent_at) in [
            ("none", 10, 2_896),
            ("back", 0, 2_906),
            ("beyond the last look", 902, 2_906),
            ("ten minutes", 600_000, 2_906),
        ] {
            let looks =
                [900, 1_800, 2_700, silent_at - 10, silent_at].map(|at| (at, seen("b", quiet, LEASE)));
            let judged = judge(&[&[(0, seen("a", 0, LEASE))], &looks[..]].concat());
            use Judged::{Silent, Watched};
            assert_eq!(judged, [Watched, Watched, Watched, Watched, Watched, Silent], "{step}");
        }
    }

    #[test]
    fn two_sessions_that_name_one_process_are_told_apart() {
        let (start, mut silences) = (Instant::now(), Silences::default());
        let of = |beacon, mark: &str| {
            let who = Who { pid: 7, beacon: Some(beacon) };
            Seen { who, ..seen(mark, 0, LEASE) }
        };

        let judged = [0, 900, 1_800, 2_700].map(|at: u64| {
            let asked = start + Duration::from_millis(at);
            silences.look(asked, asked + PROMPT, &[of(1, "a"), of(2, &at.to_string())])
        });

        assert_eq!(judged[3], [Judged::Silent, Judged::Watched]);
    }

    #[test]
    fn a_server_that_stood_still_for_everybody_makes_nobody_silent() {
        let (start, mut silences) = (Instant::now(), Silences::default());
        let mut look = |asked: u64, answered: u64| {
            let at = |millis| start + Duration::from_millis(millis);
            silences.look(at(asked), at(answered), &[seen("a", 0, LEASE)])[0]
        };

        let judged = [look(0, 1), look(900, 12_900), look(12_901, 12_902), look(12_950, 12_951)];

        assert_eq!(judged, [Judged::Watched; 4]);
    }

    #[test]
    fn an_observer_that_stood_still_counts_half_a_lease() {
        let judged = judge(&[
            (0, seen("a", 0, LEASE)),
            (60_000, seen("a", 60_000, LEASE)),
            (60_900, seen("a", 60_900, LEASE)),
        ]);

        assert_eq!(judged, [Judged::Watched; 3]);
    }

    #[test]
    fn a_silence_that_began_between_two_looks_counts_from_there() {
        let judged = judge(&[
            (0, seen("a", 0, LEASE)),
            (900, seen("b", 800, LEASE)),
            (1_800, seen("b", 1_700, LEASE)),
            (2_110, seen("b", 2_010, LEASE)),
        ]);

        assert_eq!(judged, [Judged::Watched, Judged::Watched, Judged::Watched, Judged::Silent]);
    }

    #[test]
    fn a_suspect_is_looked_at_when_its_lease_is_over() {
        let (start, mut silences) = (Instant::now(), Silences::default());
        let mut look = |at: u64| {
            let asked = start + Duration::from_millis(at);
            silences.look(asked, asked, &[seen("a", 0, LEASE)]);
            silences.next()
        };

        assert_eq!(look(0), None);
        assert_eq!(look(900), None);
        assert_eq!(look(1_900), Some(Duration::from_millis(100)));
        assert_eq!(look(2_000), Some(END_TAKES), "whether it has gone");
        assert_eq!(look(2_500), None);
    }
}

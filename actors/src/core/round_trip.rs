//! How long a round trip to the store takes, and which lease that allows.
//!
//! ```text
//! lease    0 %            33 %                            80 %        100 %
//!          trusted from   renewed, or a heartbeat is sent  trust ends  the store gives it away
//!          |--------------|===== its answer comes ========|-----------|
//! ```
//!
//! So an answer that takes 47 hundredths of the lease is too late. A quarter leaves room for one that takes
//! twice as long.

use std::time::Duration;

use crate::core::election::RENEW_MIN;

/// A lease in which fewer round trips fit is too short.
pub(crate) const ROUND_TRIPS_MIN: u32 = 4;
/// The trust in a lease ends after this part of it, in hundredths.
const TRUST: u32 = 80;
/// The shortest lease is told in whole steps of this.
const LEASE_STEP: Duration = Duration::from_millis(100);
/// Of so many round trips the shortest counts: one that was slow says nothing of the network.
const REMEMBERED: usize = 3;

/// A lease that was too short is long enough again if round trips may take longer by this part.
const AGAIN_PART: u32 = 4;

/// Whether a lease is long enough for a round trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseFit {
    /// It is.
    Enough,
    /// A renewal that takes a little longer is too late.
    Short,
    /// No renewal comes in time.
    Impossible,
}

impl LeaseFit {
    /// Of a lease, and how long a round trip takes.
    pub fn of(lease: Duration, round_trip: Duration) -> Self {
        if lease >= lease_min(round_trip) {
            Self::Enough
        } else if round_trip < lease * (TRUST - RENEW_MIN) / 100 {
            Self::Short
        } else {
            Self::Impossible
        }
    }
}

/// The shortest lease that works when a round trip takes so long: four times as long, in whole tenths of a
/// second.
pub fn lease_min(round_trip: Duration) -> Duration {
    let steps = (round_trip * ROUND_TRIPS_MIN).as_nanos().div_ceil(LEASE_STEP.as_nanos());
    LEASE_STEP.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
}

/// What the last round trips took.
#[derive(Debug, Default)]
pub struct RoundTrips {
    took: [Option<Duration>; REMEMBERED],
    next: usize,
}

impl RoundTrips {
    /// One took so long.
    pub fn add(&mut self, took: Duration) {
        self.took[self.next] = Some(took);
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// The shortest of the last three; `None` if there was none.
    pub fn shortest(&self) -> Option<Duration> {
        self.took.iter().flatten().min().copied()
    }
}

/// A lease that is too short for the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeaseTooShort {
    /// What a round trip takes.
    pub round_trip: Duration,
    /// The shortest lease that works.
    pub lease_min: Duration,
    /// Since when, by the monotonic clock.
    pub since: Duration,
}

/// What a look at the network has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseChange {
    /// The lease is too short from now on.
    TooShort(LeaseTooShort),
    /// It is long enough again.
    Enough,
}

/// Says once when a lease gets too short for the network, and once when it is long enough again: also for
/// round trips that take a quarter longer, so that it is not said again and again.
#[derive(Debug)]
pub(crate) struct LeaseWatch {
    lease: Duration,
    short: Option<LeaseTooShort>,
}

impl LeaseWatch {
    /// Of a lease that is taken to be long enough.
    pub(crate) fn new(lease: Duration) -> Self {
        Self { lease, short: None }
    }

    /// Looks at what a round trip takes at `now`, by the monotonic clock.
    pub(crate) fn look(&mut self, now: Duration, round_trip: Duration) -> Option<LeaseChange> {
        let lease_min = lease_min(round_trip);
        let of = if self.short.is_some() { round_trip + round_trip / AGAIN_PART } else { round_trip };
        if LeaseFit::of(self.lease, of) == LeaseFit::Enough {
            return self.short.take().map(|_| LeaseChange::Enough);
        }
        let known = self.short.map(|short| short.since);
        let short = LeaseTooShort { round_trip, lease_min, since: known.unwrap_or(now) };
        self.short = Some(short);
        known.is_none().then_some(LeaseChange::TooShort(short))
    }

    /// Nothing is known of the network any more.
    pub(crate) fn forget(&mut self) {
        self.short = None;
    }

    /// Whether, and since when, the lease is too short.
    pub(crate) fn short(&self) -> Option<LeaseTooShort> {
        self.short
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_lease_holds_four_round_trips() {
        use LeaseFit::{Enough, Impossible, Short};
        // The lease, a round trip, the shortest lease that works, whether this one does.
        let table = [
            (1_000, 0, 0, Enough),
            (1_000, 1, 100, Enough),
            (1_000, 200, 800, Enough),
            (1_000, 250, 1_000, Enough),
            (1_000, 251, 1_100, Short),
            (1_000, 469, 1_900, Short),
            (1_000, 470, 1_900, Impossible),
            (1_000, 600, 2_400, Impossible),
            (2_400, 600, 2_400, Enough),
            (5_000, 1_700, 6_800, Short),
            (5_000, 3_000, 12_000, Impossible),
            (3_600_000, 5_000, 20_000, Enough),
        ];
        for (lease, round_trip, shortest, fit) in table {
            let (lease, round_trip) = (ms(lease), ms(round_trip));
            assert_eq!(
                (lease_min(round_trip), LeaseFit::of(lease, round_trip)),
                (ms(shortest), fit),
                "{round_trip:?}"
            );
        }
        assert_eq!(LeaseFit::of(Duration::MAX / 100, Duration::ZERO), Enough);
    }

    #[test]
    fn the_shortest_of_the_last_three_round_trips_counts() {
        let mut trips = RoundTrips::default();
        let shortest = [900, 5, 800, 700, 600, 3].map(|took| {
            trips.add(ms(took));
            trips.shortest()
        });
        assert_eq!(shortest, [900, 5, 5, 5, 600, 3].map(|took| Some(ms(took))));
    }

    #[test]
    fn it_is_said_once_that_a_lease_is_too_short_and_once_that_it_is_not() {
        let mut watch = LeaseWatch::new(ms(1_000));
        let short = LeaseTooShort { round_trip: ms(400), lease_min: ms(1_600), since: ms(2) };

        assert_eq!(watch.look(ms(1), ms(250)), None);
        assert_eq!(watch.look(ms(2), ms(400)), Some(LeaseChange::TooShort(short)));
        assert_eq!(watch.look(ms(3), ms(500)), None);
        assert_eq!(watch.short(), Some(LeaseTooShort { round_trip: ms(500), lease_min: ms(2_000), ..short }));
        assert_eq!(watch.look(ms(4), ms(240)), None, "a little longer, and it is too short again");
        assert_eq!(watch.look(ms(5), ms(200)), Some(LeaseChange::Enough));
        assert_eq!((watch.look(ms(6), ms(200)), watch.short()), (None, None));
    }
}

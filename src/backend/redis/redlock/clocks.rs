//! What the clocks of the servers read, beside that of this node: decided here, without I/O.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

/// A reading that is older does not count.
const FRESH: Duration = Duration::from_secs(300);
/// An answer that took longer says little of a clock: it counts only if nothing else is known.
const SLOW: Duration = Duration::from_millis(200);

/// By how much the clock of this node is ahead of each server's.
pub(super) struct Clocks {
    of_each: Vec<Option<Reading>>,
    ahead: TimeDelta,
}

#[derive(Clone, Copy)]
struct Reading {
    ahead: TimeDelta,
    at: Instant,
}

impl Reading {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) <= FRESH
    }
}

impl Clocks {
    pub(super) fn of(servers: usize) -> Self {
        Self { of_each: vec![None; servers], ahead: TimeDelta::zero() }
    }

    /// A server that was asked at this instant by this node's clock said that it is `millis`, and took so long.
    pub(super) fn note(
        &mut self,
        nth: usize,
        asked_at: DateTime<Utc>,
        took: Duration,
        millis: i64,
        now: Instant,
    ) {
        let Some(reading) = self.of_each.get_mut(nth) else { return };
        if took > SLOW && reading.is_some_and(|known| known.is_fresh(now)) {
            return;
        }
        let half = TimeDelta::from_std(took / 2).unwrap_or_default();
        let Some(server) = DateTime::from_timestamp_millis(millis) else { return };
        *reading = Some(Reading { ahead: asked_at - server + half, at: now });
        self.ahead = self.median(now);
    }

    fn median(&self, now: Instant) -> TimeDelta {
        let fresh = self.of_each.iter().flatten().filter(|reading| reading.is_fresh(now));
        let mut ahead: Vec<_> = fresh.map(|reading| reading.ahead).collect();
        ahead.sort_unstable();
        ahead.get(ahead.len().saturating_sub(1) / 2).copied().unwrap_or(self.ahead)
    }

    /// The servers whose clock differs by more than that from most, and by how much.
    pub(super) fn apart(&self, bound: Duration, now: Instant) -> Vec<(usize, TimeDelta)> {
        let bound = TimeDelta::from_std(bound).unwrap_or(TimeDelta::MAX);
        let fresh = |reading: &Option<Reading>| reading.filter(|reading| reading.is_fresh(now));
        let of_each = self.of_each.iter().map(fresh).enumerate();
        // One that is ahead of the others is one of which this node is less ahead.
        let off = of_each.filter_map(|(nth, reading)| Some((nth, self.ahead - reading?.ahead)));
        off.filter(|(_, off)| off.abs() > bound).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(2);

    fn noted(offsets: &[i64]) -> Clocks {
        let mut clocks = Clocks::of(3);
        for (nth, millis) in offsets.iter().enumerate() {
            clocks.note(nth, DateTime::UNIX_EPOCH, QUICK, *millis, Instant::now());
        }
        clocks
    }

    #[test]
    fn what_most_servers_say_counts_and_who_differs_is_told() {
        let second = Duration::from_secs(1);
        for (servers, ahead, apart) in [
            (&[0, 0, 0][..], 1, &[][..]),
            (&[-10_000, -10_000, -10_000], 10_001, &[]),
            (&[0, 0, 60_000], 1, &[(2, 60_000)]),
            (&[-60_000, 0, 0], 1, &[(0, -60_000)]),
            (&[], 0, &[]),
        ] {
            let clocks = noted(servers);
            let off: Vec<_> = clocks.apart(second, Instant::now());
            let off: Vec<_> = off.into_iter().map(|(nth, off)| (nth, off.num_milliseconds())).collect();
            assert_eq!((clocks.ahead.num_milliseconds(), &off[..]), (ahead, apart), "{servers:?}");
        }
    }

    #[test]
    fn a_slow_answer_counts_only_if_nothing_better_is_known() {
        let mut clocks = noted(&[0]);
        clocks.note(0, DateTime::UNIX_EPOCH, SLOW * 4, 0, Instant::now());
        assert_eq!(clocks.ahead, TimeDelta::milliseconds(1));
        clocks.note(1, DateTime::UNIX_EPOCH, SLOW * 4, 0, Instant::now());
        assert_eq!(clocks.median(Instant::now()), TimeDelta::milliseconds(1));
        assert_eq!(clocks.apart(Duration::from_millis(300), Instant::now()).len(), 1);
    }
}

//! How far the node's clocks are from the server's.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use callsheet_actors::{
    adapter::{RoundTrips, clock_origin},
    port::{Clock, SystemClock},
};
use chrono::{DateTime, TimeDelta, Utc};

/// The node's clocks, and how far the server's is from them.
///
/// Kept against the monotonic clock: what was measured stays right when somebody sets the wall clock.
pub(super) struct Clocks {
    node: Mutex<Arc<dyn Clock>>,
    /// What the server's clock read when the node's monotonic one read zero; `None` before it was measured.
    origin: Mutex<Option<DateTime<Utc>>>,
    /// What the last questions took that had an answer in one round trip.
    round_trips: Mutex<RoundTrips>,
}

/// The node's clocks when something was asked.
pub(super) struct Sent {
    clock: Arc<dyn Clock>,
    wall: DateTime<Utc>,
    elapsed: Duration,
}

impl Default for Clocks {
    fn default() -> Self {
        Self {
            node: Mutex::new(Arc::new(SystemClock::default())),
            origin: Mutex::default(),
            round_trips: Mutex::default(),
        }
    }
}

impl Clocks {
    pub(super) fn set(&self, clock: Arc<dyn Clock>) {
        *self.node.lock().unwrap_or_else(PoisonError::into_inner) = clock;
    }

    /// How much the node's wall clock is ahead of the server's at present.
    pub(super) fn ahead(&self) -> TimeDelta {
        let (wall, elapsed) = self.clock().read();
        let own = clock_origin(wall, elapsed);
        let server = *self.origin.lock().unwrap_or_else(PoisonError::into_inner);
        own - server.unwrap_or(own)
    }

    /// Reads the node's clocks, before the server is asked for its own.
    pub(super) fn read(&self) -> Sent {
        let clock = self.clock();
        let (wall, elapsed) = clock.read();
        Sent { wall, elapsed, clock }
    }

    /// Takes the server's answer, at once.
    pub(super) fn measure(&self, sent: &Sent, server: DateTime<Utc>) {
        let received = sent.clock.elapsed();
        self.round_trips().add(received.saturating_sub(sent.elapsed));
        let mut server_origin = self.origin.lock().unwrap_or_else(PoisonError::into_inner);
        // Until it is known better, the clocks agree.
        let estimate = server_origin.unwrap_or_else(|| clock_origin(sent.wall, sent.elapsed));
        *server_origin = Some(nearest(estimate, server, sent.elapsed, received));
    }

    /// How long a round trip takes at present, as far as it is known.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        self.round_trips().shortest()
    }

    /// Nothing is known of the way to the server any more.
    pub(super) fn forget_round_trips(&self) {
        *self.round_trips() = RoundTrips::default();
    }

    fn round_trips(&self) -> MutexGuard<'_, RoundTrips> {
        self.round_trips.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clock(&self) -> Arc<dyn Clock> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The estimate that moves least. The server read its clock somewhere between the request and the answer, so
/// its origin is somewhere between what these two say: a slow round trip says little, and moves little.
fn nearest(
    estimate: DateTime<Utc>,
    server: DateTime<Utc>,
    sent: Duration,
    received: Duration,
) -> DateTime<Utc> {
    estimate.clamp(clock_origin(server, received.max(sent)), clock_origin(server, sent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(millis).expect("an instant")
    }

    #[test]
    fn an_estimate_moves_only_as_far_as_a_round_trip_proves() {
        // estimate, the server's clock, sent, received, expected
        let cases = [
            (0, 1_001, 1_000, 1_002, 0),
            (0, 601_000, 1_000, 1_001, 599_999),
            (0, -599_000, 1_000, 1_001, -600_000),
            // Slow: what was known is as likely as before.
            (600_000, 603_000, 1_000, 5_000, 600_000),
            // The server's clock was set back to the node's.
            (600_000, 1_001, 1_000, 1_002, 1),
        ];
        for (estimate, server, sent, received, expected) in cases {
            let [sent, received] = [sent, received].map(Duration::from_millis);
            let nearest = nearest(millis(estimate), millis(server), sent, received);
            assert_eq!(nearest, millis(expected), "{estimate} {server}");
        }
    }
}

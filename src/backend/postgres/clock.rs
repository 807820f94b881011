//! How far the node's clock is from the server's.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use callsheet_actors::port::{Clock, SystemClock};
use chrono::{DateTime, TimeDelta, Utc};

/// The node's clocks, and how much its wall clock is ahead of the server's.
pub(super) struct Clocks {
    node: Mutex<Arc<dyn Clock>>,
    ahead: Mutex<TimeDelta>,
}

/// The node's clocks when something was asked.
pub(super) struct Sent {
    clock: Arc<dyn Clock>,
    wall: DateTime<Utc>,
    elapsed: Duration,
}

impl Default for Clocks {
    fn default() -> Self {
        Self { node: Mutex::new(Arc::new(SystemClock::default())), ahead: Mutex::default() }
    }
}

impl Clocks {
    pub(super) fn set(&self, clock: Arc<dyn Clock>) {
        *self.node.lock().unwrap_or_else(PoisonError::into_inner) = clock;
    }

    pub(super) fn ahead(&self) -> TimeDelta {
        *self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the node's clocks, before the server is asked for its own.
    pub(super) fn read(&self) -> Sent {
        let clock = self.node.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Sent { wall: clock.now(), elapsed: clock.elapsed(), clock }
    }

    /// Takes the server's answer, at once.
    pub(super) fn measure(&self, sent: &Sent, server: DateTime<Utc>) {
        let took = sent.clock.elapsed().saturating_sub(sent.elapsed);
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        *ahead = nearest(*ahead, sent.wall - server, took);
    }
}

/// The estimate that moves least. The server read its clock somewhere between the request and the answer, so the node is
/// ahead by something between `sent_ahead` and that and what the round trip `took`: a slow one says little, and moves little.
fn nearest(estimate: TimeDelta, sent_ahead: TimeDelta, took: Duration) -> TimeDelta {
    let took = TimeDelta::from_std(took).unwrap_or(TimeDelta::MAX);
    let received_ahead = sent_ahead.checked_add(&took).unwrap_or(TimeDelta::MAX);
    estimate.clamp(sent_ahead, received_ahead)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: i64) -> TimeDelta {
        TimeDelta::milliseconds(millis)
    }

    #[test]
    fn an_estimate_moves_only_as_far_as_a_round_trip_proves() {
        // estimate, ahead when sent, took, expected
        let cases = [
            (0, -1, 2, 0),
            (0, 600_000, 1, 600_000),
            (0, -600_000, 1, -599_999),
            // Slow: whatever was known is as likely as before.
            (600_000, 598_000, 4_000, 600_000),
            // The clock stepped back to the server's.
            (600_000, -1, 2, 1),
        ];
        for (estimate, sent_ahead, took, expected) in cases {
            let took = Duration::from_millis(took);
            assert_eq!(
                nearest(millis(estimate), millis(sent_ahead), took),
                millis(expected),
                "{estimate} {sent_ahead}"
            );
        }
    }
}

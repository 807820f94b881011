//! Whether the holder of a lease is silent, by the clock of whoever looks: no time in the lease is compared with it.

use std::time::Duration;

use tokio::time::Instant;

use super::lease::Record;

/// What a node has seen of the lease last, and since when.
#[derive(Debug, Default)]
pub(super) struct Observed(Option<(Record, Instant)>);

impl Observed {
    /// The lease is like this, as a call says that was answered at an instant.
    pub(super) fn see(&mut self, record: &Record, at: Instant) {
        if self.0.as_ref().is_none_or(|(seen, _)| seen != record) {
            self.0 = Some((record.clone(), at));
        }
    }

    /// When its holder counts as gone, unless the lease changes before. A holder that asks for more time than this
    /// node would has it.
    pub(super) fn silent_at(&self, own: Duration) -> Option<Instant> {
        self.0.as_ref().map(|(record, at)| *at + record.duration.max(own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn record(renewed: i64, duration: Duration) -> Record {
        Record { holder: Some("n1".to_owned()), renewed: Some(renewed), acquired: None, duration, term: 1 }
    }

    #[test]
    fn a_holder_is_silent_for_as_long_as_its_lease_does_not_change() {
        let start = Instant::now();
        let mut observed = Observed::default();
        assert_eq!(observed.silent_at(15 * SECOND), None);

        observed.see(&record(1, 15 * SECOND), start);
        observed.see(&record(1, 15 * SECOND), start + 10 * SECOND);
        assert_eq!(observed.silent_at(15 * SECOND), Some(start + 15 * SECOND));

        // Whatever time it says, and though it goes back.
        observed.see(&record(-5, 15 * SECOND), start + 12 * SECOND);
        assert_eq!(observed.silent_at(15 * SECOND), Some(start + 27 * SECOND));
        assert_eq!(observed.silent_at(20 * SECOND), Some(start + 32 * SECOND));
        observed.see(&record(-5, 60 * SECOND), start + 13 * SECOND);
        assert_eq!(observed.silent_at(15 * SECOND), Some(start + 73 * SECOND));
    }
}

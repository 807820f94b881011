//! The sessions of the process that has the file. They live in its memory, and end with it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use callsheet_actors::port::RecordSession;

/// Sessions. An id holds how many times the file was opened, which stands in the file, and so is never used again.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    leases: HashMap<RecordSession, Lease>,
    /// How many times the file was opened, this time included.
    opening: u32,
    /// The last one that was opened since then.
    last: u32,
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    expires_at: Instant,
}

impl Sessions {
    /// Those after the file was opened so many times, at least one.
    pub(super) fn of_opening(opening: u32) -> Self {
        Self { opening, ..Self::default() }
    }

    /// Opens one; none if there were 2³² of them already.
    pub(super) fn open(&mut self, ttl: Duration, now: Instant) -> Option<RecordSession> {
        self.last = self.last.checked_add(1)?;
        let session = RecordSession(u64::from(self.opening) << 32 | u64::from(self.last));
        self.leases.insert(session, Lease { ttl, expires_at: now + ttl });
        Some(session)
    }

    /// Whether it was alive.
    pub(super) fn renew(&mut self, session: RecordSession, now: Instant) -> bool {
        self.expire(now);
        let Some(lease) = self.leases.get_mut(&session) else { return false };
        lease.expires_at = now + lease.ttl;
        true
    }

    pub(super) fn end(&mut self, session: RecordSession) {
        self.leases.remove(&session);
    }

    pub(super) fn is_alive(&mut self, session: RecordSession, now: Instant) -> bool {
        self.expire(now);
        self.leases.contains_key(&session)
    }

    /// What is over is over for good.
    fn expire(&mut self, now: Instant) {
        self.leases.retain(|_, lease| lease.expires_at > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_of_another_opening_of_the_file_has_another_id() {
        let now = Instant::now();
        let mut ids = std::collections::HashSet::new();
        for opening in 1..5 {
            let mut sessions = Sessions::of_opening(opening);
            for _ in 0..5 {
                assert!(ids.insert(sessions.open(Duration::from_secs(1), now)));
            }
        }
        assert_eq!(ids.len(), 20);
    }

    #[test]
    fn a_session_that_was_not_renewed_in_time_is_gone_for_good() {
        let began = Instant::now();
        let after = |seconds| began + Duration::from_secs(seconds);
        let mut sessions = Sessions::of_opening(1);
        let session = sessions.open(Duration::from_secs(10), began).expect("few were opened");

        assert!(sessions.renew(session, after(9)));
        assert!(sessions.is_alive(session, after(18)));
        assert!(!sessions.renew(session, after(19)));
        assert!(!sessions.is_alive(session, after(1)), "the clock does not bring it back");
    }
}

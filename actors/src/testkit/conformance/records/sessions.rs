//! Sessions end once, and for good.

use std::collections::HashSet;

use tokio::time::{Instant, sleep};

use super::*;

/// How much longer than it may a session lives on a machine that is busy.
const SLACK: Duration = Duration::from_secs(5);

impl Suite {
    pub(super) async fn sessions(&self) {
        self.a_session_lives_until_it_is_ended().await;
        self.a_session_that_is_gone_never_comes_back().await;
        self.each_session_has_an_id_of_its_own().await;
        self.a_session_that_is_not_renewed_ends_by_itself().await;
        self.a_session_that_is_renewed_lives_on().await;
        self.a_time_to_live_that_the_store_does_not_take_is_refused().await;
    }

    async fn a_session_lives_until_it_is_ended(&self) {
        let session = self.first.open(self.long).await.expect("a session opens");
        for client in [&self.first, &self.second] {
            assert!(is_alive(&**client, session).await);
            assert_eq!(client.renew(session).await, Ok(true));
        }
        assert_eq!(self.first.end(session).await, Ok(()));
        for client in [&self.first, &self.second] {
            assert!(!is_alive(&**client, session).await, "it is gone at once, for everybody");
        }
    }

    async fn a_session_that_is_gone_never_comes_back(&self) {
        let session = self.first.open(self.long).await.expect("a session opens");
        assert_eq!(self.second.end(session).await, Ok(()), "whoever ends it");
        let never = RecordSession(u64::MAX / 5);
        for gone in [session, never] {
            for client in [&self.second, &self.first] {
                assert_eq!(client.renew(gone).await, Ok(false), "{gone:?}");
                assert_eq!(client.end(gone).await, Ok(()), "ending what is gone is no error");
                assert!(!is_alive(&**client, gone).await, "{gone:?}");
            }
        }
        let snapshot = snapshot(&*self.second, &[], &[session, self.own, never]).await;
        assert_eq!(snapshot.alive, [false, true, false]);
    }

    async fn each_session_has_an_id_of_its_own(&self) {
        let mut ids = HashSet::new();
        for at in 0..40 {
            let client = if at % 2 == 0 { &self.first } else { &self.second };
            let session = client.open(self.long).await.expect("a session opens");
            assert!(session.0 != 0 && ids.insert(session), "{session:?} came twice");
            client.end(session).await.expect("an answer");
        }
    }

    async fn a_session_that_is_not_renewed_ends_by_itself(&self) {
        let began = Instant::now();
        let session = self.first.open(self.ttl).await.expect("a session opens");
        let opened = Instant::now();
        loop {
            let alive = is_alive(&*self.second, session).await;
            // As of when the store opened it at the latest, or at the earliest.
            assert!(
                alive || opened.elapsed() + (opened - began) >= self.ttl,
                "it ends after its time to live"
            );
            if !alive {
                break;
            }
            let longest = self.ttl + self.first.traits().expires_within + SLACK;
            assert!(opened.elapsed() < longest, "it has not ended within {longest:?}");
            sleep(self.ttl / 20).await;
        }
        assert_eq!(self.first.renew(session).await, Ok(false), "it is gone for good");
        assert!(!is_alive(&*self.first, session).await);
    }

    async fn a_session_that_is_renewed_lives_on(&self) {
        let session = self.second.open(self.ttl).await.expect("a session opens");
        let until = Instant::now() + self.ttl * 2;
        let mut renewed = Instant::now();
        while Instant::now() < until {
            let asked = Instant::now();
            let answer = self.second.renew(session).await.expect("an answer");
            // The store may have come to it long after it was asked.
            let late = renewed.elapsed() >= self.ttl;
            assert!(answer || late, "it was renewed {:?} ago", asked - renewed);
            if !answer {
                // The machine was busy; nothing is shown.
                return;
            }
            renewed = asked;
            sleep(self.ttl / 4).await;
        }
        self.second.end(session).await.expect("an answer");
    }

    async fn a_time_to_live_that_the_store_does_not_take_is_refused(&self) {
        let limits = self.first.limits();
        for ttl in [*limits.ttl.start() / 2, limits.ttl.end().saturating_mul(2)] {
            let opened = self.first.open(ttl).await;
            assert!(
                matches!(opened, Err(RecordsError::Refused { .. })),
                "{ttl:?} was answered with {opened:?}"
            );
        }
    }
}

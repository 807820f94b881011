//! Ticks whose runs are not over.

use super::*;
use crate::port::{Enrolled, Skips, TickClaim};

impl Check {
    async fn enrol(&self, job: &str, authority: Authority) -> DateTime<Utc> {
        let identity = ScheduleIdentity::of_text(job);
        let enrolment = Enrolment { retry_lost: true, ..Enrolment::new(name(job), identity, authority) };
        let enrolled = self.locker.enrol(&[enrolment]).await.expect("an answer");
        let [Enrolled::Done { cursor, .. }] = enrolled[..] else { panic!("{enrolled:?}") };
        // Until something is due.
        tokio::time::sleep(Duration::from_millis(30)).await;
        cursor
    }

    fn tick(&self, job: &str, key: &str, expected: DateTime<Utc>, authority: Authority) -> ClaimRequest {
        let fire_time = FireTime::new(expected + TimeDelta::milliseconds(1));
        let tick = TickClaim { fire_time, expected, skips: Skips::default(), authority };
        let key = LockKey::new(key).expect("a good name");
        ClaimRequest { tick: Some(tick), ..ClaimRequest::new(name(job), key, self.ids.next(self.now)) }
    }

    async fn open_fire_times(&self, job: &str) -> Vec<DateTime<Utc>> {
        let open = self.backfills.open_fire_times(&name(job)).await.expect("an answer");
        let mut open: Vec<_> = open.into_iter().map(|at| at.instant()).collect();
        open.sort();
        open
    }

    /// Whatever the lock keys of their runs are, which may have been changed meanwhile.
    pub(super) async fn the_ticks_with_open_runs_are_known(&self) {
        let authority = Authority::Term(self.term);
        let first = self.tick("ticks", "ticks", self.enrol("ticks", authority).await, authority);
        let first_at = first.tick.expect("it has one").fire_time.instant();
        let second = self.tick("ticks", "ticks-other-key", first_at, authority);
        let second_at = second.tick.expect("it has one").fire_time.instant();
        let triggered = ClaimRequest {
            named: Some(FireTime::new(self.now)),
            key: LockKey::new("ticks-trigger").expect("a good name"),
            ..claim_of("ticks", self.ids.next(self.now))
        };
        assert!(self.open_fire_times("ticks").await.is_empty(), "nothing is claimed");
        let mut granted = Vec::new();
        for claim in [first, second, triggered] {
            let verdict = claim_on(&*self.locker, &claim).await;
            let Verdict::Granted { token, .. } = verdict else { panic!("{verdict:?}") };
            granted.push((claim, token));
        }

        assert_eq!(self.open_fire_times("ticks").await, [first_at, second_at], "a trigger takes no tick");
        assert!(self.open_fire_times("ticks-other-key").await.is_empty(), "that is a key, and no job");
        let mut left = vec![vec![second_at], vec![], vec![]].into_iter();
        for (claim, token) in granted {
            self.end(&claim, token).await;
            assert_eq!(Some(self.open_fire_times("ticks").await), left.next());
        }
    }

    pub(super) async fn a_lost_tick_that_is_to_be_retried_is_open(&self, cluster: &mut impl Cluster) {
        let backend = cluster.node().await;
        backend.locker().open().await.expect("a session opens");
        let claim = self.tick(
            "lost-tick",
            "lost-tick",
            self.enrol("lost-tick", Authority::Any).await,
            Authority::Any,
        );
        let at = claim.tick.expect("it has one").fire_time.instant();
        let verdict = claim_on(&*backend.locker(), &claim).await;
        assert!(matches!(verdict, Verdict::Granted { .. }), "{verdict:?}");

        cluster.kill(&backend).await;

        assert_eq!(self.open_fire_times("lost-tick").await, [at], "it is not closed");
        while self.locker.close_lost(100).await.expect("an answer").more {}
        let pending = self.locker.pending_retries(None, 100).await.expect("an answer");
        assert!(pending.iter().any(|one| one.retry.run == claim.run), "{pending:?}");
        assert_eq!(self.open_fire_times("lost-tick").await, [at], "it is to be retried");
    }
}

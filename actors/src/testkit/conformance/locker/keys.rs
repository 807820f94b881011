//! Jobs that share a lock key share one overlap policy.

use futures_util::future::join;

use super::*;

const SKIP: Overlap = Overlap::Skip;
const ALLOW: Overlap = Overlap::Allow(2);

/// A job with a key and a policy.
fn keyed(job: &str, lock_key: &str, overlap: Overlap, authority: Authority) -> Enrolment {
    let enrolment = Enrolment::new(name(job), ScheduleIdentity::of_text("a schedule"), authority);
    Enrolment { key: key(lock_key), overlap, ..enrolment }
}

async fn enrol_on(locker: &dyn Locker, enrolment: Enrolment) -> Enrolled {
    let mut enrolled = locker.enrol(&[enrolment]).await.expect("an answer");
    enrolled.pop().expect("one answer per enrolment")
}

async fn assert_enrolled(locker: &dyn Locker, enrolment: Enrolment) {
    let enrolled = enrol_on(locker, enrolment.clone()).await;
    assert!(matches!(enrolled, Enrolled::Done { .. }), "{enrolment:?} was answered with {enrolled:?}");
}

async fn assert_contradicted(locker: &dyn Locker, enrolment: Enrolment, by: Overlap) {
    let declared = by.to_string();
    assert_eq!(enrol_on(locker, enrolment.clone()).await, Enrolled::Conflict { declared }, "{enrolment:?}");
}

/// Which policies contradict the first.
async fn conflicts(locker: &dyn Locker, job: &str, lock_key: &str, overlap: Overlap) -> Option<String> {
    let asked = Declaration { job: name(job), key: key(lock_key), overlap };
    let mut conflicts = locker.conflicts(&[asked]).await.expect("an answer");
    conflicts.pop().expect("one answer per declaration")
}

impl Suite {
    /// Those that need two nodes.
    pub(super) async fn policies_of_keys(&mut self, cluster: &mut impl Cluster) {
        self.keep_leading().await;
        self.a_key_has_one_policy_as_long_as_somebody_declares_it(cluster).await;
        self.keep_leading().await;
        self.who_asks_first_is_told_of_a_conflict(cluster).await;
        self.keep_leading().await;
        self.nobody_contradicts_oneself().await;
        self.keep_leading().await;
        self.many_jobs_of_one_batch_share_a_key(cluster).await;
        self.keep_leading().await;
        self.a_job_that_the_leader_schedules_declares_nothing_elsewhere(cluster).await;
        self.keep_leading().await;
        self.a_term_declares_until_it_is_over(cluster).await;
    }

    /// The key may be the name of a job, or of none.
    async fn a_key_has_one_policy_as_long_as_somebody_declares_it(&self, cluster: &mut impl Cluster) {
        for (led, any, lock_key) in [
            ("one-led", "one-any", "one-key"),
            ("two-led", "two-any", "two-led"),
            ("three-led", "three-any", "three-any"),
        ] {
            let (backend, other) = another(cluster).await;
            let (here, there) = (&*self.locker, &*other);
            let led_with = |overlap| keyed(led, lock_key, overlap, Authority::Term(self.term));
            let any_with = |overlap| keyed(any, lock_key, overlap, Authority::Any);

            assert_enrolled(here, led_with(SKIP)).await;
            assert_contradicted(there, any_with(ALLOW), SKIP).await;
            assert_enrolled(there, any_with(SKIP)).await;
            assert_contradicted(here, led_with(ALLOW), SKIP).await;
            let held = Inquiry { job: name(led), schedule: ScheduleIdentity::of_text("a schedule") };
            let standings = self.locker.inquire(&[held]).await.expect("an answer");
            assert_eq!(standings, [LeaderView::NotScheduled], "the leader does not fire it");

            assert_enrolled(there, any_with(ALLOW)).await;
            assert_contradicted(here, led_with(SKIP), ALLOW).await;
            other.retract(&[key(lock_key), key("never-declared")]).await.expect("an answer");
            assert_enrolled(here, led_with(SKIP)).await;
            assert_contradicted(there, any_with(ALLOW), SKIP).await;
            self.locker.retract(&[key(lock_key)]).await.expect("an answer");
            assert_enrolled(there, any_with(ALLOW)).await;
            assert_contradicted(here, led_with(SKIP), ALLOW).await;

            let session = other.open().await.expect("a session opens");
            assert_enrolled(there, any_with(ALLOW)).await;
            // Every listener hears of it at once.
            join(other.lost(session), async { cluster.kill(&backend).await }).await;
            assert_enrolled(here, led_with(SKIP)).await;
        }
    }

    async fn who_asks_first_is_told_of_a_conflict(&self, cluster: &mut impl Cluster) {
        let (_, other) = another(cluster).await;
        assert_enrolled(&*self.locker, keyed("asked-led", "asked-key", SKIP, Authority::Term(self.term)))
            .await;
        assert_enrolled(&*self.locker, keyed("asked-any", "asked-any-key", SKIP, Authority::Any)).await;

        for lock_key in ["asked-key", "asked-any-key"] {
            assert_eq!(conflicts(&*other, "asked-new", lock_key, ALLOW).await.as_deref(), Some("skip"));
            assert_eq!(conflicts(&*other, "asked-new", lock_key, SKIP).await, None, "the same policy");
            assert_eq!(conflicts(&*self.locker, "asked-new", lock_key, ALLOW).await, None, "one's own");
        }
        assert_eq!(conflicts(&*other, "asked-new", "another-key", ALLOW).await, None);
        let led = conflicts(&*other, "asked-led", "asked-key", ALLOW).await;
        assert_eq!(led, None, "the leader schedules it: a follower may hold another version of it");
        assert_enrolled(&*other, keyed("asked-new", "another-key", ALLOW, Authority::Any)).await;
    }

    async fn nobody_contradicts_oneself(&self) {
        for (job, lock_key) in [("own", "own"), ("own-keyed", "own-key")] {
            for authority in [Authority::Any, Authority::Term(self.term), Authority::Leaderless] {
                for overlap in [SKIP, ALLOW, Overlap::Queue(3), Overlap::Replace] {
                    if authority == Authority::Leaderless {
                        self.locker.withdraw(self.term, &[name(job)]).await.expect("an answer");
                    }
                    assert_enrolled(&*self.locker, keyed(job, lock_key, overlap, authority)).await;
                }
            }
        }
    }

    async fn many_jobs_of_one_batch_share_a_key(&self, cluster: &mut impl Cluster) {
        let (_, other) = another(cluster).await;
        let queue = Overlap::Queue(3);
        let jobs = (0..100).map(|nth| keyed(&format!("batch-{nth}"), "batch", queue, Authority::Any));
        let batch: Vec<_> = jobs.chain([keyed("batch", "batch", queue, Authority::Any)]).collect();

        let enrolled = self.locker.enrol(&batch).await.expect("an answer");

        assert!(enrolled.iter().all(|answer| matches!(answer, Enrolled::Done { .. })), "{enrolled:?}");
        assert_contradicted(
            &*other,
            keyed("batch-of-another", "batch", Overlap::Queue(2), Authority::Any),
            queue,
        )
        .await;
        let mixed = ["batch-1", "free"].map(|lock_key| keyed("mixed-keys", lock_key, SKIP, Authority::Any));
        let [bad, good] = mixed;
        let bad = Enrolment { key: key("batch"), ..bad };
        let good = Enrolment { job: name("mixed-good"), ..good };
        let enrolled = other.enrol(&[bad, good]).await.expect("an answer");
        assert!(matches!(enrolled[..], [Enrolled::Conflict { .. }, Enrolled::Done { .. }]), "{enrolled:?}");
    }

    async fn a_job_that_the_leader_schedules_declares_nothing_elsewhere(&self, cluster: &mut impl Cluster) {
        let (_, other) = another(cluster).await;
        for (job, lock_key) in [("led-here", "led-here"), ("led-keyed", "led-key")] {
            let led_with = |overlap| keyed(job, lock_key, overlap, Authority::Term(self.term));
            assert_enrolled(&*self.locker, led_with(SKIP)).await;

            for overlap in [SKIP, ALLOW] {
                let enrolled = enrol_on(&*other, keyed(job, lock_key, overlap, Authority::Leaderless)).await;
                assert_eq!(enrolled, Enrolled::HasLeader);
            }

            assert_enrolled(&*self.locker, led_with(ALLOW)).await;
        }
    }

    async fn a_term_declares_until_it_is_over(&mut self, cluster: &mut impl Cluster) {
        let (_, other) = another(cluster).await;
        for (led, any, lock_key) in [("over-led", "over-any", "over-key"), ("past", "past-any", "past")] {
            assert_enrolled(&*self.locker, keyed(led, lock_key, SKIP, Authority::Term(self.term))).await;
            let any_with = |overlap| keyed(any, lock_key, overlap, Authority::Any);
            assert_contradicted(&*other, any_with(ALLOW), SKIP).await;

            self.elector.resign(self.term).await.expect("an answer");
            assert_eq!(conflicts(&*other, any, lock_key, ALLOW).await, None);
            assert_enrolled(&*other, any_with(ALLOW)).await;
            self.keep_leading().await;

            let led_with = |overlap| keyed(led, lock_key, overlap, Authority::Term(self.term));
            assert_contradicted(&*self.locker, led_with(SKIP), ALLOW).await;
            assert_enrolled(&*self.locker, led_with(ALLOW)).await;
        }
    }
}

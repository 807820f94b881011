//! What becomes of runs whose node died.

use super::*;

impl Check {
    /// What a run names is kept with it.
    pub(super) async fn what_a_lost_run_names_is_kept_for_its_retry(&self, cluster: &mut impl Cluster) {
        let backend = cluster.node().await;
        let victim = backend.locker();
        victim.open().await.expect("a session opens");
        let retries = Enrolment {
            retry_lost: true,
            ..Enrolment::new(name("names"), ScheduleIdentity::of_text("names"), Authority::Any)
        };
        self.locker.enrol(&[retries]).await.expect("an answer");
        let backfill = self.backfill("names", 1);
        self.kept(&backfill).await;
        let first = BackfillProgress { revision: 1, taken: 1, in_flight: vec![0], ..BackfillProgress::new() };
        assert_eq!(self.advance(backfill.id, &first).await, BackfillMoved::Done);
        let named = backfill.fire_times[0];
        let of_backfill = ClaimRequest { named: Some(named), ..claim_of("names", backfill.id.run(0)) };
        let triggered = ClaimRequest {
            key: LockKey::new("names-too").expect("a good name"),
            ..ClaimRequest { named: Some(named), ..claim_of("names", self.ids.next(self.now)) }
        };
        let plain = ClaimRequest {
            key: LockKey::new("names-nothing").expect("a good name"),
            ..claim_of("names", self.ids.next(self.now))
        };
        for claim in [&of_backfill, &triggered, &plain] {
            assert!(matches!(claim_on(&*victim, claim).await, Verdict::Granted { .. }), "{claim:?}");
        }

        // Lost once, and once more.
        for losses in 1..=2 {
            match losses {
                1 => cluster.kill(&backend).await,
                _ => {
                    let backend = cluster.node().await;
                    backend.locker().open().await.expect("a session opens");
                    for claim in [&of_backfill, &triggered, &plain] {
                        let resumed = ClaimRequest { resume_lost: true, named: None, ..claim.clone() };
                        let verdict = claim_on(&*backend.locker(), &resumed).await;
                        assert!(matches!(verdict, Verdict::Granted { .. }), "{verdict:?}");
                    }
                    assert_eq!(claim_on(&*self.locker, &of_backfill).await, GOES_ON, "its retry does");
                    cluster.kill(&backend).await;
                }
            }
            let mut lost = Vec::new();
            loop {
                let closed = self.locker.close_lost(100).await.expect("an answer");
                lost.extend(closed.lost);
                if !closed.more {
                    break;
                }
            }
            let pending = self.locker.pending_retries(None, 100).await.expect("an answer");
            let told: BTreeMap<_, _> = lost.iter().filter_map(|lost| Some((lost.run, lost.retry?))).collect();
            let kept: BTreeMap<_, _> = pending.iter().map(|one| (one.retry.run, one.retry)).collect();
            for (claim, named) in [(&of_backfill, Some(named)), (&triggered, Some(named)), (&plain, None)] {
                let retry = PendingRetry { run: claim.run, fire_time: None, named, losses };
                assert_eq!((told.get(&claim.run), kept.get(&claim.run)), (Some(&retry), Some(&retry)));
            }
            assert_eq!(claim_on(&*self.locker, &of_backfill).await, GOES_ON, "it is to be retried");
        }
    }

    /// The lock key of its job may be changed before a lost run is resumed, and once more.
    pub(super) async fn a_retry_goes_on_whatever_its_key(&self, cluster: &mut impl Cluster) {
        let retries = Enrolment {
            retry_lost: true,
            ..Enrolment::new(name("retried"), ScheduleIdentity::of_text("retried"), Authority::Any)
        };
        self.locker.enrol(&[retries]).await.expect("an answer");
        let backfill = self.backfill("retried", 2);
        self.kept(&backfill).await;
        let first =
            BackfillProgress { revision: 1, taken: 2, in_flight: vec![0, 1], ..BackfillProgress::new() };
        assert_eq!(self.advance(backfill.id, &first).await, BackfillMoved::Done);
        let of = |nth: u32, key: &str| ClaimRequest {
            key: LockKey::new(key).expect("a good name"),
            ..claim_of("retried", backfill.id.run(nth))
        };
        let victim = cluster.node().await;
        victim.locker().open().await.expect("a session opens");
        for claim in [of(0, "retried"), of(1, "retried-too")] {
            assert!(matches!(claim_on(&*victim.locker(), &claim).await, Verdict::Granted { .. }));
        }
        cluster.kill(&victim).await;
        while self.locker.close_lost(100).await.expect("an answer").more {}

        let heir = cluster.node().await;
        heir.locker().open().await.expect("a session opens");
        let again = [of(0, "retried-second"), of(1, "retried")];
        let again = again.map(|claim| ClaimRequest { resume_lost: true, ..claim });
        let verdicts = heir.locker().claim(&again).await.expect("an answer");
        let granted: Vec<_> = again.iter().zip(&verdicts).filter_map(token_of).collect();
        assert_eq!(granted.len(), 2, "{verdicts:?}");

        for (nth, (claim, token)) in (0..).zip(granted) {
            for key in ["retried-third", "retried-too"] {
                assert_eq!(claim_on(&*self.locker, &of(nth, key)).await, GOES_ON, "{nth} {key}");
            }
            let ClaimRequest { job, key, run, .. } = claim.clone();
            let end = Completion::new(job, key, run, token, Outcome::Succeeded);
            heir.locker().complete(&[end]).await.expect("an answer");
            let ended = claim_on(&*self.locker, &of(nth, "retried-third")).await;
            assert_eq!(ended, ran_before(Outcome::Succeeded));
        }
        cluster.kill(&heir).await;
    }

    pub(super) async fn whoever_takes_over_finds_out_what_was_granted(&self, cluster: &mut impl Cluster) {
        let backend = cluster.node().await;
        let victim = backend.locker();
        victim.open().await.expect("a session opens");
        let backfill = self.backfill("taken", 3);
        self.kept(&backfill).await;
        let in_flight =
            BackfillProgress { revision: 1, taken: 3, in_flight: vec![0, 1, 2], ..BackfillProgress::new() };
        assert_eq!(self.advance(backfill.id, &in_flight).await, BackfillMoved::Done);
        let runs = [0, 1, 2].map(|nth| ClaimRequest {
            key: LockKey::new(format!("taken-{nth}")).expect("a good name"),
            ..claim_of("taken", backfill.id.run(nth))
        });
        let Verdict::Granted { token, .. } = claim_on(&*victim, &runs[0]).await else {
            panic!("it is granted");
        };
        let ClaimRequest { job, key, run, .. } = runs[0].clone();
        victim.complete(&[Completion::new(job, key, run, token, Outcome::Failed)]).await.expect("an answer");
        assert!(matches!(claim_on(&*victim, &runs[1]).await, Verdict::Granted { .. }));
        let of_the_living = claim_on(&*self.locker, &runs[1]).await;
        assert_eq!(of_the_living, GOES_ON, "it goes on there");
        let free_slot = ClaimRequest { key: runs[1].key.slot(1), ..claim_of("taken", backfill.id.run(1)) };
        let under_another_slot = claim_on(&*self.locker, &free_slot).await;
        assert_eq!(under_another_slot, GOES_ON, "it goes on in the slot that it has");

        cluster.kill(&backend).await;

        assert_eq!(claim_on(&*self.locker, &runs[0]).await, ran_before(Outcome::Failed), "it has ended");
        assert_eq!(claim_on(&*self.locker, &runs[1]).await, GOES_ON, "nobody has closed it");
        while self.locker.close_lost(100).await.expect("an answer").more {}
        assert_eq!(claim_on(&*self.locker, &runs[1]).await, ran_before(Outcome::Lost), "it is lost");
        let never_granted = claim_on(&*self.locker, &runs[2]).await;
        let Verdict::Granted { token, .. } = never_granted else {
            panic!("it was never granted: {never_granted:?}")
        };
        self.end(&runs[2], token).await;
    }
}

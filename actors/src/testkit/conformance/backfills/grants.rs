//! What is granted, and what is said of what was.

use super::*;

impl Check {
    pub(super) async fn a_run_in_flight_is_granted_once(&self) {
        let backfill = self.backfill("granted", 2);
        self.kept(&backfill).await;
        let first =
            BackfillProgress { revision: 1, taken: 2, in_flight: vec![0, 1], ..BackfillProgress::new() };
        assert_eq!(self.advance(backfill.id, &first).await, BackfillMoved::Done);
        let claim = claim_of("granted", backfill.id.run(1));
        let Verdict::Granted { token, .. } = claim_on(&*self.locker, &claim).await else {
            panic!("it is granted");
        };
        self.end_as(&claim, token, Outcome::TimedOut).await;

        // More than any store remembers the ends of.
        let others: Vec<_> = (0..OTHER_RUNS)
            .map(|nth| claim_of(&format!("other-{}", nth % 500), self.ids.next(self.now)))
            .collect();
        for page in others.chunks(500) {
            let verdicts = self.locker.claim(page).await.expect("an answer");
            let end = |(claim, verdict): (&ClaimRequest, Verdict)| match verdict {
                Verdict::Granted { token, .. } => {
                    let ClaimRequest { job, key, run, .. } = claim.clone();
                    Completion::new(job, key, run, token, Outcome::Succeeded)
                }
                other => panic!("{claim:?} was answered with {other:?}"),
            };
            let ends: Vec<_> = page.iter().zip(verdicts).map(end).collect();
            self.locker.complete(&ends).await.expect("an answer");
        }

        assert_eq!(claim_on(&*self.locker, &claim).await, ran_before(Outcome::TimedOut));
        let never_granted = claim_of("granted", backfill.id.run(0));
        let granted = claim_on(&*self.locker, &never_granted).await;
        let Verdict::Granted { token, .. } = granted else { panic!("it was never granted: {granted:?}") };
        assert_eq!(claim_on(&*self.locker, &never_granted).await, Verdict::Granted { token, lost: None });
        self.end(&never_granted, token).await;

        let next = BackfillProgress { revision: 2, in_flight: vec![1], ..first };
        assert_eq!(self.advance(backfill.id, &next).await, BackfillMoved::Done);
        assert_eq!(claim_on(&*self.locker, &never_granted).await, Verdict::NotGranted, "it is not in flight");
        assert_eq!(claim_on(&*self.locker, &claim).await, ran_before(Outcome::TimedOut), "it is still");
    }

    /// The lock key of its job may be changed meanwhile.
    pub(super) async fn a_run_is_granted_once_whatever_its_key(&self) {
        let backfill = self.backfill("rekeyed", 3);
        self.kept(&backfill).await;
        let first =
            BackfillProgress { revision: 1, taken: 3, in_flight: vec![0, 1, 2], ..BackfillProgress::new() };
        assert_eq!(self.advance(backfill.id, &first).await, BackfillMoved::Done);
        let claim = claim_of("rekeyed", backfill.id.run(0));
        let Verdict::Granted { token, .. } = claim_on(&*self.locker, &claim).await else {
            panic!("it is granted");
        };
        let other_key = |claim: &ClaimRequest, key: &str| ClaimRequest {
            key: LockKey::new(key).expect("a good name"),
            ..claim.clone()
        };

        let rekeyed = other_key(&claim, "rekeyed-other");
        assert_eq!(claim_on(&*self.locker, &rekeyed).await, GOES_ON);
        self.end_as(&claim, token, Outcome::Failed).await;
        assert_eq!(claim_on(&*self.locker, &rekeyed).await, ran_before(Outcome::Failed));

        // Two leaders at an instant, of which one knows another key.
        let claim = claim_of("rekeyed", backfill.id.run(1));
        let both = [claim.clone(), other_key(&claim, "rekeyed-other")];
        let verdicts = join_all(both.each_ref().map(|claim| claim_on(&*self.locker, claim))).await;
        let granted: Vec<_> = both.iter().zip(&verdicts).filter_map(token_of).collect();
        let [(claim, token)] = granted[..] else { panic!("one of them is granted: {verdicts:?}") };
        assert!(verdicts.contains(&GOES_ON), "{verdicts:?}");
        self.end(claim, token).await;

        assert!(self.backfills.cancel(backfill.id, None).await.expect("an answer").is_some());
        let of_cancelled = claim_of("rekeyed", backfill.id.run(2));
        assert_eq!(
            claim_on(&*self.locker, &of_cancelled).await,
            Verdict::NotGranted,
            "nobody wants it any more"
        );
        let unknown = claim_of("rekeyed", BackfillId::new(self.ids.next(self.now)).run(0));
        assert_eq!(claim_on(&*self.locker, &unknown).await, Verdict::NotGranted);
    }

    pub(super) async fn the_store_notes_when_one_started_last(&self) {
        let backfill = self.backfill("spaced", 2);
        self.kept(&backfill).await;
        let since = || async {
            let rows = self.backfills.rows(Some(&name("spaced")), true).await.expect("an answer");
            rows[0].since_start
        };
        let first = BackfillProgress { revision: 1, taken: 1, in_flight: vec![0], ..BackfillProgress::new() };
        assert_eq!(self.advance(backfill.id, &first).await, BackfillMoved::Done);
        assert_eq!(since().await, None);
        let claim = claim_of("spaced", backfill.id.run(0));
        let Verdict::Granted { token, .. } = claim_on(&*self.locker, &claim).await else {
            panic!("it is granted");
        };
        self.end(&claim, token).await;

        let soon = since().await.expect("it is noted");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let later = since().await.expect("it is noted");

        assert!(soon < later, "{soon:?} {later:?}");
        assert!(later < Duration::from_secs(60), "{later:?}");
        let elsewhere = self.advance(backfill.id, &first).await;
        assert!(matches!(elsewhere, BackfillMoved::Elsewhere(Some(row)) if row.since_start >= Some(later)));
        self.backfills.cancel(backfill.id, None).await.expect("an answer");
    }
}

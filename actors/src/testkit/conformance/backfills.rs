//! What every store of backfills does.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};

use super::Cluster;
use crate::{
    core::time::FireTime,
    event::Outcome,
    name::{By, FencingToken, JobName, LockKey, NodeId, RunId, RunIds, Term},
    port::{
        BACKFILL_TICKS_MAX, BACKFILLS_KEPT_MAX, BACKFILLS_OPEN_MAX, BackfillId, BackfillMoved,
        BackfillProgress, BackfillPut, BackfillState, Backfills, Campaign, ClaimRequest, Completed,
        Completion, Locker, Notification, Session, StoredBackfill, Verdict,
    },
};

/// How long a campaign waits for the present leader.
const PATIENCE: Duration = Duration::from_secs(1);

/// So many other runs end after one whose end must be remembered.
const OTHER_RUNS: usize = 5_000;

/// Checks where backfills are kept, in an empty store: what is kept is answered whole; progress moves by
/// compare-and-set, and only for the leader; a cancelled one moves no more; what is kept is bounded; a run in
/// flight is granted once, however many end after it.
///
/// # Panics
///
/// If a check fails.
pub async fn backfills(cluster: &mut impl Cluster) {
    let backend = cluster.node().await;
    let locker = backend.locker();
    let session = locker.open().await.expect("a session opens");
    let elector = backend.elector();
    let Campaign::Won(grant) = elector.campaign(PATIENCE).await.expect("an answer") else {
        panic!("the first node of an empty store leads");
    };
    let mut check = Check {
        backfills: backend.backfills().expect("it keeps backfills"),
        locker,
        session,
        term: grant.term,
        ids: RunIds::of(NodeId::random()),
        // In milliseconds, as every store can keep it.
        now: FireTime::new(cluster.now()).instant(),
    };
    check.a_backfill_is_answered_as_it_was_kept().await;
    check.every_session_hears_of_it().await;
    check.progress_moves_from_the_revision_before().await;
    check.a_cancelled_backfill_moves_no_more().await;
    check.a_run_in_flight_is_granted_once().await;
    if cluster.nodes_max() > 1 {
        check.whoever_takes_over_finds_out_what_was_granted(cluster).await;
    }
    check.what_is_kept_is_bounded().await;
    elector.resign(check.term).await.expect("an answer");
    check.a_term_that_is_over_moves_nothing().await;
}

struct Check {
    backfills: Arc<dyn Backfills>,
    locker: Arc<dyn Locker>,
    session: Session,
    term: Term,
    ids: RunIds,
    now: DateTime<Utc>,
}

fn name(job: &str) -> JobName {
    JobName::new(job).expect("a good name")
}

fn claim_of(job: &str, run: RunId) -> ClaimRequest {
    ClaimRequest::new(name(job), LockKey::new(job).expect("a good name"), run)
}

async fn claim_on(locker: &dyn Locker, asked: &ClaimRequest) -> Verdict {
    for _ in 0..100 {
        let mut verdicts = locker.claim(std::slice::from_ref(asked)).await.expect("an answer");
        match verdicts.pop().expect("one answer per claim") {
            Verdict::Locked { .. } => tokio::time::sleep(Duration::from_millis(10)).await,
            verdict => return verdict,
        }
    }
    panic!("its key is locked all the time");
}

impl Check {
    fn backfill(&self, job: &str, ticks: usize) -> StoredBackfill {
        let from = self.now - TimeDelta::days(60);
        let hours = (0..ticks).map(|nth| from + TimeDelta::hours(nth as i64));
        let fire_times: Vec<_> = hours.map(FireTime::new).collect();
        let id = BackfillId::new(self.ids.next(self.now));
        StoredBackfill::new(id, name(job), (from, self.now), fire_times.into())
    }

    async fn kept(&self, backfill: &StoredBackfill) {
        assert_eq!(self.backfills.put(backfill).await.expect("an answer"), BackfillPut::Kept);
    }

    async fn list(&self, job: &str, only_running: bool) -> Vec<StoredBackfill> {
        self.backfills.list(Some(&name(job)), only_running).await.expect("an answer")
    }

    async fn advance(&self, backfill: BackfillId, progress: &BackfillProgress) -> BackfillMoved {
        self.backfills.advance(self.term, backfill, progress).await.expect("an answer")
    }

    async fn a_backfill_is_answered_as_it_was_kept(&self) {
        let whole = StoredBackfill {
            max_concurrent: 3,
            spacing: Duration::from_millis(1_500),
            again: true,
            by: Some(By::new("alice \u{1f600} 'quoted'").expect("a good name")),
            left_out: 17,
            ..self.backfill("whole", BACKFILL_TICKS_MAX)
        };
        let plain = self.backfill("whole", 1);

        self.kept(&whole).await;
        self.kept(&plain).await;
        // Its reply was lost.
        self.kept(&whole).await;

        assert_eq!(self.list("whole", false).await, [plain.clone(), whole.clone()], "the newest first");
        assert_eq!(self.list("none", false).await, []);
        let all = self.backfills.list(None, true).await.expect("an answer");
        assert_eq!(all, [plain, whole]);
    }

    async fn every_session_hears_of_it(&self) {
        let heard = || async {
            let next = async {
                while self.locker.next_notification(self.session).await != Notification::BackfillsChanged {}
            };
            tokio::time::timeout(Duration::from_secs(10), next).await.expect("it is told");
        };
        // Of those before.
        heard().await;
        let backfill = self.backfill("heard", 1);
        self.kept(&backfill).await;
        heard().await;
        assert!(self.backfills.cancel(backfill.id, None).await.expect("an answer").is_some());
        heard().await;
    }

    async fn progress_moves_from_the_revision_before(&self) {
        let backfill = self.backfill("moves", 4);
        self.kept(&backfill).await;
        let first =
            BackfillProgress { revision: 1, taken: 2, in_flight: vec![0, 1], ..BackfillProgress::new() };

        assert_eq!(self.advance(backfill.id, &first).await, BackfillMoved::Done);

        let moved = StoredBackfill { progress: first.clone(), ..backfill.clone() };
        assert_eq!(self.list("moves", true).await, std::slice::from_ref(&moved));
        let elsewhere = BackfillMoved::Elsewhere(Some(Box::new(moved)));
        assert_eq!(self.advance(backfill.id, &first).await, elsewhere, "it is moved once");
        let beyond = BackfillProgress { revision: 3, ..first.clone() };
        assert_eq!(self.advance(backfill.id, &beyond).await, elsewhere);
        let unknown = BackfillId::new(self.ids.next(self.now));
        assert_eq!(self.advance(unknown, &first).await, BackfillMoved::Elsewhere(None));

        let failed = BackfillProgress { revision: 2, taken: 4, in_flight: vec![1, 3], failed: 1, ..first };
        assert_eq!(self.advance(backfill.id, &failed).await, BackfillMoved::Done);
        let state = BackfillState::Finished;
        let finished = BackfillProgress { revision: 3, state, in_flight: Vec::new(), ..failed };
        assert_eq!(self.advance(backfill.id, &finished).await, BackfillMoved::Done);
        assert_eq!(self.list("moves", true).await, [], "it runs no more");
        let kept = StoredBackfill { progress: finished.clone(), ..backfill };
        assert_eq!(self.list("moves", false).await, std::slice::from_ref(&kept));
        let again = BackfillProgress { revision: 4, state: BackfillState::Running, ..finished };
        let elsewhere = BackfillMoved::Elsewhere(Some(Box::new(kept)));
        assert_eq!(self.advance(self.list("moves", false).await[0].id, &again).await, elsewhere);
    }

    async fn a_cancelled_backfill_moves_no_more(&self) {
        let backfill = self.backfill("cancelled", 2);
        self.kept(&backfill).await;
        let first = BackfillProgress { revision: 1, taken: 1, in_flight: vec![0], ..BackfillProgress::new() };
        assert_eq!(self.advance(backfill.id, &first).await, BackfillMoved::Done);
        let by = By::new("alice").expect("a good name");

        let left = self.backfills.cancel(backfill.id, Some(&by)).await.expect("an answer");

        let progress = BackfillProgress { revision: 2, state: BackfillState::Cancelled, ..first.clone() };
        let cancelled = StoredBackfill { progress, ..backfill.clone() };
        assert_eq!(left, Some(cancelled.clone()));
        assert_eq!(self.backfills.cancel(backfill.id, None).await.expect("an answer"), None, "once");
        let next = BackfillProgress { revision: 2, taken: 2, ..first };
        let elsewhere = BackfillMoved::Elsewhere(Some(Box::new(cancelled)));
        assert_eq!(self.advance(backfill.id, &next).await, elsewhere);
    }

    async fn end(&self, claim: &ClaimRequest, token: FencingToken) {
        let ClaimRequest { job, key, run, .. } = claim.clone();
        let end = Completion::new(job, key, run, token, Outcome::Succeeded);
        let ended = self.locker.complete(&[end]).await.expect("an answer");
        assert!(matches!(ended[..], [Completed::Recorded { .. }]), "{ended:?}");
    }

    async fn a_run_in_flight_is_granted_once(&self) {
        let backfill = self.backfill("granted", 2);
        self.kept(&backfill).await;
        let first =
            BackfillProgress { revision: 1, taken: 2, in_flight: vec![0, 1], ..BackfillProgress::new() };
        assert_eq!(self.advance(backfill.id, &first).await, BackfillMoved::Done);
        let claim = claim_of("granted", backfill.id.run(1));
        let Verdict::Granted { token, .. } = claim_on(&*self.locker, &claim).await else {
            panic!("it is granted");
        };
        self.end(&claim, token).await;

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

        assert_eq!(claim_on(&*self.locker, &claim).await, Verdict::GrantedBefore);
        let never_granted = claim_of("granted", backfill.id.run(0));
        let granted = claim_on(&*self.locker, &never_granted).await;
        let Verdict::Granted { token, .. } = granted else { panic!("it was never granted: {granted:?}") };
        self.end(&never_granted, token).await;
    }

    async fn whoever_takes_over_finds_out_what_was_granted(&self, cluster: &mut impl Cluster) {
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
        assert_eq!(of_the_living, Verdict::GrantedBefore, "it goes on there");
        let free_slot = ClaimRequest { key: runs[1].key.slot(1), ..claim_of("taken", backfill.id.run(1)) };
        let under_another_slot = claim_on(&*self.locker, &free_slot).await;
        assert_eq!(under_another_slot, Verdict::GrantedBefore, "it goes on in the slot that it has");

        cluster.kill(&backend).await;

        assert_eq!(claim_on(&*self.locker, &runs[0]).await, Verdict::GrantedBefore, "it has ended");
        assert_eq!(claim_on(&*self.locker, &runs[1]).await, Verdict::GrantedBefore, "it was cut short");
        while self.locker.close_lost(100).await.expect("an answer").more {}
        assert_eq!(claim_on(&*self.locker, &runs[1]).await, Verdict::GrantedBefore, "it is lost");
        let never_granted = claim_on(&*self.locker, &runs[2]).await;
        let Verdict::Granted { token, .. } = never_granted else {
            panic!("it was never granted: {never_granted:?}")
        };
        self.end(&runs[2], token).await;
    }

    async fn what_is_kept_is_bounded(&mut self) {
        let all = || async { self.backfills.list(None, false).await.expect("an answer") };
        for running in all().await.into_iter().filter(StoredBackfill::is_running) {
            self.backfills.cancel(running.id, None).await.expect("an answer");
        }
        let over = all().await.len();
        let made: Vec<_> = (0..BACKFILLS_OPEN_MAX).map(|_| self.backfill("many", 1)).collect();
        for backfill in &made {
            self.kept(backfill).await;
        }
        let beyond = self.backfill("many", 1);
        assert_eq!(self.backfills.put(&beyond).await.expect("an answer"), BackfillPut::Full);
        self.kept(&made[0]).await;
        assert_eq!(self.list("many", true).await.len(), BACKFILLS_OPEN_MAX);
        assert_eq!(all().await.len(), over + BACKFILLS_OPEN_MAX);

        for backfill in &made {
            assert!(self.backfills.cancel(backfill.id, None).await.expect("an answer").is_some());
        }
        self.kept(&beyond).await;

        let kept = all().await;
        assert_eq!(kept.len(), 1 + BACKFILLS_KEPT_MAX);
        let newest: BTreeSet<_> = made.iter().chain([&beyond]).map(|backfill| backfill.id).collect();
        assert!(kept.iter().all(|backfill| newest.contains(&backfill.id)), "the newest stay");
    }

    async fn a_term_that_is_over_moves_nothing(&self) {
        let backfill = self.backfill("deposed", 1);
        self.kept(&backfill).await;
        let first = BackfillProgress { revision: 1, taken: 1, in_flight: vec![0], ..BackfillProgress::new() };

        assert_eq!(self.advance(backfill.id, &first).await, BackfillMoved::Deposed);

        assert_eq!(self.list("deposed", true).await, [backfill]);
    }
}

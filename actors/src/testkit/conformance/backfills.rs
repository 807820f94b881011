//! What every store of backfills does.

mod grants;
mod losses;
mod ticks;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;

use super::Cluster;
use crate::{
    core::time::FireTime,
    event::Outcome,
    name::{By, FencingToken, JobName, LockKey, NodeId, RunId, RunIds, Term},
    port::{
        Authority, BACKFILL_TICKS_MAX, BACKFILLS_KEPT_MAX, BACKFILLS_OPEN_MAX, BackfillId, BackfillMoved,
        BackfillProgress, BackfillPut, BackfillState, BackfillStatus, Backfills, Campaign, ClaimRequest,
        Completed, Completion, Enrolment, Locker, Notification, PendingRetry, ScheduleIdentity, Session,
        StoredBackfill, Verdict,
    },
};

/// How long a campaign waits for the present leader.
const PATIENCE: Duration = Duration::from_secs(1);

/// So many other runs end after one whose end must be remembered.
const OTHER_RUNS: usize = 5_000;

/// Checks where backfills are kept, in an empty store: what is kept is answered whole; progress moves by
/// compare-and-set, and only for the leader; a cancelled one moves no more; what is kept is bounded; two that are
/// asked for at once have no fire time in common; a run in flight is granted once, whatever its lock key and however
/// many end after it, and the store says how it ended; what a lost run names is kept; the ticks are known whose runs
/// are not over.
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
    check.what_a_cancelled_backfill_had_granted_is_taken().await;
    check.those_asked_for_at_once_have_nothing_in_common().await;
    check.a_run_in_flight_is_granted_once().await;
    check.a_run_is_granted_once_whatever_its_key().await;
    check.the_store_notes_when_one_started_last().await;
    check.the_ticks_with_open_runs_are_known().await;
    if cluster.nodes_max() > 1 {
        check.whoever_takes_over_finds_out_what_was_granted(cluster).await;
        check.what_a_lost_run_names_is_kept_for_its_retry(cluster).await;
        check.a_retry_goes_on_whatever_its_key(cluster).await;
        check.a_lost_tick_that_is_to_be_retried_is_open(cluster).await;
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

/// It was granted, and has not ended as far as the store knows.
const GOES_ON: Verdict = Verdict::RanBefore { outcome: None };

fn ran_before(outcome: Outcome) -> Verdict {
    Verdict::RanBefore { outcome: Some(outcome) }
}

fn token_of<'a>((claim, verdict): (&'a ClaimRequest, &Verdict)) -> Option<(&'a ClaimRequest, FencingToken)> {
    match verdict {
        Verdict::Granted { token, .. } => Some((claim, *token)),
        _ => None,
    }
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

    /// The backfills of a job; when one of them started last is looked at elsewhere.
    async fn rows(&self, job: &str, only_running: bool) -> Vec<StoredBackfill> {
        let rows = self.backfills.rows(Some(&name(job)), only_running).await.expect("an answer");
        rows.into_iter().map(|row| StoredBackfill { since_start: None, ..row }).collect()
    }

    async fn list(&self, job: &str) -> Vec<BackfillStatus> {
        self.backfills.list(Some(&name(job))).await.expect("an answer")
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

        self.kept(&plain).await;
        self.kept(&whole).await;
        // Its reply was lost.
        self.kept(&whole).await;

        assert_eq!(self.rows("whole", false).await, [plain.clone(), whole.clone()], "the newest first");
        assert_eq!(self.list("whole").await, [&plain, &whole].map(BackfillStatus::from));
        assert_eq!(self.rows("none", false).await, []);
        let all = self.backfills.rows(None, true).await.expect("an answer");
        assert_eq!(all, [plain.clone(), whole.clone()]);
        let all = self.backfills.list(None).await.expect("an answer");
        assert_eq!(all, [&plain, &whole].map(BackfillStatus::from));
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
        assert_eq!(self.rows("moves", true).await, std::slice::from_ref(&moved));
        assert_eq!(self.list("moves").await, [BackfillStatus::from(&moved)], "with those in flight");
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
        assert_eq!(self.rows("moves", true).await, [], "it runs no more");
        let kept = StoredBackfill { progress: finished.clone(), ..backfill };
        assert_eq!(self.rows("moves", false).await, std::slice::from_ref(&kept));
        assert_eq!(self.list("moves").await, [BackfillStatus::from(&kept)]);
        let again = BackfillProgress { revision: 4, state: BackfillState::Running, ..finished };
        let elsewhere = BackfillMoved::Elsewhere(Some(Box::new(kept)));
        assert_eq!(self.advance(self.rows("moves", false).await[0].id, &again).await, elsewhere);
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
        assert_eq!(left, Some(BackfillStatus::from(&cancelled)));
        assert_eq!(self.backfills.cancel(backfill.id, None).await.expect("an answer"), None, "once");
        let next = BackfillProgress { revision: 2, taken: 2, ..first };
        let elsewhere = BackfillMoved::Elsewhere(Some(Box::new(cancelled)));
        assert_eq!(self.advance(backfill.id, &next).await, elsewhere);
    }

    /// What it had granted is in progress, or has ended: nobody else runs it, unless it is to run again.
    async fn what_a_cancelled_backfill_had_granted_is_taken(&self) {
        let backfill = self.backfill("taken-back", 3);
        self.kept(&backfill).await;
        let first =
            BackfillProgress { revision: 1, taken: 2, in_flight: vec![0, 1], ..BackfillProgress::new() };
        assert_eq!(self.advance(backfill.id, &first).await, BackfillMoved::Done);
        let claim = claim_of("taken-back", backfill.id.run(1));
        let Verdict::Granted { token, .. } = claim_on(&*self.locker, &claim).await else {
            panic!("it is granted");
        };
        assert_eq!(self.rows("taken-back", true).await[0].granted, [1]);

        self.backfills.cancel(backfill.id, None).await.expect("an answer").expect("it is running");

        let [cancelled] = &self.rows("taken-back", false).await[..] else { panic!("it is kept") };
        assert_eq!(cancelled.granted, [1]);
        let taken: Vec<_> = cancelled.taken_fire_times().collect();
        assert_eq!(taken, [backfill.fire_times[1]]);
        let of = |fire_times: &[FireTime]| StoredBackfill {
            fire_times: fire_times.into(),
            ..self.backfill("taken-back", 1)
        };
        let anew = of(&backfill.fire_times);
        assert_eq!(self.backfills.put(&anew).await.expect("an answer"), BackfillPut::Overlaps);
        self.kept(&StoredBackfill { again: true, ..of(&backfill.fire_times[1..2]) }).await;
        self.end(&claim, token).await;
        assert_eq!(self.backfills.put(&anew).await.expect("an answer"), BackfillPut::Overlaps);
        for one in self.rows("taken-back", true).await {
            self.backfills.cancel(one.id, None).await.expect("an answer");
        }
        self.kept(&of(&[backfill.fire_times[0], backfill.fire_times[2]])).await;
    }

    /// Of two backfills of a job that are asked for at one instant, neither knows of the other.
    async fn those_asked_for_at_once_have_nothing_in_common(&self) {
        let first = self.backfill("beside", 4);
        let second = self.backfill("beside", 2);
        let later = StoredBackfill { fire_times: first.fire_times[3..].into(), ..self.backfill("beside", 1) };
        let of_another_job = self.backfill("beside-another", 4);
        let again = StoredBackfill { again: true, ..self.backfill("beside", 2) };

        let all = [&first, &second, &later, &of_another_job, &again];
        let puts = join_all(all.map(|backfill| self.backfills.put(backfill))).await;
        let puts: Vec<_> = puts.into_iter().map(|put| put.expect("an answer")).collect();

        let kept = self.rows("beside", true).await;
        let is_kept = |backfill: &StoredBackfill| kept.iter().any(|one| one.id == backfill.id);
        assert_eq!(
            puts[3..],
            [BackfillPut::Kept; 2],
            "they are of another job, or run again what another one does"
        );
        assert!(is_kept(&again));
        for (backfill, put) in [&first, &second, &later].into_iter().zip(&puts) {
            let expected = if is_kept(backfill) { BackfillPut::Kept } else { BackfillPut::Overlaps };
            assert_eq!(*put, expected);
        }
        let plain = || kept.iter().filter(|one| !one.again).flat_map(|one| one.fire_times.iter());
        assert_eq!(plain().count(), plain().collect::<BTreeSet<_>>().len(), "{kept:?}");
        for one in &kept {
            self.backfills.cancel(one.id, None).await.expect("an answer");
        }
        self.kept(&StoredBackfill { id: BackfillId::new(self.ids.next(self.now)), ..first }).await;
    }

    async fn end(&self, claim: &ClaimRequest, token: FencingToken) {
        self.end_as(claim, token, Outcome::Succeeded).await;
    }

    async fn end_as(&self, claim: &ClaimRequest, token: FencingToken, outcome: Outcome) {
        let ClaimRequest { job, key, run, .. } = claim.clone();
        let end = Completion::new(job, key, run, token, outcome);
        let ended = self.locker.complete(&[end]).await.expect("an answer");
        assert!(matches!(ended[..], [Completed::Recorded { .. }]), "{ended:?}");
    }

    async fn what_is_kept_is_bounded(&mut self) {
        let all = || async { self.backfills.list(None).await.expect("an answer") };
        let is_running = |one: &BackfillStatus| one.state == BackfillState::Running;
        for running in all().await.into_iter().filter(is_running) {
            self.backfills.cancel(running.id, None).await.expect("an answer");
        }
        let over = all().await.len();
        let again = |backfill| StoredBackfill { again: true, ..backfill };
        let made: Vec<_> = (0..BACKFILLS_OPEN_MAX).map(|_| again(self.backfill("many", 1))).collect();
        for backfill in &made {
            self.kept(backfill).await;
        }
        let beyond = again(self.backfill("many", 1));
        assert_eq!(self.backfills.put(&beyond).await.expect("an answer"), BackfillPut::Full);
        self.kept(&made[0]).await;
        assert_eq!(self.rows("many", true).await.len(), BACKFILLS_OPEN_MAX);
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

        assert_eq!(self.rows("deposed", true).await, [backfill]);
    }
}

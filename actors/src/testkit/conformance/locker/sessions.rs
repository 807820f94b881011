//! The keys of a session that is closed, lives, or is dead.

use super::*;

impl Suite {
    /// The last one that needs the suite's term.
    pub(super) async fn closing_a_session_frees_what_it_holds(&self) {
        let held = self.manual("closed", "closed");
        self.granted(&held).await;
        self.locker.close().await;
        self.locker.open().await.expect("a session opens again");

        let next = self.manual("closed", "closed");
        let Verdict::Granted { token, .. } = self.claim(&next).await else { panic!("the key is free") };
        self.complete(&next, token).await;
        let recheck = ClaimRequest { recheck: true, ..held };
        assert_eq!(
            self.claim(&recheck).await,
            Verdict::GrantedBefore,
            "what a former session held is not this one's"
        );
    }

    pub(super) async fn a_live_owner_is_not_robbed(&self, cluster: &mut impl Cluster) {
        let request = self.manual("owner", "not-robbed");
        let token = self.granted(&request).await;
        let (_, thief) = another(cluster).await;
        let verdict = claim_on(&*thief, &self.manual("thief", "not-robbed")).await;
        assert_eq!(verdict, Verdict::Busy { holder: Some(request.run), own: false });
        let lost = thief.close_lost(100).await.expect("an answer").lost;
        assert!(!lost.iter().any(|lost| lost.run == request.run), "a live owner's run is not closed as lost");
        assert_eq!(self.complete(&request, token).await, Completed::RECORDED);
    }

    pub(super) async fn a_dead_owner_is_robbed_once_and_its_completion_refused(
        &self,
        cluster: &mut impl Cluster,
    ) {
        let (backend, owner) = another(cluster).await;
        let request = self.manual("robbed", "robbed");
        let Verdict::Granted { token, .. } = claim_on(&*owner, &request).await else {
            panic!("a free key is granted")
        };
        cluster.kill(&backend).await;

        let thief = self.manual("robber", "robbed");
        let verdict = self.claim(&thief).await;
        let Verdict::Granted { token: stolen, lost: Some(lost) } = verdict else {
            panic!("not robbed: {verdict:?}")
        };
        assert!(stolen > token, "the thief's token is greater: {stolen} after {token}");
        assert_eq!((lost.run, &lost.job), (request.run, &name("robbed")), "the dead run is closed as lost");
        owner.open().await.expect("a session opens again");
        assert_eq!(
            complete_on(&*owner, &request, token).await,
            Completed::Stale,
            "a dead owner completes nothing"
        );
        assert_eq!(self.complete(&thief, stolen).await, Completed::RECORDED);
    }

    pub(super) async fn open_runs_of_the_dead_are_closed_once(&self, cluster: &mut impl Cluster) {
        let (backend, owner) = another(cluster).await;
        let session = owner.open().await.expect("a session opens");
        let requests = [self.manual("orphan-1", "orphan-1"), self.manual("orphan-2", "orphan-2")];
        owner.claim(&requests).await.expect("an answer");
        cluster.kill(&backend).await;
        assert_ne!(owner.lost(session).await, "", "the reason is told");

        let mut closed = Vec::new();
        for _ in 0..3 {
            closed.extend(
                self.locker.close_lost(1).await.expect("an answer").lost.into_iter().map(|lost| lost.run),
            );
        }
        closed.sort();
        let mut expected = requests.map(|request| request.run);
        expected.sort();
        assert_eq!(closed, expected, "each run is closed once, at most as many at a time as asked for");
        let freed = self.manual("orphan-1", "orphan-1");
        let token = self.granted(&freed).await;
        self.complete(&freed, token).await;
    }
}

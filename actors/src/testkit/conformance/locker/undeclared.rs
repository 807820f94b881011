//! What a backend declares to be able to, across its nodes and beyond them, and what it does not declare: that limit is
//! real, so that no job is refused for nothing.

use super::*;
use crate::port::{Capabilities, Capability};

/// How long a node listens that is told nothing.
const SILENCE: Duration = Duration::from_secs(1);
/// How late a tick may be in these checks.
const WINDOW: Duration = Duration::from_secs(60);

impl Suite {
    /// What a backend of several nodes does not declare.
    pub(super) async fn what_is_not_declared_is_not_so(
        &self,
        able: Capabilities,
        cluster: &mut impl Cluster,
    ) {
        // What shows it is a tick that any node claims.
        let ticks = able.has(Capability::ClusterTicks);
        if ticks && !able.has(Capability::ClusterOverlap) {
            self.two_nodes_have_one_key_at_once(cluster).await;
        }
        if ticks && !able.has(Capability::Pauses) {
            self.a_pause_stops_no_other_node(cluster).await;
        }
        if ticks && !able.has(Capability::PendingRetries) {
            self.the_runs_of_a_dead_node_are_not_retried(cluster).await;
        }
        if ticks && !able.has(Capability::Renames) {
            self.a_former_name_is_not_looked_at().await;
        }
        if !able.has(Capability::Notifications) {
            self.no_other_node_is_told_of_a_pause(cluster).await;
        }
    }

    async fn a_former_name_is_not_looked_at(&self) {
        let of_any =
            |job: &str| Enrolment::new(name(job), ScheduleIdentity::of_text("a schedule"), Authority::Any);
        let former = of_any("former");
        let renamed = Enrolment { formerly: Some(former.job.clone()), ..of_any("renamed") };
        let Enrolled::Done { cursor, .. } = self.enrol_as(former).await else { panic!("it is enrolled") };
        tokio::time::sleep(Duration::from_millis(5)).await;
        let Enrolled::Done { cursor: other, .. } = self.enrol_as(renamed).await else {
            panic!("it is enrolled")
        };
        assert!(other > cursor, "it has renames after all");
    }

    pub(super) async fn without_a_term_no_tick_is_claimed(&self) {
        let claimed = self.claim(&self.tick_by(Authority::Any, "of-any", self.now)).await;
        assert_eq!(claimed, Verdict::HasLeader, "it has cluster_ticks after all");
    }

    pub(super) async fn a_tick_that_one_node_has_is_taken_for_all(&self, cluster: &mut impl Cluster) {
        let (_, other) = another(cluster).await;
        let enrolment =
            Enrolment::new(name("taken"), ScheduleIdentity::of_text("a schedule"), Authority::Any);
        let [here, there] =
            [&*self.locker, &*other].map(|locker| locker.enrol(std::slice::from_ref(&enrolment)));
        let cursors = [here.await, there.await].map(|enrolled| match enrolled.expect("an answer").pop() {
            Some(Enrolled::Done { cursor, .. }) => cursor,
            refused => panic!("enrolling was answered with {refused:?}"),
        });
        tokio::time::sleep(Duration::from_millis(30)).await;
        let tick = just_after(cursors[1].max(cursors[0]));
        let [first, second] = cursors.map(|cursor| {
            let mut claim = self.tick_by(Authority::Any, "taken", cursor);
            claim.tick = claim.tick.map(|of| TickClaim { fire_time: tick, ..of });
            claim.window = WINDOW;
            claim
        });
        let token = self.granted(&first).await;
        let refused = claim_on(&*other, &second).await;
        let (run, cursor) = (first.run, tick.instant());
        // By a cursor that both share, or by votes.
        let elsewhere = [Verdict::AlreadyRun { run, cursor }, Verdict::TakenElsewhere { run, cursor }];
        assert!(elsewhere.contains(&refused), "another node has it: {refused:?}");
        self.complete(&first, token).await;
    }

    async fn two_nodes_have_one_key_at_once(&self, cluster: &mut impl Cluster) {
        let (_, other) = another(cluster).await;
        for (locker, job) in [(&*self.locker, "held-here"), (&*other, "held-there")] {
            let mut tick = self.due_tick_on(locker, job).await;
            tick.key = key("held-by-both");
            let claimed = claim_on(locker, &tick).await;
            assert!(
                matches!(claimed, Verdict::Granted { .. }),
                "it has cluster_overlap after all: {claimed:?}"
            );
        }
    }

    /// The first tick of a job that any node fires, which is due there.
    async fn due_tick_on(&self, locker: &dyn Locker, job: &str) -> ClaimRequest {
        let enrolment = Enrolment::new(name(job), ScheduleIdentity::of_text("a schedule"), Authority::Any);
        let cursor = match &locker.enrol(&[enrolment]).await.expect("an answer")[..] {
            [Enrolled::Done { cursor, .. }] => *cursor,
            refused => panic!("enrolling {job} was answered with {refused:?}"),
        };
        tokio::time::sleep(Duration::from_millis(30)).await;
        ClaimRequest { window: WINDOW, ..self.tick_by(Authority::Any, job, cursor) }
    }

    async fn a_pause_stops_no_other_node(&self, cluster: &mut impl Cluster) {
        let (_, other) = another(cluster).await;
        let pause = Pause { until: None, note: None, by: None };
        self.pause("paused-here", Some(&pause)).await;
        let claimed = self.tick_elsewhere(&*other, "paused-here").await;
        assert!(matches!(claimed, Verdict::Granted { .. }), "it has pauses after all: {claimed:?}");
    }

    /// Another node claims the first tick of a job that any node fires.
    async fn tick_elsewhere(&self, other: &dyn Locker, job: &str) -> Verdict {
        claim_on(other, &self.due_tick_on(other, job).await).await
    }

    async fn the_runs_of_a_dead_node_are_not_retried(&self, cluster: &mut impl Cluster) {
        let (backend, dead) = another(cluster).await;
        let mut enrolment =
            Enrolment::new(name("not-retried"), ScheduleIdentity::of_text("a schedule"), Authority::Any);
        enrolment.retry_lost = true;
        let run = self.due_tick_on(&*dead, "not-retried").await;
        dead.enrol(std::slice::from_ref(&enrolment)).await.expect("an answer");
        let granted = claim_on(&*dead, &run).await;
        assert!(matches!(granted, Verdict::Granted { .. }), "{granted:?}");
        cluster.kill(&backend).await;
        self.enrol_as(enrolment).await;
        self.locker.close_lost(100).await.expect("an answer");
        let pending = self.locker.pending_retries(None, 100).await.expect("an answer");
        let is_there = pending.iter().any(|pending| pending.retry.run == run.run);
        assert!(!is_there, "it has pending_retries after all");
    }

    async fn no_other_node_is_told_of_a_pause(&self, cluster: &mut impl Cluster) {
        let (_, other) = another(cluster).await;
        let session = other.open().await.expect("a session opens");
        let pause = Pause { until: None, note: None, by: None };
        self.pause("not-told", Some(&pause)).await;
        let told = tokio::time::timeout(SILENCE, other.next_notification(session)).await;
        let told = told.ok().filter(|told| *told != Notification::Lagged);
        assert_eq!(told, None, "it has notifications after all");
    }

    /// The last check: every process ends.
    pub(super) async fn a_cursor_outlives_the_processes_or_does_not(
        &self,
        able: Capabilities,
        cluster: &mut impl Cluster,
    ) {
        let Enrolled::Done { cursor, .. } = self.enrol_by("outlives", "a schedule", Authority::Any).await
        else {
            panic!("it is not enrolled")
        };
        tokio::time::sleep(Duration::from_millis(30)).await;
        let claim = ClaimRequest { window: WINDOW, ..self.tick_by(Authority::Any, "outlives", cursor) };
        let token = self.granted(&claim).await;
        self.complete(&claim, token).await;
        let moved = claim.tick.map(|tick| tick.fire_time.instant());

        let Some(backend) = cluster.restart().await else { return };
        let locker = backend.locker();
        locker.open().await.expect("a session opens");
        let enrolment =
            Enrolment::new(name("outlives"), ScheduleIdentity::of_text("a schedule"), Authority::Any);
        let enrolled = locker.enrol(&[enrolment]).await.expect("an answer");
        let [Enrolled::Done { cursor, .. }] = &enrolled[..] else { panic!("{enrolled:?}") };
        let outlives = Some(*cursor) == moved;
        assert_eq!(outlives, able.has(Capability::DurableCursor), "whether it has durable_cursor: {cursor}");
    }
}

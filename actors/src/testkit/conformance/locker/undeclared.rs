//! What a backend declares to be able to, across its nodes and beyond them, and what it does not declare: that limit is
//! real, so that no job is refused for nothing.

use super::*;
use crate::port::{Capabilities, Capability};

/// How long a node listens that is told nothing.
const SILENCE: Duration = Duration::from_secs(1);

impl Suite {
    /// What a backend of several nodes does not declare.
    pub(super) async fn what_is_not_declared_is_not_so(
        &self,
        able: Capabilities,
        cluster: &mut impl Cluster,
    ) {
        if !able.has(Capability::ClusterOverlap) {
            self.two_nodes_have_one_key_at_once(cluster).await;
        }
        if !able.has(Capability::Pauses) {
            self.a_pause_stops_no_other_node(cluster).await;
        }
        if !able.has(Capability::PendingRetries) {
            self.the_runs_of_a_dead_node_are_not_retried(cluster).await;
        }
        if !able.has(Capability::Notifications) {
            self.no_other_node_is_told_of_a_pause(cluster).await;
        }
    }

    async fn two_nodes_have_one_key_at_once(&self, cluster: &mut impl Cluster) {
        let (_, other) = another(cluster).await;
        let held = self.manual("held-by-both", "held-by-both");
        let token = self.granted(&held).await;
        let also = claim_on(&*other, &self.manual("held-by-both", "held-by-both")).await;
        assert!(matches!(also, Verdict::Granted { .. }), "it has cluster_overlap after all: {also:?}");
        self.complete(&held, token).await;
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
        let enrolment = Enrolment::new(name(job), ScheduleIdentity::of_text("a schedule"), Authority::Any);
        let cursor = match &other.enrol(&[enrolment]).await.expect("an answer")[..] {
            [Enrolled::Done { cursor, .. }] => *cursor,
            refused => panic!("enrolling {job} was answered with {refused:?}"),
        };
        tokio::time::sleep(Duration::from_millis(30)).await;
        claim_on(other, &self.tick_by(Authority::Any, job, cursor)).await
    }

    async fn the_runs_of_a_dead_node_are_not_retried(&self, cluster: &mut impl Cluster) {
        let (backend, dead) = another(cluster).await;
        let mut enrolment =
            Enrolment::new(name("not-retried"), ScheduleIdentity::of_text("a schedule"), Authority::Any);
        enrolment.retry_lost = true;
        dead.enrol(std::slice::from_ref(&enrolment)).await.expect("an answer");
        let run = self.manual("not-retried", "not-retried");
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
        let claim = self.tick_by(Authority::Any, "outlives", cursor);
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

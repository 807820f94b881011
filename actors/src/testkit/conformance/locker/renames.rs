//! Jobs that have another name: what is kept of one goes with it.

use super::*;
use crate::port::NameUse;

/// A job that had another name.
fn renamed(job: &str, former: &str, authority: Authority) -> Enrolment {
    let enrolment = Enrolment::new(name(job), ScheduleIdentity::of_text("a schedule"), authority);
    Enrolment { formerly: Some(name(former)), ..enrolment }
}

fn of_any(job: &str) -> Enrolment {
    Enrolment::new(name(job), ScheduleIdentity::of_text("a schedule"), Authority::Any)
}

async fn enrol_on(locker: &dyn Locker, enrolment: &Enrolment) -> Enrolled {
    let mut enrolled = locker.enrol(std::slice::from_ref(enrolment)).await.expect("an answer");
    enrolled.pop().expect("one answer per enrolment")
}

async fn taken(locker: &dyn Locker, enrolment: &Enrolment) -> (DateTime<Utc>, StoredState) {
    match enrol_on(locker, enrolment).await {
        Enrolled::Done { cursor, stored } => (cursor, *stored),
        other => panic!("{enrolment:?} was answered with {other:?}"),
    }
}

/// What an engine takes back that does not fire the job any more.
fn noted(enrolment: &Enrolment) -> Vec<LockKey> {
    let mut noted = vec![enrolment.key.clone(), LockKey::from(&enrolment.job)];
    noted.dedup();
    noted
}

/// The enrolment waits, for a node that fires the job under this name, which may be known.
async fn assert_fired(locker: &dyn Locker, enrolment: &Enrolment, other: &str, by: Option<NodeId>) {
    let answer = enrol_on(locker, enrolment).await;
    let Enrolled::OtherName { name: said, used: NameUse::Fired { node } } = &answer else {
        panic!("{enrolment:?} was answered with {answer:?}")
    };
    assert_eq!(*said, name(other));
    assert!(by.is_none() || *node == by, "{by:?} fires it, not {node:?}");
}

impl Suite {
    /// Those that need one node and a leader.
    pub(super) async fn renames(&mut self) {
        self.keep_leading().await;
        self.a_renamed_job_takes_everything_over_and_back().await;
        self.keep_leading().await;
        self.a_renamed_job_waits_for_runs_of_its_former_name().await;
        self.keep_leading().await;
        self.a_name_that_is_no_former_one_any_more_is_that_of_another_job().await;
    }

    /// Those that need two nodes.
    pub(super) async fn renames_among(&mut self, cluster: &mut impl Cluster, retries: bool) {
        self.keep_leading().await;
        self.a_renamed_job_waits_for_the_leader_of_its_former_name(cluster).await;
        for lock_key in [None, Some("renamed-key")] {
            self.keep_leading().await;
            self.a_renamed_job_waits_for_each_node_that_fires_the_other_name(cluster, lock_key).await;
        }
        if retries {
            self.keep_leading().await;
            self.pending_retries_go_with_the_name(cluster).await;
        }
    }

    async fn a_renamed_job_takes_everything_over_and_back(&self) {
        let (old, new) = ("renamed-old", "renamed-new");
        let cursor = self.due_job(old).await;
        let tick = self.tick(old, cursor, just_after(cursor));
        let token = self.granted(&tick).await;
        let failed = Completion { outcome: Outcome::Failed, ..completion(&tick, token) };
        self.locker.complete(&[failed]).await.expect("an answer");
        let pause = Pause { note: Some("renamed".into()), ..Pause::until_resumed() };
        self.locker.pause(&[name(old)], Some(&pause)).await.expect("an answer");

        let by_term = Authority::Term(self.term);
        let (moved, stored) = taken(&*self.locker, &renamed(new, old, by_term)).await;
        assert_eq!(moved, just_after(cursor).instant(), "its cursor goes with it");
        assert_eq!((stored.failures, stored.pause.and_then(|pause| pause.note)), (1, pause.note));
        assert_eq!(self.claim(&self.tick(old, moved, just_after(moved))).await, Verdict::Unknown);
        assert_eq!(self.skip(old, moved).await, Advanced::Unknown);

        self.locker.pause(&[name(new)], None).await.expect("an answer");
        let next = self.tick(new, moved, just_after(moved));
        let greater = self.granted(&next).await;
        assert!(greater > token, "{greater:?} follows {token:?}");
        assert_eq!(self.complete(&next, greater).await, Completed::Recorded { cursor: None, pause: None });
        let (same, stored) = taken(&*self.locker, &renamed(new, old, by_term)).await;
        assert_eq!((same, stored.failures), (just_after(moved).instant(), 0), "nothing is left to take over");

        let back = self.enrol(old, "a schedule").await;
        assert_eq!(back, same, "it goes back to a node that has the former name");
        assert_eq!(self.claim(&self.tick(new, back, just_after(back))).await, Verdict::Unknown);
        let last = self.tick(old, back, just_after(back));
        let token = self.granted(&last).await;
        assert!(token > greater, "{token:?} follows {greater:?}");
        self.complete(&last, token).await;
    }

    async fn a_renamed_job_waits_for_runs_of_its_former_name(&self) {
        let (old, new) = ("running-old", "running-new");
        let cursor = self.due_job(old).await;
        let tick = self.tick(old, cursor, just_after(cursor));
        let token = self.granted(&tick).await;
        let enrolment = renamed(new, old, Authority::Term(self.term));

        let waits = enrol_on(&*self.locker, &enrolment).await;
        assert_eq!(waits, Enrolled::OtherName { name: name(old), used: NameUse::Running });

        self.complete(&tick, token).await;
        assert_eq!(taken(&*self.locker, &enrolment).await.0, just_after(cursor).instant());
    }

    async fn a_name_that_is_no_former_one_any_more_is_that_of_another_job(&self) {
        let (old, new) = ("former-old", "former-new");
        let cursor = self.due_job(old).await;
        let tick = self.tick(old, cursor, just_after(cursor));
        let token = self.granted(&tick).await;
        self.complete(&tick, token).await;
        let (moved, _) = taken(&*self.locker, &renamed(new, old, Authority::Term(self.term))).await;

        assert_eq!(self.enrol(new, "a schedule").await, moved, "it does not say its former name any more");
        let another = self.enrol(old, "a schedule").await;

        assert!(another >= moved, "no tick of the name runs again: {another} is before {moved}");
        let tick = self.tick(new, moved, just_after(moved));
        let token = self.granted(&tick).await;
        self.complete(&tick, token).await;
    }

    async fn a_renamed_job_waits_for_the_leader_of_its_former_name(&self, cluster: &mut impl Cluster) {
        let (_, other) = another(cluster).await;
        self.enrol("led-old", "a schedule").await;
        let by_other = renamed("led-new", "led-old", Authority::Leaderless);

        assert_fired(&*other, &by_other, "led-old", None).await;
        self.locker.withdraw(self.term, &[name("led-old")]).await.expect("an answer");
        taken(&*other, &by_other).await;

        // A name that nobody had is the former one all the same.
        taken(&*other, &renamed("first-new", "first-old", Authority::Any)).await;
        assert_fired(&*self.locker, &of_any("first-old"), "first-new", None).await;
        other.close().await;
        taken(&*self.locker, &of_any("first-old")).await;
    }

    async fn a_renamed_job_waits_for_each_node_that_fires_the_other_name(
        &self,
        cluster: &mut impl Cluster,
        lock_key: Option<&str>,
    ) {
        let [old, new] = ["each-old", "each-new"].map(|job| match lock_key {
            Some(key) => format!("{job}-{key}"),
            None => job.to_owned(),
        });
        let with_key = |enrolment: Enrolment| match lock_key {
            Some(lock_key) => Enrolment { key: key(lock_key), ..enrolment },
            None => enrolment,
        };
        let (before, after) = (with_key(of_any(&old)), with_key(renamed(&new, &old, Authority::Any)));
        let (backend, other) = another(cluster).await;
        let (dying, dead) = another(cluster).await;
        let (cursor, _) = taken(&*dead, &before).await;
        taken(&*other, &before).await;

        assert_fired(&*self.locker, &after, &old, None).await;
        cluster.kill(&dying).await;
        assert_fired(&*self.locker, &after, &old, backend.node()).await;
        assert_eq!(taken(&*other, &before).await.0, cursor, "nothing changed");

        other.retract(&noted(&before)).await.expect("an answer");
        assert_eq!(taken(&*self.locker, &after).await.0, cursor);
        tokio::time::sleep(Duration::from_millis(5)).await;
        let tick = ClaimRequest { key: before.key.clone(), ..self.tick_by(Authority::Any, &old, cursor) };
        assert_eq!(claim_on(&*other, &tick).await, Verdict::Unknown);
        assert_fired(&*other, &before, &new, None).await;
        self.locker.retract(&noted(&after)).await.expect("an answer");
        assert_eq!(taken(&*other, &before).await.0, cursor, "and back");
        other.close().await;
    }

    async fn pending_retries_go_with_the_name(&mut self, cluster: &mut impl Cluster) {
        let retried = Enrolment { retry_lost: true, ..of_any("owed-old") };
        let after = Enrolment { retry_lost: true, ..renamed("owed-new", "owed-old", Authority::Any) };
        let lost = self.dies_with(cluster, &retried, "owed-old").await;

        let waits = enrol_on(&*self.locker, &after).await;
        assert_eq!(waits, Enrolled::OtherName { name: name("owed-old"), used: NameUse::Running });
        assert_eq!(self.closed().await.len(), 1);
        let (_, stored) = taken(&*self.locker, &after).await;

        assert_eq!(stored.pending_retries.iter().map(|retry| retry.run).collect::<Vec<_>>(), [lost.run]);
        let resumed = ClaimRequest {
            job: name("owed-new"),
            key: key("owed-new"),
            tick: None,
            resume_lost: true,
            ..lost.clone()
        };
        let token = self.granted(&resumed).await;
        assert!(Some(token) > self.victim_token);
        self.complete(&resumed, token).await;
    }
}

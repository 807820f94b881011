//! Names that are out of use are forgotten, and come back without harm.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::{Suite, just_after, key, name};
use crate::{
    name::FencingToken,
    port::{Authority, Completed, Enrolled, Enrolment, Pause, ScheduleIdentity, TickClaim, Verdict},
};

/// For how long names must have been out of use: longer than a store takes for two calls.
const AFTER: Duration = Duration::from_secs(2);
/// A time in which nothing is out of use.
const NEVER: Duration = Duration::from_secs(3_600);
const ROUND: Duration = Duration::from_millis(500);

impl Suite {
    /// On a store of one node nobody else says what is held: there only what was withdrawn is forgotten.
    pub(super) async fn forgetting(&mut self, shared: bool) {
        self.keep_leading().await;
        self.forgets(NEVER).await;
        let run = self.manual("kept-run", "kept-run");
        let held_token = self.granted(&run).await;
        for job in ["gone-withdrawn", "kept-paused", "kept-held", "gone-idle"] {
            self.due_job(job).await;
        }
        let pause = Pause { until: None, note: None, by: None };
        self.locker.pause(&[name("kept-paused")], Some(&pause)).await.expect("an answer");
        let gone = self.claimed_and_ended("gone-withdrawn").await;
        let idle = self.claimed_and_ended("gone-idle").await;
        let held = self.claimed_and_ended("kept-held").await;
        let withdrawn = [name("gone-withdrawn"), name("kept-paused")];
        self.locker.withdraw(self.term, &withdrawn).await.expect("an answer");
        let keys = ["gone-withdrawn", "kept-paused", "kept-held", "gone-idle"].map(key);
        self.locker.retract(&keys).await.expect("an answer");

        let (unused_since, mut names, mut over) = (Instant::now(), 0, false);
        // However long the rounds take: the last one begins when that time is over.
        while !over {
            tokio::time::sleep(ROUND).await;
            self.keep_leading().await;
            over = unused_since.elapsed() > AFTER + ROUND;
            // It counts how old the store is: what is held next is held from then on.
            assert_eq!(self.forgets(NEVER).await, 0);
            self.locker
                .keep_names(&[name("kept-held"), name("gone-withdrawn")], Duration::ZERO)
                .await
                .expect("an answer");
            names += self.forgets(AFTER).await;
        }

        assert!(names >= if shared { 2 } else { 1 }, "{names} were forgotten");
        assert_eq!(
            self.complete(&run, held_token).await,
            Completed::RECORDED,
            "a name with an open run is kept"
        );
        let long = Duration::from_secs(3_600);
        let stored = self.enrolled_again("kept-paused", Duration::ZERO).await.1;
        assert_eq!(stored, Some(pause), "a pause is kept");
        assert_eq!(self.enrolled_again("kept-held", long).await.0, held.0, "what is held is kept");
        let idle = if shared { vec![("gone-idle", idle)] } else { Vec::new() };
        for (job, (cursor, token)) in [("gone-withdrawn", gone)].into_iter().chain(idle) {
            let mut tick = self.tick(job, cursor, just_after(cursor));
            tick.tick = tick.tick.map(|tick| TickClaim { authority: Authority::Any, ..tick });
            assert_eq!(self.claim(&tick).await, Verdict::Unknown, "{job} is forgotten");
            let again = self.enrolled_again(job, long).await.0;
            assert!(again >= cursor, "no tick of {job} is opened again: {again} after {cursor}");
            let manual = self.manual(job, job);
            let next = self.granted(&manual).await;
            assert!(next > token, "the token of {job} grows: {next} after {token}");
            self.complete(&manual, next).await;
        }
    }

    async fn forgets(&self, after: Duration) -> usize {
        let mut names = 0;
        loop {
            let forgotten = self.locker.forget(self.term, after).await.expect("an answer");
            names += forgotten.names;
            if !forgotten.more {
                return names;
            }
        }
    }

    /// The cursor and the token of a job one of whose ticks has run.
    async fn claimed_and_ended(&self, job: &str) -> (DateTime<Utc>, FencingToken) {
        let cursor = self.enrol(job, "a schedule").await;
        let tick = self.tick(job, cursor, just_after(cursor));
        let token = self.granted(&tick).await;
        assert_eq!(self.complete(&tick, token).await, Completed::RECORDED);
        (just_after(cursor).instant(), token)
    }

    /// The cursor and the pause of a job that a node has had for so long.
    async fn enrolled_again(&self, job: &str, known_for: Duration) -> (DateTime<Utc>, Option<Pause>) {
        let enrolment =
            Enrolment::new(name(job), ScheduleIdentity::of_text("a schedule"), Authority::Term(self.term));
        let enrolled = self.locker.enrol(&[Enrolment { known_for, ..enrolment }]).await.expect("an answer");
        match enrolled.into_iter().next() {
            Some(Enrolled::Done { cursor, stored }) => (cursor, stored.pause),
            other => panic!("enrolling {job} was answered with {other:?}"),
        }
    }
}

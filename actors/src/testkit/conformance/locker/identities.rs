//! What tells a changed schedule from the same one.

use chrono::{DateTime, Utc};

use super::{Suite, just_after, name};
use crate::port::{Advanced, Authority, Enrolled, Enrolment, Inquiry, LeaderView, ScheduleIdentity};

/// As a build of the next version would have made them, of an older one, and of one whose number is longer.
const OTHER_VERSIONS: [u32; 3] = [ScheduleIdentity::VERSION + 1, 0, 123_456];

fn identity(text: &str) -> ScheduleIdentity {
    ScheduleIdentity::of_text(text)
}

impl Suite {
    pub(super) async fn identities(&mut self) {
        self.keep_leading().await;
        self.another_version_of_an_identity_keeps_the_cursor().await;
        self.it_takes_the_place_of_the_stored_one().await;
        self.another_version_does_not_bring_a_withdrawn_job_back_to_its_cursor().await;
        self.nobody_calls_another_version_another_schedule().await;
    }

    async fn enrol_identity(&self, job: &str, identity: ScheduleIdentity) -> DateTime<Utc> {
        let enrolment = Enrolment::new(name(job), identity, Authority::Term(self.term));
        match &self.locker.enrol(&[enrolment]).await.expect("an answer")[..] {
            [Enrolled::Done { cursor, .. }] => *cursor,
            other => panic!("enrolling {job} with {identity} was answered with {other:?}"),
        }
    }

    async fn another_version_of_an_identity_keeps_the_cursor(&self) {
        for version in OTHER_VERSIONS {
            let job = format!("version-{version}");
            let before = self.due_job(&job).await;

            let after = self.enrol_identity(&job, identity("whatever").with_version(version)).await;
            assert_eq!(after, before, "nobody knows whether version {version} means another schedule");
            let advanced = self.skip(&job, before).await;
            assert_eq!(advanced, Advanced::Done, "the ticks since the cursor count");
            let back = self.enrol_identity(&job, identity("something else")).await;
            assert_eq!(back, just_after(before).instant(), "nor does a node of the former version reset it");
        }
    }

    async fn it_takes_the_place_of_the_stored_one(&self) {
        for version in OTHER_VERSIONS {
            let job = format!("replaced-by-{version}");
            let of_version = |text| identity(text).with_version(version);
            let before = self.due_job(&job).await;
            self.enrol_identity(&job, of_version("a")).await;
            assert_eq!(self.enrol_identity(&job, of_version("a")).await, before);

            let changed = self.enrol_identity(&job, of_version("b")).await;

            assert!(changed > before, "a change is noticed from version {version} on");
            assert_eq!(self.enrol_identity(&job, of_version("b")).await, changed);
        }
    }

    async fn another_version_does_not_bring_a_withdrawn_job_back_to_its_cursor(&self) {
        let before = self.due_job("withdrawn-version").await;
        self.locker.withdraw(self.term, &[name("withdrawn-version")]).await.expect("an answer");

        let after = self.enrol_identity("withdrawn-version", identity("a schedule").with_version(2)).await;

        assert!(after > before, "its ticks count only from then on");
    }

    async fn nobody_calls_another_version_another_schedule(&self) {
        let asks = async |identity| {
            let inquiry = Inquiry { job: name("asked-about"), schedule: identity };
            let standings = self.locker.inquire(&[inquiry]).await.expect("an answer");
            let [standing] = standings[..] else { panic!("{standings:?}") };
            standing
        };
        for version in OTHER_VERSIONS {
            // The leader has the other version, and then the one who asks.
            self.enrol_identity("asked-about", identity("a").with_version(version)).await;
            assert_eq!(asks(identity("b")).await, LeaderView::Scheduled, "of a leader of version {version}");
            assert_eq!(asks(identity("b").with_version(version)).await, LeaderView::OtherSchedule);
            self.enrol_identity("asked-about", identity("a")).await;
            assert_eq!(asks(identity("b").with_version(version)).await, LeaderView::Scheduled);
            assert_eq!(asks(identity("b")).await, LeaderView::OtherSchedule);
        }
    }
}

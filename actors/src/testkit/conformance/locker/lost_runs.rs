//! Lost runs that go on.

use super::*;

impl Suite {
    /// Runs of dead nodes.
    pub(super) async fn lost_runs(&mut self, cluster: &mut impl Cluster) {
        self.keep_leading().await;
        self.a_lost_run_is_resumed_once_and_counted(cluster).await;
        self.keep_leading().await;
        self.a_lost_run_is_retried_however_it_is_closed(cluster).await;
        self.keep_leading().await;
        self.only_the_lost_run_itself_ends_its_pending_retry(cluster).await;
        self.keep_leading().await;
        self.a_closed_run_is_granted_again_only_as_a_pending_retry(cluster).await;
        self.keep_leading().await;
        self.each_lost_run_of_a_job_is_retried(cluster).await;
        self.keep_leading().await;
        self.a_run_that_was_lost_too_often_is_not_retried(cluster).await;
        self.keep_leading().await;
        self.a_job_that_is_withdrawn_or_records_losses_retries_none(cluster).await;
        self.keep_leading().await;
        self.a_lost_run_moves_the_cursor_of_a_job_that_goes_on_from_its_end(cluster).await;
        self.keep_leading().await;
        self.runs_of_one_job_that_are_lost_together_are_all_closed(cluster).await;
    }

    fn retried(&self, job: &str) -> Enrolment {
        Enrolment {
            retry_lost: true,
            ..Enrolment::new(name(job), ScheduleIdentity::of_text("a schedule"), Authority::Any)
        }
    }

    async fn stored_as(&self, enrolment: &Enrolment) -> StoredState {
        match self.enrol_as(enrolment.clone()).await {
            Enrolled::Done { stored, .. } => *stored,
            other => panic!("{enrolment:?} was answered with {other:?}"),
        }
    }

    /// A run of a tick that another node was granted before it died.
    pub(super) async fn dies_with(
        &mut self,
        cluster: &mut impl Cluster,
        enrolment: &Enrolment,
        lock_key: &str,
    ) -> ClaimRequest {
        let Enrolled::Done { cursor, .. } = self.enrol_as(enrolment.clone()).await else {
            panic!("not enrolled")
        };
        tokio::time::sleep(Duration::from_millis(5)).await;
        let tick = self.tick_by(Authority::Any, enrolment.job.as_str(), cursor);
        let tick = ClaimRequest { key: key(lock_key), ..tick };
        self.another_dies_with(cluster, &tick).await;
        tick
    }

    async fn another_dies_with(&mut self, cluster: &mut impl Cluster, request: &ClaimRequest) {
        let backend = match &self.victim {
            Some(victim) => victim.clone(),
            None => cluster.node().await,
        };
        let owner = backend.locker();
        owner.open().await.expect("a session opens");
        let verdict = claim_on(&*owner, request).await;
        let Verdict::Granted { token, .. } = verdict else {
            panic!("{request:?} was answered with {verdict:?}")
        };
        cluster.kill(&backend).await;
        (self.victim, self.victim_token) = (Some(backend), Some(token));
    }

    /// The run of the node that died last.
    fn lost(&self, job: &str, request: &ClaimRequest, retry: Option<PendingRetry>) -> LostRun {
        LostRun {
            job: name(job),
            run: request.run,
            node: self.victim.as_ref().and_then(|victim| victim.node()),
            token: self.victim_token,
            fire_time: request.tick.map(|tick| tick.fire_time),
            retry,
        }
    }

    pub(super) async fn closed(&self) -> Vec<LostRun> {
        self.locker.close_lost(100).await.expect("an answer").lost
    }

    fn resume_lost(&self, lost: &ClaimRequest) -> ClaimRequest {
        ClaimRequest { tick: None, resume_lost: true, ..lost.clone() }
    }

    async fn a_lost_run_is_resumed_once_and_counted(&mut self, cluster: &mut impl Cluster) {
        for (job, lock_key) in [("lost", "lost"), ("lost-with-a-key", "a-key-of-a-lost-run")] {
            let enrolment = self.retried(job);
            let lost = self.dies_with(cluster, &enrolment, lock_key).await;
            let (run, fire_time) = (lost.run, lost.tick.map(|tick| tick.fire_time));
            let early = self.claim(&self.resume_lost(&lost)).await;
            assert_eq!(early, Verdict::NotGranted, "nobody has closed it yet");

            let retry = PendingRetry { run, fire_time, named: None, losses: 1 };
            assert_eq!(self.closed().await, [self.lost(job, &lost, Some(retry))]);
            assert_eq!(self.stored_as(&enrolment).await.pending_retries, [retry]);
            self.is_told(|notification| {
                *notification == Notification::PendingRetry(PendingRetryOfJob { job: name(job), retry })
            })
            .await;

            let another_run = ClaimRequest { run: self.run(), ..self.resume_lost(&lost) };
            assert_eq!(self.claim(&another_run).await, Verdict::NotGranted);
            let another_job = ClaimRequest { job: name("lost-nothing"), ..self.resume_lost(&lost) };
            assert_eq!(self.claim(&another_job).await, Verdict::NotGranted);
            let holder = self.manual(job, lock_key);
            let (backend, other) = another(cluster).await;
            let Verdict::Granted { .. } = claim_on(&*other, &holder).await else { panic!("not granted") };
            let busy = self.claim(&self.resume_lost(&lost)).await;
            assert_eq!(busy, Verdict::Busy { holder: Some(holder.run), own: false });
            cluster.kill(&backend).await;
            let verdict = self.claim(&self.resume_lost(&lost)).await;
            let Verdict::Granted { token, lost: Some(robbed) } = verdict else { panic!("{verdict:?}") };
            assert_eq!(robbed.run, holder.run);
            self.complete(&lost, token).await;
            let token = self.granted(&self.resume_lost(&holder)).await;
            self.complete(&holder, token).await;

            let second = self.dies_with(cluster, &enrolment, lock_key).await;
            let (run, fire_time) = (second.run, second.tick.map(|tick| tick.fire_time));
            self.closed().await;
            self.another_dies_with(cluster, &self.resume_lost(&second)).await;
            let taken = self.stored_as(&enrolment).await;
            assert_eq!(taken.pending_retries, [], "it was taken up, and nobody has closed it since");
            let retry = Some(PendingRetry { run, fire_time, named: None, losses: 2 });
            assert_eq!(self.closed().await, [self.lost(job, &second, retry)]);
            let request = self.resume_lost(&second);
            let token = self.granted(&request).await;
            assert_eq!(self.granted(&request).await, token, "asked again");
            assert_eq!(self.granted(&ClaimRequest { recheck: true, ..request.clone() }).await, token);
            let (_, third) = another(cluster).await;
            assert_eq!(claim_on(&*third, &request).await, Verdict::NotGranted, "one node takes it up");
            assert_eq!(self.complete(&request, token).await, Completed::RECORDED);
            assert_eq!(self.claim(&request).await, Verdict::NotGranted, "it has ended");
            assert_eq!(self.stored_as(&enrolment).await.pending_retries, []);
            let third = self.dies_with(cluster, &enrolment, lock_key).await;
            let closed = self.closed().await;
            let losses: Vec<_> = closed.iter().map(|lost| lost.retry.map(|retry| retry.losses)).collect();
            assert_eq!(losses, [Some(1)], "another run counts anew");
            let token = self.granted(&self.resume_lost(&third)).await;
            self.complete(&third, token).await;
        }
    }

    async fn a_lost_run_is_retried_however_it_is_closed(&mut self, cluster: &mut impl Cluster) {
        let jobs = [
            ("robbed-own", "robbed-own"),
            ("robbed-key", "a-key-robbed"),
            ("robbed-job", "robbed-other-job"),
        ];
        self.enrol("robbed-other-job", "a schedule").await;
        for (job, lock_key) in jobs {
            let enrolment = self.retried(job);
            // By hand, by a job that shares the key, by a tick of such a job, by the job's own next tick.
            for thief in 0..4 {
                let lost = self.dies_with(cluster, &enrolment, lock_key).await;
                let by_any = |job: &str, cursor| self.tick_by(Authority::Any, job, cursor);
                let request = match thief {
                    0 => self.manual(job, lock_key),
                    1 => self.manual("robber-by-hand", lock_key),
                    2 => {
                        let cursor = self.due_by("robber", Authority::Any).await;
                        by_any("robber", cursor)
                    }
                    _ => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        by_any(job, lost.tick.expect("a tick").fire_time.instant())
                    }
                };
                let request = ClaimRequest { key: key(lock_key), ..request };

                let verdict = self.claim(&request).await;

                let (run, fire_time) = (lost.run, lost.tick.map(|tick| tick.fire_time));
                let retry = PendingRetry { run, fire_time, named: None, losses: 1 };
                let expected = self.lost(job, &lost, Some(retry));
                let Verdict::Granted { token, lost: Some(robbed) } = verdict else { panic!("{verdict:?}") };
                assert_eq!(*robbed, expected, "thief {thief}");
                let pending = Notification::PendingRetry(PendingRetryOfJob { job: name(job), retry });
                self.is_told(|notification| *notification == pending).await;
                self.complete(&request, token).await;
                assert_eq!(self.stored_as(&enrolment).await.pending_retries, [retry], "thief {thief}");
                let token = self.granted(&self.resume_lost(&lost)).await;
                self.complete(&lost, token).await;
            }
        }
    }

    async fn only_the_lost_run_itself_ends_its_pending_retry(&mut self, cluster: &mut impl Cluster) {
        for (job, lock_key) in [("resumed-own", "resumed-own"), ("resumed-by-key", "a-key-of-a-resumed-run")]
        {
            let enrolment = self.retried(job);
            let lost = self.dies_with(cluster, &enrolment, lock_key).await;
            self.closed().await;
            let retry = PendingRetry {
                run: lost.run,
                fire_time: lost.tick.map(|tick| tick.fire_time),
                named: None,
                losses: 1,
            };

            for outcome in [Outcome::Succeeded, Outcome::Failed, Outcome::Cancelled] {
                let end = self.run_by_hand(job, lock_key, outcome, None).await;
                self.ended(&end).await;
                let end = self.run_by_hand(job, "a-key-of-another-slot", outcome, Some(100)).await;
                self.ended(&end).await;
            }
            let Enrolled::Done { cursor, stored } = self.enrol_as(enrolment.clone()).await else {
                panic!("not enrolled")
            };
            assert_eq!(stored.pending_retries, [retry], "other runs of the job do not end it");
            let tick = ClaimRequest { key: key(lock_key), ..self.tick_by(Authority::Any, job, cursor) };
            let token = self.granted(&tick).await;
            self.complete(&tick, token).await;
            let changed =
                Enrolment { schedule: ScheduleIdentity::of_text("another schedule"), ..enrolment.clone() };
            assert_eq!(
                self.stored_as(&changed).await.pending_retries,
                [retry],
                "nor does a changed schedule"
            );

            let token = self.granted(&self.resume_lost(&lost)).await;
            assert_eq!(
                self.stored_as(&enrolment).await.pending_retries,
                [],
                "it ends when the run is resumed"
            );
            assert_eq!(self.complete(&lost, token).await, Completed::RECORDED);
            assert_eq!(self.claim(&self.resume_lost(&lost)).await, Verdict::NotGranted);
        }
    }

    async fn a_closed_run_is_granted_again_only_as_a_pending_retry(&mut self, cluster: &mut impl Cluster) {
        for (job, lock_key) in [("asked-again", "asked-again"), ("asked-again-by-key", "a-key-asked-again")] {
            self.stored_as(&self.retried(job)).await;
            let lost = self.manual(job, lock_key);
            self.another_dies_with(cluster, &lost).await;
            // Its own slot, another one, and with a holder that is to stop.
            let slot = ClaimRequest { key: key(&format!("{lock_key}-slot")), ..lost.clone() };
            let by_force = ClaimRequest { replace: true, ..lost.clone() };
            let plain = [lost.clone(), slot, by_force];
            assert_eq!(self.claim(&lost).await, Verdict::GrantedBefore, "nobody has closed it yet");
            assert_eq!(self.closed().await.len(), 1);
            for request in &plain {
                assert_eq!(
                    self.claim(request).await,
                    Verdict::GrantedBefore,
                    "it is to be retried: {request:?}"
                );
            }

            let (_, other) = another(cluster).await;
            let Verdict::Granted { token, .. } = claim_on(&*other, &self.resume_lost(&lost)).await else {
                panic!("it is to be retried")
            };
            for request in &plain {
                assert_eq!(self.claim(request).await, Verdict::GrantedBefore, "it goes on: {request:?}");
            }
            assert_eq!(complete_on(&*other, &lost, token).await, Completed::RECORDED);
            for request in &plain {
                assert_eq!(self.claim(request).await, Verdict::GrantedBefore, "it has ended: {request:?}");
            }
        }
    }

    async fn each_lost_run_of_a_job_is_retried(&mut self, cluster: &mut impl Cluster) {
        let enrolment = self.retried("lost-each");
        let mut lost = Vec::new();
        for _ in 0..3 {
            lost.push(self.dies_with(cluster, &enrolment, "lost-each").await);
            self.closed().await;
        }
        let retry: Vec<_> = lost
            .iter()
            .map(|lost| PendingRetry {
                run: lost.run,
                fire_time: lost.tick.map(|tick| tick.fire_time),
                named: None,
                losses: 1,
            })
            .collect();
        assert_eq!(self.stored_as(&enrolment).await.pending_retries, retry, "in the order of the runs");
        let of_job = |pending_retries: Vec<PendingRetryOfJob>| -> Vec<PendingRetry> {
            let pending_retries =
                pending_retries.into_iter().filter(|pending| pending.job.as_str() == "lost-each");
            pending_retries.map(|pending| pending.retry).collect()
        };
        let pending_retries = self.locker.pending_retries(None, 100).await.expect("an answer");
        assert!(pending_retries.is_sorted_by_key(|pending| pending.retry.run), "{pending_retries:?}");
        assert_eq!(of_job(pending_retries), retry);
        let next = self.locker.pending_retries(Some(retry[0].run), 1).await.expect("an answer");
        assert_eq!(of_job(next), retry[1..2], "a page of those after a run");
        assert_eq!(self.locker.pending_retries(Some(retry[2].run), 100).await.expect("an answer"), []);

        for at in [1, 0, 2] {
            let resume_lost =
                ClaimRequest { key: key(&format!("a-slot-{at}")), ..self.resume_lost(&lost[at]) };
            let token = self.granted(&resume_lost).await;
            self.complete(&resume_lost, token).await;
        }

        assert_eq!(self.stored_as(&enrolment).await.pending_retries, []);
    }

    async fn a_run_that_was_lost_too_often_is_not_retried(&mut self, cluster: &mut impl Cluster) {
        for (job, lock_key) in [("killing", "killing"), ("killing-by-key", "a-key-of-a-killer")] {
            let enrolment = self.retried(job);
            let lost = self.dies_with(cluster, &enrolment, lock_key).await;
            for losses in 1..LOSSES_MAX {
                let closed = self.closed().await;
                let [LostRun { retry: Some(retry), .. }] = closed[..] else { panic!("{closed:?}") };
                assert_eq!((retry.run, retry.losses), (lost.run, losses));
                self.another_dies_with(cluster, &self.resume_lost(&lost)).await;
            }

            assert_eq!(self.closed().await[0].retry, None);
            assert_eq!(self.stored_as(&enrolment).await.pending_retries, []);
            assert_eq!(self.claim(&self.resume_lost(&lost)).await, Verdict::NotGranted);
        }
    }

    async fn a_job_that_is_withdrawn_or_records_losses_retries_none(&mut self, cluster: &mut impl Cluster) {
        let recorded = Enrolment { retry_lost: false, ..self.retried("recorded") };
        let lost = self.dies_with(cluster, &recorded, "recorded").await;
        assert_eq!(self.closed().await[0].retry, None);
        assert_eq!(self.claim(&self.resume_lost(&lost)).await, Verdict::NotGranted);

        let retried = self.retried("no-longer-retried");
        let lost = self.dies_with(cluster, &retried, "no-longer-retried").await;
        self.closed().await;
        let recorded = Enrolment { retry_lost: false, ..retried.clone() };
        assert_eq!(self.stored_as(&recorded).await.pending_retries, []);
        assert_eq!(self.claim(&self.resume_lost(&lost)).await, Verdict::NotGranted);
        assert_eq!(self.stored_as(&retried).await.pending_retries, [], "it is forgiven");

        let withdrawn = self.retried("withdrawn-lost");
        let lost = self.dies_with(cluster, &withdrawn, "withdrawn-lost").await;
        self.closed().await;
        self.locker.withdraw(self.term, &[name("withdrawn-lost")]).await.expect("an answer");
        assert_eq!(self.claim(&self.resume_lost(&lost)).await, Verdict::NotGranted);
        assert_eq!(self.stored_as(&withdrawn).await.pending_retries, []);

        let lost = self.dies_with(cluster, &withdrawn, "withdrawn-lost").await;
        self.locker.withdraw(self.term, &[name("withdrawn-lost")]).await.expect("an answer");
        assert_eq!(self.closed().await[0].retry, None, "withdrawn before it was closed");
        assert_eq!(self.claim(&self.resume_lost(&lost)).await, Verdict::NotGranted);
    }

    async fn a_lost_run_moves_the_cursor_of_a_job_that_goes_on_from_its_end(
        &mut self,
        cluster: &mut impl Cluster,
    ) {
        let jobs = [("lost-from-end", "lost-from-end"), ("lost-from-end-by-key", "a-key-lost-from-end")];
        for (job, lock_key) in jobs {
            let enrolment =
                Enrolment::new(name(job), ScheduleIdentity::of_text("a schedule"), Authority::Any);
            let enrolment = Enrolment { from_completion: true, ..enrolment };
            for by_thief in [false, true] {
                let lost = self.dies_with(cluster, &enrolment, lock_key).await;
                let fire_time = lost.tick.expect("a tick").fire_time.instant();
                tokio::time::sleep(Duration::from_millis(20)).await;
                if by_thief {
                    let thief = self.manual("thief-from-end", lock_key);
                    let token = self.granted(&thief).await;
                    self.complete(&thief, token).await;
                } else {
                    assert_eq!(self.closed().await.len(), 1);
                }

                let enrolled = self.enrol_as(enrolment.clone()).await;
                let Enrolled::Done { cursor, .. } = enrolled else { panic!("{enrolled:?}") };
                assert!(cursor >= fire_time + TimeDelta::milliseconds(20), "{cursor} after {fire_time}");
                assert_eq!(FireTime::new(cursor).instant(), cursor, "whole milliseconds");
            }
            let lost = self.dies_with(cluster, &enrolment, lock_key).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            let next = self.tick_by(Authority::Any, job, lost.tick.expect("a tick").fire_time.instant());
            let next = ClaimRequest { key: key(lock_key), ..next };
            let token = self.granted(&next).await;
            let Enrolled::Done { cursor, .. } = self.enrol_as(enrolment.clone()).await else {
                panic!("enrolled")
            };
            assert_eq!(cursor, next.tick.expect("a tick").fire_time.instant(), "its own next tick decides");
            self.complete(&next, token).await;
        }
    }

    async fn runs_of_one_job_that_are_lost_together_are_all_closed(&self, cluster: &mut impl Cluster) {
        let enrolment = self.retried("lost-together");
        self.enrol_as(enrolment.clone()).await;
        let (backend, owner) = another(cluster).await;
        let keys = ["lost-together", "a-key-lost-together", "another-key-lost-together"];
        let mut expected = Vec::new();
        let mut granted = Vec::new();
        for lock_key in keys {
            let manual = self.manual("lost-together", lock_key);
            let verdict = claim_on(&*owner, &manual).await;
            let Verdict::Granted { token, .. } = verdict else { panic!("{verdict:?}") };
            expected.push(manual.run);
            granted.push((manual, token));
        }
        cluster.kill(&backend).await;

        let mut closed = self.closed().await;

        closed.sort_by_key(|lost| lost.run);
        assert_eq!(closed.iter().map(|lost| lost.run).collect::<Vec<_>>(), expected);
        assert!(closed.iter().all(|lost| lost.retry.is_some_and(|retry| retry.losses == 1)), "{closed:?}");
        let retry: Vec<_> =
            self.stored_as(&enrolment).await.pending_retries.iter().map(|retry| retry.run).collect();
        assert_eq!(retry, expected, "each of them is to be retried");
        for (nth, (run, former)) in granted.iter().enumerate() {
            let slot = format!("a-key-never-claimed-{nth}");
            let again = ClaimRequest { key: key(&slot), ..self.resume_lost(run) };
            let token = self.granted(&again).await;
            assert!(token > *former, "{token:?} after {former:?}, under another key");
            self.complete(&again, token).await;
        }
    }
}

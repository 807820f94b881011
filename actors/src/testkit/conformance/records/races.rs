//! Of clients that want the same at once, one gets it.

use futures_util::{
    FutureExt,
    future::{join, join_all},
};

use super::*;

/// How often each client counts.
const COUNTS: usize = 40;

impl Suite {
    pub(super) async fn races(&self) {
        self.clients_that_count_at_once_lose_nothing().await;
        self.answers_belong_to_their_questions().await;
        self.of_a_commit_and_the_end_of_its_session_one_comes_first().await;
        self.of_a_commit_of_the_leader_and_a_takeover_one_comes_first().await;
        self.a_commit_that_is_given_up_is_done_or_not().await;
    }

    /// Each client several times, in tasks that may run on several threads.
    async fn clients_that_count_at_once_lose_nothing(&self) {
        let tasks = [&self.first, &self.second, &self.first, &self.second].map(|client| {
            let client = client.clone();
            tokio::spawn(async move {
                let mut wins = Vec::new();
                while wins.len() < COUNTS {
                    let stored = only(read(&*client, &["counter"]).await);
                    let count = u64::from_be_bytes(stored.bytes.try_into().unwrap_or_default()) + 1;
                    let change = vec![put("counter", stored.version, &count.to_be_bytes())];
                    if let UnitAnswer::Made { .. } = answer(&*client, change).await {
                        wins.push(count);
                    }
                }
                wins
            })
        });
        let mut wins: Vec<u64> = Vec::new();
        for task in tasks {
            wins.extend(task.await.expect("it counts"));
        }
        wins.sort_unstable();
        let expected: Vec<u64> = (1..=4 * COUNTS as u64).collect();
        assert_eq!(wins, expected, "each count was won once");
    }

    async fn answers_belong_to_their_questions(&self) {
        let versions = join_all((0..32).map(|at: u8| async move {
            let id = format!("question-{at}");
            let version = only(made(&*self.first, vec![put(&id, Version::ABSENT, &[at])]).await);
            let record = only(read(&*self.first, &[&id]).await);
            assert_eq!(record, StoredRecord { version, bytes: vec![at] });
            let late = answer(&*self.first, vec![put(&id, Version::ABSENT, &[at])]).await;
            assert_eq!(late, UnitAnswer::Conflict);
            version
        }));
        versions.await;
    }

    /// Once the end of a session is answered, nothing is done in its name.
    async fn of_a_commit_and_the_end_of_its_session_one_comes_first(&self) {
        for round in 0..20 {
            let id = format!("ended-{round}");
            let session = self.first.open(self.long).await.expect("a session opens");
            let units = vec![unit(vec![put(&id, Version::ABSENT, b"1")])];
            let asked = Commit { alive: vec![session], units, ..Commit::default() };
            let end_and_look = async {
                self.second.end(session).await.expect("an answer");
                only(read(&*self.second, &[&id]).await)
            };
            let (committed, seen) = join(self.first.commit(&asked), end_and_look).await;
            let made = matches!(committed.expect("an answer"), Committed::Units { .. });
            assert_eq!(seen.version.is_present(), made, "round {round}: done before the end, or never");
            assert_eq!(self.stored(&id).await, seen, "round {round}: nothing comes later");
        }
    }

    /// Once a takeover is answered, nothing is done that rests on the leader before.
    async fn of_a_commit_of_the_leader_and_a_takeover_one_comes_first(&self) {
        let name = [RecordName::only(RecordKind::Leader)];
        for round in 0..20 {
            let id = format!("guarded-{round}");
            let leader = self.first.read(&name, &[]).await.expect("an answer").records[0].version;
            let units = vec![unit(vec![put(&id, Version::ABSENT, b"1")])];
            let asked = Commit { alive: vec![self.own], leader: Some(leader), server: None, units };
            let take_over_and_look = async {
                let taken = self.lead(&*self.second, leader, b"another").await;
                assert!(matches!(taken, Committed::Units { .. }), "nobody else wants the lead: {taken:?}");
                only(read(&*self.second, &[&id]).await)
            };
            let (committed, seen) = join(self.first.commit(&asked), take_over_and_look).await;
            let made = matches!(committed.expect("an answer"), Committed::Units { .. });
            assert_eq!(seen.version.is_present(), made, "round {round}: done before the takeover, or never");
            assert_eq!(self.stored(&id).await, seen, "round {round}: nothing comes later");
        }
    }

    async fn a_commit_that_is_given_up_is_done_or_not(&self) {
        let mut version = self.create("given-up", b"1").await;
        for _ in 0..20 {
            let units =
                vec![unit(vec![put("given-up", version, b"2"), put("given-up-too", Version::ABSENT, b"2")])];
            let _ = self.first.commit(&unguarded(units)).now_or_never();
            // The client goes on, and what was given up is done as a whole, or not at all.
            let records = read(&*self.first, &["given-up", "given-up-too"]).await;
            assert_eq!(records[0].version != version, records[1].version.is_present(), "as a whole");
            let again =
                vec![put("given-up", records[0].version, b"3"), delete("given-up-too", records[1].version)];
            match answer(&*self.second, again).await {
                UnitAnswer::Made { versions } => version = versions[0],
                UnitAnswer::Conflict => version = self.settled("given-up-too").await,
            }
        }
    }

    /// The version of what was given up, once it was done after all.
    async fn settled(&self, other: &str) -> Version {
        let records = read(&*self.first, &["given-up", other]).await;
        made(&*self.first, vec![put("given-up", records[0].version, b"4"), delete(other, records[1].version)])
            .await[0]
    }
}

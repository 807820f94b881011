//! Guards hold for a whole commit.

use super::*;

impl Suite {
    pub(super) async fn guards(&self) {
        self.what_a_dead_session_asks_is_not_done().await;
        self.what_rests_on_a_leader_that_moved_is_not_done().await;
        self.a_commit_without_units_says_whether_its_guards_hold().await;
        self.what_another_server_would_make_is_not_done().await;
    }

    async fn open(&self) -> RecordSession {
        self.second.open(self.long).await.expect("a session opens")
    }

    async fn what_a_dead_session_asks_is_not_done(&self) {
        let (term, dead) = (self.open().await, self.open().await);
        let units = vec![unit(vec![put("guarded", Version::ABSENT, b"1")]), unit(Vec::new())];
        let guarded = |alive: &[RecordSession]| Commit {
            alive: alive.to_vec(),
            units: units.clone(),
            ..Commit::default()
        };
        self.second.end(dead).await.expect("an answer");
        let never = RecordSession(u64::MAX / 3);

        for (alive, expected) in [
            (vec![dead], dead),
            (vec![self.own, dead], dead),
            (vec![dead, self.own], dead),
            (vec![term, never], never),
        ] {
            assert_eq!(commit(&*self.first, &guarded(&alive)).await, Committed::Dead(expected), "{alive:?}");
        }
        assert_eq!(self.stored("guarded").await, StoredRecord::ABSENT, "nothing was done");
        let both = answers(&*self.first, &guarded(&[self.own, term])).await;
        assert!(both.iter().all(|answer| *answer != UnitAnswer::Conflict), "{both:?}");
        assert!(self.stored("guarded").await.version.is_present());
        self.second.end(term).await.expect("an answer");
    }

    /// Writes the leader's record, if it still has this version.
    pub(super) async fn lead(&self, client: &dyn Records, version: Version, bytes: &[u8]) -> Committed {
        let name = RecordName::only(RecordKind::Leader);
        let change = RecordChange { name, version, change: Change::Put(bytes.to_vec()) };
        let asked = Commit {
            alive: vec![self.own],
            leader: Some(version),
            server: None,
            units: vec![unit(vec![change])],
        };
        commit(client, &asked).await
    }

    async fn what_rests_on_a_leader_that_moved_is_not_done(&self) {
        let asked = |leader, id: &str| Commit {
            alive: vec![self.own],
            leader: Some(leader),
            server: None,
            units: vec![unit(vec![put(id, Version::ABSENT, b"1")])],
        };
        let none = Version::ABSENT;
        let free = answers(&*self.first, &asked(none, "leaderless")).await;
        assert_ne!(free, [UnitAnswer::Conflict], "there is no leader");

        let Committed::Units { answers: won, .. } = self.lead(&*self.second, none, b"term 1").await else {
            panic!("nobody leads")
        };
        let UnitAnswer::Made { versions } = only(won) else { panic!("nobody else wanted it") };
        let leader = only(versions);
        assert_eq!(self.lead(&*self.first, none, b"term 1").await, Committed::LeaderMoved);
        for moved in [none, Version(leader.0 ^ 1)] {
            assert_eq!(commit(&*self.first, &asked(moved, "deposed")).await, Committed::LeaderMoved);
        }
        assert_eq!(self.stored("deposed").await, StoredRecord::ABSENT, "nothing was done");
        let led = answers(&*self.first, &asked(leader, "led")).await;
        assert_ne!(led, [UnitAnswer::Conflict], "it leads");

        let Committed::Units { answers: next, .. } = self.lead(&*self.first, leader, b"term 1").await else {
            panic!("the version is the present one")
        };
        assert_ne!(only(next), UnitAnswer::Conflict);
        let late = commit(&*self.second, &asked(leader, "late")).await;
        assert_eq!(late, Committed::LeaderMoved, "it was written again, with the same bytes");
        let unguarded = Commit { leader: None, ..asked(leader, "whoever-leads") };
        assert_ne!(answers(&*self.second, &unguarded).await, [UnitAnswer::Conflict]);
    }

    async fn a_commit_without_units_says_whether_its_guards_hold(&self) {
        let name = RecordName::only(RecordKind::Leader);
        let leader = self.first.read(&[name], &[]).await.expect("an answer").records[0].version;
        let asked = |alive, leader| Commit { alive: vec![alive], leader: Some(leader), ..Commit::default() };
        let dead = self.open().await;
        self.second.end(dead).await.expect("an answer");

        assert_eq!(answers(&*self.first, &asked(self.own, leader)).await, []);
        assert_eq!(commit(&*self.first, &asked(dead, leader)).await, Committed::Dead(dead));
        let moved = commit(&*self.first, &asked(self.own, Version(leader.0 ^ 1))).await;
        assert_eq!(moved, Committed::LeaderMoved);
    }

    /// Of a store that tells its servers from each other.
    async fn what_another_server_would_make_is_not_done(&self) {
        let Some(server) = self.first.server() else { return };
        let asked = |server, id: &str| Commit {
            server: Some(server),
            ..unguarded(vec![unit(vec![put(id, Version::ABSENT, b"1")])])
        };

        let other = commit(&*self.first, &asked(RecordServer(server.0 ^ 1), "elsewhere")).await;
        assert_eq!(other, Committed::OtherServer);
        assert_eq!(self.stored("elsewhere").await, StoredRecord::ABSENT, "nothing was done");
        assert_eq!(self.second.server(), Some(server), "both clients are answered by one server");
        let made = answers(&*self.second, &asked(server, "here")).await;
        assert_ne!(made, [UnitAnswer::Conflict]);
    }
}

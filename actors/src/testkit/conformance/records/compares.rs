//! A record is written only over the version that was read.

use std::collections::HashSet;

use super::*;

impl Suite {
    pub(super) async fn compares(&self) {
        self.a_record_is_written_only_over_the_version_that_was_read().await;
        self.a_record_that_is_created_again_has_another_version().await;
        self.a_record_is_deleted_only_in_the_version_that_was_read().await;
        self.a_record_may_be_compared_and_kept().await;
        self.a_unit_is_made_as_a_whole().await;
        self.a_unit_that_conflicts_leaves_the_others().await;
        self.units_may_share_what_they_keep().await;
        self.what_changes_a_record_twice_is_refused().await;
    }

    async fn a_record_is_written_only_over_the_version_that_was_read(&self) {
        assert_eq!(self.stored("compared").await, StoredRecord::ABSENT);
        let other = Version(u64::MAX / 3);
        let missing = answer(&*self.first, vec![put("compared", other, b"0")]).await;
        assert_eq!(missing, UnitAnswer::Conflict, "it is not there in that version");

        let first = self.create("compared", b"1").await;
        assert!(first.is_present());
        assert_eq!(self.stored("compared").await, StoredRecord { version: first, bytes: b"1".to_vec() });
        for client in [&self.first, &self.second] {
            for version in [Version::ABSENT, other] {
                let answered = answer(&**client, vec![put("compared", version, b"2")]).await;
                assert_eq!(answered, UnitAnswer::Conflict, "it has another version than {version:?}");
            }
        }
        let second = only(made(&*self.second, vec![put("compared", first, b"1")]).await);
        assert_ne!(second, first, "each write gives another version, also if the bytes are the same");
        let stale = answer(&*self.first, vec![put("compared", first, b"3")]).await;
        assert_eq!(stale, UnitAnswer::Conflict, "somebody else has written it");
        assert_eq!(self.stored("compared").await, StoredRecord { version: second, bytes: b"1".to_vec() });
    }

    async fn a_record_that_is_created_again_has_another_version(&self) {
        let mut versions = HashSet::new();
        let mut stale = None;
        for round in 0..20 {
            let version = self.create("again", b"the same").await;
            assert!(versions.insert(version), "version {version:?} came twice, in round {round}");
            if let Some(stale) = stale {
                let answered = answer(&*self.second, vec![put("again", stale, b"late")]).await;
                assert_eq!(answered, UnitAnswer::Conflict, "it was deleted and created again");
            }
            made(&*self.first, vec![delete("again", version)]).await;
            stale = Some(version);
        }
    }

    async fn a_record_is_deleted_only_in_the_version_that_was_read(&self) {
        let version = self.create("deleted", b"1").await;
        for other in [Version::ABSENT, Version(version.0 ^ 1)] {
            let answered = answer(&*self.first, vec![delete("deleted", other)]).await;
            assert_eq!(answered, UnitAnswer::Conflict, "it has another version than {other:?}");
        }
        let versions = made(&*self.second, vec![delete("deleted", version)]).await;
        assert_eq!(versions, [Version::ABSENT]);
        assert_eq!(self.stored("deleted").await, StoredRecord::ABSENT);
        let again = answer(&*self.first, vec![delete("deleted", version)]).await;
        assert_eq!(again, UnitAnswer::Conflict, "it is gone");
        let versions = made(&*self.first, vec![delete("deleted", Version::ABSENT)]).await;
        assert_eq!(versions, [Version::ABSENT], "deleting what is absent changes nothing");
    }

    async fn a_record_may_be_compared_and_kept(&self) {
        let version = self.create("kept", b"1").await;
        let kept = vec![keep("kept", version), keep("kept-absent", Version::ABSENT)];
        assert_eq!(made(&*self.second, kept).await, [version, Version::ABSENT]);
        assert_eq!(self.stored("kept").await, StoredRecord { version, bytes: b"1".to_vec() });
        for stale in [keep("kept", Version::ABSENT), keep("kept-absent", version)] {
            assert_eq!(answer(&*self.first, vec![stale]).await, UnitAnswer::Conflict);
        }
        assert_eq!(self.stored("kept-absent").await, StoredRecord::ABSENT, "nothing is created by a compare");
    }

    async fn a_unit_is_made_as_a_whole(&self) {
        let there = self.create("whole", b"1").await;
        let gone = self.create("whole-deleted", b"1").await;
        let stale = Version(there.0 ^ 1);
        let rest = [
            put("whole", there, b"2"),
            delete("whole-deleted", gone),
            put("whole-new", Version::ABSENT, b"2"),
        ];
        let last = self.create("whole-last", b"1").await;
        let bad = [
            put("whole-last", stale, b"2"),
            keep("whole-last", stale),
            delete("whole-last", stale),
            put("whole-last", Version::ABSENT, b"2"),
            keep("whole-absent", stale),
        ];
        for bad in bad {
            for at in [0, 1, 3] {
                let mut records = rest.to_vec();
                records.insert(at, bad.clone());
                let answered = answer(&*self.first, records).await;
                assert_eq!(answered, UnitAnswer::Conflict, "{bad:?} at {at}");
            }
            let seen: Vec<_> = ["whole", "whole-deleted", "whole-new", "whole-last"].to_vec();
            let versions: Vec<_> =
                read(&*self.second, &seen).await.into_iter().map(|record| record.version).collect();
            assert_eq!(versions, [there, gone, Version::ABSENT, last], "nothing was done: {bad:?}");
        }

        let mut records = rest.to_vec();
        records.push(keep("whole-last", last));
        let versions = made(&*self.first, records).await;
        let after: Vec<_> = read(&*self.second, &["whole", "whole-deleted", "whole-new", "whole-last"])
            .await
            .into_iter()
            .map(|record| record.version)
            .collect();
        assert_eq!(after, versions, "the answer names the versions from then on");
        assert_eq!((versions[1], versions[3]), (Version::ABSENT, last));
    }

    async fn a_unit_that_conflicts_leaves_the_others(&self) {
        let stale = Version(7);
        let units = vec![
            unit(vec![put("beside-1", Version::ABSENT, b"1")]),
            unit(vec![put("beside-2", stale, b"1"), put("beside-3", Version::ABSENT, b"1")]),
            unit(vec![put("beside-4", Version::ABSENT, b"1"), delete("beside-5", Version::ABSENT)]),
            unit(vec![keep("beside-6", stale)]),
            unit(Vec::new()),
        ];
        let answered = answers(&*self.first, &unguarded(units)).await;
        let conflicts: Vec<_> = answered.iter().map(|answer| *answer == UnitAnswer::Conflict).collect();
        assert_eq!(conflicts, [false, true, false, true, false], "{answered:?}");
        let there: Vec<_> =
            read(&*self.second, &["beside-1", "beside-2", "beside-3", "beside-4", "beside-5"])
                .await
                .into_iter()
                .map(|record| record.version.is_present())
                .collect();
        assert_eq!(there, [true, false, false, true, false]);
    }

    async fn units_may_share_what_they_keep(&self) {
        let shared = self.create("shared", b"1").await;
        let units = |version| {
            let of = |id| unit(vec![keep("shared", version), put(id, Version::ABSENT, b"1")]);
            unguarded(["sharing-1", "sharing-2", "sharing-3"].map(of).to_vec())
        };
        let answered = answers(&*self.first, &units(Version(shared.0 ^ 1))).await;
        assert_eq!(answered, [UnitAnswer::Conflict, UnitAnswer::Conflict, UnitAnswer::Conflict]);
        let answered = answers(&*self.first, &units(shared)).await;
        assert!(answered.iter().all(|answer| *answer != UnitAnswer::Conflict), "{answered:?}");
    }

    async fn what_changes_a_record_twice_is_refused(&self) {
        let version = self.create("twice", b"1").await;
        let [put, kept, gone] =
            [put("twice", version, b"2"), keep("twice", version), delete("twice", version)];
        let stale = keep("twice", Version::ABSENT);
        let pairs = [
            (put.clone(), put.clone()),
            (put.clone(), kept.clone()),
            (kept.clone(), gone.clone()),
            (gone.clone(), put.clone()),
            (kept.clone(), stale),
        ];
        for (one, two) in pairs {
            let in_one = unguarded(vec![unit(vec![one.clone(), two.clone()])]);
            let in_two = unguarded(vec![unit(vec![one]), unit(Vec::new()), unit(vec![two])]);
            for asked in [in_one, in_two] {
                assert_over_limit(self.first.commit(&asked).await, &format!("{asked:?}"));
            }
        }
        let in_one = unguarded(vec![unit(vec![kept.clone(), kept])]);
        assert_over_limit(self.first.commit(&in_one).await, "a compare that is made twice");
        assert_eq!(self.stored("twice").await.version, version, "nothing was done");
    }
}

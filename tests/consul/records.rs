//! The port, and elector and locker over it.

use callsheet::{
    port::{
        Change, Commit, Committed, HINT_BYTES_MAX, RECORD_ID_MAX, RecordChange, RecordKind, RecordName, Unit,
        UnitAnswer, Version,
    },
    testkit::{RecordNodes, conformance},
};

use super::{SECOND, client, harness, made, name, one, store::Clients, stored, write};

#[tokio::test]
async fn it_is_a_store_of_records() {
    conformance::records(&mut Clients { scope: harness::scope("suite"), connect: client }).await;
}

#[tokio::test]
async fn consul_is_an_elector() {
    let scope = harness::scope("elector");
    conformance::elector(&mut RecordNodes::new(|| client(&scope))).await;
}

#[tokio::test]
async fn consul_is_a_locker() {
    let scope = harness::scope("locker");
    conformance::locker(&mut RecordNodes::new(|| client(&scope))).await;
}

#[tokio::test]
async fn a_scope_may_have_any_name() {
    for scope in ["/", "a/b", "50 %", "größe", "a?b#c"] {
        let scope = harness::scope(scope);
        let (first, second) = (client(&scope), client(&scope));
        write(&*first, "job", Version::ABSENT, "here").await;
        assert_eq!(stored(&*second, "job").await.as_deref(), Some("here"), "{scope}");
        let page = second.list(RecordKind::Name, None, 10).await.expect("a page");
        assert_eq!(page.records.len(), 1, "{scope}");
    }
}

#[tokio::test]
async fn a_commit_as_large_as_it_may_be_is_made() {
    let records = client(&harness::scope(&"%".repeat(60)));
    let limits = records.limits();
    let session = records.open(30 * SECOND).await.expect("it opens");
    let bytes = limits.commit_bytes / limits.commit_records;
    let mut left = limits.commit_records;
    let units = (0..limits.units).map(|unit| {
        let count = limits.unit_records.min(left - (limits.units - unit - 1));
        left -= count;
        let record = |nth| {
            let id = format!("{unit}/{nth}/");
            let name = RecordName::new(RecordKind::Pending, format!("{id:x<RECORD_ID_MAX$}"));
            RecordChange { name, version: Version::ABSENT, change: Change::Put(vec![b'x'; bytes]) }
        };
        Unit { records: (0..count).map(record).collect(), hints: vec![vec![b'h'; HINT_BYTES_MAX].into()] }
    });
    let units = units.collect();
    let commit = Commit { alive: vec![session; 2], leader: Some(Version::ABSENT), server: None, units };

    let committed = records.commit(&commit).await.expect("an answer");

    let Committed::Units { answers, .. } = committed else { panic!("the guards hold: {committed:?}") };
    assert!(answers.iter().all(|answer| matches!(answer, UnitAnswer::Made { .. })));
}

#[tokio::test]
async fn bytes_that_are_the_same_make_another_version() {
    let records = client(&harness::scope("same"));
    let mut former = write(&*records, "job", Version::ABSENT, "the same").await;
    for _ in 0..10 {
        let version = write(&*records, "job", former, "the same").await;
        assert_ne!(version, former);
        former = version;
    }
}

#[tokio::test]
async fn what_is_gone_is_not_deleted_again() {
    let records = client(&harness::scope("gone"));
    let version = write(&*records, "job", Version::ABSENT, "one").await;
    let delete = one("job", version, Change::Delete);
    assert_eq!(made(&records.commit(&delete).await.expect("an answer")), Some(Version::ABSENT));

    assert_eq!(made(&records.commit(&delete).await.expect("an answer")), None);
}

#[tokio::test]
async fn a_record_whose_id_begins_another_one_is_read_alone() {
    let records = client(&harness::scope("prefix"));
    for id in ["job", "job1", "job/1", "job 1"] {
        write(&*records, id, Version::ABSENT, id).await;
    }

    let read = records.read(&[name("job"), name("jo")], &[]).await.expect("an answer").records;

    assert_eq!((&*read[0].bytes, read[1].version), (&b"job"[..], Version::ABSENT));
}

//! What only the inside of a file shows: a disk that fills up, and commits of which nobody knows at first.

use std::time::Duration;

use callsheet_actors::port::{
    Change, Commit, Committed, RecordChange, RecordKind, RecordName, RecordsError, Unit, UnitAnswer, Version,
};

use super::{thread::Books, *};

fn put(id: &str, version: Version, bytes: usize) -> Commit {
    let name = RecordName::new(RecordKind::Name, id);
    let change = RecordChange { name, version, change: Change::Put(vec![b'x'; bytes]) };
    Commit { units: vec![Unit { records: vec![change], hints: Vec::new() }], ..Commit::default() }
}

fn is_made(committed: &Committed) -> bool {
    matches!(committed, Committed::Units { answers, .. } if matches!(answers[..], [UnitAnswer::Made { .. }]))
}

/// A store in a directory, and the way to its thread.
fn store(directory: &tempfile::TempDir) -> SqliteRecords {
    let place = Place {
        path: directory.path().join("test.db"),
        format: &RECORDS,
        durability: Durability::default(),
        exclusive: true,
    };
    let (connection, books) = open_records(&place).expect("it opens");
    let hints = books.hints();
    let thread = FileThread::start("test", place, Some(connection), books, ()).expect("a thread");
    SqliteRecords::new(Ok(Arc::new(thread)), hints)
}

#[tokio::test]
async fn a_full_disk_is_said_and_loses_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let records = store(&directory);
    let first = records.commit(&put("first", Version::ABSENT, 100)).await.expect("an answer");
    let pages = |pages: u32| {
        records.thread().ask(move |connection, _| {
            connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
        })
    };
    // It is never fewer than there are.
    pages(1).await.expect("it is set");

    let (one, two) = (put("one", Version::ABSENT, 60_000), put("two", Version::ABSENT, 10));
    let session = records.open(Duration::from_secs(60)).await.expect("a session needs no room");
    let (full, small) = tokio::join!(records.commit(&one), records.commit(&two));

    match full {
        Err(RecordsError::NotDone { reason }) => {
            assert!(reason.contains("test.db") && reason.contains("is full"), "{reason}");
            assert!(reason.ends_with("; free some space on that disk"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert!(small.as_ref().is_ok_and(is_made), "what has room is done, though it waited beside: {small:?}");
    assert!(records.renew(session).await.expect("an answer"), "the session goes on");
    pages(10_000).await.expect("it is set");
    let again = records.commit(&one).await.expect("there is room again");
    assert!(is_made(&first) && is_made(&again), "nothing of the first attempt was done");
}

/// A reference to nothing, which SQLite looks at when the transaction is committed.
const FAILS_AT_COMMIT: &str = "
CREATE TABLE of (id INTEGER PRIMARY KEY);
CREATE TABLE refers (id INTEGER REFERENCES of (id) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO refers VALUES (1);";

#[tokio::test]
async fn a_commit_that_failed_is_looked_for_in_the_file() {
    for is_there in [true, false] {
        let directory = tempfile::tempdir().expect("a directory");
        let records = store(&directory);
        let asked = put("doubtful", Version::ABSENT, 10);
        let answer = records.thread().ask(move |connection, books| {
            let committed = books.commit(connection, &asked)?;
            if is_there {
                // Behind the back of the thread, whose own commit then fails.
                books.before_commit(connection)?;
                connection.execute_batch("COMMIT")?;
            } else {
                connection.execute_batch(FAILS_AT_COMMIT)?;
            }
            Ok(committed)
        });
        let answer = answer.await;

        let name = RecordName::new(RecordKind::Name, "doubtful");
        let found = records.read(&[name], &[]).await.expect("an answer").records[0].version.is_present();
        assert_eq!(found, is_there);
        assert_eq!(answer.is_ok(), is_there, "it is answered as it is: {answer:?}");
        let next = records.commit(&put("next", Version::ABSENT, 10)).await.expect("an answer");
        assert!(is_made(&next), "and it goes on");
    }
}

#[test]
fn an_opening_that_was_not_counted_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = Place {
        path: directory.path().join("test.db"),
        format: &RECORDS,
        durability: Durability::default(),
        exclusive: true,
    };
    let connection = place.open().expect("it opens");
    connection
        .execute_batch(
            "CREATE TABLE of (id INTEGER PRIMARY KEY);
             CREATE TABLE refers (id INTEGER REFERENCES of (id) DEFERRABLE INITIALLY DEFERRED);
             CREATE TRIGGER counted AFTER UPDATE ON store BEGIN INSERT INTO refers VALUES (1); END;",
        )
        .expect("a commit that counts fails");

    let opened = RecordBooks::new(hints()).first_opened(&connection);

    assert!(opened.is_err(), "sessions of an opening that is counted again would have ids that come back");
}

#[test]
fn a_lock_says_who_has_it_until_it_is_dropped() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("test.db-lock");
    let held = LockFile::take(&path).expect("it is free");

    let refused = LockFile::take(&path).expect_err("it is held");

    let holder = format!("process {}", std::process::id());
    assert!(refused.rule.starts_with(&holder), "{refused:?}");
    drop(held);
    LockFile::take(&path).expect("it is free again");
}

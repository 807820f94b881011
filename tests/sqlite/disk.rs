//! A disk that takes no more.

use std::{
    env,
    io::{Write, stdout},
    process::Command,
};

use callsheet::{
    backend::Local,
    port::{
        Change, Commit, Committed, RecordChange, RecordKind, RecordName, Records, RecordsError, Unit,
        UnitAnswer, Version,
    },
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{place, process::Process};

/// The file in which a child writes. Without it the test of the child is none.
const CHILD: &str = "CALLSHEET_TEST_SQLITE_FULL";

async fn put(records: &dyn Records, id: u32) -> Result<Version, RecordsError> {
    let name = RecordName::new(RecordKind::Name, id.to_string());
    let change = RecordChange { name, version: Version::ABSENT, change: Change::Put(vec![b'x'; 20_000]) };
    let units = vec![Unit { records: vec![change], hints: Vec::new() }];
    match records.commit(&Commit { units, ..Commit::default() }).await? {
        Committed::Units { answers, .. } => match &answers[..] {
            [UnitAnswer::Made { versions }] => Ok(versions[0]),
            other => panic!("{id} was not there: {other:?}"),
        },
        other => panic!("it has no guards: {other:?}"),
    }
}

async fn there(records: &dyn Records) -> usize {
    records.list(RecordKind::Name, None, 1_000).await.expect("what is there can be read").records.len()
}

/// No file may grow beyond so many bytes, which the system says when it is written.
fn files_have_room_for(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum }).expect("it is set");
}

/// What a child does.
#[tokio::test]
async fn a_child_fills_its_disk() {
    let Ok(path) = env::var(CHILD) else { return };
    let records = Local::at(&path).records().expect("it opens");
    for id in 0..5 {
        put(&*records, id).await.expect("there is room");
    }

    files_have_room_for(Some(1_000));
    for id in 5..8 {
        let error = put(&*records, id).await.expect_err("there is no room");
        let RecordsError::NotDone { reason } = &error else { panic!("{error:?}") };
        assert!(reason.starts_with(&path) && reason.contains("; "), "{reason}");
        assert_eq!(there(&*records).await, 5, "what was answered is there, and nothing else");
    }
    files_have_room_for(None);

    for id in 5..8 {
        put(&*records, id).await.expect("there is room again");
    }
    assert_eq!(there(&*records).await, 8);
    writeln!(stdout(), "all is there").expect("somebody reads it");
}

#[tokio::test]
async fn a_disk_that_takes_no_more_loses_nothing_and_doubles_nothing() {
    let (_directory, path) = place();
    // The signal that comes with the limit would end it, unless it is ignored from the start.
    let mut command = Command::new("sh");
    command.args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#]).arg(env::current_exe().expect("a path"));
    command.args(["--exact", "disk::a_child_fills_its_disk", "--nocapture", "--test-threads=2"]);
    let mut child = Process::start(command.env(CHILD, &path));
    child.wait_for("all is there");
    assert_eq!(child.end().0, Some(0));

    let records = Local::at(&path).records().expect("it opens");
    assert_eq!(there(&*records).await, 8);
}

//! What is wrong with a path, or with what is there, is said by name before anything is done.

use std::{
    env, fs,
    io::{Write, stdout},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    time::Duration,
};

use callsheet::{
    Fault, JobName,
    backend::Local,
    port::{Batch, History, HistoryError, JobHistory, RecordKind},
};

use crate::{history, place, process::Process};

fn refused(path: impl AsRef<Path>) -> Fault {
    let fault = Local::at(&path).records().err().unwrap_or_else(|| panic!("{:?} is taken", path.as_ref()));
    assert_eq!((&*fault.subject, &*fault.value), ("Local::at", &*path.as_ref().display().to_string()));
    fault
}

#[test]
fn a_path_at_which_there_can_be_no_file_is_named_with_its_cure() {
    let (directory, path) = place();
    let file = directory.path().join("file");
    fs::write(&file, "").expect("it is written");

    let missing = refused(directory.path().join("nowhere/callsheet.db"));
    assert_eq!(missing.rule, format!("there is no directory {}", directory.path().join("nowhere").display()));
    assert_eq!(missing.cure, "create it, for the user of this process");
    assert_eq!(refused(directory.path()).rule, "it is a directory");
    assert_eq!(refused("/").rule, "it is no path of a file");
    assert!(refused("").rule.contains("empty"), "{:?}", refused(""));
    let beside = refused(file.join("callsheet.db"));
    assert_eq!(beside.rule, format!("{} is no directory", file.display()));
    // A file system on which nobody makes files, root neither.
    let denied = refused("/proc/sys/callsheet.db");
    assert!(denied.rule.starts_with("/proc/sys/callsheet.db-lock cannot be locked: "), "{denied:?}");
    assert!(!path.exists() && fs::read_dir(&directory).expect("it is there").count() == 1, "nothing is left");
}

#[test]
fn a_file_of_another_kind_is_left_as_it_is() {
    let (_directory, path) = place();
    for text in ["hello", &"no database. ".repeat(1_000)] {
        fs::write(&path, text).expect("it is written");
        assert_eq!(refused(&path).rule, "it is no SQLite database", "{} bytes", text.len());
        assert_eq!(fs::read_to_string(&path).expect("it is there"), text);
    }

    fs::remove_file(&path).expect("it is there");
    let other = rusqlite::Connection::open(&path).expect("a database");
    other.execute_batch("CREATE TABLE theirs (id INTEGER)").expect("it is made");
    drop(other);
    let theirs = fs::read(&path).expect("it is there");
    assert_eq!(refused(&path).rule, "it is an SQLite database, but no store of callsheet");
    assert_eq!(fs::read(&path).expect("it is there"), theirs);
}

#[tokio::test]
async fn a_file_that_a_newer_version_has_written_is_refused() {
    let (_directory, path) = place();
    let records = Local::at(&path).records().expect("it opens");
    let empty = records.list(RecordKind::Name, None, 1).await.expect("an answer");
    assert!(empty.records.is_empty());
    drop(records);
    // The lock is free when the thread has closed the file.
    drop(Local::at(&path).records().expect("it opens again"));
    newer(&path);

    let fault = refused(&path);

    let rule = "a newer version of callsheet has written it: its format is 1000, and this version knows formats up to 1";
    assert_eq!(fault.rule, rule);
    assert_eq!(fault.cure, "start the newer version, or put back a copy from before it");
}

fn newer(path: &Path) {
    let file = rusqlite::Connection::open(path).expect("it opens");
    file.busy_timeout(Duration::from_secs(10)).expect("it waits");
    file.pragma_update(None, "user_version", 1_000).expect("it is written");
}

/// The file of which a child says that it has it.
const CHILD: &str = "CALLSHEET_TEST_SQLITE_HOLDS";

#[test]
fn a_child_has_a_file_until_it_is_killed() {
    let Ok(path) = env::var(CHILD) else { return };
    let _file = Local::at(path).records().expect("it opens");
    writeln!(stdout(), "has it").expect("somebody reads it");
    std::thread::park();
}

#[test]
fn a_second_process_on_a_file_is_told_which_one_has_it() {
    let (_directory, path) = place();
    let mut command = Command::new(env::current_exe().expect("a path"));
    let test = "paths::a_child_has_a_file_until_it_is_killed";
    command.args(["--exact", test, "--nocapture", "--test-threads=2"]).env(CHILD, &path);
    let mut first = Process::start(&mut command);
    first.wait_for("has it");

    let fault = refused(&path);

    let host = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let holder = format!("process {} on host {:?}", first.child.id(), host.trim());
    assert_eq!(fault.rule, format!("{holder} has it open, and a file belongs to one process at a time"));
    assert!(fault.cure.starts_with("stop that process, or name another file"), "{}", fault.cure);
    fs::remove_file(path.with_extension("db-lock")).expect("it is there");
    let fault = refused(&path);
    assert!(fault.rule.contains("database is locked"), "nor does it help to delete the lock: {}", fault.rule);
    drop(first);
    Local::at(&path).records().expect("it is free at once when the first is killed");
}

#[test]
fn the_same_process_has_a_file_once() {
    let (_directory, path) = place();
    let first = Local::at(&path);
    first.records().expect("it opens");
    let clone = first.clone();
    clone.records().expect("a clone is the same store");

    let rule = refused(&path).rule;

    assert!(rule.starts_with(&format!("process {} ", std::process::id())), "{rule}");
    drop((first, clone));
    Local::at(&path).records().expect("it is free again");
}

#[tokio::test]
async fn new_files_are_for_their_user_alone() {
    let (directory, path) = place();
    let file = Local::at(&path);
    let _records = file.records().expect("it opens");
    history(&file).write(&Batch::default()).await.expect("it is written");

    let mut names = Vec::new();
    for entry in fs::read_dir(directory.path()).expect("it is there") {
        let entry = entry.expect("it is there");
        let mode = entry.metadata().expect("it is there").permissions().mode() & 0o777;
        names.push(entry.file_name().into_string().expect("a name"));
        assert_eq!(mode, 0o600, "{names:?}");
    }
    for expected in ["callsheet.db", "callsheet.db-wal", "callsheet.db-lock", "callsheet.db-history"] {
        assert!(names.iter().any(|name| name == expected), "{expected} of {names:?}");
    }
}

#[tokio::test]
async fn a_history_that_is_damaged_harms_nothing_else() {
    let (_directory, path) = place();
    fs::write(path.with_extension("db-history"), "no database").expect("it is written");
    let file = Local::at(&path);

    let records = file.records().expect("the jobs need no history");
    records.list(RecordKind::Name, None, 1).await.expect("an answer");
    let history = history(&file);
    let error = asked(&*history).await.expect_err("it says so when it is asked");
    let HistoryError::Unavailable { reason, .. } = error else { panic!("{error:?}") };
    assert!(reason.contains("callsheet.db-history: it is no SQLite database; name another path"), "{reason}");
    fs::remove_file(path.with_extension("db-history")).expect("it is there");
    asked(&*history).await.expect("it is made anew when it was moved away");
}

async fn asked(history: &dyn History) -> Result<(), HistoryError> {
    history.job(&JobHistory(JobName::new("nobody").expect("a name"))).await.map(drop)
}

//! A process that writes is killed at any instant.

use std::{
    env,
    io::{Write, stdout},
    path::Path,
    process::Command,
    sync::Arc,
    thread,
    time::Duration,
};

use callsheet::{
    backend::{Durability, Local},
    port::{
        Change, Commit, Committed, RecordChange, RecordKind, RecordName, Records, StoredRecord, Unit,
        UnitAnswer, Version,
    },
};
use rustix::process::Signal;

use crate::{place, process::Process};

/// How often a process is killed.
const KILLS: usize = 30;
/// So many writers write at once, so that several commits are one transaction.
const WRITERS: usize = 4;

/// The file in which a child writes. Without it the test of the child is none.
const CHILD: &str = "CALLSHEET_TEST_SQLITE_WRITES";

/// As many kills as a soak wants.
fn kills() -> usize {
    env::var("CALLSHEET_TEST_KILLS").map_or(KILLS, |kills| kills.parse().expect("a number"))
}

fn name(writer: usize, id: u64) -> RecordName {
    RecordName::new(RecordKind::Name, format!("{writer}-{id}"))
}

fn counter(writer: usize) -> RecordName {
    RecordName::new(RecordKind::Pending, writer.to_string())
}

async fn read(records: &dyn Records, name: RecordName) -> StoredRecord {
    records.read(&[name], &[]).await.expect("an answer").records.remove(0)
}

fn number(record: &StoredRecord) -> u64 {
    record.bytes.as_slice().try_into().map_or(0, u64::from_be_bytes)
}

/// Counts on, each number a record, and says each that was answered.
async fn write(records: Arc<dyn Records>, writer: usize) {
    let mut last = read(&*records, counter(writer)).await;
    loop {
        let next = number(&last) + 1;
        let put = |name, version| {
            let change = Change::Put(next.to_be_bytes().to_vec());
            RecordChange { name, version, change }
        };
        let changes = vec![put(counter(writer), last.version), put(name(writer, next), Version::ABSENT)];
        let units = vec![Unit { records: changes, hints: Vec::new() }];
        let answer = records.commit(&Commit { units, ..Commit::default() }).await.expect("an answer");
        let Committed::Units { mut answers, .. } = answer else { panic!("it has no guards: {answer:?}") };
        let UnitAnswer::Made { versions } = answers.remove(0) else { panic!("nobody else writes it") };
        last = StoredRecord { version: versions[0], bytes: next.to_be_bytes().to_vec() };
        // One call a line, so that no line is cut in two by another.
        let mut out = stdout().lock();
        writeln!(out, "wrote {writer} {next}").expect("somebody reads it");
    }
}

/// What a child does: it writes until it is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_writes_until_it_is_killed() {
    let Ok(path) = env::var(CHILD) else { return };
    let file = Local::at(path).durability(Durability::ProcessCrash);
    let records = file.records().expect("it opens");
    let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write(records.clone(), writer))).collect();
    println!("writes");
    for writer in writers {
        writer.await.expect("it writes");
    }
}

fn child(path: &Path) -> Process {
    let mut command = Command::new(env::current_exe().expect("a path"));
    let test = "kills::a_child_writes_until_it_is_killed";
    command.args(["--exact", test, "--nocapture", "--test-threads=2"]).env(CHILD, path);
    Process::start(&mut command)
}

/// The last number that each writer said it had written.
fn said(lines: &[String]) -> [u64; WRITERS] {
    let mut said = [0; WRITERS];
    for line in lines {
        let mut words = line.split(' ');
        if let (Some("wrote"), Some(writer), Some(number)) = (words.next(), words.next(), words.next()) {
            said[writer.parse::<usize>().expect("a writer")] = number.parse().expect("a number");
        }
    }
    said
}

/// What is in the file: each number up to the counter once, and no other one.
async fn check(path: &Path, said: [u64; WRITERS]) -> [u64; WRITERS] {
    let records = Local::at(path).records().expect("it opens after a kill");
    let mut counters = [0; WRITERS];
    for (writer, said) in said.into_iter().enumerate() {
        let counted = number(&read(&*records, counter(writer)).await);
        assert!(counted >= said, "writer {writer} said {said}, and {counted} is there");
        counters[writer] = counted;
    }
    let (mut after, mut found) = (None::<Arc<str>>, [0; WRITERS]);
    loop {
        let page = records.list(RecordKind::Name, after.as_deref(), 1_000).await.expect("an answer");
        for listed in &page.records {
            let (writer, id) = listed.id.split_once('-').expect("an id");
            let (writer, id): (usize, u64) =
                (writer.parse().expect("a writer"), id.parse().expect("a number"));
            assert_eq!(number(&listed.record), id, "each record is whole");
            assert!(id <= counters[writer], "a unit is done as a whole: {id} of {counters:?}");
            found[writer] += 1;
        }
        match page.records.last().filter(|_| page.more) {
            Some(last) => after = Some(last.id.clone()),
            None => break,
        }
    }
    assert_eq!(found, counters, "none is missing");
    counters
}

#[tokio::test]
async fn a_process_that_is_killed_loses_nothing_that_was_answered() {
    let (_directory, path) = place();
    let mut before = [0; WRITERS];
    for kill in 0..kills() {
        let mut process = child(&path);
        process.wait_for("writes");
        // Sooner and later, and at another place of the log each time.
        thread::sleep(Duration::from_micros(1 + (kill as u64 * 7_919) % 40_000));
        process.signal(Signal::KILL);
        let (_, lines) = process.end();
        let counters = check(&path, said(&lines)).await;
        assert!(
            (0..WRITERS).all(|writer| counters[writer] >= before[writer]),
            "{counters:?} after {before:?}"
        );
        before = counters;
    }
    assert!(before.iter().sum::<u64>() > 100, "something was written: {before:?}");
}

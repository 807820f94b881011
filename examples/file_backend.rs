//! A backend of one's own: the processes of one machine coordinate by a file. All that it takes is the port `Records`.
//!
//! ```sh
//! cargo run --example file_backend
//! ```
//!
//! `tests/file_backend.rs` runs the suites: `conformance::records` on the port, `conformance::elector` and `locker` on
//! the backend over it. The guide `callsheet::guide::extending` says what each call has to do.

#![allow(clippy::print_stdout, reason = "it prints what happens")]

use std::{env, fs, io, path::PathBuf, sync::Arc, thread, time::Duration};

use callsheet::{BoxFuture, port::*, prelude::*};
use callsheet_actors::adapter::{RecordTable, RecordsBackend};
use chrono::Utc;
use futures_util::{FutureExt, StreamExt, stream};
use tokio::{sync::Mutex, task::spawn_blocking};

/// How often a call looks whether no other client has the file, and how many times.
const LOOK: Duration = Duration::from_millis(2);
const LOOKS_MAX: usize = 1_000;

/// A client of the records in a file. Its calls wait in a queue: whoever only looks now and then may never get the
/// file.
#[derive(Clone)]
pub(crate) struct FileRecords(pub(crate) PathBuf, pub(crate) Arc<Mutex<()>>);

type Answer<'a, T> = BoxFuture<'a, Result<T, RecordsError>>;

impl FileRecords {
    /// One call, which has the file for itself. What it changes is written before it is answered, or nothing is done.
    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut RecordTable, Duration) -> Result<T, RecordsError> + Send + 'static,
    ) -> Answer<'static, T> {
        let (path, turn) = (self.0.clone(), self.1.clone());
        let called = move || {
            let failed = |error: io::Error| RecordsError::Unavailable {
                reason: format!("{}: {error}", path.display()),
            };
            let lock = fs::File::options().create(true).append(true).open(path.with_extension("lock"));
            let lock = lock.map_err(failed)?;
            let mut looks = 0;
            while lock.try_lock().is_err() {
                looks += 1;
                if looks == LOOKS_MAX {
                    return Err(failed(io::ErrorKind::TimedOut.into()));
                }
                thread::sleep(LOOK);
            }
            let mut table: RecordTable = match fs::read(&path) {
                Ok(text) => serde_json::from_slice(&text).map_err(|error| failed(error.into()))?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => RecordTable::default(),
                Err(error) => return Err(failed(error)),
            };
            let before = table.clone();
            let now =
                Utc::now().signed_duration_since(chrono::DateTime::UNIX_EPOCH).to_std().unwrap_or_default();
            table.expire(now);
            let answer = work(&mut table, now)?;
            if table != before {
                let (new, text) = (path.with_extension("new"), serde_json::to_vec(&table));
                let written = text.map_err(io::Error::from).and_then(|text| fs::write(&new, text));
                written.and_then(|()| fs::rename(&new, &path)).map_err(failed)?;
            }
            Ok(answer)
        };
        let in_turn = turn.lock_owned().then(|turn| spawn_blocking(|| (called(), drop(turn)).0));
        in_turn.map(|answer| answer.unwrap_or(Err(RecordsError::Timeout))).boxed()
    }
}

impl Records for FileRecords {
    fn limits(&self) -> RecordLimits {
        RecordLimits {
            reads: 1_024,
            units: 256,
            unit_records: 64,
            commit_records: 1_024,
            record_bytes: 64 * 1_024,
            commit_bytes: 256 * 1_024,
            ttl: Duration::from_secs(1)..=Duration::from_hours(1),
        }
    }

    fn traits(&self) -> RecordTraits {
        RecordTraits { name: "file", time: true, hints: false, durable: true, expires_within: Duration::ZERO }
    }

    fn open(&self, ttl: Duration) -> Answer<'_, RecordSession> {
        let checked = self.limits().check_ttl(ttl);
        self.call(move |table, now| checked.map(|()| table.open(now, ttl)))
    }

    fn renew(&self, session: RecordSession) -> Answer<'_, bool> {
        self.call(move |table, now| Ok(table.renew(now, session)))
    }

    fn end(&self, session: RecordSession) -> Answer<'_, ()> {
        self.call(move |table, _| {
            table.end(session);
            Ok(())
        })
    }

    fn read<'a>(
        &'a self,
        names: &'a [RecordName],
        sessions: &'a [RecordSession],
    ) -> Answer<'a, RecordSnapshot> {
        let checked = self.limits().check_reads(names, sessions);
        let (names, sessions) = (names.to_vec(), sessions.to_vec());
        self.call(move |table, _| checked.map(|()| table.read(&names, &sessions, Some(Utc::now()))))
    }

    fn commit<'a>(&'a self, commit: &'a Commit) -> Answer<'a, Committed> {
        let (checked, commit) = (commit.check(&self.limits()), commit.clone());
        self.call(move |table, _| checked.map(|()| table.commit(&commit, Some(Utc::now()))))
    }

    fn list<'a>(&'a self, kind: RecordKind, after: Option<&'a str>, limit: usize) -> Answer<'a, RecordPage> {
        let after = after.map(str::to_owned);
        self.call(move |table, _| Ok(table.list(kind, after.as_deref(), limit)))
    }

    /// Nobody is told anything: nodes look now and then.
    fn subscribe(&self) -> Answer<'_, HintStream> {
        async { Ok(stream::pending().boxed()) }.boxed()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(env::temp_dir())?;
    let records = FileRecords(directory.path().join("callsheet.json"), Arc::default());
    let mut nodes = Vec::new();
    for node in ["first", "second"] {
        let backend = RecordsBackend::new(Arc::new(records.clone()), "example", Duration::from_secs(5));
        let job = Job::new("hello", every("1s"));
        let job = job.run_with(node, async |run, node| println!("{node} node: {run:?}"));
        nodes.push(Callsheet::builder().backend(backend).job(job).start().await?);
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    for node in nodes {
        node.shutdown(Duration::from_secs(1)).await;
    }
    Ok(())
}

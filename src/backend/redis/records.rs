//! The port of versioned records.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use callsheet_actors::port::{
    Change, Commit, Committed, HintStream, ListedRecord, RecordChange, RecordKind, RecordLimits, RecordName,
    RecordPage, RecordServer, RecordSession, RecordSnapshot, RecordTraits, Records, RecordsError,
    StoredRecord, Unit, UnitAnswer, Version,
};
use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};
use redis::{Cmd, RedisWrite, Value};

use super::{
    connection::RedisConnection,
    failure::not_understood,
    hints::{HINT, RedisEar},
    script::{Script, run},
    settings::Settings,
};
use crate::backend::{hints::Hints, link::Link, random::random, versions::Versions};

/// What one call may hold. The server does nothing else meanwhile: a commit of this size takes it a few
/// milliseconds.
const LIMITS: RecordLimits = RecordLimits {
    reads: 1_024,
    units: 1_024,
    unit_records: 1_024,
    commit_records: 4_096,
    record_bytes: 64 * 1_024,
    commit_bytes: 4 * 1_024 * 1_024,
    ttl: Duration::from_millis(500)..=Duration::from_hours(24),
};
const TRAITS: RecordTraits =
    RecordTraits { name: "redis", time: true, hints: true, durable: true, expires_within: Duration::ZERO };
/// How many records one page has at most, and after how many bytes it ends.
const PAGE_RECORDS_MAX: usize = 1_000;
const PAGE_BYTES: usize = 1_024 * 1_024;
/// How many bytes of a stored record are its version.
const VERSION_BYTES: usize = 8;

/// The records of a scope on a Redis server.
pub(super) struct RedisRecords {
    link: Arc<Link<Settings>>,
    hints: Hints<RedisEar>,
    keys: Keys,
    versions: Versions,
    /// Which server was called last; 0: none yet, or it does not say.
    server: AtomicU64,
}

/// The names under which the server keeps what belongs to the scope.
struct Keys {
    prefix: String,
    records: String,
    names: String,
    channel: String,
}

impl RedisRecords {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        let prefix = settings.prefix();
        let keys = Keys {
            records: format!("{prefix}records"),
            names: format!("{prefix}names"),
            channel: format!("{prefix}hints"),
            prefix,
        };
        let (seed, versions) = (random(), Versions::new());
        let hints = Hints::new(RedisEar(settings.clone()), seed);
        Self { link: Link::new(settings, seed), hints, keys, versions, server: AtomicU64::new(0) }
    }

    /// Remembers which server is called.
    fn meet(&self, connection: &RedisConnection) -> Option<RecordServer> {
        let server = connection.server();
        self.server.store(server.map_or(0, |server| server.0), Ordering::Release);
        server
    }

    /// Runs a script on the server.
    async fn run(&self, script: Script, write: impl Fn(&mut Cmd)) -> Result<Value, RecordsError> {
        let call = async |connection: &RedisConnection| {
            self.meet(connection);
            run(connection, script, &write).await
        };
        self.link.call(call).await
    }
}

impl Keys {
    fn session(&self, session: RecordSession) -> String {
        format!("{}session:{:016x}", self.prefix, session.0)
    }
}

/// Writes what a version looks like to the server: nothing if there is no record.
fn write_version(command: &mut Cmd, version: Version) {
    if version.is_present() {
        command.write_arg(&version.0.to_be_bytes());
    } else {
        command.write_arg(b"");
    }
}

/// Writes the arguments of a commit, as `commit.lua` has them. All is written into memory, so that no error can be.
fn write_commit(command: &mut Cmd, keys: &Keys, commit: &Commit, made: Version) {
    command.arg(2 + commit.alive.len()).arg(&keys.records).arg(&keys.names);
    for session in &commit.alive {
        command.arg(keys.session(*session));
    }
    command.write_arg_fmt(RecordName::only(RecordKind::Leader));
    match commit.leader {
        Some(version) => write_version(command, version),
        None => command.write_arg(b"-"),
    }
    command.arg(&keys.channel);
    // None is more than 65,535: the limits are lower.
    let short = |count: usize| u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes();
    let sizes: Vec<u8> = commit.units.iter().flat_map(|unit| short(unit.records.len())).collect();
    let records = || commit.units.iter().flat_map(|unit| &unit.records);
    let changes: Vec<u8> = records().map(|record| code(&record.change)).collect();
    let hinting = commit.units.iter().enumerate();
    let hinting = hinting.flat_map(|(at, unit)| unit.hints.iter().flat_map(move |_| short(at + 1)));
    let hinting: Vec<u8> = hinting.collect();
    command.arg(sizes).arg(changes).arg(hinting);
    records().for_each(|record| command.write_arg_fmt(&record.name));
    records().for_each(|record| write_version(command, record.version));
    for record in records() {
        match &record.change {
            Change::Put(bytes) => {
                let mut argument = command.writer_for_next_arg();
                let _ = argument.write_all(&made.0.to_be_bytes()).and_then(|()| argument.write_all(bytes));
            }
            Change::Keep | Change::Delete => command.write_arg(b""),
        }
    }
    for hint in commit.units.iter().flat_map(|unit| &unit.hints) {
        let mut argument = command.writer_for_next_arg();
        let _ = argument.write_all(&[HINT]).and_then(|()| argument.write_all(hint));
    }
}

fn code(change: &Change) -> u8 {
    match change {
        Change::Keep => b'K',
        Change::Put(_) => b'P',
        Change::Delete => b'D',
    }
}

/// The answer of `commit.lua`.
fn read_commit(answer: Value, commit: &Commit, made: Version) -> Option<Committed> {
    let Value::Array(answer) = answer else { return None };
    match answer.as_slice() {
        [Value::BulkString(what), Value::Int(at)] if what == b"dead" => {
            Some(Committed::Dead(*commit.alive.get(usize::try_from(*at).ok()?)?))
        }
        [Value::BulkString(what)] if what == b"moved" => Some(Committed::LeaderMoved),
        [Value::BulkString(what), Value::BulkString(answers), time @ ..] if what == b"done" => {
            if answers.len() != commit.units.len() {
                return None;
            }
            let versions = |record: &RecordChange| match record.change {
                Change::Keep => record.version,
                Change::Put(_) => made,
                Change::Delete => Version::ABSENT,
            };
            let answer = |(unit, answer): (&Unit, &u8)| match answer {
                b'1' => Some(UnitAnswer::Made { versions: unit.records.iter().map(versions).collect() }),
                b'0' => Some(UnitAnswer::Conflict),
                _ => None,
            };
            let answers = commit.units.iter().zip(answers).map(answer).collect::<Option<_>>()?;
            Some(Committed::Units { answers, time: Some(read_time(time)?) })
        }
        _ => None,
    }
}

/// Seconds and microseconds since 1970, as `TIME` tells them.
fn read_time(time: &[Value]) -> Option<DateTime<Utc>> {
    let number = |value: &Value| match value {
        Value::BulkString(digits) => std::str::from_utf8(digits).ok()?.parse::<i64>().ok(),
        _ => None,
    };
    let [seconds, micros] = time else { return None };
    DateTime::from_timestamp_micros(number(seconds)?.checked_mul(1_000_000)?.checked_add(number(micros)?)?)
}

/// What is stored under a name: a version, and what was written.
fn read_record(value: Value) -> Option<StoredRecord> {
    match value {
        Value::Nil => Some(StoredRecord::ABSENT),
        Value::BulkString(mut bytes) => {
            let version =
                bytes.first_chunk::<VERSION_BYTES>().map(|bytes| Version(u64::from_be_bytes(*bytes)))?;
            bytes.drain(..VERSION_BYTES);
            Some(StoredRecord { version, bytes })
        }
        _ => None,
    }
}

/// The answer of `read.lua`.
fn read_snapshot(answer: Value, names: usize, sessions: usize) -> Option<RecordSnapshot> {
    let Value::Array(mut answer) = answer else { return None };
    let (Value::Array(records), Value::BulkString(alive)) = (answer.pop()?, answer.pop()?) else {
        return None;
    };
    let time = Some(read_time(&answer)?);
    let records = records.into_iter().map(read_record).collect::<Option<Vec<_>>>()?;
    let alive: Vec<_> = alive.into_iter().map(|digit| digit == b'1').collect();
    let complete = records.len() == names && alive.len() == sessions;
    complete.then_some(RecordSnapshot { records, alive, time })
}

/// The answer of `list.lua`.
fn read_page(answer: Value, kind: RecordKind) -> Option<RecordPage> {
    let Value::Array(answer) = answer else { return None };
    let mut answer = answer.into_iter();
    let more = matches!(answer.next()?, Value::Int(1));
    let mut records = Vec::with_capacity(answer.len() / 2);
    while let Some(name) = answer.next() {
        let Value::BulkString(name) = name else { return None };
        let id = std::str::from_utf8(&name).ok()?.strip_prefix(kind.code())?.strip_prefix('/')?;
        records.push(ListedRecord { id: id.into(), record: read_record(answer.next()?)? });
    }
    Some(RecordPage { more: more && !records.is_empty(), records })
}

impl Records for RedisRecords {
    fn limits(&self) -> RecordLimits {
        LIMITS
    }

    fn traits(&self) -> RecordTraits {
        TRAITS
    }

    fn server(&self) -> Option<RecordServer> {
        Some(self.server.load(Ordering::Acquire)).filter(|server| *server != 0).map(RecordServer)
    }

    fn open(&self, ttl: Duration) -> BoxFuture<'_, Result<RecordSession, RecordsError>> {
        async move {
            LIMITS.check_ttl(ttl)?;
            let millis = u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
            let session = RecordSession(random().max(1));
            let mut command = redis::cmd("SET");
            // Its value is its time to live, for those who renew it.
            command.arg(self.keys.session(session)).arg(millis).arg("NX").arg("PX").arg(millis);
            let answer = self.link.call(async |connection| connection.ask(&command).await).await?;
            match answer {
                Value::Okay => Ok(session),
                _ => Err(not_understood("SET")),
            }
        }
        .boxed()
    }

    fn renew(&self, session: RecordSession) -> BoxFuture<'_, Result<bool, RecordsError>> {
        async move {
            let key = self.keys.session(session);
            let write = |command: &mut Cmd| {
                command.arg(2).arg(&key).arg(&self.keys.records);
            };
            match self.run(Script::Renew, write).await? {
                Value::Int(alive) => Ok(alive == 1),
                _ => Err(not_understood("a renewal")),
            }
        }
        .boxed()
    }

    fn end(&self, session: RecordSession) -> BoxFuture<'_, Result<(), RecordsError>> {
        async move {
            let mut command = redis::cmd("DEL");
            command.arg(self.keys.session(session));
            let deleted =
                self.link.call(async |connection| connection.ask_for::<u64>(&command).await).await?;
            deleted.map(|_| ()).ok_or_else(|| not_understood("DEL"))
        }
        .boxed()
    }

    fn read<'a>(
        &'a self,
        names: &'a [RecordName],
        sessions: &'a [RecordSession],
    ) -> BoxFuture<'a, Result<RecordSnapshot, RecordsError>> {
        async move {
            LIMITS.check_reads(names, sessions)?;
            let write = |command: &mut Cmd| {
                command.arg(1 + sessions.len()).arg(&self.keys.records);
                for session in sessions {
                    command.arg(self.keys.session(*session));
                }
                names.iter().for_each(|name| command.write_arg_fmt(name));
            };
            let answer = self.run(Script::Read, write).await?;
            read_snapshot(answer, names.len(), sessions.len()).ok_or_else(|| not_understood("a read"))
        }
        .boxed()
    }

    fn commit<'a>(&'a self, commit: &'a Commit) -> BoxFuture<'a, Result<Committed, RecordsError>> {
        async move {
            commit.check(&LIMITS)?;
            // One for all of them is enough: no record is written twice.
            let made = self.versions.next();
            let write = |command: &mut Cmd| write_commit(command, &self.keys, commit, made);
            let call = async |connection: &RedisConnection| {
                let server = self.meet(connection);
                if commit.server.is_some() && commit.server != server {
                    return Ok(None);
                }
                run(connection, Script::Commit, write).await.map(Some)
            };
            match self.link.call(call).await? {
                None => Ok(Committed::OtherServer),
                // What was done is unknown.
                Some(answer) => read_commit(answer, commit, made).ok_or(RecordsError::Timeout),
            }
        }
        .boxed()
    }

    fn list<'a>(
        &'a self,
        kind: RecordKind,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<RecordPage, RecordsError>> {
        async move {
            // The slash ends the kind, and `0` is the character after it.
            let from = match after {
                Some(after) => format!("({}/{after}", kind.code()),
                None => format!("[{}/", kind.code()),
            };
            let to = format!("({}0", kind.code());
            let limit = limit.min(PAGE_RECORDS_MAX);
            let write = |command: &mut Cmd| {
                command.arg(2).arg(&self.keys.records).arg(&self.keys.names);
                command.arg(&from).arg(&to).arg(limit).arg(PAGE_BYTES);
            };
            let answer = self.run(Script::List, write).await?;
            read_page(answer, kind).ok_or_else(|| not_understood("a list"))
        }
        .boxed()
    }

    fn subscribe(&self) -> BoxFuture<'_, Result<HintStream, RecordsError>> {
        self.hints.subscribe().boxed()
    }
}

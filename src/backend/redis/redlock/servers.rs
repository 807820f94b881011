//! The servers that vote: each is asked by itself, and all at once.

use std::{
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use callsheet_actors::{
    adapter::bounded,
    port::{ElectError, LockError, OBSTACLES_MAX, Obstacle, RecordsError},
};
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream::FuturesUnordered};
use redis::{ErrorKind, FromRedisValue, RedisResult, ServerErrorKind, Value};
use tokio::{task::JoinHandle, time::Instant};

use super::{
    settings::Settings,
    tally::{is_lost, majority},
};
use crate::backend::{
    link::Link,
    random::random,
    redis::{address::Place, connection::RedisConnection, settings::Settings as OfServer},
};

const SCRIPT: &str = include_str!("redlock.lua");
/// What every server calls the script, once one has said so.
static SCRIPT_NAME: OnceLock<String> = OnceLock::new();
/// What is wrong with two URLs of one server.
const NAMED_TWICE: &str = "name each server once";
/// Without it two servers would be one, and one that has forgotten its votes would not be known.
const NO_PROCESS: &str = "it does not say which process it is (`run_id` of `INFO server`); name a Redis server itself, not a proxy";
/// For how long a server has been away when that is told.
const TOLD_AFTER: Duration = Duration::from_secs(2);
/// The longest reason why too few servers answered, in bytes.
const REASON_MAX: usize = 1_024;

/// What is asked.
pub(super) struct Question {
    asked: &'static str,
    ticks: Vec<String>,
    arguments: Vec<String>,
}

impl Question {
    pub(super) fn new(asked: &'static str, arguments: impl IntoIterator<Item = String>) -> Self {
        Self { asked, ticks: Vec::new(), arguments: arguments.into_iter().collect() }
    }

    /// The same about ticks, by their keys.
    pub(super) fn about(self, ticks: Vec<String>) -> Self {
        Self { ticks, ..self }
    }
}

/// Why a server has no vote.
struct Failing {
    since: Instant,
    reason: String,
    /// It does not pass by itself.
    refused: bool,
    /// It is another server of this scope.
    doubled: bool,
}

/// All servers of a scope.
pub(super) struct Servers {
    servers: Vec<Arc<Server>>,
    prefix: String,
}

struct Server {
    /// As it is named in reasons: its number, from 1, and its host.
    shown: String,
    nth: usize,
    link: Arc<Link<OfServer>>,
    failing: Mutex<Option<Failing>>,
    /// The processes that the servers turned out to be.
    processes: Arc<Mutex<Vec<Option<String>>>>,
}

impl Servers {
    pub(super) fn new(settings: &Settings) -> Self {
        let of_each = settings.servers();
        let processes = Arc::new(Mutex::new(vec![None; of_each.len()]));
        let prefix = of_each.first().map(|server| format!("{}redlock:", server.prefix())).unwrap_or_default();
        let server = |(nth, settings): (usize, Arc<OfServer>)| {
            let host = settings.store.address().ok().map(|address| match &address.place {
                Place::Hosts(hosts) => hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
                Place::Socket(_) | Place::Sentinels { .. } => "a socket".to_owned(),
            });
            let shown = format!("server {} ({})", nth + 1, host.unwrap_or_default());
            let link = Link::new(settings, random());
            Arc::new(Server { shown, nth, link, failing: Mutex::default(), processes: processes.clone() })
        };
        let servers = of_each.into_iter().enumerate().map(server).collect();
        Self { servers, prefix }
    }

    pub(super) fn count(&self) -> usize {
        self.servers.len()
    }

    /// The key of a tick.
    pub(super) fn key_of_tick(&self, millis: i64, job: &str) -> String {
        format!("{}tick:{millis}:{job}", self.prefix)
    }

    /// Asks all servers. Each answers in its own time, also if nobody waits any more: what is asked later over the same
    /// connection is done later.
    pub(super) fn ask(&self, question: Question) -> Round {
        let question = Arc::new(question);
        let ask = |server: &Arc<Server>| {
            let (server, question, prefix) = (server.clone(), question.clone(), self.prefix.clone());
            tokio::spawn(async move {
                let answer = server.ask(&prefix, &question).await;
                server.note(answer.as_ref().err());
                let answer = answer.map(|value| (server.nth, value));
                answer.map_err(|error| Failed { error, shown: server.shown.clone() })
            })
        };
        let shown = self.servers.iter().map(|server| server.shown.clone()).collect();
        let answers = self.servers.iter().map(ask).collect();
        Round {
            answers,
            waits_for: shown,
            failures: Vec::new(),
            asked_at: (Utc::now(), Instant::now()),
            nth: 0,
        }
    }

    /// How a server is named in reasons.
    pub(super) fn shown(&self, nth: usize) -> &str {
        self.servers.get(nth).map_or("a server", |server| &server.shown)
    }

    /// Why one is named twice, if one is.
    pub(super) fn doubled(&self) -> Option<String> {
        let why = |server: &Arc<Server>| {
            let failing = server.failing();
            let doubled = failing.as_ref().filter(|failing| failing.doubled)?;
            Some(format!("{}: {}", server.shown, doubled.reason))
        };
        self.servers.iter().find_map(why)
    }

    /// The servers that have no vote: at once if one refuses, and after a while if one is away.
    pub(super) fn obstacles(&self) -> Vec<Obstacle> {
        let needed = majority(self.count());
        let obstacle = |server: &Arc<Server>| {
            let failing = server.failing();
            let told = |failing: &&Failing| failing.refused || failing.since.elapsed() >= TOLD_AFTER;
            let Failing { since, reason, .. } = failing.as_ref().filter(told)?;
            Some(Obstacle {
                reason: bounded(format!("{} has no vote: {reason}", server.shown), REASON_MAX),
                cure: format!("mend it: {needed} of {} servers have to vote", self.count()),
                held_for: since.elapsed(),
            })
        };
        self.servers.iter().filter_map(obstacle).take(OBSTACLES_MAX).collect()
    }
}

impl Server {
    fn failing(&self) -> MutexGuard<'_, Option<Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps why it fails, and since when.
    fn note(&self, error: Option<&RecordsError>) {
        let mut failing = self.failing();
        let since = failing.as_ref().map_or_else(Instant::now, |failing| failing.since);
        *failing = error.map(|error| {
            let refused = matches!(error, RecordsError::Refused { .. });
            let reason = error.to_string();
            Failing { since, refused, doubled: refused && reason.contains(NAMED_TWICE), reason }
        });
    }

    async fn ask(&self, prefix: &str, question: &Question) -> Result<Value, RecordsError> {
        let asked = self.link.call(async |connection: &RedisConnection| {
            let answer = run(connection, prefix, question).await?;
            Ok((connection.process.clone(), answer))
        });
        let (process, answer) = asked.await?;
        if process.is_empty() {
            return Err(RecordsError::Refused { reason: NO_PROCESS.to_owned() });
        }
        let mut processes = self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        let same = processes.iter().position(|other| other.as_ref() == Some(&process));
        if let Some(nth) = same.filter(|nth| *nth != self.nth) {
            let reason = format!("it is the same server as number {}; {NAMED_TWICE}", nth + 1);
            return Err(RecordsError::Refused { reason });
        }
        processes[self.nth] = Some(process);
        Ok(answer)
    }
}

async fn run(connection: &RedisConnection, prefix: &str, question: &Question) -> RedisResult<Value> {
    let command = |name: &str, script: &str| {
        let mut command = redis::cmd(name);
        command.arg(script).arg(2 + question.ticks.len());
        command.arg(format!("{prefix}memory")).arg(format!("{prefix}leader")).arg(&question.ticks);
        command.arg(question.asked).arg(&connection.process).arg(&question.arguments);
        command
    };
    let Some(name) = SCRIPT_NAME.get() else {
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(SCRIPT);
        let name: String = redis::from_redis_value(connection.ask(&load).await?)?;
        return connection.ask(&command("EVALSHA", SCRIPT_NAME.get_or_init(|| name))).await;
    };
    match connection.ask(&command("EVALSHA", name)).await {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            connection.ask(&command("EVAL", SCRIPT)).await
        }
        answer => answer,
    }
}

struct Failed {
    error: RecordsError,
    shown: String,
}

/// One question, and the answers as they come.
pub(super) struct Round {
    answers: FuturesUnordered<JoinHandle<Result<(usize, Value), Failed>>>,
    /// As each server is named; empty once it has answered.
    waits_for: Vec<String>,
    failures: Vec<Failed>,
    /// When they were asked, by both clocks of this node.
    pub(super) asked_at: (DateTime<Utc>, Instant),
    /// Which one answered last.
    pub(super) nth: usize,
}

impl Round {
    /// The next answer: `None` inside for a server that has none. `None`: there are no more.
    pub(super) async fn next<T: FromRedisValue>(&mut self) -> Option<Option<T>> {
        let failed = match self.answers.next().await? {
            Ok(Ok((nth, value))) => {
                self.nth = nth;
                let shown = self.waits_for.get_mut(nth).map(std::mem::take).unwrap_or_default();
                match redis::from_redis_value(value) {
                    Ok(answer) => return Some(Some(answer)),
                    Err(_) => Failed { error: not_readable(), shown },
                }
            }
            Ok(Err(failed)) => {
                self.waits_for.iter_mut().filter(|shown| **shown == failed.shown).for_each(String::clear);
                failed
            }
            Err(_) => Failed { error: RecordsError::Timeout, shown: "a server".to_owned() },
        };
        self.failures.push(failed);
        Some(None)
    }

    /// How many have not answered yet.
    pub(super) fn pending(&self) -> usize {
        self.answers.len()
    }

    /// Why too few servers answered.
    pub(super) fn why(&self) -> String {
        let (servers, needed) = (self.waits_for.len(), majority(self.waits_for.len()));
        let failed = self.failures.iter().map(|failed| format!("{}: {}", failed.shown, failed.error));
        let silent = self.waits_for.iter().filter(|shown| !shown.is_empty());
        let silent = silent.map(|shown| format!("{shown}: no answer in time"));
        let reasons: Vec<_> = failed.chain(silent).collect();
        let text = format!(
            "{} of {servers} servers did not answer, and {needed} have to: {}",
            reasons.len(),
            reasons.join("; ")
        );
        bounded(text, REASON_MAX)
    }

    pub(super) fn to_elect_error(&self) -> ElectError {
        ElectError::Unavailable { reason: self.why() }
    }

    pub(super) fn to_lock_error(&self) -> LockError {
        let refused =
            self.failures.iter().filter(|failed| matches!(failed.error, RecordsError::Refused { .. }));
        let reason = self.why();
        match is_lost(self.waits_for.len(), refused.count()) {
            true => LockError::Refused { reason },
            false => LockError::Unavailable { reason },
        }
    }
}

fn not_readable() -> RecordsError {
    RecordsError::NotDone { reason: "it answered in a form that is not known".to_owned() }
}

/// Whole milliseconds, as a server reads them: at most some ten years.
pub(super) fn millis(duration: Duration) -> u64 {
    const MAX: u64 = 10 * 366 * 24 * 60 * 60 * 1_000;
    u64::try_from(duration.as_millis()).unwrap_or(MAX).min(MAX)
}

//! An agent of Consul, as far as its HTTP interface says what coordination rests on, for tests: Debian has no server.
//!
//! It keeps to what is published: one index for all writes; a transaction of at most so many operations is done as a
//! whole, or none of it, with an error for each operation that fails; what is written as it was is not written; a
//! question with an index waits until there is something newer; a session ends after twice its time to live, when it is
//! destroyed, and with it its locks, after which a key may be locked again only when the lock delay is over.
//!
//! `CALLSHEET_TEST_CONSUL_ADDR`, such as `http://:TOKEN@127.0.0.1:8500`, runs the suites against a real one.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::watch,
    time::{Instant, sleep_until, timeout_at},
};
use uuid::Uuid;

/// A token that must never show in an error or a log.
pub(crate) const TOKEN: &str = "never-to-be-seen";

const ADDRESS_VARIABLE: &str = "CALLSHEET_TEST_CONSUL_ADDR";
const TTL_MIN: Duration = Duration::from_secs(10);
const TTL_MAX: Duration = Duration::from_hours(24);
/// A session lives for so many times its time to live.
const TTL_TIMES: u32 = 2;
const BODY_MAX: usize = 512 * 1_024;
const WAIT_DEFAULT: Duration = Duration::from_mins(5);

/// The URL of the agent that the suites are run against.
pub(crate) fn url() -> String {
    static AGENT: OnceLock<Agent> = OnceLock::new();
    std::env::var(ADDRESS_VARIABLE).unwrap_or_else(|_| AGENT.get_or_init(Agent::start).url())
}

/// A scope that no other test of this binary uses, nor one that ran before.
pub(crate) fn scope(test: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("{test}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// How an agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manner {
    /// How many operations a transaction may have.
    pub(crate) operations: usize,
    /// The token that it asks for.
    pub(crate) token: Option<&'static str>,
    /// The prefix below which that token may write.
    pub(crate) writes_below: &'static str,
    /// The servers have a leader.
    pub(crate) led: bool,
    /// It answers.
    pub(crate) answers: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self { operations: 128, token: None, writes_below: "", led: true, answers: true }
    }
}

/// An agent on a port of the loopback interface.
pub(crate) struct Agent {
    port: u16,
    store: Arc<Store>,
    runtime: Option<Runtime>,
}

impl Agent {
    pub(crate) fn start() -> Self {
        Self::start_with(Manner::default())
    }

    pub(crate) fn start_with(manner: Manner) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("it is allowed");
        let port = listener.local_addr().expect("an address").port();
        let store = Arc::new(Store {
            state: Mutex::new(State { index: 1, ..State::default() }),
            changed: watch::Sender::new(1),
            manner: watch::Sender::new(manner),
        });
        let (serves, expires) = (store.clone(), store.clone());
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, serves.clone()));
            }
        });
        runtime.spawn(async move { expires.expire().await });
        Self { port, store, runtime: Some(runtime) }
    }

    /// Is like this from now on.
    pub(crate) fn set(&self, manner: Manner) {
        self.store.manner.send_replace(manner);
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn url_with(&self, token: &str) -> String {
        format!("http://:{token}@127.0.0.1:{}", self.port)
    }

    /// The keys that there are.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.store.state().entries.keys().cloned().collect()
    }

    /// How many sessions there are.
    pub(crate) fn sessions(&self) -> usize {
        self.store.state().sessions.len()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

struct Store {
    state: Mutex<State>,
    /// The index, for whoever waits.
    changed: watch::Sender<u64>,
    manner: watch::Sender<Manner>,
}

#[derive(Default, Clone)]
struct State {
    index: u64,
    entries: BTreeMap<String, Entry>,
    /// When what is gone was deleted.
    deleted: BTreeMap<String, u64>,
    sessions: BTreeMap<String, Session>,
    /// Until when a key may not be locked.
    delays: BTreeMap<String, Instant>,
}

#[derive(Clone, PartialEq, Eq)]
struct Entry {
    value: Vec<u8>,
    flags: u64,
    session: Option<String>,
    lock_index: u64,
    create_index: u64,
    modify_index: u64,
}

#[derive(Clone)]
struct Session {
    ttl: Duration,
    deletes: bool,
    delay: Duration,
    ends_at: Instant,
}

impl State {
    /// Writes an entry. One that is as it was is not written.
    fn set(&mut self, key: &str, value: Vec<u8>, flags: u64, session: Option<Option<String>>) {
        let former = self.entries.get(key);
        let session = session.unwrap_or_else(|| former.and_then(|former| former.session.clone()));
        if former
            .is_some_and(|former| former.value == value && former.flags == flags && former.session == session)
        {
            return;
        }
        let takes = session.is_some() && former.is_none_or(|former| former.session != session);
        let entry = Entry {
            value,
            flags,
            lock_index: former.map_or(0, |former| former.lock_index) + u64::from(takes),
            session,
            create_index: former.map_or(self.index, |former| former.create_index),
            modify_index: self.index,
        };
        self.deleted.remove(key);
        self.entries.insert(key.to_owned(), entry);
    }

    fn delete(&mut self, key: &str) {
        if self.entries.remove(key).is_some() {
            self.deleted.insert(key.to_owned(), self.index);
        }
    }

    fn end_session(&mut self, id: &str) {
        let Some(session) = self.sessions.remove(id) else { return };
        let held: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.session.as_deref() == Some(id))
            .map(|(key, _)| key.clone())
            .collect();
        for key in held {
            if !session.delay.is_zero() {
                self.delays.insert(key.clone(), Instant::now() + session.delay);
            }
            if session.deletes {
                self.delete(&key);
            } else if let Some(entry) = self.entries.get_mut(&key) {
                entry.session = None;
                entry.modify_index = self.index;
            }
        }
    }

    fn below(&self, prefix: &str) -> Vec<(&String, &Entry)> {
        self.entries.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix)).collect()
    }

    /// The index of what begins with this: of the last write to it, or of all if there never was one.
    fn index_of(&self, prefix: &str) -> u64 {
        let written = self.below(prefix).into_iter().map(|(_, entry)| entry.modify_index);
        let deleted = self.deleted.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        written.chain(deleted.map(|(_, index)| *index)).max().unwrap_or(self.index)
    }

    /// Does one operation of a transaction: what it answers, or why it fails.
    fn operate(&mut self, operation: &Value) -> Result<Vec<Value>, String> {
        let text = |name: &str| operation[name].as_str().unwrap_or_default().to_owned();
        let (key, verb) = (text("Key"), text("Verb"));
        let (index, flags) =
            (operation["Index"].as_u64().unwrap_or(0), operation["Flags"].as_u64().unwrap_or(0));
        let value = || STANDARD.decode(text("Value")).map_err(|error| format!("bad value: {error}"));
        let modified = self.entries.get(&key).map(|entry| entry.modify_index);
        match verb.as_str() {
            "set" => self.set(&key, value()?, flags, None),
            "cas" if modified.unwrap_or(0) != index => {
                return Err(format!("failed to set key {key:?}, index is stale"));
            }
            "cas" => self.set(&key, value()?, flags, None),
            "delete" => self.delete(&key),
            // What is not there is deleted, whatever the index.
            "delete-cas" if modified.is_some_and(|modified| modified != index) => {
                return Err(format!("failed to delete key {key:?}, index is stale"));
            }
            "delete-cas" => self.delete(&key),
            "delete-tree" => {
                let below: Vec<_> = self.below(&key).into_iter().map(|(key, _)| key.clone()).collect();
                below.iter().for_each(|key| self.delete(key));
            }
            "get" if modified.is_none() => return Err(format!("key {key:?} doesn't exist")),
            "get" => {}
            "get-tree" => {
                return Ok(self
                    .below(&key)
                    .into_iter()
                    .map(|(key, entry)| shown(key, entry, true))
                    .collect());
            }
            "check-index" => match modified {
                None => return Err(format!("failed to check index, key {key:?} doesn't exist")),
                Some(modified) if modified != index => {
                    return Err(format!(
                        "failed index check for key {key:?}, current modify index {modified} != {index}"
                    ));
                }
                Some(_) => {}
            },
            "check-not-exists" if modified.is_some() => return Err(format!("key {key:?} exists")),
            "check-not-exists" => return Ok(Vec::new()),
            "lock" => {
                let session = text("Session");
                if !self.sessions.contains_key(&session) {
                    return Err(format!("invalid session {session:?}"));
                }
                if self.delays.get(&key).is_some_and(|until| *until > Instant::now()) {
                    return Err(format!("failed to lock key {key:?} due to lock delay"));
                }
                let holder = self.entries.get(&key).and_then(|entry| entry.session.clone());
                if holder.is_some_and(|holder| holder != session) {
                    return Err(format!("failed to lock key {key:?}, lock is already held"));
                }
                self.set(&key, value()?, flags, Some(Some(session)));
            }
            other => return Err(format!("unknown KV verb {other:?}")),
        }
        Ok(self.entries.get(&key).map(|entry| shown(&key, entry, verb == "get")).into_iter().collect())
    }
}

fn shown(key: &str, entry: &Entry, with_value: bool) -> Value {
    let mut shown = json!({
        "Key": key,
        "Flags": entry.flags,
        "LockIndex": entry.lock_index,
        "CreateIndex": entry.create_index,
        "ModifyIndex": entry.modify_index,
        "Value": with_value.then(|| STANDARD.encode(&entry.value)),
    });
    if let Some(session) = &entry.session {
        shown["Session"] = json!(session);
    }
    shown
}

fn is_read(operation: &Value) -> bool {
    let verb = operation["Verb"].as_str().unwrap_or_default();
    matches!(verb, "get" | "get-tree" | "check-index" | "check-not-exists")
}

struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    token: Option<String>,
    body: Vec<u8>,
}

struct Response {
    status: u16,
    index: Option<u64>,
    body: String,
}

impl Response {
    fn json(status: u16, body: &Value) -> Self {
        Self { status, index: None, body: body.to_string() }
    }

    fn text(status: u16, body: impl Into<String>) -> Self {
        Self { status, index: None, body: body.into() }
    }
}

impl Store {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Changes something, as one entry of the servers' log. Others write as well.
    fn apply<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        state.index += 2;
        let changed = change(&mut state);
        let index = state.index;
        drop(state);
        self.changed.send_replace(index);
        changed
    }

    /// Ends sessions whose time is over.
    async fn expire(&self) {
        loop {
            let now = Instant::now();
            let over: Vec<_> = {
                let state = self.state();
                let over = state.sessions.iter().filter(|(_, session)| session.ends_at <= now);
                over.map(|(id, _)| id.clone()).collect()
            };
            for id in over {
                self.apply(|state| state.end_session(&id));
            }
            sleep_until(now + Duration::from_millis(20)).await;
        }
    }

    async fn answer(&self, request: &Request) -> Response {
        let manner = self.manner.borrow().clone();
        if !manner.led {
            return Response::text(500, "No cluster leader");
        }
        if manner.token.is_some() && request.token.as_deref().is_some_and(|token| Some(token) != manner.token)
        {
            return Response::text(403, "ACL not found");
        }
        let anonymous = manner.token.is_some() && request.token.is_none();
        if anonymous && !request.path.starts_with("/v1/txn") {
            return Response::text(403, "Permission denied: anonymous token lacks permission");
        }
        let path = request.path.as_str();
        if path == "/v1/txn" {
            return self.transact(request, &manner, anonymous);
        }
        if let Some(key) = path.strip_prefix("/v1/kv/")
            && request.method == "GET"
        {
            return self.list(key, request).await;
        }
        if request.method != "PUT" {
            return Response::text(405, "method not allowed");
        }
        if path == "/v1/session/create" {
            return self.create_session(request);
        }
        if let Some(id) = path.strip_prefix("/v1/session/renew/") {
            return self.renew_session(id);
        }
        if let Some(id) = path.strip_prefix("/v1/session/destroy/") {
            self.apply(|state| state.end_session(id));
            return Response::json(200, &json!(true));
        }
        Response::text(404, "")
    }

    fn create_session(&self, request: &Request) -> Response {
        let Ok(asked) = serde_json::from_slice::<Value>(&request.body) else {
            return Response::text(400, "Request decode failed");
        };
        // Without a list of its own a session ends with the health of its agent.
        if asked["NodeChecks"] != json!([]) {
            return Response::text(500, "Check 'serfHealth' is in critical state");
        }
        let (Some(ttl), Some(delay)) = (duration(&asked["TTL"]), duration(&asked["LockDelay"])) else {
            return Response::text(400, "Request decode failed: a duration");
        };
        if ttl < TTL_MIN || ttl > TTL_MAX {
            return Response::text(
                500,
                format!("Invalid Session TTL '{}', must be between [10s=24h0m0s]", ttl.as_nanos()),
            );
        }
        let id = Uuid::new_v4().to_string();
        let deletes = asked["Behavior"] == "delete";
        let session = Session { ttl, deletes, delay, ends_at: Instant::now() + ttl * TTL_TIMES };
        self.apply(|state| state.sessions.insert(id.clone(), session));
        Response::json(200, &json!({ "ID": id }))
    }

    /// A renewal is no entry of the log.
    fn renew_session(&self, id: &str) -> Response {
        match self.state().sessions.get_mut(id) {
            Some(session) => {
                session.ends_at = Instant::now() + session.ttl * TTL_TIMES;
                Response::json(200, &json!([{ "ID": id }]))
            }
            None => Response::text(404, format!("Session id '{id}' not found")),
        }
    }

    fn transact(&self, request: &Request, manner: &Manner, anonymous: bool) -> Response {
        if request.body.len() > BODY_MAX {
            return Response::text(413, format!("Request body too large, max size: {BODY_MAX} bytes"));
        }
        let Ok(Value::Array(asked)) = serde_json::from_slice(&request.body) else {
            return Response::text(400, "Failed to parse body");
        };
        if asked.len() > manner.operations {
            let (found, most) = (asked.len(), manner.operations);
            return Response::text(
                413,
                format!("Transaction contains too many operations ({found} > {most})"),
            );
        }
        let operations: Vec<_> = asked.iter().map(|asked| &asked["KV"]).collect();
        let denied = |operation: &Value| {
            let key = operation["Key"].as_str().unwrap_or_default();
            anonymous || !is_read(operation) && !key.starts_with(manner.writes_below)
        };
        let errors: Vec<_> = operations
            .iter()
            .enumerate()
            .filter(|(_, operation)| denied(operation))
            .map(|(at, _)| json!({ "OpIndex": at, "What": "Permission denied: token lacks permission 'key:write'" }))
            .collect();
        if !errors.is_empty() {
            return Response::json(409, &json!({ "Results": null, "Errors": errors }));
        }
        let all = |state: &mut State| {
            let (mut results, mut errors) = (Vec::new(), Vec::new());
            for (at, operation) in operations.iter().enumerate() {
                match state.operate(operation) {
                    Ok(entries) => results.extend(entries.into_iter().map(|entry| json!({ "KV": entry }))),
                    Err(what) => errors.push(json!({ "OpIndex": at, "What": what })),
                }
            }
            (results, errors)
        };
        let (results, errors) = if operations.iter().all(|operation| is_read(operation)) {
            all(&mut self.state())
        } else {
            self.apply(|state| {
                let mut changed = state.clone();
                let (results, errors) = all(&mut changed);
                if errors.is_empty() {
                    *state = changed;
                }
                (results, errors)
            })
        };
        if errors.is_empty() {
            Response::json(200, &json!({ "Results": results, "Errors": null }))
        } else {
            Response::json(409, &json!({ "Results": null, "Errors": errors }))
        }
    }

    async fn list(&self, key: &str, request: &Request) -> Response {
        let asked =
            request.query.get("index").and_then(|index| index.parse::<u64>().ok()).filter(|index| *index > 0);
        if let Some(asked) = asked {
            let wait =
                request.query.get("wait").and_then(|wait| duration(&json!(wait))).unwrap_or(WAIT_DEFAULT);
            let until = Instant::now() + wait + wait / 32;
            let mut changed = self.changed.subscribe();
            while self.state().index_of(key) <= asked {
                if !matches!(timeout_at(until, changed.changed()).await, Ok(Ok(()))) {
                    break;
                }
            }
        }
        let state = self.state();
        let (index, below) = (Some(state.index_of(key)), state.below(key));
        if below.is_empty() {
            return Response { status: 404, index, body: String::new() };
        }
        let listed: Vec<_> = if request.query.contains_key("keys") {
            below.into_iter().map(|(key, _)| json!(key)).collect()
        } else {
            below.into_iter().map(|(key, entry)| shown(key, entry, true)).collect()
        };
        Response { index, ..Response::json(200, &Value::Array(listed)) }
    }
}

/// A duration as Go writes it, of one unit.
fn duration(text: &Value) -> Option<Duration> {
    let text = text.as_str()?;
    let at = text.find(|character: char| !character.is_ascii_digit())?;
    let count = text.get(..at)?.parse().ok()?;
    match text.get(at..)? {
        "ms" => Some(Duration::from_millis(count)),
        "s" => Some(Duration::from_secs(count)),
        _ => None,
    }
}

/// Answers on one connection, one request after the other.
async fn serve(mut stream: TcpStream, store: Arc<Store>) {
    let mut read = Vec::new();
    while let Some(request) = next_request(&mut stream, &mut read).await {
        let mut manner = store.manner.subscribe();
        // An error: the agent is gone.
        if manner.wait_for(|manner| manner.answers).await.is_err() {
            return;
        }
        let Response { status, index, body } = store.answer(&request).await;
        let index = index.map_or_else(String::new, |index| format!("X-Consul-Index: {index}\r\n"));
        let head = format!(
            "HTTP/1.1 {status} status\r\nContent-Length: {}\r\nX-Consul-KnownLeader: true\r\n{index}\r\n",
            body.len()
        );
        if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn next_request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Option<Request> {
    let head_end = loop {
        if let Some(at) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(read.get(..head_end)?.to_vec()).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, target) = (first.next()?.to_owned(), first.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let decoded = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().ok().map(Into::into);
    let query = query.split('&').filter(|pair| !pair.is_empty());
    let query = query.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let query = query.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers.get("content-length").map_or(Some(0), |length| length.parse().ok())?;
    let whole = head_end + 4 + length;
    while read.len() < whole {
        if stream.read_buf(read).await.ok()? == 0 {
            return None;
        }
    }
    let body = read.get(head_end + 4..whole)?.to_vec();
    read.drain(..whole);
    let token = headers.get("x-consul-token").cloned();
    Some(Request { method, path: decoded(path)?, query, token, body })
}

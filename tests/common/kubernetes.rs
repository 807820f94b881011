//! An API server of Kubernetes, as far as leases need one: a stub that keeps to the published protocol.
//!
//! There is no server of Kubernetes in the package registries, and an emulator that is there (PyPI's kmock 0.8) knows
//! no resource versions and no PUT, on which an election rests. This one has one counter of resource versions for all
//! objects, refuses a write that names another version (409), a creation of what exists (409), a namespace that is not
//! there (404), a lease that the API's validation refuses (422), a token that it does not know (401), and what a role
//! does not allow (403). A watch tells what happened after a version; when that is too old it ends with 410, as a status
//! or as an event, as real servers do. It speaks HTTP/1.1, one thread a connection.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The token that the server knows.
pub(crate) const TOKEN: &str = "never-to-be-seen";
/// The namespace that there is.
pub(crate) const NAMESPACE: &str = "jobs";

/// How long a watch waits at a time, so that it ends with the server.
const TURN: Duration = Duration::from_millis(50);

/// A stub; stopped when it is dropped.
pub(crate) struct ApiServer {
    state: Arc<Shared>,
    address: SocketAddr,
    directory: TempDir,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The last resource version that was given.
    version: u64,
    /// Versions up to here are forgotten by watches.
    compacted: u64,
    /// By namespace and name.
    leases: BTreeMap<(String, String), Value>,
    /// Type, object and version.
    events: Vec<(&'static str, Value, u64)>,
    forbidden: HashSet<String>,
    /// What becomes of the next requests that write.
    writes: Vec<WriteFault>,
    /// Nothing is answered.
    silent: bool,
    /// A watch of an old version is answered with the status 410, and not with an event.
    gone_as_status: bool,
    stopped: bool,
    requests: Vec<String>,
}

/// What goes wrong with a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WriteFault {
    /// It is made, and not answered.
    AnswerLost,
    /// It is not made: the server is overloaded.
    TooMany,
}

struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    token: Option<String>,
    body: Vec<u8>,
}

/// A status and a body.
type Answer = (u16, Value);

impl ApiServer {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it has one");
        let state = Arc::new(Shared::default());
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.lock().stopped {
                    return;
                }
                let (Ok(stream), shared) = (stream, shared.clone()) else { continue };
                // Whoever asks hangs up when it likes.
                thread::spawn(move || drop(serve(&shared, stream)));
            }
        });
        let directory = tempfile::tempdir().expect("a directory");
        let server = Self { state, address, directory };
        server.write_kubeconfig("config", TOKEN, NAMESPACE);
        server
    }

    /// The path of a kubeconfig for it, with the right token.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("config")
    }

    /// Another kubeconfig, whose token is read from a file.
    pub(crate) fn kubeconfig_with_token_file(&self, token: &str) -> (PathBuf, PathBuf) {
        let file = self.directory.path().join("token");
        fs::write(&file, token).expect("it is written");
        let user = json!({ "tokenFile": file });
        (self.write("with-token-file", &user, NAMESPACE), file)
    }

    pub(crate) fn write_kubeconfig(&self, name: &str, token: &str, namespace: &str) -> PathBuf {
        self.write(name, &json!({ "token": token }), namespace)
    }

    fn write(&self, name: &str, user: &Value, namespace: &str) -> PathBuf {
        let server = format!("http://{}", self.address);
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{ "name": "test", "cluster": { "server": server } }],
            "users": [{ "name": "test", "user": user }],
            "contexts": [{
                "name": "test",
                "context": { "cluster": "test", "user": "test", "namespace": namespace },
            }],
        });
        let path = self.directory.path().join(name);
        // JSON is YAML.
        fs::write(&path, config.to_string()).expect("it is written");
        path
    }

    /// The lease of a name, as it is stored.
    pub(crate) fn lease(&self, name: &str) -> Option<Value> {
        self.state.lock().leases.get(&key(NAMESPACE, name)).cloned()
    }

    /// Changes a lease behind everybody's back, as `kubectl edit` does.
    pub(crate) fn edit(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut state = self.state.lock();
        let mut lease = state.leases.get(&key(NAMESPACE, name)).cloned().expect("it is there");
        edit(&mut lease);
        state.put("MODIFIED", &key(NAMESPACE, name), lease);
        self.state.changed.notify_all();
    }

    pub(crate) fn delete(&self, name: &str) {
        let mut state = self.state.lock();
        if let Some(lease) = state.leases.remove(&key(NAMESPACE, name)) {
            state.version += 1;
            let version = state.version;
            state.events.push(("DELETED", lease, version));
        }
        self.state.changed.notify_all();
    }

    /// Forbids a verb, or allows it again.
    pub(crate) fn forbid(&self, verb: &str, forbidden: bool) {
        let mut state = self.state.lock();
        let _ =
            if forbidden { state.forbidden.insert(verb.to_owned()) } else { state.forbidden.remove(verb) };
    }

    /// Forgets the versions so far: a watch of one of them is answered with 410.
    pub(crate) fn compact(&self, as_status: bool) {
        let mut state = self.state.lock();
        (state.compacted, state.gone_as_status) = (state.version + 1, as_status);
        state.version += 1;
        self.state.changed.notify_all();
    }

    pub(crate) fn fail_writes(&self, faults: impl IntoIterator<Item = WriteFault>) {
        self.state.lock().writes.extend(faults);
    }

    /// Answers nothing any more, or answers again.
    pub(crate) fn set_silent(&self, silent: bool) {
        self.state.lock().silent = silent;
        self.state.changed.notify_all();
    }

    /// The verbs of all requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().requests.clone()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.state.lock().stopped = true;
        self.state.changed.notify_all();
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while nothing is answered.
    fn audible(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while state.silent && !state.stopped {
            state = self
                .changed
                .wait_timeout(state, TURN)
                .map_or_else(|poisoned| poisoned.into_inner().0, |it| it.0);
        }
        state
    }
}

impl State {
    fn put(&mut self, kind: &'static str, key: &(String, String), mut lease: Value) -> Value {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.leases.insert(key.clone(), lease.clone());
        self.events.push((kind, lease.clone(), self.version));
        lease
    }
}

fn key(namespace: &str, name: &str) -> (String, String) {
    (namespace.to_owned(), name.to_owned())
}

fn status(code: u16, reason: &str, message: &str) -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    (code, status)
}

/// Serves one connection until somebody hangs up.
fn serve(shared: &Shared, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    while let Some(request) = read(&mut reader)? {
        let is_watch = request.query.contains_key("watch");
        let verb = match (&*request.method, is_watch) {
            (_, true) => "watch",
            ("GET", false) => "get",
            ("POST", false) => "create",
            ("PUT", false) => "update",
            (other, false) => other,
        };
        let state = shared.audible();
        let (answer, state) = answered(state, verb, &request);
        drop(state);
        shared.changed.notify_all();
        match answer {
            Some((code, body)) => respond(&mut writer, code, &body)?,
            None if is_watch => return watch(shared, &mut writer, &request),
            // Whoever asked waits for its deadline.
            None => thread::sleep(Duration::from_secs(5)),
        }
    }
    Ok(())
}

/// Decides one request. `None`: it is a watch that may begin, or is not answered.
fn answered<'a>(
    mut state: MutexGuard<'a, State>,
    verb: &str,
    request: &Request,
) -> (Option<Answer>, MutexGuard<'a, State>) {
    state.requests.push(verb.to_owned());
    if request.token.as_deref() != Some(TOKEN) {
        return (Some(status(401, "Unauthorized", "Unauthorized")), state);
    }
    if state.forbidden.contains(verb) {
        let text = format!(
            "leases.coordination.k8s.io is forbidden: User \"system:serviceaccount:jobs:default\" cannot {verb} \
             resource \"leases\" in API group \"coordination.k8s.io\" in the namespace \"jobs\""
        );
        return (Some(status(403, "Forbidden", &text)), state);
    }
    let fault = matches!(verb, "create" | "update")
        .then(|| if state.writes.is_empty() { None } else { Some(state.writes.remove(0)) });
    if fault == Some(Some(WriteFault::TooMany)) {
        return (Some(status(429, "TooManyRequests", "too many requests")), state);
    }
    let answer = match verb {
        "watch" => watchable(&state, request),
        "get" | "create" | "update" => Some(change(&mut state, verb, request)),
        other => Some(status(405, "MethodNotAllowed", other)),
    };
    let is_lost = fault == Some(Some(WriteFault::AnswerLost));
    (answer.filter(|_| !is_lost), state)
}

/// Namespace, and name if the path has one.
fn place(path: &str) -> Option<(&str, Option<&str>)> {
    let rest = path.strip_prefix("/apis/coordination.k8s.io/v1/namespaces/")?;
    let (namespace, rest) = rest.split_once('/')?;
    match rest.strip_prefix("leases")? {
        "" => Some((namespace, None)),
        name => Some((namespace, Some(name.strip_prefix('/')?))),
    }
}

fn change(state: &mut State, verb: &str, request: &Request) -> Answer {
    let Some((namespace, name)) = place(&request.path) else {
        return status(404, "NotFound", "the server could not find the requested resource");
    };
    let not_found =
        |name: &str| status(404, "NotFound", &format!("leases.coordination.k8s.io {name:?} not found"));
    if verb == "get" {
        let name = name.unwrap_or_default();
        return match state.leases.get(&key(namespace, name)) {
            Some(lease) => (200, lease.clone()),
            None => not_found(name),
        };
    }
    let Ok(mut lease) = serde_json::from_slice::<Value>(&request.body) else {
        return status(400, "BadRequest", "the body is no JSON");
    };
    let named = lease["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if namespace != NAMESPACE {
        return status(404, "NotFound", &format!("namespaces {namespace:?} not found"));
    }
    if let Some(text) = invalid(&lease["spec"]) {
        return status(422, "Invalid", &format!("Lease.coordination.k8s.io {named:?} is invalid: {text}"));
    }
    let key = key(namespace, &named);
    let stored = state.leases.get(&key).cloned();
    match (verb, stored) {
        ("create", Some(_)) => {
            let text = format!("leases.coordination.k8s.io {named:?} already exists");
            status(409, "AlreadyExists", &text)
        }
        ("create", None) => {
            lease["metadata"]["namespace"] = namespace.into();
            lease["metadata"]["uid"] = format!("uid-{}", state.version).into();
            (201, state.put("ADDED", &key, lease))
        }
        (_, None) => not_found(&named),
        (_, Some(_)) if name != Some(named.as_str()) => status(400, "BadRequest", "the names differ"),
        (_, Some(stored)) => {
            let asked = &lease["metadata"]["resourceVersion"];
            if !asked.is_null() && *asked != stored["metadata"]["resourceVersion"] {
                let text = format!(
                    "Operation cannot be fulfilled on leases.coordination.k8s.io {named:?}: the object has been \
                     modified; please apply your changes to the latest version and try again"
                );
                return status(409, "Conflict", &text);
            }
            (200, state.put("MODIFIED", &key, lease))
        }
    }
}

/// What the validation of the API says against a lease.
fn invalid(spec: &Value) -> Option<&'static str> {
    if spec["leaseDurationSeconds"].as_i64().is_some_and(|seconds| seconds <= 0) {
        return Some("spec.leaseDurationSeconds: must be greater than 0");
    }
    if spec["leaseTransitions"].as_i64().is_some_and(|transitions| transitions < 0) {
        return Some("spec.leaseTransitions: must be greater than or equal to 0");
    }
    None
}

fn watchable(state: &State, request: &Request) -> Option<Answer> {
    let gone = version_of(request) < state.compacted;
    (gone && state.gone_as_status).then(|| status(410, "Expired", "too old resource version"))
}

fn version_of(request: &Request) -> u64 {
    request.query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or_default()
}

/// Tells what happens, in chunks, until the time of the watch is over.
fn watch(shared: &Shared, writer: &mut TcpStream, request: &Request) -> io::Result<()> {
    write!(
        writer,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )?;
    let seconds = request.query.get("timeoutSeconds").and_then(|seconds| seconds.parse().ok()).unwrap_or(300);
    let until = Instant::now() + Duration::from_secs(seconds);
    let field = request.query.get("fieldSelector").cloned().unwrap_or_default();
    let name = field.strip_prefix("metadata.name=").unwrap_or_default().to_owned();
    let mut heard = version_of(request);
    loop {
        let (told, is_over) = {
            let state = shared.audible();
            if heard < state.compacted {
                let (_, body) = status(410, "Expired", "too old resource version");
                (vec![json!({ "type": "ERROR", "object": body })], true)
            } else {
                let new = state.events.iter().filter(|(_, _, version)| *version > heard);
                let of_name = new.filter(|(_, lease, _)| lease["metadata"]["name"].as_str() == Some(&*name));
                let told: Vec<_> =
                    of_name.map(|(kind, lease, _)| json!({ "type": kind, "object": lease })).collect();
                heard = heard.max(state.version);
                (told, state.stopped || Instant::now() >= until)
            }
        };
        for event in told {
            let line = format!("{event}\n");
            write!(writer, "{:x}\r\n{line}\r\n", line.len())?;
        }
        writer.flush()?;
        if is_over {
            return write!(writer, "0\r\n\r\n");
        }
        let state = shared.lock();
        if state.version <= heard {
            drop(shared.changed.wait_timeout(state, TURN));
        }
    }
}

fn respond(writer: &mut TcpStream, code: u16, body: &Value) -> io::Result<()> {
    let body = body.to_string();
    write!(
        writer,
        "HTTP/1.1 {code} Status\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The next request; `None`: there is no more.
fn read(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let method = words.next().unwrap_or_default().to_owned();
    let target = words.next().unwrap_or_default().to_owned();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
        (name.to_owned(), decoded.into_owned())
    };
    let query = query.split('&').filter(|part| !part.is_empty()).map(pair).collect();
    let (mut length, mut token) = (0, None);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or_default(),
            "authorization" => token = value.trim().strip_prefix("Bearer ").map(str::to_owned),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { method, path: path.to_owned(), query, token, body }))
}

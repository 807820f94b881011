//! A PostgreSQL server for the tests of one binary: its own, from the installed programs.
//!
//! It lives in a temporary directory, listens on a port of its own and on a socket in that directory, runs as an
//! unprivileged user, and writes as durably as in production. It can be stopped and started again, on the same port and
//! data. A watchdog process starts and stops it, and removes it when the test process ends in whatever way, SIGKILL
//! included: it takes its orders from a pipe that only the test process holds.

// Each test binary uses its own part of it.
#![allow(dead_code, unused_imports)]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tempfile::TempDir;
use tokio::net::TcpSocket;

#[path = "owner.rs"]
mod owner;

use self::owner::{Owner, reserve_port};
pub(crate) use self::owner::{give, unprivileged};

/// The superuser of the test servers.
pub(crate) const USER: &str = "callsheet";
/// Its password: a text that must never show in an error or a log.
pub(crate) const PASSWORD: &str = "never-to-be-seen";

/// How long the server may take to start or to stop, in seconds.
const DEADLINE: u32 = 60;

/// A connection to a server that is there.
pub(crate) async fn connect(url: &str) -> tokio_postgres::Client {
    let (client, connection) =
        tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// The server of this test binary, started by the first test that asks.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

/// A scope that no other test of this binary uses.
pub(crate) fn scope(test: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("{test}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It ends its sessions, and writes down all that it knows.
    Fast,
    /// It ends at once, as in a crash: its next start recovers what was committed.
    Immediate,
}

impl Stop {
    /// As `pg_ctl` calls it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Immediate => "immediate",
        }
    }
}

/// A server, stopped and removed when it is dropped or when the process ends.
pub(crate) struct Server {
    port: u16,
    directory: PathBuf,
    watchdog: Mutex<Watchdog>,
    /// Keeps the port from everybody but the server, also while it is stopped.
    _reserved: TcpSocket,
}

impl Server {
    /// Makes a cluster and starts a server on it.
    ///
    /// # Panics
    ///
    /// If PostgreSQL is not installed, or does not start.
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// The same on a cluster that is changed before its server starts: `prepare` gets the directory of its data.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub(crate) fn start_with(prepare: impl FnOnce(&DataDirectory<'_>)) -> Self {
        Self::start_on(|programs, owner, directory| {
            initialise(programs, owner, directory);
            prepare(&DataDirectory { path: directory.join("data"), owner });
        })
    }

    /// A hot standby of `primary`, which follows it until it is promoted.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub(crate) fn standby_of(primary: &Self) -> Self {
        Self::start_on(|programs, owner, directory| {
            let data = directory.join("data");
            let copied = owner
                .command(programs.join("pg_basebackup"))
                .args(["--no-sync", "--checkpoint=fast", "--write-recovery-conf", "-d", &primary.url()])
                .arg("-D")
                .arg(&data)
                .output()
                .expect("pg_basebackup runs");
            assert!(
                copied.status.success(),
                "pg_basebackup failed: {}",
                String::from_utf8_lossy(&copied.stderr)
            );
        })
    }

    /// Starts a server on what `make` puts into a directory.
    fn start_on(make: impl FnOnce(&Path, &Owner, &Path)) -> Self {
        let programs = programs();
        let owner = Owner::find();
        let directory = TempDir::with_prefix("callsheet-postgres-").expect("a temporary directory");
        owner.give(directory.path());
        make(&programs, &owner, directory.path());
        let (reserved, port) = reserve_port();
        let watchdog = Watchdog::launch(&programs, &owner, directory.path(), port);
        // From here on the watchdog removes it.
        let server =
            Self { port, directory: directory.keep(), watchdog: Mutex::new(watchdog), _reserved: reserved };
        server.start_again();
        server
    }

    /// Stops the server, and answers when it has ended. Blocks. Its port stays its own, and refuses connections.
    ///
    /// # Panics
    ///
    /// If it is stopped already, or does not end.
    pub(crate) fn stop(&self, how: Stop) {
        self.order(&format!("stop {}", how.as_str()));
    }

    /// Starts a server that was stopped, on its port and its data, and answers when it accepts connections. Blocks.
    ///
    /// # Panics
    ///
    /// If it runs already, or does not start.
    pub(crate) fn start_again(&self) {
        self.order("start");
    }

    fn order(&self, order: &str) {
        // A test that panicked over an order leaves the next one in its place.
        let mut watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = watchdog.order(order);
        if answer != "0" {
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            panic!("{order}: pg_ctl answers {answer:?}:\n{log}");
        }
    }

    /// The URL of the server's database, with the password.
    pub(crate) fn url(&self) -> String {
        self.url_with(PASSWORD)
    }

    /// The URL with another password.
    pub(crate) fn url_with(&self, password: &str) -> String {
        format!("postgres://{USER}:{password}@127.0.0.1:{}/postgres", self.port)
    }

    /// The port on the loopback interface.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The directory of the server's Unix socket.
    pub(crate) fn socket_directory(&self) -> &Path {
        &self.directory
    }
}

/// The data of a cluster whose server was not started yet.
pub(crate) struct DataDirectory<'a> {
    path: PathBuf,
    owner: &'a Owner,
}

impl DataDirectory<'_> {
    /// Writes a file that only the server may read.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path.join(name);
        let mut file = fs::File::create(&path).expect("a file");
        file.write_all(text.as_bytes()).expect("it is written");
        file.set_permissions(fs::Permissions::from_mode(0o600)).expect("it is one's own");
        self.owner.give(&path);
    }

    /// Puts lines before those of a file: in `pg_hba.conf` the first that fits counts.
    pub(crate) fn prepend(&self, name: &str, lines: &str) {
        let rest = fs::read_to_string(self.path.join(name)).expect("a file");
        self.write(name, &format!("{lines}\n{rest}"));
    }
}

/// The newest installed programs.
fn programs() -> PathBuf {
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let installed =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path());
    let newest = installed.filter(|path| path.join("bin/postgres").exists()).max_by_key(|path| version(path));
    newest
        .unwrap_or_else(|| {
            panic!("these tests need a PostgreSQL server of their own: apt-get install postgresql")
        })
        .join("bin")
}

fn initialise(programs: &Path, owner: &Owner, directory: &Path) {
    fs::create_dir_all(directory).expect("a directory");
    owner.give(directory);
    let password = directory.join("password");
    let mut file = fs::File::create(&password).expect("a file");
    file.write_all(PASSWORD.as_bytes()).expect("it is written");
    file.set_permissions(fs::Permissions::from_mode(0o600)).expect("it is one's own");
    owner.give(&password);
    let made = owner
        .command(programs.join("initdb"))
        // The cluster's files need not survive a power failure; what the server writes later does.
        .args(["--no-sync", "--encoding=UTF8", "--locale=C", "--auth=scram-sha-256", "-U", USER, "--pwfile"])
        .arg(&password)
        .arg("-D")
        .arg(directory.join("data"))
        .output()
        .expect("initdb runs");
    assert!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
}

/// The process that starts and stops the server, and removes it in the end.
struct Watchdog {
    process: Child,
    /// Its end tells the watchdog to end as well.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Watchdog {
    fn launch(programs: &Path, owner: &Owner, directory: &Path, port: u16) -> Self {
        // One order after the other, so that nothing is half done when the last one is over. In the end the server is
        // stopped at once: nothing of it is kept.
        const WATCHDOG: &str = r#"
            trap '' PIPE
            server() {
                "$1" --silent --wait --timeout="$4" --pgdata="$2/data" --log="$2/log" \
                    --options="-p $3 -k '$2' -h 127.0.0.1 -c max_connections=200" "$5" $6 >>"$2/log" 2>&1 </dev/null
            }
            while read -r order mode; do
                server "$@" "$order" ${mode:+--mode=$mode}
                echo $?
            done
            # A test may have frozen it: then it hears nothing. Processes of it that are frozen still it kills itself.
            kill -CONT "$(head -n 1 "$2/data/postmaster.pid")" 2>/dev/null
            server "$@" stop --mode=immediate
            rm -rf "$2"
        "#;
        let mut process = owner
            .command("/bin/sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(programs.join("pg_ctl"))
            .arg(directory)
            .args([port.to_string(), DEADLINE.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let orders = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, orders, answers }
    }

    /// What `pg_ctl` answers to an order.
    fn order(&mut self, order: &str) -> String {
        let orders = self.orders.as_mut().expect("it takes orders until it is dropped");
        writeln!(orders, "{order}").expect("the watchdog lives");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("a line");
        answer.trim_end().to_owned()
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.orders = None;
        // An error: it has ended already.
        let _ = self.process.wait();
    }
}

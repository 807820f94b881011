//! Redis servers, and Sentinels, for the tests that start them.
//!
//! Each listens on the loopback interface alone, and runs as an ordinary user, in a directory of its own.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpStream},
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::net::TcpSocket;

#[path = "owner.rs"]
pub(crate) mod owner;
#[path = "watchdog.rs"]
mod watchdog;

use self::{
    owner::{Owner, reserve_port},
    watchdog::{Watchdog, program},
};

/// The password of the test servers: a text that must never show in an error or a log.
pub(crate) const PASSWORD: &str = "never-to-be-seen";
/// What Sentinels call the primary that they watch.
pub(crate) const PRIMARY: &str = "callsheet";

/// How long a server may take to answer after its start.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long one question may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(5);

/// The server of this test binary, started by the first test that asks.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(Durability::Nothing))
}

/// A scope that no other test of this binary uses.
pub(crate) fn scope(test: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("{test}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// What a server writes to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Nothing: it forgets everything when it ends.
    Nothing,
    /// Every command, before it is answered.
    Always,
}

impl Durability {
    fn configuration(self) -> &'static str {
        match self {
            Self::Nothing => "appendonly no",
            Self::Always => "appendonly yes\nappendfsync always",
        }
    }
}

/// A server, or a Sentinel; stopped and removed when it is dropped or when the process ends.
pub(crate) struct Server {
    port: u16,
    directory: PathBuf,
    watchdog: Watchdog,
    /// Keeps the port from everybody but the server, also while it is stopped.
    _reserved: TcpSocket,
}

impl Server {
    /// Starts a primary.
    ///
    /// # Panics
    ///
    /// If Redis is not installed, or does not start.
    pub(crate) fn start(durability: Durability) -> Self {
        Self::start_with(durability.configuration())
    }

    /// The same with more lines of its configuration.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub(crate) fn start_with(lines: &str) -> Self {
        Self::launch(None, |port, directory| {
            format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nunixsocket {}\nsave \"\"\nrequirepass {PASSWORD}\n\
                 masterauth {PASSWORD}\nrepl-diskless-sync yes\nrepl-diskless-sync-delay 0\n{lines}\n",
                directory.display(),
                socket(directory).display(),
            )
        })
    }

    /// Starts a replica of a primary, which it follows until it is told otherwise.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub(crate) fn replica_of(primary: &Self) -> Self {
        let replica = Self::start_with(&format!("replicaof 127.0.0.1 {}", primary.port));
        let deadline = Instant::now() + DEADLINE;
        while !replica.ask("INFO replication").contains("master_link_status:up") {
            assert!(Instant::now() < deadline, "the replica does not reach its primary");
            sleep(PAUSE);
        }
        replica
    }

    /// Starts a Sentinel that watches a primary together with others: `quorum` of them find it dead.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub(crate) fn sentinel_of(primary: &Self, quorum: usize) -> Self {
        Self::launch(Some("--sentinel"), |port, directory| {
            format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {PRIMARY} 127.0.0.1 {} {quorum}\n\
                 sentinel auth-pass {PRIMARY} {PASSWORD}\nsentinel down-after-milliseconds {PRIMARY} 1000\n\
                 sentinel failover-timeout {PRIMARY} 10000\n",
                directory.display(),
                primary.port,
            )
        })
    }

    fn launch(mode: Option<&str>, configuration: impl FnOnce(u16, &Path) -> String) -> Self {
        let owner = Owner::find();
        let directory = TempDir::with_prefix("callsheet-redis-").expect("a temporary directory");
        owner.give(directory.path());
        let (reserved, port) = reserve_port();
        let file = directory.path().join("conf");
        fs::write(&file, configuration(port, directory.path())).expect("it is written");
        // A Sentinel writes down there what it learns.
        owner.give(&file);
        let mut command = vec![program("redis-server", "redis-server"), file.into()];
        command.extend(mode.map(Into::into));
        let path = directory.path().to_owned();
        let watchdog = Watchdog::launch(&owner, directory, &command);
        let server = Self { port, directory: path, watchdog, _reserved: reserved };
        server.start_again();
        server
    }

    /// Ends the server in order: it writes to the disk what it is to. Blocks until it has ended. Its port stays its own,
    /// and refuses connections.
    pub(crate) fn stop(&self) {
        self.watchdog.stop();
    }

    /// Kills the server. Blocks until it has ended. Its port stays its own, and refuses connections.
    pub(crate) fn kill(&self) {
        self.watchdog.kill();
    }

    /// Starts a server that was stopped or killed, on its port and its data. Blocks until it answers.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub(crate) fn start_again(&self) {
        self.watchdog.start();
        let deadline = Instant::now() + DEADLINE;
        while !self.ask("PING").contains("PONG") {
            if Instant::now() > deadline {
                panic!("the server does not answer:\n{}", self.watchdog.log());
            }
            sleep(PAUSE);
        }
    }

    /// Stops all of the server's threads where they are: its connections stay open, and nothing is answered. Blocks until
    /// it stands still.
    pub(crate) fn freeze(&self) {
        self.watchdog.freeze();
    }

    /// Lets a server that was frozen go on.
    pub(crate) fn thaw(&self) {
        self.watchdog.thaw();
    }

    /// Asks the server something over a connection of its own, and answers what it says, undecoded: as much as comes
    /// until it is silent. Empty: it does not answer.
    pub(crate) fn ask(&self, command: &str) -> String {
        let asked = || {
            let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
            connection.set_read_timeout(Some(ANSWER_MAX))?;
            // A Sentinel has no password: its error comes first, and does no harm.
            write!(connection, "AUTH {PASSWORD}\r\n{command}\r\n")?;
            // It ends the connection once it has answered.
            connection.shutdown(Shutdown::Write)?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer)?;
            std::io::Result::Ok(answer)
        };
        asked().unwrap_or_default()
    }

    /// The URL of the server's first database, with the password.
    pub(crate) fn url(&self) -> String {
        self.url_with(PASSWORD)
    }

    /// The URL with another password.
    pub(crate) fn url_with(&self, password: &str) -> String {
        format!("redis://:{password}@127.0.0.1:{}/0", self.port)
    }

    /// The port on the loopback interface.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The path of the server's Unix socket.
    pub(crate) fn socket(&self) -> PathBuf {
        socket(&self.directory)
    }

    /// The directory of its data, which its user may read and write.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("socket")
}

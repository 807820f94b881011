//! PgBouncer before a PostgreSQL server: each transaction may get another process of the server.
//!
//! It listens on the loopback interface alone, and runs as an ordinary user, in a directory of its own. It ends with the
//! test process, also if that is killed.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use std::{
    fs,
    net::TcpStream,
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::net::TcpSocket;

use super::harness::{PASSWORD, Server, USER};

#[path = "owner.rs"]
mod owner;
#[path = "watchdog.rs"]
mod watchdog;

use self::{
    owner::{Owner, reserve_port},
    watchdog::{Watchdog, program},
};

/// How long a pooler may take to answer after its start.
const DEADLINE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);

/// A pooler, stopped and removed when it is dropped or when the process ends.
pub(crate) struct Pooler {
    port: u16,
    watchdog: Watchdog,
    /// Keeps the port from everybody but the pooler, also while it is stopped.
    _reserved: TcpSocket,
}

impl Pooler {
    /// One in transaction mode, with as many connections to the server.
    ///
    /// # Panics
    ///
    /// If PgBouncer is not installed, or does not start.
    pub(crate) fn before(server: &Server, connections: usize) -> Self {
        Self::before_port(server.port(), connections)
    }

    /// The same before a port.
    ///
    /// # Panics
    ///
    /// As [`before`](Self::before).
    pub(crate) fn before_port(server: u16, connections: usize) -> Self {
        let owner = Owner::find();
        let directory = TempDir::with_prefix("callsheet-pgbouncer-").expect("a temporary directory");
        owner.give(directory.path());
        let (reserved, port) = reserve_port();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).expect("it is written");
            owner.give(&path);
            path
        };
        let users = write("users", &format!("\"{USER}\" \"{PASSWORD}\"\n\"poor\" \"{PASSWORD}\"\n"));
        let configuration = write(
            "conf",
            &format!(
                "[databases]\n* = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
                 unix_socket_dir =\nauth_type = plain\nauth_file = {}\npool_mode = transaction\n\
                 default_pool_size = {connections}\nserver_login_retry = 1\nserver_round_robin = 1\n",
                users.display()
            ),
        );
        let command = [program("pgbouncer", "pgbouncer"), "-q".into(), configuration.into()];
        let pooler =
            Self { port, watchdog: Watchdog::launch(&owner, directory, &command), _reserved: reserved };
        pooler.start_again();
        pooler
    }

    /// Kills the pooler, and with it all connections.
    pub(crate) fn kill(&self) {
        self.watchdog.kill();
    }

    /// Starts a pooler that was killed. Blocks until it takes connections.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub(crate) fn start_again(&self) {
        self.watchdog.start();
        let deadline = Instant::now() + DEADLINE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "the pooler does not answer:\n{}", self.watchdog.log());
            sleep(PAUSE);
        }
    }

    /// Stops the pooler where it is: its connections stay open, and nothing is answered.
    pub(crate) fn freeze(&self) {
        self.watchdog.freeze();
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.watchdog.thaw();
    }

    /// The URL of the server's database by way of the pooler.
    pub(crate) fn url(&self) -> String {
        self.url_as(USER, PASSWORD)
    }

    /// The URL as another user.
    pub(crate) fn url_as(&self, user: &str, password: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/postgres", self.port)
    }

    /// The port on the loopback interface.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

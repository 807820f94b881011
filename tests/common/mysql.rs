//! MariaDB servers for the tests that start them.
//!
//! Each listens on the loopback interface alone, and runs as an ordinary user, in a directory of its own. It ends with
//! the test process, also if that is killed.

// Each test binary uses its own part of it.
#![allow(dead_code, unused_imports)]

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
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
mod owner;
#[path = "watchdog.rs"]
mod watchdog;

pub(crate) use self::owner::Files;
use self::{
    owner::{Owner, reserve_port},
    watchdog::Watchdog,
};

/// The user of the nodes.
pub(crate) const USER: &str = "node";
/// Its password: a text that must never show in an error or a log.
pub(crate) const PASSWORD: &str = "never-to-be-seen";
/// The database of the nodes.
pub(crate) const DATABASE: &str = "app";

/// How long a server may take to answer after its start.
const DEADLINE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(20);

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

/// A server, stopped and removed when it is dropped or when the process ends.
pub(crate) struct Server {
    port: u16,
    directory: PathBuf,
    watchdog: Watchdog,
    /// Keeps the port from everybody but the server, also while it is stopped.
    _reserved: TcpSocket,
}

impl Server {
    /// Starts a server.
    ///
    /// # Panics
    ///
    /// If MariaDB is not installed, or does not start.
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// The same with more lines of its configuration.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub(crate) fn start_with(lines: &str) -> Self {
        let owner = Owner::find();
        let directory = TempDir::with_prefix("callsheet-mysql-").expect("a temporary directory");
        owner.give(directory.path());
        let (reserved, port) = reserve_port();
        copy_template(&owner, &directory.path().join("data"));
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).expect("it is written");
            owner.give(&path);
        };
        write(
            "init.sql",
            &format!(
                "CREATE DATABASE IF NOT EXISTS {DATABASE};\n\
                 CREATE USER IF NOT EXISTS {USER} IDENTIFIED BY '{PASSWORD}';\n\
                 GRANT ALL ON {DATABASE}.* TO {USER};\n"
            ),
        );
        let place = directory.path().display();
        write(
            "conf",
            &format!(
                "[mariadbd]\ndatadir={place}/data\nsocket={place}/socket\npid-file={place}/pid\nlog-error={place}/log\n\
                 init-file={place}/init.sql\nport={port}\nbind-address=127.0.0.1\nskip-name-resolve\n{SMALL}\n{lines}\n"
            ),
        );
        let path = directory.path().to_owned();
        let mut option = OsString::from("--defaults-file=");
        option.push(path.join("conf"));
        let watchdog = Watchdog::launch(&owner, directory, &[program("mariadbd"), option]);
        let server = Self { port, directory: path, watchdog, _reserved: reserved };
        server.start_again();
        server
    }

    /// Ends the server in order. Blocks until it has ended. Its port stays its own, and refuses connections.
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
        while let Err(error) = self.try_ask("SELECT 1") {
            assert!(
                Instant::now() < deadline,
                "the server does not answer: {error}\n{}",
                self.watchdog.log()
            );
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

    /// Asks the server something as its superuser, in the database of the nodes, and answers what it says: a row a line,
    /// with tabs between columns.
    ///
    /// # Panics
    ///
    /// If the server refuses it.
    pub(crate) fn ask(&self, statements: &str) -> String {
        self.try_ask(statements).unwrap_or_else(|error| panic!("{statements}: {error}"))
    }

    fn try_ask(&self, statements: &str) -> Result<String, String> {
        let asked = Command::new(program("mariadb"))
            .args([
                "--no-defaults",
                "--protocol=socket",
                "--batch",
                "--raw",
                "--skip-column-names",
                "--user=root",
            ])
            .arg(format!("--socket={}", self.socket().display()))
            .args(["--execute", statements, DATABASE])
            .stdin(Stdio::null())
            .output()
            .expect("the client runs");
        if asked.status.success() {
            return Ok(String::from_utf8_lossy(&asked.stdout).into_owned());
        }
        Err(String::from_utf8_lossy(&asked.stderr).into_owned())
    }

    /// The URL of the nodes' database, with the password.
    pub(crate) fn url(&self) -> String {
        self.url_as(USER, PASSWORD)
    }

    /// The URL as another user.
    pub(crate) fn url_as(&self, user: &str, password: &str) -> String {
        format!("mysql://{user}:{password}@127.0.0.1:{}/{DATABASE}", self.port)
    }

    /// The port on the loopback interface.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The path of the server's Unix socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    /// The directory in which it lives.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

/// What a server of a test needs no more of.
const SMALL: &str = "innodb_buffer_pool_size=32M\ninnodb_log_file_size=8M\nperformance_schema=OFF\n\
                     innodb_flush_log_at_trx_commit=2\nkey_buffer_size=1M\naria_pagecache_buffer_size=1M";

/// Copies a data directory that is made once for each test binary.
fn copy_template(owner: &Owner, to: &Path) {
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| Template::make(owner));
    let copied = owner.command("/bin/cp").arg("-r").arg(&template.data).arg(to).status().expect("cp runs");
    assert!(copied.success(), "the data directory is not copied: {copied}");
}

/// A data directory, and a shell that removes it when this process ends.
struct Template {
    data: PathBuf,
    _watchdog: Child,
}

impl Template {
    fn make(owner: &Owner) -> Self {
        let directory = TempDir::with_prefix("callsheet-mysql-template-").expect("a temporary directory");
        owner.give(directory.path());
        let directory = directory.keep();
        let watchdog = owner
            .command("/bin/sh")
            .args(["-c", r#"trap '' PIPE; read -r _; rm -rf "$1""#, "watchdog"])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let data = directory.join("data");
        let made = owner
            .command(program("mariadb-install-db"))
            .args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"])
            .args(["--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0"])
            .arg(format!("--datadir={}", data.display()))
            .output()
            .expect("mariadb-install-db runs");
        assert!(
            made.status.success(),
            "mariadb-install-db failed: {}{}",
            String::from_utf8_lossy(&made.stdout),
            String::from_utf8_lossy(&made.stderr)
        );
        Self { data, _watchdog: watchdog }
    }
}

fn program(name: &str) -> OsString {
    watchdog::program(name, "mariadb-server")
}

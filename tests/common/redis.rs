//! Redis servers, and Sentinels, for the tests that start them.
//!
//! Each listens on the loopback interface alone, and runs as an ordinary user, in a directory of its own. A shell starts
//! and stops it: it ends with the test process, also if that is killed, since its orders come through a pipe whose other
//! end only the test process holds.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Stdio},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::net::TcpSocket;

#[path = "owner.rs"]
mod owner;

use self::owner::{Owner, reserve_port};

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
    watchdog: Mutex<Watchdog>,
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
        Self::launch("", |port, directory| {
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
        Self::launch("--sentinel", |port, directory| {
            format!(
                "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {PRIMARY} 127.0.0.1 {} {quorum}\n\
                 sentinel auth-pass {PRIMARY} {PASSWORD}\nsentinel down-after-milliseconds {PRIMARY} 1000\n\
                 sentinel failover-timeout {PRIMARY} 10000\n",
                directory.display(),
                primary.port,
            )
        })
    }

    fn launch(mode: &str, configuration: impl FnOnce(u16, &Path) -> String) -> Self {
        let owner = Owner::find();
        let directory = TempDir::with_prefix("callsheet-redis-").expect("a temporary directory");
        owner.give(directory.path());
        let (reserved, port) = reserve_port();
        let file = directory.path().join("conf");
        fs::write(&file, configuration(port, directory.path())).expect("it is written");
        // A Sentinel writes down there what it learns.
        owner.give(&file);
        let watchdog = Watchdog::launch(&owner, directory.path(), mode);
        // From here on the watchdog removes it.
        let server =
            Self { port, directory: directory.keep(), watchdog: Mutex::new(watchdog), _reserved: reserved };
        server.start_again();
        server
    }

    /// Ends the server in order: it writes to the disk what it is to. Blocks until it has ended. Its port stays its own,
    /// and refuses connections.
    pub(crate) fn stop(&self) {
        self.order("stop");
    }

    /// Kills the server. Blocks until it has ended. Its port stays its own, and refuses connections.
    pub(crate) fn kill(&self) {
        self.order("kill");
    }

    /// Starts a server that was stopped or killed, on its port and its data. Blocks until it answers.
    ///
    /// # Panics
    ///
    /// If it does not start.
    pub(crate) fn start_again(&self) {
        self.order("start");
        let deadline = Instant::now() + DEADLINE;
        while !self.ask("PING").contains("PONG") {
            if Instant::now() > deadline {
                let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
                panic!("the server does not answer:\n{log}");
            }
            sleep(PAUSE);
        }
    }

    /// Stops all of the server's threads where they are: its connections stay open, and nothing is answered. Blocks until
    /// it stands still.
    pub(crate) fn freeze(&self) {
        let process = self.order("freeze");
        let stands_still = || {
            let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
            // The state follows the name of the program, which stands in parentheses.
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        };
        while !stands_still() {
            sleep(PAUSE);
        }
    }

    /// Lets a server that was frozen go on.
    pub(crate) fn thaw(&self) {
        self.order("thaw");
    }

    fn order(&self, order: &str) -> String {
        // A test that panicked over an order leaves the next one in its place.
        self.watchdog.lock().unwrap_or_else(PoisonError::into_inner).order(order)
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

/// Files that a server may read, in a directory that is gone when this is dropped.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let owner = Owner::find();
        let directory = TempDir::with_prefix("callsheet-redis-files-").expect("a temporary directory");
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::write(&path, text).expect("it is written");
            owner.give(&path);
        }
        owner.give(directory.path());
        Self(directory)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn program() -> &'static str {
    let places = ["/usr/bin/redis-server", "/usr/local/bin/redis-server"];
    places.into_iter().find(|place| Path::new(place).exists()).unwrap_or_else(|| {
        panic!("these tests need a Redis server of their own: apt-get install redis-server")
    })
}

/// The process that starts and stops the server, and removes it in the end.
struct Watchdog {
    process: Child,
    /// Its end tells the watchdog to end as well.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Watchdog {
    fn launch(owner: &Owner, directory: &Path, mode: &str) -> Self {
        // It answers each order with the id of the server's process. A process that is frozen is killed all the same.
        const WATCHDOG: &str = r#"
            trap '' PIPE
            server=
            while read -r order; do
                case $order in
                    start) "$1" "$2/conf" $3 >>"$2/log" 2>&1 </dev/null & server=$! ;;
                    stop) kill -TERM $server; wait $server ;;
                    kill) kill -KILL $server; wait $server ;;
                    freeze) kill -STOP $server ;;
                    thaw) kill -CONT $server ;;
                esac 2>>"$2/log"
                echo $server
            done
            kill -KILL $server
            wait $server
            rm -rf "$2"
        "#;
        let mut process = owner
            .command("/bin/sh")
            .args(["-c", WATCHDOG, "watchdog", program()])
            .arg(directory)
            .arg(mode)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell");
        let orders = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().expect("a pipe"));
        Self { process, orders, answers }
    }

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

//! A PostgreSQL server for the tests of one binary: its own, from the installed programs.
//!
//! It lives in a temporary directory, listens on a free port and on a socket in that directory, runs as an
//! unprivileged user, and writes as durably as in production. A watchdog process stops and removes it when the test
//! process ends in whatever way, SIGKILL included: it waits for the end of a pipe that only the test process holds.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use std::{
    fs,
    io::Write,
    net::TcpListener,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// The superuser of the test servers.
pub(crate) const USER: &str = "callsheet";
/// Its password: a text that must never show in an error or a log.
pub(crate) const PASSWORD: &str = "never-to-be-seen";

/// A net under every wait for the server.
const DEADLINE: Duration = Duration::from_secs(60);
/// How often another port is tried: somebody else may take one between the look and the start.
const STARTS_MAX: usize = 5;

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

/// A running server, stopped and removed when it is dropped or when the process ends.
pub(crate) struct Server {
    programs: PathBuf,
    port: u16,
    directory: PathBuf,
    /// The postmaster's process.
    pub(crate) pid: i32,
    /// Its end tells the watchdog to stop the server.
    lifeline: Option<ChildStdin>,
    watchdog: Child,
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
    pub(crate) fn start_with(prepare: impl Fn(&DataDirectory<'_>)) -> Self {
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
            // Left over from a start on a port that somebody else took.
            let _ = fs::remove_dir_all(&data);
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
    fn start_on(make: impl Fn(&Path, &Owner, &Path)) -> Self {
        let programs = programs();
        let owner = Owner::find();
        let directory = TempDir::with_prefix("callsheet-postgres-").expect("a temporary directory");
        owner.give(directory.path());
        make(&programs, &owner, directory.path());
        for _ in 0..STARTS_MAX {
            let port = free_port();
            let (watchdog, lifeline) = launch(&programs, &owner, directory.path(), port);
            let mut server = Self {
                programs: programs.clone(),
                port,
                directory: directory.path().to_owned(),
                pid: 0,
                lifeline: Some(lifeline),
                watchdog,
            };
            if server.wait_until_ready() {
                // From here on the watchdog removes it.
                drop(directory.keep());
                return server;
            }
            server.lifeline = None;
            let _ = server.watchdog.wait();
            fs::create_dir_all(directory.path()).expect("a directory");
            owner.give(directory.path());
            make(&programs, &owner, directory.path());
        }
        let log = fs::read_to_string(directory.path().join("log")).unwrap_or_default();
        panic!("PostgreSQL did not start in {STARTS_MAX} attempts:\n{log}");
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

    fn wait_until_ready(&mut self) -> bool {
        let until = Instant::now() + DEADLINE;
        while Instant::now() < until {
            let ready = Command::new(self.programs.join("pg_isready"))
                .args(["-q", "-h"])
                .arg(&self.directory)
                .args(["-p", &self.port.to_string()])
                .status();
            if ready.is_ok_and(|status| status.success()) {
                let file = fs::read_to_string(self.directory.join("data/postmaster.pid")).unwrap_or_default();
                let pid = file.lines().next().and_then(|line| line.parse().ok());
                self.pid = pid.expect("a running server has written its process id");
                return true;
            }
            if matches!(self.watchdog.try_wait(), Ok(Some(_)) | Err(_)) || self.has_failed() {
                return false;
            }
            thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn has_failed(&self) -> bool {
        self.directory.join("failed").exists()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.lifeline = None;
        // An error: it has ended already.
        let _ = self.watchdog.wait();
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

/// Whom the server belongs to: PostgreSQL refuses to run as root.
struct Owner(Option<(u32, u32)>);

impl Owner {
    fn find() -> Self {
        let own = fs::metadata("/proc/self").expect("a proc file system");
        if std::os::unix::fs::MetadataExt::uid(&own) != 0 {
            return Self(None);
        }
        let users = fs::read_to_string("/etc/passwd").expect("a list of users");
        let ids = |name: &str| {
            let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
            let mut fields = line.split(':').skip(2);
            Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
        };
        Self(Some(ids("postgres").or_else(|| ids("nobody")).expect("a user postgres or nobody")))
    }

    fn give(&self, path: &Path) {
        if let Self(Some((user, group))) = self {
            chown(path, Some(*user), Some(*group)).expect("root gives files away");
        }
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Self(Some((user, group))) = self {
            command.uid(*user).gid(*group);
        }
        // Its own process group: an interrupt at the terminal is for the tests, the watchdog must outlive them.
        command.env_clear().env("PATH", "/usr/bin:/bin").env("TZ", "UTC").current_dir("/").process_group(0);
        command
    }
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

/// Starts the server as the child of a watchdog, which ends both with its standard input.
fn launch(programs: &Path, owner: &Owner, directory: &Path, port: u16) -> (Child, ChildStdin) {
    // The server is stopped at once (SIGQUIT): nothing of it is kept.
    const WATCHDOG: &str = r#"
        "$1" -D "$2/data" -p "$3" -k "$2" -h 127.0.0.1 -c max_connections=200 >"$2/log" 2>&1 </dev/null &
        server=$!
        (while kill -0 $server 2>/dev/null; do sleep 0.1; done; touch "$2/failed") </dev/null >/dev/null 2>&1 &
        cat >/dev/null
        kill -QUIT $server 2>/dev/null
        wait
        rm -rf "$2"
    "#;
    let mut watchdog = owner
        .command("/bin/sh")
        .args(["-c", WATCHDOG, "watchdog"])
        .arg(programs.join("postgres"))
        .arg(directory)
        .arg(port.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a shell");
    let lifeline = watchdog.stdin.take().expect("a pipe");
    (watchdog, lifeline)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address").port()
}

//! etcd servers, alone or three of a cluster, for the tests that start them.
//!
//! Each listens on the loopback interface alone, and runs as an ordinary user, in a directory of its own.

// Each test binary uses its own part of it.
#![allow(dead_code)]

use std::{
    ffi::OsString,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI32, AtomicUsize, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream as AsyncStream},
    runtime::Runtime,
    sync::watch,
};

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

/// How long a server may take to answer after its start.
const DEADLINE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

/// The server of this test binary, started by the first test that asks.
pub(crate) fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(&[]))
}

/// A scope that no other test of this binary uses.
pub(crate) fn scope(test: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("{test}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A server; stopped and removed when it is dropped or when the process ends.
pub(crate) struct Server {
    /// `http` or `https`.
    scheme: &'static str,
    port: u16,
    /// Where it says how it is.
    health: u16,
    process: AtomicI32,
    watchdog: Watchdog,
    /// Keep the ports from everybody but the server, also while it is stopped.
    _reserved: [TcpSocket; 3],
}

/// What makes a server part of a cluster.
struct Member {
    name: String,
    /// Where the others find it, and who they are.
    advertised: u16,
    cluster: String,
}

impl Server {
    /// Starts a cluster of one, with more arguments.
    ///
    /// # Panics
    ///
    /// If etcd is not installed, or does not start.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let server = Self::launch("http", arguments, None);
        server.start_again();
        server
    }

    /// The same, with TLS for clients.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub(crate) fn start_encrypted(arguments: &[&str]) -> Self {
        let server = Self::launch("https", arguments, None);
        server.start_again();
        server
    }

    /// One that is not started yet.
    fn launch(scheme: &'static str, arguments: &[&str], member: Option<(Member, TcpSocket, u16)>) -> Self {
        let owner = Owner::find();
        let directory = TempDir::with_prefix("callsheet-etcd-").expect("a temporary directory");
        owner.give(directory.path());
        let ((client, port), (health, health_port)) = (reserve_port(), reserve_port());
        let (member, peer, peer_port) = member.unwrap_or_else(|| {
            let (peer, port) = reserve_port();
            let cluster = format!("alone=http://127.0.0.1:{port}");
            (Member { name: "alone".to_owned(), advertised: port, cluster }, peer, port)
        });
        let client_url = format!("{scheme}://127.0.0.1:{port}");
        let mut command = vec![program("etcd", "etcd-server")];
        let data = directory.path().join("data").display().to_string();
        let options = [
            ("--name", member.name),
            ("--data-dir", data),
            ("--listen-client-urls", client_url.clone()),
            ("--advertise-client-urls", client_url),
            ("--listen-peer-urls", format!("http://127.0.0.1:{peer_port}")),
            ("--initial-advertise-peer-urls", format!("http://127.0.0.1:{}", member.advertised)),
            ("--initial-cluster", member.cluster),
            ("--listen-metrics-urls", format!("http://127.0.0.1:{health_port}")),
            ("--logger", "zap".to_owned()),
            ("--log-outputs", "stderr".to_owned()),
            ("--log-level", "warn".to_owned()),
        ];
        command
            .extend(options.into_iter().flat_map(|(option, value)| [option.into(), OsString::from(value)]));
        command.extend(arguments.iter().map(OsString::from));
        let watchdog = Watchdog::launch(&owner, directory, &command);
        let _reserved = [client, health, peer];
        Self { scheme, port, health: health_port, process: AtomicI32::new(0), watchdog, _reserved }
    }

    /// Ends the server in order. Its port stays its own, and refuses connections.
    pub(crate) fn stop(&self) {
        self.watchdog.stop();
    }

    /// Kills the server. Its port stays its own, and refuses connections.
    pub(crate) fn kill(&self) {
        self.watchdog.kill();
    }

    pub(crate) fn freeze(&self) {
        self.watchdog.freeze();
    }

    pub(crate) fn thaw(&self) {
        self.watchdog.thaw();
    }

    /// Starts a server that was stopped or killed, on its ports and its data. Blocks until it is healthy.
    ///
    /// # Panics
    ///
    /// If it does not become so.
    pub(crate) fn start_again(&self) {
        self.begin();
        self.wait();
    }

    /// The same, and does not wait.
    pub(crate) fn begin(&self) {
        self.process.store(self.watchdog.start(), Ordering::SeqCst);
    }

    /// Blocks until it is healthy.
    pub(crate) fn wait(&self) {
        let deadline = Instant::now() + DEADLINE;
        while !self.is_healthy() {
            assert!(Instant::now() < deadline, "the server is not healthy:\n{}", self.watchdog.log());
            sleep(PAUSE);
        }
    }

    fn is_healthy(&self) -> bool {
        let asked = || {
            let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.health))?;
            connection.set_read_timeout(Some(DEADLINE))?;
            write!(connection, "GET /health HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer)?;
            std::io::Result::Ok(answer)
        };
        asked().is_ok_and(|answer| answer.contains("\"health\":\"true\""))
    }

    /// The URL of the server.
    pub(crate) fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    /// The URL of the server, for this user with the password of tests.
    pub(crate) fn url_of(&self, user: &str) -> String {
        format!("{}://{user}:{PASSWORD}@127.0.0.1:{}", self.scheme, self.port)
    }

    /// The port on the loopback interface.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// A client without any comfort.
    pub(crate) async fn client(&self) -> etcd_client::Client {
        etcd_client::Client::connect([self.url()], None).await.expect("a client")
    }
}

/// Three servers that know each other by way of ports of which each can be cut off from the others.
pub(crate) struct Cluster {
    pub(crate) servers: [Server; 3],
    /// Who is cut off.
    cut: watch::Sender<Option<usize>>,
    processes: Arc<[AtomicI32; 3]>,
    /// Where what they say to each other passes.
    wires: Option<Runtime>,
}

impl Cluster {
    /// # Panics
    ///
    /// If etcd is not installed, or does not start.
    pub(crate) fn start() -> Self {
        let wires = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let peers: [_; 3] = std::array::from_fn(|_| reserve_port());
        let (cut, processes) = (watch::Sender::new(None), Arc::<[AtomicI32; 3]>::default());
        let advertised: [u16; 3] = std::array::from_fn(|member| {
            let wire = Wire { member, port: peers[member].1, processes: processes.clone() };
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            listener.set_nonblocking(true).expect("it is allowed");
            let port = listener.local_addr().expect("an address").port();
            wires.spawn(wire.carry(listener, cut.subscribe()));
            port
        });
        let member = |at: usize| format!("member-{at}=http://127.0.0.1:{}", advertised[at]);
        let cluster = [0, 1, 2].map(member).join(",");
        let mut at = 0;
        let servers = peers.map(|(socket, port)| {
            let (name, advertised) = (format!("member-{at}"), advertised[at]);
            at += 1;
            let member = Member { name, advertised, cluster: cluster.clone() };
            Server::launch("http", &[], Some((member, socket, port)))
        });
        let cluster = Self { servers, cut, processes, wires: Some(wires) };
        for at in 0..3 {
            cluster.begin(at);
        }
        cluster.servers.iter().for_each(Server::wait);
        cluster
    }

    /// Starts one that was killed, and does not wait.
    pub(crate) fn begin(&self, at: usize) {
        let server = &self.servers[at];
        server.begin();
        self.processes[at].store(server.process.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Starts one that was killed. Blocks until it is healthy.
    pub(crate) fn start_again(&self, at: usize) {
        self.begin(at);
        self.servers[at].wait();
    }

    /// Cuts one off from the other two, which reach each other; `None`: nobody. Clients reach all three.
    pub(crate) fn cut_off(&self, member: Option<usize>) {
        self.cut.send_replace(member);
    }

    /// The URL of all three.
    pub(crate) fn url(&self) -> String {
        let hosts = self.servers.each_ref().map(|server| format!("127.0.0.1:{}", server.port));
        format!("http://{}", hosts.join(","))
    }

    /// Which of these leads, as they say.
    ///
    /// # Panics
    ///
    /// If none of them knows within a minute.
    pub(crate) async fn leader_of(&self, among: &[usize]) -> usize {
        let deadline = Instant::now() + DEADLINE;
        loop {
            for at in among {
                let asked = async {
                    let mut client = self.servers[*at].client().await;
                    client.status().await.ok()
                };
                let status = tokio::time::timeout(Duration::from_secs(1), asked).await.ok().flatten();
                let own = status.as_ref().and_then(|status| Some(status.header()?.member_id()));
                if status.is_some_and(|status| Some(status.leader()) == own) {
                    return *at;
                }
            }
            assert!(Instant::now() < deadline, "none of {among:?} leads");
            tokio::time::sleep(PAUSE).await;
        }
    }

    pub(crate) async fn leader(&self) -> usize {
        self.leader_of(&[0, 1, 2]).await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(wires) = self.wires.take() {
            wires.shutdown_background();
        }
    }
}

/// What leads to one member of a cluster.
struct Wire {
    member: usize,
    port: u16,
    processes: Arc<[AtomicI32; 3]>,
}

impl Wire {
    async fn carry(self, listener: std::net::TcpListener, cut: watch::Receiver<Option<usize>>) {
        let listener = TcpListener::from_std(listener).expect("a listener");
        while let Ok((mut from, address)) = listener.accept().await {
            let (to, port, mut cut) = (self.member, self.port, cut.clone());
            let source = (0..3).find(|at| {
                has_socket(self.processes[*at].load(Ordering::SeqCst), address.port(), self_port(&from))
            });
            tokio::spawn(async move {
                let parted = |cut: &Option<usize>| cut.is_some_and(|cut| cut == to || source == Some(cut));
                let Ok(mut server) = AsyncStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
                tokio::select! {
                    // Looked at first: a connection that is made while it is cut off is none.
                    biased;
                    _ = cut.wait_for(parted) => {}
                    _ = copy_bidirectional(&mut from, &mut server) => {}
                }
            });
        }
    }
}

fn self_port(stream: &AsyncStream) -> u16 {
    stream.local_addr().map_or(0, |address| address.port())
}

/// Whether a process has the socket that connects these two ports of the loopback interface.
fn has_socket(process: i32, from: u16, to: u16) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let (from, to) = (format!("0100007F:{from:04X}"), format!("0100007F:{to:04X}"));
    let inode = table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let ends = (fields.next()? == from) && (fields.next()? == to);
        ends.then(|| fields.nth(6)).flatten().map(str::to_owned)
    });
    let Some(inode) = inode else { return false };
    let socket = PathBuf::from(format!("socket:[{inode}]"));
    let open = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    open.into_iter().any(|file| fs::read_link(file.path()).is_ok_and(|link| link == socket))
}

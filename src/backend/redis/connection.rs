//! One connection to the server, and whether that server is of use.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use callsheet_actors::{
    DurationText, Faults,
    port::{RecordServer, RecordsError},
};
use futures_util::{FutureExt, future::BoxFuture};
use redis::{
    AsyncConnectionConfig, Cmd, PushInfo, RedisConnectionInfo, RedisError, RedisResult, Value,
    aio::MultiplexedConnection,
};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    task::AbortHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    address::{Address, Place},
    failure::{TOO_OLD, is_answer, is_elsewhere, not_done, of_connection, refused, unavailable},
    script::Scripts,
    settings::Settings,
};
use crate::backend::{
    address::Host,
    checks::CONNECT_TIMEOUT,
    link::{Connection, Connector, Judged},
};

/// How long one host may take to answer.
const HOST_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How often a cluster may send on from one server to another.
const MOVES_MAX: usize = 3;
const VERSION_MIN: u64 = 6;
/// How many digits of a `run_id`, which has forty, tell a server from all others.
const SERVER_DIGITS: usize = 16;
/// The eviction policy that deletes nothing.
const NO_EVICTION: &str = "noeviction";

/// Bytes to and from a server.
trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// What is called with what the server sends unasked.
pub(super) type OnPush = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// A connection to a primary. It lives on the runtime on which it was made.
pub(super) struct RedisConnection {
    commands: MultiplexedConnection,
    pub(super) scripts: Scripts,
    /// Which process answers: Redis' `run_id`.
    pub(super) process: String,
    /// Set once it is of no use any more.
    over: Arc<AtomicBool>,
    driver: AbortHandle,
}

impl RedisConnection {
    /// Asks the server one thing.
    pub(super) async fn ask(&self, command: &Cmd) -> RedisResult<Value> {
        self.commands.clone().send_packed_command(command).await.and_then(Value::extract_error)
    }

    /// Which process answers, by the first of the random digits of its `run_id`; `None`: it does not say.
    pub(super) fn server(&self) -> Option<RecordServer> {
        let digits = self.process.get(..SERVER_DIGITS)?;
        u64::from_str_radix(digits, 16).ok().filter(|server| *server != 0).map(RecordServer)
    }

    /// Has what is said on a channel pushed to this connection.
    pub(super) async fn subscribe(&self, channel: &str) -> RedisResult<()> {
        self.commands.clone().subscribe(channel).await
    }

    /// Asks for one value, and understands it.
    pub(super) async fn ask_for<T: redis::FromRedisValue>(&self, command: &Cmd) -> RedisResult<Option<T>> {
        Ok(redis::from_redis_value(self.ask(command).await?).ok())
    }
}

impl Connection for RedisConnection {
    type Error = RedisError;

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn give_up(&self) {
        self.over.store(true, Ordering::Release);
        self.driver.abort();
    }

    fn judge(error: RedisError) -> Judged {
        match (is_answer(&error), is_elsewhere(&error)) {
            (true, false) => Judged::Answer(not_done(&error)),
            (true, true) => Judged::Elsewhere(not_done(&error)),
            // The connection broke.
            (false, _) => Judged::Unknown,
        }
    }
}

impl Drop for RedisConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Says that a connection is over, whatever ended its task.
struct Ends(Arc<AtomicBool>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Connector for Settings {
    type Connection = RedisConnection;

    fn deadline(&self) -> Duration {
        Self::deadline(self)
    }

    fn connect(&self) -> BoxFuture<'_, Result<RedisConnection, RecordsError>> {
        connect(self, None).boxed()
    }
}

/// Connects to the primary.
pub(super) async fn connect(
    settings: &Settings,
    on_push: Option<OnPush>,
) -> Result<RedisConnection, RecordsError> {
    let connecting = async {
        Faults::check(settings.faults()).map_err(|faults| refused(faults.to_string()))?;
        let address = settings.store.address().map_err(|fault| refused(fault.to_string()))?;
        let tls = settings.tls().map_err(|fault| refused(fault.to_string()))?;
        let attempt = Attempt { settings, address, tls: tls.map(Arc::new), on_push };
        match &address.place {
            Place::Socket(_) => attempt.connect_to(None).await,
            Place::Hosts(hosts) => attempt.first_primary(hosts).await,
            Place::Sentinels { name, hosts } => {
                let primary = attempt.ask_sentinels(name, hosts).await?;
                attempt.connect_to(Some(&primary)).await
            }
        }
    };
    timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| Err(silent("the server", CONNECT_TIMEOUT)))
}

struct Attempt<'a> {
    settings: &'a Settings,
    address: &'a Address,
    tls: Option<Arc<ClientConfig>>,
    on_push: Option<OnPush>,
}

impl Attempt<'_> {
    async fn first_primary(&self, hosts: &[Host]) -> Result<RedisConnection, RecordsError> {
        let mut reason = unavailable("the URL names no host");
        for host in hosts {
            match self.connect_to(Some(host)).await {
                Ok(connection) => return Ok(connection),
                Err(error) => reason = error,
            }
        }
        Err(reason)
    }

    /// Connects to a host, or the socket, and looks whether it is of use.
    async fn connect_to(&self, host: Option<&Host>) -> Result<RedisConnection, RecordsError> {
        let mut host = host.cloned();
        for _ in 0..=MOVES_MAX {
            let shown = host.as_ref().map_or_else(|| "the socket".to_owned(), Host::to_string);
            let connecting = async {
                let connection = self.handshake(host.as_ref(), &shown, true).await?;
                self.inspect(connection, &shown).await
            };
            let found =
                timeout(HOST_TIMEOUT, connecting).await.map_err(|_| silent(&shown, HOST_TIMEOUT))??;
            match found {
                Found::Primary(connection) => return Ok(connection),
                Found::Moved(to) => host = Some(to),
            }
        }
        Err(unavailable("the servers of the cluster send on to each other; wait until it has settled"))
    }

    /// Makes a connection, and logs in.
    async fn handshake(
        &self,
        host: Option<&Host>,
        shown: &str,
        of_server: bool,
    ) -> Result<RedisConnection, RecordsError> {
        let transport = self.transport(host, shown).await?;
        let mut login = RedisConnectionInfo::default()
            .set_protocol(redis::ProtocolVersion::RESP3)
            .set_lib_name("callsheet", env!("CARGO_PKG_VERSION"));
        // Sentinels have users of their own, or none, and no databases.
        if of_server {
            login = login.set_db(self.address.database.into());
            if let Some(user) = &self.address.user {
                login = login.set_username(user);
            }
            if let Some(password) = &self.address.password {
                login = login.set_password(password);
            }
        }
        let mut config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
        if let Some(on_push) = self.on_push.clone() {
            config = config.set_push_sender(move |push: PushInfo| {
                on_push(push);
                Ok::<_, redis::aio::SendError>(())
            });
        }
        let connected = MultiplexedConnection::new_with_config(&login, transport, config).await;
        let (commands, driver) = connected.map_err(|error| of_connection(&error, shown))?;
        let over = Arc::new(AtomicBool::new(false));
        let ends = Ends(over.clone());
        let driver = tokio::spawn(async move {
            let _ends = ends;
            driver.await;
        });
        let (scripts, process) = (Scripts::default(), String::new());
        Ok(RedisConnection { commands, scripts, process, over, driver: driver.abort_handle() })
    }

    async fn transport(&self, host: Option<&Host>, shown: &str) -> Result<Box<dyn Transport>, RecordsError> {
        let unreached = |error: std::io::Error| {
            unavailable(format!(
                "{shown}: {error}; check the host and the port in the URL, and whether the server runs"
            ))
        };
        let Some(host) = host else {
            let Place::Socket(path) = &self.address.place else { return Err(unavailable("no socket")) };
            return Ok(Box::new(UnixStream::connect(path).await.map_err(unreached)?));
        };
        let stream = TcpStream::connect((host.name.as_str(), host.port)).await.map_err(unreached)?;
        stream.set_nodelay(true).map_err(unreached)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(host.name.clone()).map_err(|_| {
            refused(format!("{shown}: it is no name that a certificate could be for; name the host as its certificate does"))
        })?;
        let encrypted = TlsConnector::from(tls.clone()).connect(name, stream).await.map_err(|error| {
            let cure = "check that this port is one for TLS, and that its certificate is signed for this name by the authority \
                        given: sslrootcert, or Redis::root_certificates";
            match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(tls) => refused(format!("{shown}: the encrypted connection was not made: {tls}; {cure}")),
                None => unavailable(format!("{shown}: the encrypted connection was not made: {error}; {cure}")),
            }
        })?;
        Ok(Box::new(encrypted))
    }

    /// Where the Sentinels say that the primary is: the first that knows.
    async fn ask_sentinels(&self, name: &str, hosts: &[Host]) -> Result<Host, RecordsError> {
        let mut reason = unavailable("the URL names no Sentinel");
        for sentinel in hosts {
            let shown = format!("Sentinel {sentinel}");
            let asking = async {
                let connection = self.handshake(Some(sentinel), &shown, false).await?;
                let mut command = redis::cmd("SENTINEL");
                command.arg("get-master-addr-by-name").arg(name);
                let answer = connection.ask(&command).await;
                answer.map_err(|error| of_connection(&error, &shown))
            };
            match timeout(HOST_TIMEOUT, asking).await {
                Ok(Ok(answer)) => match redis::from_redis_value::<Option<(String, u16)>>(answer) {
                    Ok(Some((name, port))) => return Ok(Host { name, port }),
                    Ok(None) => {
                        let cure = "check `sentinel` in the URL";
                        reason = refused(format!("{shown} watches no primary of that name; {cure}"));
                    }
                    Err(_) => {
                        reason = refused(format!("{shown} is none; check the host and the port in the URL"))
                    }
                },
                Ok(Err(error)) => reason = error,
                Err(_) => reason = silent(&shown, HOST_TIMEOUT),
            }
        }
        Err(reason)
    }

    /// Refuses a server that cannot coordinate.
    async fn inspect(&self, mut connection: RedisConnection, shown: &str) -> Result<Found, RecordsError> {
        let asked = |error: &RedisError| of_connection(error, shown);
        let info = connection.ask(&redis::cmd("INFO")).await.map_err(|error| asked(&error))?;
        let info: String = redis::from_redis_value(info).map_err(|_| refused(TOO_OLD))?;
        let server = Server::of(&info);
        if let Some(reason) = server.unfit() {
            return Err(refused(format!("{shown}: {reason}")));
        }
        server.process().clone_into(&mut connection.process);
        let prefix = self.settings.prefix();
        let mut names = redis::cmd("EXISTS");
        names.arg(format!("{prefix}records"));
        if let Err(error) = connection.ask(&names).await {
            return match error.redirect_node().and_then(|(to, _)| read_host(to)) {
                Some(to) => Ok(Found::Moved(to)),
                None => Err(asked(&error)),
            };
        }
        // It is no hint, and whoever listens ignores it. But the right to say something is needed.
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(format!("{prefix}hints")).arg("");
        connection.ask(&publish).await.map_err(|error| asked(&error))?;
        connection.scripts = Scripts::load(&connection).await.map_err(|error| asked(&error))?;
        Ok(Found::Primary(connection))
    }
}

enum Found {
    Primary(RedisConnection),
    /// Another server of the cluster has the keys of the scope.
    Moved(Host),
}

fn read_host(text: &str) -> Option<Host> {
    let (name, port) = text.rsplit_once(':')?;
    let name = name.trim_matches(['[', ']']).to_owned();
    Some(Host { name, port: port.parse().ok()? }).filter(|host| !host.name.is_empty())
}

/// The error of a server that has not answered within a deadline.
fn silent(shown: &str, deadline: Duration) -> RecordsError {
    unavailable(format!(
        "{shown} did not answer within {}; check the host and the port, whether a firewall drops packets, and how the server is",
        DurationText(deadline)
    ))
}

/// What a server says of itself.
struct Server<'a>(HashMap<&'a str, &'a str>);

impl<'a> Server<'a> {
    fn of(info: &'a str) -> Self {
        Self(info.lines().filter_map(|line| line.trim_end().split_once(':')).collect())
    }

    /// Another one with each start.
    fn process(&self) -> &'a str {
        self.0.get("run_id").copied().unwrap_or_default()
    }

    /// Why it cannot coordinate, and the cure.
    fn unfit(&self) -> Option<String> {
        let said = |key: &str| self.0.get(key).copied().unwrap_or_default();
        if said("redis_mode") == "sentinel" {
            let cure = "say which primary it is to be asked for: ?sentinel=NAME";
            return Some(format!("the server is a Sentinel; {cure}"));
        }
        let version = said("redis_version");
        let major = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
        if major < VERSION_MIN {
            return Some(TOO_OLD.to_owned());
        }
        if said("role") != "master" {
            let cure = "name its primary in the URL, or ask Sentinels for it: ?sentinel=NAME";
            return Some(format!("the server is a replica, which grants nothing; {cure}"));
        }
        let policy = said("maxmemory_policy");
        if policy.is_empty() {
            let cure = "let it answer INFO memory: the records are lost if it evicts keys";
            return Some(format!("the server does not say what it does when its memory is full; {cure}"));
        }
        (policy != NO_EVICTION).then(|| {
            let cure = "set maxmemory-policy noeviction, or use a server of its own for coordination";
            format!("the server deletes keys when its memory is full (maxmemory-policy {policy}), and with them records or sessions; {cure}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIT: &str = "# Server\r\nredis_version:6.0.16\r\nredis_mode:standalone\r\n# Memory\r\nmaxmemory_policy:noeviction\r\n\
                       # Replication\r\nrole:master\r\n";

    #[test]
    fn a_server_that_cannot_coordinate_is_refused() {
        let cases = [
            ("redis_version:6.0.16", "redis_version:5.0.14", "older than Redis 6"),
            ("redis_version:6.0.16", "redis_version:?", "older than Redis 6"),
            ("redis_mode:standalone", "redis_mode:sentinel", "is a Sentinel"),
            ("role:master", "role:slave", "is a replica"),
            ("noeviction", "allkeys-lru", "maxmemory-policy allkeys-lru"),
            ("noeviction", "volatile-ttl", "maxmemory-policy volatile-ttl"),
            ("maxmemory_policy:noeviction", "", "does not say"),
        ];
        for (found, instead, reason) in cases {
            let info = FIT.replace(found, instead);
            let unfit = Server::of(&info).unfit().unwrap_or_default();
            assert!(unfit.contains(reason), "{reason}: {unfit}");
        }
        assert_eq!(Server::of(FIT).unfit(), None);
        assert_eq!(Server::of(&FIT.replace("6.0.16", "10.2.0")).unfit(), None);
    }

    #[test]
    fn a_cluster_says_where_to_go() {
        let host = |name: &str, port| Some(Host { name: name.to_owned(), port });

        assert_eq!(read_host("10.0.0.1:7000"), host("10.0.0.1", 7_000));
        assert_eq!(read_host("::1:7000"), host("::1", 7_000));
        assert_eq!(read_host(":7000"), None);
    }
}

//! A server, a role or a URL that is of no use is refused, with the cause and the cure, in time, and the password never shows.

#[path = "common/postgres.rs"]
mod harness;
#[path = "common/impostor.rs"]
mod impostor;
#[path = "common/log.rs"]
mod log;

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use callsheet::{
    Callsheet, JobName, LockKey, NodeId, RunId, StartError,
    backend::Postgres,
    port::{Backend, Campaign, ClaimRequest, LockError},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio_postgres::{
    Client, NoTls, Socket,
    tls::{MakeTlsConnect, TlsConnect},
};

use self::{
    harness::{PASSWORD, Server, scope},
    log::Log,
};

/// The engine gives an opening up after 5 s, without a reason.
const OPEN_MAX: Duration = Duration::from_secs(5);
/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(30);

/// Lets one role in without a password, and another not at all.
fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        Server::start_with(|data| {
            let lines = "host all trusted 127.0.0.1/32 trust\nhost all outsider 127.0.0.1/32 reject";
            data.prepend("pg_hba.conf", lines);
        })
    })
}

async fn admin(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// What an opening answers.
enum Expected {
    /// Waiting may cure it.
    Unavailable(String),
    /// Somebody must change something.
    Refused(String),
}

use Expected::{Refused, Unavailable};

/// Opens a session, which fails as expected and in time, and says the same at a start.
async fn assert_fails(what: &str, backend: impl Fn() -> Postgres, expected: &Expected) {
    let asked_at = Instant::now();
    let error = backend().locker().open().await.expect_err(what);
    assert!(asked_at.elapsed() < OPEN_MAX, "{what} took {:?}", asked_at.elapsed());
    let shown = format!("{error} {error:?} {:?}", backend());
    assert!(!shown.contains(PASSWORD), "{what}: {shown}");
    match (error, expected) {
        (LockError::Unavailable { reason }, Unavailable(text)) => assert_eq!(reason, *text, "{what}"),
        (LockError::Refused { reason }, Refused(text)) => {
            assert_eq!(reason, *text, "{what}");
            let Err(error) = Callsheet::builder().backend(backend()).start().await else {
                panic!("{what}: it started");
            };
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(&format!("{text:?}")[1..text.len().min(30)]), "{what}: {shown}");
            assert!(!shown.contains(PASSWORD), "{what}: {shown}");
        }
        (other, _) => panic!("{what}: {other:?}"),
    }
}

#[tokio::test]
async fn every_refusal_has_its_cause_and_its_cure_and_never_the_password() {
    let log = Log::keep();
    let port = server().port();
    let admin = admin(&server().url()).await;
    let roles = format!(
        "CREATE ROLE outsider LOGIN PASSWORD '{PASSWORD}';
         CREATE ROLE plain LOGIN PASSWORD '{PASSWORD}';
         CREATE ROLE reader LOGIN SUPERUSER PASSWORD '{PASSWORD}';
         ALTER ROLE reader SET default_transaction_read_only = on;
         CREATE ROLE settled LOGIN SUPERUSER PASSWORD '{PASSWORD}';
         ALTER ROLE settled SET search_path = new;
         CREATE SCHEMA closed; CREATE SCHEMA empty; CREATE SCHEMA shut; CREATE SCHEMA mute;
         GRANT USAGE ON SCHEMA empty, shut, mute TO plain;",
    );
    admin.batch_execute(&roles).await.expect("roles");
    admin.batch_execute(&Postgres::new("any", "").schema("shut").ddl()).await.expect("tables");
    admin.batch_execute("GRANT SELECT, INSERT, UPDATE ON shut.names TO plain").await.expect("rights");
    admin.batch_execute(&Postgres::new("any", "").schema("mute").ddl()).await.expect("tables");
    let mute = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA mute TO plain;
                REVOKE EXECUTE ON PROCEDURE mute.wait_for_leadership FROM PUBLIC";
    admin.batch_execute(mute).await.expect("rights");

    let by = |user: &str, at: &str| format!("postgres://{user}:{PASSWORD}@127.0.0.1:{at}");
    let here = format!("{port}/postgres");
    let silent = impostor::silent().await;
    let old =
        impostor::refusing(false, "42704", "unrecognized configuration parameter \"idle_session_timeout\"")
            .await;
    let strict = impostor::refusing(false, "08P01", "unsupported startup parameter: options").await;
    let forgetful = impostor::refusing(true, "26000", "prepared statement \"s0\" does not exist").await;
    let careless = impostor::careless_pooler(port).await;
    let meddler = impostor::meddler(port, "statement_timeout=0", "statement_timeout=9").await;
    let pooler = "a pooler stands between, which may hand each transaction to another process; connect to the server itself";
    let cases: Vec<(&str, String, (&str, bool), Expected)> = vec![
        (
            "a closed port",
            by("me", "1/db"),
            ("new", true),
            Unavailable("error connecting to server: Connection refused (os error 111); check the host and the port in \
                         the URL, and whether the server runs".to_owned()),
        ),
        (
            "a server that never answers",
            by("me", &format!("{silent}/db?connect_timeout=1")),
            ("new", true),
            Unavailable("the server did not answer within 1s; check the host and the port, whether a firewall drops \
                         packets, and how the server is".to_owned()),
        ),
        (
            "a wrong password",
            server().url_with("wrong"),
            ("new", true),
            Refused("password authentication failed for user \"callsheet\"; check the user and the password in the URL".to_owned()),
        ),
        (
            "no password",
            format!("postgres://callsheet@127.0.0.1:{here}"),
            ("new", true),
            Refused("the server asks for a password, and the URL has none".to_owned()),
        ),
        (
            "an unknown user",
            by("nobody", &here),
            ("new", true),
            Refused("password authentication failed for user \"nobody\"; check the user and the password in the URL".to_owned()),
        ),
        (
            "a user who is not let in",
            by("outsider", &here),
            ("new", true),
            Refused("pg_hba.conf rejects connection for host \"127.0.0.1\", user \"outsider\", database \"postgres\", no \
                     encryption; check the user in the URL, and the server's pg_hba.conf: whether it lets this user in from \
                     here, and encrypted or not (sslmode)".to_owned()),
        ),
        (
            "an unknown database",
            by("callsheet", &format!("{port}/nowhere")),
            ("new", true),
            Refused("database \"nowhere\" does not exist; create the database, or name another one in the URL".to_owned()),
        ),
        (
            "a role that may not create a schema",
            by("plain", &here),
            ("new", true),
            Refused("permission denied for database postgres; grant CREATE on the database and the schema to this role, or \
                     let another role run the statements of Postgres::ddl() and use migrate(false)".to_owned()),
        ),
        (
            "a schema that the role may not change",
            by("plain", &here),
            ("empty", true),
            Refused(
                "permission denied for schema empty; grant CREATE on the database and the schema to this role, or let \
                 another role run the statements of Postgres::ddl() and use migrate(false)"
                    .to_owned(),
            ),
        ),
        (
            "a schema that the role may neither use nor change",
            by("plain", &here),
            ("closed", true),
            Refused(
                "no schema has been selected to create in; grant CREATE on the database and the schema to this role, or \
                 let another role run the statements of Postgres::ddl() and use migrate(false)"
                    .to_owned(),
            ),
        ),
        (
            "a schema that is not there",
            by("plain", &here),
            ("absent", false),
            Refused("the schema \"absent\" is not there, or not complete: use migrate(true), or run the statements of Postgres::ddl()".to_owned()),
        ),
        (
            "a schema without tables",
            by("plain", &here),
            ("empty", false),
            Refused("the schema \"empty\" is not there, or not complete: use migrate(true), or run the statements of Postgres::ddl()".to_owned()),
        ),
        (
            "a schema that the role may not use",
            by("plain", &here),
            ("closed", false),
            Refused("this role may not use the schema \"closed\": GRANT USAGE ON SCHEMA \"closed\" TO it".to_owned()),
        ),
        (
            "tables that the role may not use",
            by("plain", &here),
            ("shut", false),
            Refused("this role may not use the tables debts, leader, names, runs, scopes, sessions of the schema \"shut\": GRANT SELECT, \
                     INSERT, UPDATE ON ALL TABLES IN SCHEMA \"shut\", and DELETE ON \"shut\".debts, \"shut\".names, \"shut\".sessions, TO it".to_owned()),
        ),
        (
            "a routine that the role may not call",
            by("plain", &here),
            ("mute", false),
            Refused("this role may not call wait_for_leadership of the schema \"mute\": GRANT EXECUTE ON ROUTINE \
                     \"mute\".is_over, \"mute\".wait_for_leadership TO it".to_owned()),
        ),
        (
            "a role whose sessions are read-only",
            by("reader", &here),
            ("new", true),
            Refused("the session is read-only; check default_transaction_read_only of the role and the database".to_owned()),
        ),
        (
            "a server that is too old to know the settings",
            by("me", &format!("{old}/db")),
            ("new", true),
            Refused("unrecognized configuration parameter \"idle_session_timeout\"; the server must be PostgreSQL 14 or \
                     newer; if it is, check the options in the URL".to_owned()),
        ),
        (
            "a pooler that takes no settings",
            by("me", &format!("{strict}/db")),
            ("new", true),
            Refused(format!("unsupported startup parameter: options; {pooler}")),
        ),
        (
            "a pooler that forgets statements",
            by("me", &format!("{forgetful}/db")),
            ("new", true),
            Refused(format!("prepared statement \"s0\" does not exist; {pooler}")),
        ),
        (
            "a pooler that forgets settings",
            by("callsheet", &format!("{careless}/postgres")),
            ("new", true),
            Refused(format!("the settings of the connection did not reach the server: {pooler}")),
        ),
        (
            "a pooler that forgets settings, and a role that has some of them by itself",
            by("settled", &format!("{careless}/postgres")),
            ("new", true),
            Refused(format!("the settings of the connection did not reach the server: {pooler}")),
        ),
        (
            "something between that sets a timeout",
            by("callsheet", &format!("{meddler}/postgres")),
            ("new", true),
            Refused("the server has other values of statement_timeout than this node asked for: find what sets them after the \
                     connection is made (a trigger ON login, or what stands between), and let it leave this role alone".to_owned()),
        ),
    ];
    for (what, url, (schema, migrate), expected) in cases {
        let backend = || Postgres::new(scope("refused"), &url).schema(schema).migrate(migrate);
        assert_fails(what, backend, &expected).await;
    }

    let logged = log.text();
    assert!(logged.contains("does not exist"), "nothing is kept of the log:\n{logged}");
    assert!(!logged.contains(PASSWORD), "the password is in the log:\n{logged}");
}

#[tokio::test]
async fn a_standby_is_refused_until_it_is_promoted() {
    let standby = Server::standby_of(server());
    let backend = Postgres::new(scope("standby"), standby.url());
    let reason = "the server is a standby, which grants locks that the primary grants too; connect to the primary (several \
                  hosts: target_session_attrs=read-write)";
    assert_fails("a standby", || Postgres::new("standby", standby.url()), &Refused(reason.to_owned())).await;
    let choosy = format!("{}?target_session_attrs=read-write", standby.url());
    let reason = "error connecting to server: database does not allow writes; check the host and the port in the URL, and \
                  whether the server runs";
    // Whoever asks for a primary waits for one.
    assert_fails("no primary", || Postgres::new("standby", &choosy), &Unavailable(reason.to_owned())).await;
    let either = format!(
        "postgres://callsheet:{PASSWORD}@127.0.0.1:{},127.0.0.1:{}/postgres?target_session_attrs=read-write",
        standby.port(),
        server().port()
    );
    Postgres::new("standby", either).locker().open().await.expect("the primary is found");
    let locker = backend.locker();
    assert!(matches!(locker.open().await, Err(LockError::Refused { .. })));

    let promoted =
        admin(&standby.url()).await.query_one("SELECT pg_promote()", &[]).await.expect("an answer");
    assert!(promoted.get::<_, bool>(0));

    locker.open().await.expect("the same node opens a session");
    let campaign = backend.elector().campaign().await.expect("an answer");
    assert!(matches!(campaign, Campaign::Won(_)), "{campaign:?}");
}

#[tokio::test]
async fn two_connections_that_reach_two_servers_do_not_lead() {
    let other = Server::start();
    let schema = Postgres::new("any", "").schema("forked").ddl();
    for server in [server(), &other] {
        admin(&server.url()).await.batch_execute(&schema).await.expect("tables");
    }
    let port = impostor::fork(server().port(), other.port()).await;
    let url = server().url().replace(&server().port().to_string(), &port.to_string());
    let backend = Postgres::new(scope("forked"), url).schema("forked").migrate(false);
    backend.locker().open().await.expect("one server is as good as the other");

    let refused = backend.elector().campaign().await.expect_err("the beacon is not seen there");

    let reason = "the session and the leadership of this node reached different servers; name one server in the URL (several \
                  hosts: target_session_attrs=read-write, load_balance_hosts=disable)";
    assert_eq!(refused.to_string(), format!("the store did not answer the elector: {reason}"));
}

#[tokio::test]
async fn a_pooler_that_changes_the_server_process_is_noticed_at_once_or_by_a_heartbeat() {
    let admin = admin(&server().url()).await;
    admin.batch_execute("CREATE ROLE trusted LOGIN SUPERUSER").await.expect("a role");
    admin.batch_execute(&Postgres::new("any", "").schema("pooled").ddl()).await.expect("tables");
    let turns = Arc::new(AtomicUsize::new(usize::MAX));
    let port = impostor::pooler(server().port(), turns.clone()).await;
    let backend = || {
        let url = format!("postgres://trusted@127.0.0.1:{port}/postgres");
        Postgres::new(scope("pooled"), url).schema("pooled").migrate(false)
    };
    let changed = "the server process changed under the connection: a pooler stands between, which may hand each \
                   transaction to another process; connect to the server itself";

    let late = backend().locker();
    let session = late.open().await.expect("nothing has changed yet");
    turns.store(0, Ordering::Relaxed);
    let reason = tokio::time::timeout(DEADLINE, late.lost(session)).await.expect("a heartbeat notices");
    assert_eq!(reason, changed);
    let lost = late.claim(&[manual()]).await.expect_err("the session is lost");
    assert_eq!(lost.to_string(), format!("the session with the store is lost: {changed}"));

    // While the session is opened: after it was inspected, amid the statements that are prepared.
    turns.store(15, Ordering::Relaxed);
    assert_fails("a pooler", backend, &Refused(changed.to_owned())).await;
}

fn manual() -> ClaimRequest {
    let run = RunId::from(NodeId::random().as_uuid());
    let (job, key) = (JobName::new("job").expect("a name"), LockKey::new("key").expect("a key"));
    ClaimRequest::new(job, key, run)
}

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// The certificate and the key of a server, or a user, of this name.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([name.to_owned()]).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        (params.signed_by(&key, &self.issuer).expect("a certificate").pem(), key.serialize_pem())
    }
}

#[tokio::test]
async fn an_encrypted_connection_is_verified_or_not_made() {
    Log::keep();
    let (authority, another) = (Authority::new("one"), Authority::new("another"));
    let server = Server::start_with(|data| {
        let (certificate, key) = authority.sign("localhost");
        data.write("server.crt", &certificate);
        data.write("server.key", &key);
        data.prepend("postgresql.conf", "ssl = on");
    });
    let files = tempfile::tempdir().expect("a directory");
    let file = files.path().join("authority.pem");
    std::fs::write(&file, &authority.pem).expect("it is written");
    let url = |host: &str, mode: &str| {
        format!("postgres://callsheet:{PASSWORD}@{host}:{}/postgres{mode}", server.port())
    };

    let from_file = format!("?sslmode=verify-full&sslrootcert={}", file.display());
    for backend in [
        Postgres::new(scope("tls"), url("localhost", "")).root_certificates(&authority.pem),
        Postgres::new(scope("tls"), url("localhost", &from_file)),
        Postgres::new(scope("tls"), url("localhost", "?sslmode=require")).root_certificates(&authority.pem),
    ] {
        backend.locker().open().await.expect("a session opens");
        let campaign = backend.elector().campaign().await.expect("an answer");
        assert!(matches!(campaign, Campaign::Won(_)), "{campaign:?}");
        let admin = admin(&server.url()).await;
        let encrypted = "SELECT count(*), bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                         WHERE application_name LIKE $1";
        let node = backend.node().expect("an id").as_uuid().simple().to_string();
        let row =
            admin.query_one(encrypted, &[&format!("callsheet {}%", &node[..12])]).await.expect("an answer");
        assert_eq!((row.get::<_, i64>(0), row.get::<_, bool>(1)), (2, true), "two connections, encrypted");
        backend.locker().close().await;
    }

    let refused = |reason: &str| Refused(format!("the encrypted connection was not made: {reason}"));
    assert_fails(
        "a wrong authority",
        || Postgres::new("tls", url("localhost", "")).root_certificates(&another.pem),
        &refused("invalid peer certificate: UnknownIssuer; the authority that signed it is not the one given: check \
                  sslrootcert, or Postgres::root_certificates"),
    )
    .await;
    assert_fails(
        "a wrong name",
        || Postgres::new("tls", url("127.0.0.1", "")).root_certificates(&authority.pem),
        &refused("invalid peer certificate: certificate not valid for name \"127.0.0.1\"; certificate is only valid for \
                  DnsName(\"localhost\"); the URL must name the host as the certificate does; hostaddr may give another \
                  address"),
    )
    .await;
    assert_fails(
        "a server without encryption",
        || Postgres::new("tls", self::server().url()).root_certificates(&authority.pem),
        &Refused("the server does not encrypt connections; switch ssl on there, or write sslmode=disable on a network that \
                  you trust".to_owned()),
    )
    .await;
}

/// What `deadpool_postgres::Manager::from_config` asks for.
fn fits_a_pool<T>(_: &T)
where
    T: MakeTlsConnect<Socket> + Clone + Sync + Send + 'static,
    T::Stream: Sync + Send,
    T::TlsConnect: Sync + Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
}

#[tokio::test]
async fn an_applications_own_connection_is_verified_as_the_nodes_are() {
    let (authority, another) = (Authority::new("one"), Authority::new("another"));
    let server = Server::start_with(|data| {
        let (certificate, key) = authority.sign("localhost");
        data.write("server.crt", &certificate);
        data.write("server.key", &key);
        data.prepend("postgresql.conf", "ssl = on");
    });
    let url =
        format!("postgres://callsheet:{PASSWORD}@localhost:{}/postgres?sslmode=verify-full", server.port());
    let connect = async |authority: &Authority| {
        let node = Postgres::new(scope("own"), &url).root_certificates(&authority.pem);
        let connector = node.connector().await.expect("it is well configured");
        assert!(!format!("{connector:?}").contains(PASSWORD));
        fits_a_pool(&connector.tls);
        connector.config.connect(connector.tls).await
    };

    let (client, connection) = connect(&authority).await.expect("a connection");
    tokio::spawn(connection);
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert!(client.query_one(encrypted, &[]).await.expect("an answer").get::<_, bool>(0));
    let refused = connect(&another).await.err().expect("another authority");
    let cause = std::error::Error::source(&refused).map(ToString::to_string).unwrap_or_default();
    assert!(cause.contains("UnknownIssuer"), "{refused}: {cause}");

    let faults = Postgres::new("own", &url).connector().await.expect_err("no authority");
    assert!(faults.to_string().contains("certificate authority"), "{faults}");
}

#[tokio::test]
async fn a_node_shows_its_certificate_to_a_server_that_asks_for_one() {
    let authority = Authority::new("one");
    let server = Server::start_with(|data| {
        let (certificate, key) = authority.sign("localhost");
        data.write("server.crt", &certificate);
        data.write("server.key", &key);
        data.write("clients.crt", &authority.pem);
        data.prepend("postgresql.conf", "ssl = on\nssl_ca_file = 'clients.crt'");
        // By the certificate alone: there is no password in the URL.
        data.prepend("pg_hba.conf", "hostssl all callsheet 127.0.0.1/32 cert");
    });
    let url = format!("postgres://callsheet@localhost:{}/postgres", server.port());
    let (certificate, key) = authority.sign("callsheet");
    let (_, wrong_key) = authority.sign("callsheet");
    let node = || Postgres::new(scope("certificate"), &url).root_certificates(&authority.pem);

    let opened = node().client_certificate(&certificate, &key).locker().open().await;
    opened.expect("it is known by its certificate");

    assert_fails(
        "no certificate",
        node,
        &Refused("connection requires a valid client certificate; check the user in the URL, and the server's pg_hba.conf: \
                  whether it lets this user in from here, and encrypted or not (sslmode)".to_owned()),
    )
    .await;
    let faults = node().client_certificate(&certificate, &wrong_key).faults();
    let [fault] = &faults[..] else { panic!("{faults:?}") };
    assert!(fault.rule.starts_with("it is a certificate, and sslkey is its key"), "{fault}");
}

#[tokio::test]
async fn this_machine_is_reached_without_ceremony() {
    let server = server();
    let directory = server.socket_directory().display().to_string().replace('/', "%2F");
    for host in ["127.0.0.1".to_owned(), "localhost".to_owned(), directory] {
        let url = format!("postgres://callsheet:{PASSWORD}@{host}:{}/postgres", server.port());
        let opened = Postgres::new(scope("here"), url).locker().open().await;
        opened.unwrap_or_else(|error| panic!("{host}: {error}"));
    }
}

#[tokio::test]
async fn faults_of_the_settings_are_told_all_at_once_before_anything_is_opened() {
    let authority = "add sslrootcert=/path/to/authority.pem to the URL (sslrootcert=system: whom this machine trusts), or use \
                     Postgres::root_certificates";
    let here = format!("postgres://me:{PASSWORD}@127.0.0.1/db");
    let there = format!("postgres://me:{PASSWORD}@db.example/db");
    let with = |mode: &str| format!("{here}?{mode}");
    let example = "write postgres://user:password@host:5432/database";
    let cases = [
        (
            Postgres::new("  ", &here),
            "postgres: scope \"  \": a scope is not empty: nodes of one scope share leader and jobs; name the application: \
             Postgres::new(\"billing\", url)"
                .to_owned(),
        ),
        (
            Postgres::new("x".repeat(101), &here),
            "postgres: scope \"…\": a scope has at most 100 bytes and no control characters; choose a shorter, plain name"
                .to_owned(),
        ),
        (
            Postgres::new("_local", &here),
            "postgres: scope \"_local\": scopes that begin with `_` are reserved: _local is that of the embedded backend in \
             metrics; begin it with another character"
                .to_owned(),
        ),
        (
            Postgres::new("billing", &here).schema("Robert'); DROP"),
            "postgres: schema \"Robert'); DROP\": a schema's name has 1 to 63 lower-case letters, digits and underscores, \
             and does not start with pg_; choose another name"
                .to_owned(),
        ),
        (
            Postgres::new("billing", &here).lease(Duration::from_millis(999)),
            "postgres: lease \"999ms\": a lease is at least 1 s and at most 1 h; choose another one; 5 s is the default"
                .to_owned(),
        ),
        (
            Postgres::new("billing", &here).lease(Duration::MAX),
            "postgres: lease \"213503982334601d7h15s999ms999us999ns\": a lease is at least 1 s and at most 1 h; choose another \
             one; 5 s is the default"
                .to_owned(),
        ),
        (
            Postgres::new("billing", format!("postgre://me:{PASSWORD}@localhost/db")),
            format!("postgres: url \"(not shown)\": it is a connection string of PostgreSQL; {example}"),
        ),
        (
            Postgres::new("billing", format!("postgres://me:{PASSWORD}@localhost:54x2/db")),
            "postgres: url \"(not shown)\": its port is a number from 0 to 65535; correct it; write a `:`, `/`, `@` or `?` of \
             the user or the password as %3A, %2F, %40, %3F"
                .to_owned(),
        ),
        (
            Postgres::new("billing", format!("{here}\n")),
            "postgres: url \"(not shown)\": it has no blank and no line break; take them out; a blank within a value is %20"
                .to_owned(),
        ),
        (
            Postgres::new("billing", format!(" {here}")),
            "postgres: url \"(not shown)\": it has no blank and no line break; take them out; a blank within a value is %20"
                .to_owned(),
        ),
        (
            Postgres::new("billing", with("connect_timeout=soon")),
            "postgres: url \"(not shown)\": its parameter `connect_timeout` has a value that the driver knows; correct it, or \
             leave it out"
                .to_owned(),
        ),
        (
            Postgres::new("billing", with("require_auth=md5")),
            "postgres: require_auth \"(not shown)\": it is not supported here; leave it out".to_owned(),
        ),
        (
            Postgres::new("billing", with(&format!("password=a&{PASSWORD}=b"))),
            "postgres: url \"(not shown)\": it has only parameters that the driver knows; correct its name, or leave it out"
                .to_owned(),
        ),
        (
            Postgres::new("billing", format!("user=me password={PASSWORD}")),
            format!("postgres: url \"(not shown)\": it names a host; {example}"),
        ),
        (
            Postgres::new("billing", &there),
            format!(
                "postgres: sslmode \"prefer\": to a host other than this machine no password is sent that may not be \
                 encrypted, and this mode, the default, falls back to plain text; {authority}, or write sslmode=disable on \
                 a network that you trust"
            ),
        ),
        (
            Postgres::new("billing", with("sslmode=require")),
            format!(
                "postgres: sslmode \"require\": an encrypted connection verifies the server's certificate, which takes a \
                 certificate authority; {authority}"
            ),
        ),
        (
            Postgres::new("billing", with("sslmode=disable")).root_certificates("x"),
            "postgres: sslmode \"disable\": a connection that is not encrypted verifies no certificate, and shows none; \
             leave out sslmode=disable, or the certificates"
                .to_owned(),
        ),
        (
            Postgres::new("billing", with("sslmode=always")),
            "postgres: sslmode \"always\": it is one of disable, allow, prefer, require, verify-ca, verify-full; choose one \
             of them"
                .to_owned(),
        ),
        (
            Postgres::new("billing", with("sslcrl=/revoked.pem")),
            "postgres: sslcrl \"(not shown)\": it is not supported here; leave it out".to_owned(),
        ),
        (
            Postgres::new("billing", with("sslrootcert=system&sslcert=/mine.pem")),
            "postgres: sslcert \"/mine.pem\": sslcert and sslkey come together; give both, or neither".to_owned(),
        ),
        (
            Postgres::new("billing", with("sslrootcert=/nowhere/ca.pem")),
            "postgres: sslrootcert \"/nowhere/ca.pem\": it is a file that can be read: No such file or directory (os error \
             2); check the path and the rights"
                .to_owned(),
        ),
        (
            Postgres::new("billing", &there).root_certificates("no certificate"),
            "postgres: sslrootcert \"(given)\": it has certificates in PEM format: there is none; give certificates, in PEM \
             format"
                .to_owned(),
        ),
    ];
    for (backend, expected) in cases {
        let shown = format!("{backend:?}");
        let Err(StartError::Invalid(faults)) = Callsheet::builder().backend(backend).start().await else {
            panic!("it started: {expected}");
        };
        assert_eq!(faults.to_string(), expected);
        assert!(!shown.contains(PASSWORD), "{shown}");
    }

    let all = Postgres::new("", with("sslmode=require")).schema("").lease(Duration::ZERO);
    let Err(StartError::Invalid(faults)) = Callsheet::builder().backend(all).start().await else {
        panic!("it started");
    };
    let subjects: Vec<_> = faults.as_slice().iter().map(|fault| fault.subject.as_str()).collect();
    assert_eq!(subjects, ["postgres: scope", "postgres: schema", "postgres: lease", "postgres: sslmode"]);
}

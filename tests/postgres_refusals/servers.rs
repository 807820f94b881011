//! Servers, roles and poolers that are of no use.

use super::*;

/// A net under every wait.
const DEADLINE: Duration = Duration::from_secs(30);

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
                     \"mute\".is_over, \"mute\".take_over, \"mute\".wait_for_leadership TO it".to_owned()),
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
    let campaign = backend.elector().campaign(Duration::MAX).await.expect("an answer");
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

    let refused = backend.elector().campaign(Duration::MAX).await.expect_err("the beacon is not seen there");

    let reason = "the session and the leadership of this node reached different servers; name one server in the URL (several \
                  hosts: target_session_attrs=read-write, load_balance_hosts=disable)";
    assert_eq!(refused.to_string(), format!("the store did not answer the elector: {reason}"));
}

#[tokio::test]
async fn a_pooler_that_changes_the_server_process_is_noticed() {
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

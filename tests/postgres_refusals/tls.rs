//! Certificates.

use super::*;

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
        let campaign = backend.elector().campaign(Duration::MAX).await.expect("an answer");
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

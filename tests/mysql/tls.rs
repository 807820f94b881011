//! Encrypted connections.

use callsheet::{backend::Mysql, port::RecordsError};

use super::{
    SECOND,
    authority::Authority,
    harness::{DATABASE, Files, PASSWORD, Server, USER},
};

/// A server that encrypts.
fn server(authority: &Authority, name: &str) -> (Server, Files) {
    let (certificate, key) = authority.certify(name);
    let files = Files::new(&[("ca.pem", &authority.pem), ("cert.pem", &certificate), ("key.pem", &key)]);
    let path = |name: &str| files.path(name).display().to_string();
    let lines =
        format!("ssl_ca={}\nssl_cert={}\nssl_key={}", path("ca.pem"), path("cert.pem"), path("key.pem"));
    (Server::start_with(&lines), files)
}

fn url(server: &Server, host: &str) -> String {
    format!("mysql://{USER}:{PASSWORD}@{host}:{}/{DATABASE}", server.port())
}

async fn reason(mysql: Mysql) -> String {
    match mysql.records().open(5 * SECOND).await {
        Err(RecordsError::Refused { reason } | RecordsError::Unavailable { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_encrypted_connection_verifies_the_servers_certificate() {
    let (authority, other) = (Authority::new("ours"), Authority::new("other"));
    let (server, files) = server(&authority, "localhost");
    let url = url(&server, "localhost");

    let given = Mysql::new("scope", &url).root_certificates(&authority.pem).records();
    given.open(5 * SECOND).await.expect("it opens");
    let encrypted = "SELECT COUNT(*) FROM information_schema.processlist p WHERE p.user = 'node'";
    assert_ne!(server.ask(encrypted).trim(), "0");
    let named = Mysql::new("scope", format!("{url}?sslrootcert={}", files.path("ca.pem").display()));
    named.records().open(5 * SECOND).await.expect("it opens");

    let unknown = reason(Mysql::new("scope", &url).root_certificates(&other.pem)).await;
    assert!(unknown.contains("the encrypted connection was not made"), "{unknown}");
    let by_address = url.replace("localhost", "127.0.0.1");
    let other_name = reason(Mysql::new("scope", by_address).root_certificates(&authority.pem)).await;
    assert!(other_name.contains("the encrypted connection was not made"), "{other_name}");
    server.ask("ALTER USER node REQUIRE SSL");
    let plain = reason(Mysql::new("scope", &url)).await;
    assert!(plain.contains("check the user and the password") && !plain.contains(PASSWORD), "{plain}");
    given.open(5 * SECOND).await.expect("it is encrypted");
}

#[tokio::test]
async fn a_server_that_does_not_encrypt_gets_no_password() {
    let authority = Authority::new("ours");
    let server = super::harness::server();
    let plain = reason(Mysql::new("scope", url(server, "localhost")).root_certificates(&authority.pem)).await;
    assert!(plain.contains("does not encrypt connections") && plain.contains("sslmode=disable"), "{plain}");
}

#[tokio::test]
async fn a_node_shows_a_certificate_of_its_own() {
    let authority = Authority::new("ours");
    let (server, _files) = server(&authority, "localhost");
    let url = url(&server, "localhost");
    server.ask("ALTER USER node REQUIRE X509");
    let (certificate, key) = authority.certify("node");

    let without = reason(Mysql::new("scope", &url).root_certificates(&authority.pem)).await;
    assert!(without.contains("check the user"), "{without}");
    let with =
        Mysql::new("scope", &url).root_certificates(&authority.pem).client_certificate(certificate, key);
    with.records().open(5 * SECOND).await.expect("it opens");
}

#[tokio::test]
async fn certificates_without_encryption_are_a_contradiction() {
    let authority = Authority::new("ours");
    let mysql = Mysql::new("scope", "mysql://h/app?sslmode=disable").root_certificates(&authority.pem);
    assert!(reason(mysql).await.contains("leave out sslmode=disable"));
}

//! Encrypted connections.

use callsheet::{backend::Redis, port::RecordsError};

use super::{
    SECOND,
    authority::Authority,
    harness::{PASSWORD, Server, owner::Files},
};

/// A server that encrypts, and asks for certificates.
fn server(authority: &Authority, name: &str, clients: &str) -> (Server, u16, Files) {
    let (certificate, key) = authority.certify(name);
    let files = Files::new(&[("ca.pem", &authority.pem), ("cert.pem", &certificate), ("key.pem", &key)]);
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("one").port();
    let path = |name: &str| files.path(name).display().to_string();
    let lines = format!(
        "tls-port {port}\ntls-ca-cert-file {}\ntls-cert-file {}\ntls-key-file {}\ntls-auth-clients {clients}",
        path("ca.pem"),
        path("cert.pem"),
        path("key.pem")
    );
    (Server::start_with(&lines), port, files)
}

async fn reason(redis: Redis) -> String {
    match redis.records().open(5 * SECOND).await {
        Err(RecordsError::Refused { reason } | RecordsError::Unavailable { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_encrypted_connection_verifies_the_servers_certificate() {
    let (authority, other) = (Authority::new("ours"), Authority::new("other"));
    let (_server, port, files) = server(&authority, "localhost", "no");
    let url = format!("rediss://:{PASSWORD}@localhost:{port}");

    let given = Redis::new("scope", &url).root_certificates(&authority.pem);
    given.records().open(5 * SECOND).await.expect("it opens");
    let named = Redis::new("scope", format!("{url}?sslrootcert={}", files.path("ca.pem").display()));
    named.records().open(5 * SECOND).await.expect("it opens");

    let unknown = reason(Redis::new("scope", &url).root_certificates(&other.pem)).await;
    assert!(unknown.contains("the encrypted connection was not made"), "{unknown}");
    let by_address = url.replace("localhost", "127.0.0.1");
    let other_name = reason(Redis::new("scope", by_address).root_certificates(&authority.pem)).await;
    assert!(other_name.contains("the encrypted connection was not made"), "{other_name}");
    let plain = reason(Redis::new("scope", url.replace("rediss", "redis"))).await;
    assert!(!plain.contains(PASSWORD), "{plain}");
}

#[tokio::test]
async fn a_node_shows_a_certificate_of_its_own() {
    let authority = Authority::new("ours");
    let (_server, port, _files) = server(&authority, "localhost", "yes");
    let url = format!("rediss://:{PASSWORD}@localhost:{port}");
    let (certificate, key) = authority.certify("node");

    let without = reason(Redis::new("scope", &url).root_certificates(&authority.pem)).await;
    assert!(!without.is_empty());
    let with =
        Redis::new("scope", &url).root_certificates(&authority.pem).client_certificate(certificate, key);
    with.records().open(5 * SECOND).await.expect("it opens");
}

#[tokio::test]
async fn certificates_without_encryption_are_a_contradiction() {
    let authority = Authority::new("ours");
    let redis = Redis::new("scope", "redis://h").root_certificates(&authority.pem);
    assert!(reason(redis).await.contains("begin it with rediss://"));
}

//! Encrypted connections.

use callsheet::{
    backend::Etcd,
    port::{RecordsError, Version},
};

use super::{
    SECOND,
    authority::Authority,
    harness::{PASSWORD, Server, owner::Files},
    write,
};

/// A server that encrypts, and asks for certificates if it is told to.
fn server(authority: &Authority, name: &str, asks: bool) -> (Server, Files) {
    let (certificate, key) = authority.certify(name);
    let files = Files::new(&[("ca.pem", &authority.pem), ("cert.pem", &certificate), ("key.pem", &key)]);
    let [ca, certificate, key] =
        ["ca.pem", "cert.pem", "key.pem"].map(|name| files.path(name).display().to_string());
    let mut arguments = vec!["--cert-file", &certificate, "--key-file", &key];
    if asks {
        arguments.extend(["--client-cert-auth", "--trusted-ca-file", &ca]);
    }
    (Server::start_encrypted(&arguments), files)
}

async fn reason(etcd: Etcd) -> String {
    match etcd.records().open(5 * SECOND).await {
        Err(RecordsError::Refused { reason } | RecordsError::Unavailable { reason }) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_encrypted_connection_verifies_the_servers_certificate() {
    let (authority, other) = (Authority::new("ours"), Authority::new("other"));
    let (server, files) = server(&authority, "localhost", false);
    let url = format!("https://localhost:{}", server.port());

    let given = Etcd::new("scope", &url).root_certificates(&authority.pem).records();
    given.open(5 * SECOND).await.expect("it opens");
    write(&*given, "job", Version::ABSENT, "encrypted").await;
    drop(given.subscribe().await.expect("a subscription"));
    let named = Etcd::new("scope", format!("{url}?sslrootcert={}", files.path("ca.pem").display()));
    named.records().open(5 * SECOND).await.expect("it opens");

    let unknown = reason(Etcd::new("scope", &url).root_certificates(&other.pem)).await;
    assert!(unknown.contains("the encrypted connection was not made"), "{unknown}");
    let of_the_system = reason(Etcd::new("scope", &url)).await;
    assert!(
        of_the_system.contains("the encrypted connection was not made")
            || of_the_system.contains("this machine has certificates"),
        "{of_the_system}"
    );
    let by_address = url.replace("localhost", "127.0.0.1");
    let other_name = reason(Etcd::new("scope", by_address).root_certificates(&authority.pem)).await;
    assert!(other_name.contains("the encrypted connection was not made"), "{other_name}");
    let plain = url.replace("https://", &format!("http://me:{PASSWORD}@"));
    let plain = reason(Etcd::new("scope", plain)).await;
    assert!(plain.contains("whether it wants TLS") && !plain.contains(PASSWORD), "{plain}");
}

#[tokio::test]
async fn a_node_shows_a_certificate_of_its_own() {
    let authority = Authority::new("ours");
    let (server, _files) = server(&authority, "localhost", true);
    let url = format!("https://localhost:{}", server.port());
    let (certificate, key) = authority.certify("node");

    let without = reason(Etcd::new("scope", &url).root_certificates(&authority.pem)).await;
    assert!(!without.is_empty());
    let with =
        Etcd::new("scope", &url).root_certificates(&authority.pem).client_certificate(certificate, key);
    with.records().open(5 * SECOND).await.expect("it opens");
}

#[tokio::test]
async fn certificates_without_encryption_are_a_contradiction() {
    let authority = Authority::new("ours");
    let etcd = Etcd::new("scope", "http://h").root_certificates(&authority.pem);
    assert!(reason(etcd).await.contains("begin it with https://"));
}

//! A server, a role or a URL that is of no use is refused, with the cause and the cure, in time, and the
//! password never shows.

#[path = "../common/postgres.rs"]
mod harness;
#[path = "../common/impostor.rs"]
mod impostor;
#[path = "../common/log.rs"]
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

mod servers;
mod settings;
mod tls;

/// The engine gives an opening up after 5 s, without a reason.
const OPEN_MAX: Duration = Duration::from_secs(5);

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

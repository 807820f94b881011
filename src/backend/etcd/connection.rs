//! One connection to one server, and whether that server is of use.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use callsheet_actors::{DurationText, Faults, port::RecordsError};
use etcd_client::{
    Client, Compare, CompareOp, ConnectOptions, KvClient, LeaseClient, StatusResponse, TlsOptions, Txn,
    TxnOp, WatchClient,
};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::timeout;

use super::{
    failure::{Failure, is_denied, is_no_space, judge, of_connection},
    keys::Keys,
    settings::Settings,
};
use crate::backend::{
    address::Host,
    checks::CONNECT_TIMEOUT,
    failure::{refused, unavailable},
    link::{Connection, Connector, Judged},
    random::random,
};

/// How long one host may take to answer.
const HOST_TIMEOUT: Duration = Duration::from_millis(1_500);
/// The oldest version that is known to work.
const VERSION_MIN: (u64, u64) = (3, 4);
/// The largest answer: a read of as many of the largest records as are allowed.
const ANSWER_BYTES_MAX: usize = 16 * 1_024 * 1_024;

/// A connection to one server. It lives on the runtime on which it was made.
pub(super) struct EtcdConnection {
    client: Client,
    over: AtomicBool,
    /// Which host it is of, and where the next attempt begins.
    host: usize,
    next: Arc<AtomicUsize>,
}

impl EtcdConnection {
    pub(super) fn kv(&self) -> KvClient {
        self.client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(super) fn leases(&self) -> LeaseClient {
        self.client.lease_client()
    }

    pub(super) fn watches(&self) -> WatchClient {
        self.client.watch_client()
    }
}

impl Connection for EtcdConnection {
    type Error = Failure;

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn give_up(&self) {
        // Another one first, the next time: this one may be silent for long.
        if !self.over.swap(true, Ordering::AcqRel) {
            self.next.store(self.host + 1, Ordering::Release);
        }
    }

    fn judge(error: Failure) -> Judged {
        judge(error)
    }
}

/// The servers of a cluster, of which one at a time is connected to.
pub(super) struct Servers {
    pub(super) settings: Arc<Settings>,
    /// Where the next attempt begins.
    next: Arc<AtomicUsize>,
}

impl Servers {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        // Not all nodes begin with the same one.
        let next = usize::try_from(random() >> 40).unwrap_or(0);
        Self { settings, next: Arc::new(AtomicUsize::new(next)) }
    }

    /// The first that is of use. One after which time has run out is not where the next attempt begins.
    async fn first_fit(&self) -> Result<EtcdConnection, RecordsError> {
        Faults::check(self.settings.faults()).map_err(|faults| refused(faults.to_string()))?;
        let address = self.settings.store.address().map_err(|fault| refused(fault.to_string()))?;
        let tls = self.settings.tls().map_err(|fault| refused(fault.to_string()))?;
        let mut reasons = Reasons::default();
        let from = self.next.load(Ordering::Acquire);
        for at in 0..address.hosts.len() {
            let index = from.wrapping_add(at) % address.hosts.len();
            let Some(host) = address.hosts.get(index) else { continue };
            self.next.store(index + 1, Ordering::Release);
            let shown = host.to_string();
            let attempt = Attempt { settings: &self.settings, tls: tls.clone(), host };
            match timeout(HOST_TIMEOUT, attempt.connect()).await {
                Ok(Ok(client)) => {
                    self.next.store(index, Ordering::Release);
                    let (over, next) = (AtomicBool::new(false), self.next.clone());
                    return Ok(EtcdConnection { client, over, host: index, next });
                }
                Ok(Err(failure)) => reasons.add(of_connection(failure, &shown)),
                Err(_) => reasons.add(silent(&shown, HOST_TIMEOUT)),
            }
        }
        Err(reasons.worst())
    }
}

impl Connector for Servers {
    type Connection = EtcdConnection;

    fn deadline(&self) -> Duration {
        self.settings.deadline()
    }

    fn connect(&self) -> BoxFuture<'_, Result<EtcdConnection, RecordsError>> {
        async {
            let connected = timeout(CONNECT_TIMEOUT, self.first_fit()).await;
            connected.unwrap_or_else(|_| Err(silent("the servers of the URL", CONNECT_TIMEOUT)))
        }
        .boxed()
    }
}

/// Why the servers are of no use.
#[derive(Default)]
struct Reasons {
    refused: Option<String>,
    other: Option<RecordsError>,
}

impl Reasons {
    fn add(&mut self, reason: RecordsError) {
        match reason {
            RecordsError::Refused { reason } => self.refused = Some(reason),
            RecordsError::Unavailable { .. }
            | RecordsError::Timeout
            | RecordsError::NotDone { .. }
            | RecordsError::OverLimit { .. } => self.other = Some(reason),
            _ => {}
        }
    }

    /// What somebody has to change comes first. While one of them may yet be of use, it is worth to ask again.
    fn worst(self) -> RecordsError {
        match (self.refused, self.other) {
            (Some(reason), None) => RecordsError::Refused { reason },
            (Some(reason), Some(_)) => RecordsError::Unavailable { reason },
            (None, Some(other)) => other,
            (None, None) => unavailable("the URL names no host"),
        }
    }
}

struct Attempt<'a> {
    settings: &'a Settings,
    tls: Option<TlsOptions>,
    host: &'a Host,
}

impl Attempt<'_> {
    async fn connect(self) -> Result<Client, Failure> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let endpoint = format!("{scheme}://{}", self.host);
        let address = self.settings.store.address().map_err(|fault| Failure::Refused(fault.to_string()))?;
        // A server that has lost the others says so, instead of waiting for them.
        let mut options = ConnectOptions::new().with_require_leader(true).with_connect_timeout(HOST_TIMEOUT);
        if let Some(tls) = self.tls {
            options = options.with_tls(tls);
        }
        if let Some((user, password)) = &address.user {
            // What a server refuses for the lack of a token is asked again: it has not begun it.
            options = options.with_user(user, password).with_auto_token_refresh(true);
        }
        let client = Client::connect([endpoint], Some(options)).await?;
        inspect(&client, &Keys::of(&self.settings.scope)).await?;
        Ok(client)
    }
}

/// Refuses a server that cannot coordinate, and a user who may not.
async fn inspect(client: &Client, keys: &Keys) -> Result<(), Failure> {
    match client.maintenance_client().status().await {
        Ok(status) => {
            if let Some(reason) = unfit(&status) {
                return Err(Failure::Refused(reason));
            }
        }
        // Whoever may not ask for that may be allowed all that is needed.
        Err(error) if is_denied(&error) => {}
        Err(error) => return Err(error.into()),
    }
    // It writes nothing, as no key has such a version. But the right to write is needed, and a majority of the servers.
    let probe = keys.probe();
    let never = Compare::version(probe.as_str(), CompareOp::Less, 0);
    let asked = Txn::new().when([never]).and_then([TxnOp::put(probe.as_str(), "", None)]);
    match client.kv_client().txn(asked.or_else([TxnOp::get(probe, None)])).await {
        Ok(_) => Ok(()),
        // It does what needs no room.
        Err(error) if is_no_space(&error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Why a server cannot coordinate, and the cure.
fn unfit(status: &StatusResponse) -> Option<String> {
    if status.is_learner() {
        return Some("it is a learner, which answers nobody; name the voting members in the URL".to_owned());
    }
    if is_inconsistent(status.version()) {
        return Some(format!(
            "it is etcd {}: after a crash, servers of the versions 3.5.0 to 3.5.2 may differ in what they hold; upgrade it to 3.5.3 \
             or newer",
            status.version()
        ));
    }
    too_old(status.version()).then(|| {
        let (major, minor) = VERSION_MIN;
        format!(
            "it is older than etcd {major}.{minor}, which is the oldest that is known to work; upgrade it"
        )
    })
}

fn too_old(version: &str) -> bool {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < VERSION_MIN
}

/// Whether its versions are known to lose what they were told: <https://github.com/etcd-io/etcd/issues/13766>.
fn is_inconsistent(version: &str) -> bool {
    let release = version.split(['-', '+']).next().unwrap_or(version);
    ["3.5.0", "3.5.1", "3.5.2"].contains(&release)
}

/// The error of a server that has not answered within a deadline.
fn silent(shown: &str, deadline: Duration) -> RecordsError {
    unavailable(format!(
        "{shown} did not answer within {}; check the host and the port, whether a firewall drops packets, and whether a majority \
         of the servers runs",
        DurationText(deadline)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_number_by_number() {
        let cases = [("3.3.27", true), ("3.4.0", false), ("3.10.1", false), ("4.0.0", false), ("?", true)];
        for (version, old) in cases {
            assert_eq!(too_old(version), old, "{version}");
        }
    }

    #[test]
    fn versions_whose_servers_may_differ_are_known() {
        let cases = [
            ("3.5.0", true),
            ("3.5.2", true),
            ("3.5.0-rc.1", true),
            ("3.5.3", false),
            ("3.5.21", false),
            ("3.4.30", false),
        ];
        for (version, inconsistent) in cases {
            assert_eq!(is_inconsistent(version), inconsistent, "{version}");
        }
    }

    #[test]
    fn what_somebody_has_to_change_comes_first() {
        let of = |reasons: &[RecordsError]| {
            let mut all = Reasons::default();
            reasons.iter().cloned().for_each(|reason| all.add(reason));
            all.worst()
        };
        let (wrong, away) = (refused("wrong"), unavailable("away"));

        assert_eq!(of(&[wrong.clone(), wrong.clone()]), wrong);
        assert_eq!(of(&[wrong, away.clone()]), unavailable("wrong"));
        assert_eq!(of(std::slice::from_ref(&away)), away);
    }
}

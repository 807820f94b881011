//! Messages to one address, sent one after the other by a thread of its own.

use std::{
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use ureq::tls::{Certificate, RootCerts, TlsConfig};

pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// So many messages wait; what is beyond is dropped.
const QUEUE: usize = 100;
/// A message is tried so often, after pauses that double from a quarter of a second: for about a minute.
const TRIES: u32 = 8;

/// Where messages wait: what is appended to the address, and the text.
#[derive(Clone)]
pub(crate) struct Outbox(mpsc::SyncSender<(&'static str, String)>);

impl Outbox {
    /// Sends to an address until nobody has the outbox any more. The address is a secret, so nothing prints it.
    pub(crate) fn to(name: &'static str, address: String) -> (Self, JoinHandle<()>) {
        let (sender, posts) = mpsc::sync_channel::<(&str, String)>(QUEUE);
        let send_all = move || {
            let agent = agent();
            for (path, text) in posts {
                let is_sent = (0..TRIES).any(|tried| {
                    match agent.post(format!("{address}{path}")).send(&text) {
                        Ok(_) => return true,
                        Err(ureq::Error::StatusCode(code)) => println!("{name} answers {code}"),
                        // The error itself may quote the address.
                        Err(_) => println!("{name} does not answer"),
                    }
                    thread::sleep(Duration::from_millis(250 << tried));
                    false
                });
                if !is_sent {
                    println!("{name}: a message is given up");
                }
            }
        };
        (Self(sender), thread::spawn(send_all))
    }

    /// Waits for nothing. Whether there is room for it.
    pub(crate) fn put(&self, path: &'static str, text: impl Into<String>) -> bool {
        self.0.try_send((path, text.into())).is_ok()
    }
}

/// TLS by rustls, with the certificates that the system trusts.
fn agent() -> ureq::Agent {
    let trusted = rustls_native_certs::load_native_certs().certs;
    let trusted: Vec<_> = trusted.iter().map(|one| Certificate::from_der(one).to_owned()).collect();
    let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&trusted));
    let tls = tls.unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let agent = ureq::Agent::config_builder().tls_config(tls.build()).timeout_global(Some(CALL_TIMEOUT));
    agent.max_redirects(0).build().into()
}

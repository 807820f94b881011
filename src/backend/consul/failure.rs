//! What went wrong, in words with a cure, without tokens or URLs.

use callsheet_actors::{adapter::one_line, port::RecordsError};

use crate::backend::failure::{refused, unavailable};

/// The longest message of an agent that is quoted, in bytes.
const MESSAGE_MAX: usize = 512;

/// Why a question was not answered as it should be.
#[derive(Debug)]
pub(super) enum Failure {
    /// It was not asked, or not begun: time or another agent may cure it.
    Away(String),
    /// The token does not allow it. Nothing was done.
    Denied(String),
    /// The request is more than the servers take at once. Nothing was done.
    TooLarge(String),
    /// The agent refuses it, or answers in a form that is not known. Nothing was done.
    NotDone(String),
    /// The settings, or the servers, are of no use. Nothing was done.
    Refused(String),
    /// What was asked may be done, or not.
    Unknown,
}

impl Failure {
    /// As whoever asked hears it.
    pub(super) fn told(self) -> RecordsError {
        match self {
            Self::Away(reason) => unavailable(reason),
            Self::Denied(reason) | Self::TooLarge(reason) | Self::NotDone(reason) => {
                RecordsError::NotDone { reason }
            }
            Self::Refused(reason) => refused(reason),
            Self::Unknown => RecordsError::Timeout,
        }
    }

    /// As whoever opens a session hears it: what a token does not allow stays so until somebody changes it.
    pub(super) fn told_first(self) -> RecordsError {
        match self {
            Self::Denied(reason) => refused(reason),
            other => other.told(),
        }
    }

    /// Whether another agent is asked the next time.
    pub(super) fn is_of_agent(&self) -> bool {
        match self {
            Self::Away(_) | Self::Unknown => true,
            Self::Denied(_) | Self::TooLarge(_) | Self::NotDone(_) | Self::Refused(_) => false,
        }
    }
}

/// An answer that this version does not understand.
pub(super) fn not_understood(what: &str) -> Failure {
    let cure = "check whether a Consul agent listens there, and whether a proxy stands between";
    Failure::NotDone(format!("{what} was answered in a form that is not known; {cure}"))
}

/// What an agent says is wrong, by the status of its answer.
pub(super) fn of_status(status: u16, body: &[u8], host: &str) -> Failure {
    let text = one_line(String::from_utf8_lossy(body), MESSAGE_MAX);
    match status {
        400 => Failure::NotDone(format!("{host} refuses it: {text}")),
        401 | 403 => denied(host, &text),
        500 if text.contains("ermission denied") || text.contains("ACL not found") => denied(host, &text),
        500 if text.contains("Invalid Session TTL") => {
            Failure::Refused(format!("{host}: {text}; choose a longer lease, or a smaller session_ttl_min"))
        }
        413 => Failure::TooLarge(format!(
            "{text}; leave txn_max_req_len and kv_max_value_size at 512 KiB, the default, or more"
        )),
        429 => Failure::NotDone(format!("{text}; raise the limits of the agent's requests")),
        // Nobody could take it.
        500 if text.contains("No cluster leader") || text.contains("No known Consul servers") => {
            let cure = "check that a majority of the servers runs, and that the agent reaches them";
            Failure::Away(format!("{host}: {text}; {cure}"))
        }
        500..=599 => Failure::Unknown,
        _ => Failure::NotDone(format!(
            "{host} answers with status {status}; check whether it is a Consul agent"
        )),
    }
}

/// What the servers say of one operation that a token does not allow.
pub(super) fn denied(host: &str, text: &str) -> Failure {
    Failure::Denied(format!(
        "{host}: {text}; check the token in the URL, and give it the rights that the documentation of Consul names"
    ))
}

/// Why a request was not answered.
pub(super) fn of_request(error: &reqwest::Error, host: &str) -> Failure {
    if !error.is_connect() {
        // It was sent, in part at least.
        return Failure::Unknown;
    }
    let mut deepest: &(dyn std::error::Error + 'static) = error;
    loop {
        // An error of the input and output is asked for what it holds: it names the source of that as its own.
        let inner = deepest.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = deepest.downcast_ref::<rustls::Error>();
        if let Some(tls) = tls.or_else(|| inner.and_then(|inner| inner.downcast_ref())) {
            return Failure::Refused(format!(
                "{host}: the encrypted connection was not made: {}; check that this port is one for TLS, and that its certificate \
                 is signed for this name by the authority given: sslrootcert, or Consul::root_certificates",
                one_line(tls, MESSAGE_MAX)
            ));
        }
        match deepest.source() {
            Some(source) => deepest = source,
            None => break,
        }
    }
    Failure::Away(format!(
        "{host}: {}; check the host and the port in the URL, whether the agent runs, and whether it wants TLS",
        one_line(deepest, MESSAGE_MAX)
    ))
}

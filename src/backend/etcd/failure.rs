//! What went wrong, in words with a cure, without passwords or URLs.

use std::error::Error as _;

use callsheet_actors::{adapter::one_line, port::RecordsError};
use etcd_client::Error;

use crate::backend::{
    failure::{refused, unavailable},
    link::Judged,
};

/// The longest message of the server that is quoted, in bytes.
const MESSAGE_MAX: usize = 512;

/// Why a call was not answered as it should be.
#[derive(Debug)]
pub(super) enum Failure {
    Client(Error),
    /// The server is set up so that it cannot keep what is promised. Nothing was done.
    Refused(String),
    /// What was asked for is answered in a form that is not known. Nothing was to be done.
    NotUnderstood(&'static str),
    /// What was asked may be done, or not.
    Unknown,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Client(error)
    }
}

impl Failure {
    /// Why a commit was not answered as it should be. A server that applies a transaction and finds only then that
    /// there is no room says so as well: what was asked may be done.
    pub(super) fn of_commit(error: Error) -> Self {
        if is_no_space(&error) { Self::Unknown } else { Self::Client(error) }
    }
}

/// What a server says when it refuses something.
struct Refusal {
    /// A part of its message.
    says: &'static str,
    cure: &'static str,
    passes: Passes,
}

/// What ends a refusal.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passes {
    /// Time, or another server.
    Elsewhere,
    /// Time.
    Here,
    /// Somebody who changes something.
    Never,
}

const REFUSALS: [Refusal; 15] = [
    refusal(
        "no leader",
        Passes::Elsewhere,
        "the server has lost the others: check that a majority of them runs, and reaches each other",
    ),
    refusal("learner", Passes::Elsewhere, "name the voting members in the URL"),
    refusal("invalid auth token", Passes::Elsewhere, "the node logs in again"),
    refusal(
        "revision in header is old",
        Passes::Elsewhere,
        "users or roles were changed; the node logs in again",
    ),
    refusal(
        "too many requests",
        Passes::Here,
        "the servers are behind with what they were asked: give them faster disks",
    ),
    refusal(
        "space exceeded",
        Passes::Here,
        "compact and defragment the servers, raise --quota-backend-bytes, and disarm the alarm",
    ),
    refusal("corrupt", Passes::Here, "the servers differ in what they hold: restore the one that is wrong"),
    refusal("invalid user ID or password", Passes::Never, "check the user and the password in the URL"),
    refusal(
        "user name is empty",
        Passes::Never,
        "the server asks for a user and a password, and the URL has none",
    ),
    refusal(
        "authentication is not enabled",
        Passes::Never,
        "leave the user out of the URL, or enable authentication",
    ),
    refusal(
        "permission denied",
        Passes::Never,
        "give this user the rights that the documentation of Etcd names",
    ),
    refusal(
        "too many operations",
        Passes::Never,
        "start the servers with --max-txn-ops 128 or more, which is the default",
    ),
    refusal(
        "request is too large",
        Passes::Never,
        "start the servers with --max-request-bytes 1572864 or more, which is the default",
    ),
    refusal(
        "larger than max",
        Passes::Never,
        "start the servers with --max-request-bytes 1572864 or more, which is the default",
    ),
    refusal("too large TTL", Passes::Never, "choose a shorter lease"),
];

const fn refusal(says: &'static str, passes: Passes, cure: &'static str) -> Refusal {
    Refusal { says, cure, passes }
}

fn find(text: &str) -> Option<&'static Refusal> {
    REFUSALS.iter().find(|refusal| text.contains(refusal.says))
}

/// The codes of gRPC by which a server refuses what it has not begun.
const NOT_BEGUN: [i32; 9] = [
    3,  // invalid argument
    5,  // not found
    6,  // already exists
    7,  // permission denied
    8,  // resource exhausted
    9,  // failed precondition
    12, // unimplemented
    15, // data loss: the cluster is corrupt
    16, // unauthenticated
];

/// What the server says of itself by which it refuses a call; `None`: it says nothing, or that it does not know what
/// became of the call.
fn said(error: &Error) -> Option<(i32, String)> {
    match error {
        // With a source it is the client's own: the connection broke.
        Error::GRpcStatus(status) if status.source().is_none() => {
            let (code, text) = (status.code() as i32, one_line(status.message(), MESSAGE_MAX));
            (NOT_BEGUN.contains(&code) || text.contains("no leader")).then_some((code, text))
        }
        _ => None,
    }
}

pub(super) fn judge(failure: Failure) -> Judged {
    match failure {
        Failure::Client(error) => match said(&error) {
            Some((_, text)) => {
                let refusal = find(&text);
                let error = RecordsError::NotDone { reason: told(&text, refusal) };
                match refusal.map(|refusal| refusal.passes) {
                    Some(Passes::Elsewhere) => Judged::Elsewhere(error),
                    Some(Passes::Here | Passes::Never) | None => Judged::Answer(error),
                }
            }
            None => Judged::Unknown,
        },
        Failure::Refused(reason) => Judged::Answer(refused(reason)),
        Failure::NotUnderstood(what) => {
            Judged::Answer(RecordsError::NotDone { reason: not_understood(what) })
        }
        Failure::Unknown => Judged::Unknown,
    }
}

fn told(text: &str, refusal: Option<&Refusal>) -> String {
    match refusal {
        Some(refusal) => format!("{text}; {}", refusal.cure),
        None => text.to_owned(),
    }
}

fn not_understood(what: &str) -> String {
    let cure = "check whether a proxy stands between, and whether the server is etcd 3.4 or newer";
    format!("the server answered {what} in a form that is not known; {cure}")
}

/// Whether the server has no such lease, or key.
pub(super) fn is_not_found(error: &Error) -> bool {
    matches!(said(error), Some((5, _)))
}

/// Whether the server refuses to say, or has no room to write, and may be of use all the same.
pub(super) fn is_no_space(error: &Error) -> bool {
    said(error).is_some_and(|(_, text)| text.contains("space exceeded"))
}

/// Whether the user lacks a right.
pub(super) fn is_denied(error: &Error) -> bool {
    matches!(said(error), Some((7 | 16, _)))
}

/// Why a connection was not made, or is of no use. What the server says stays so until somebody changes it, except for
/// what goes by.
pub(super) fn of_connection(failure: Failure, host: &str) -> RecordsError {
    let error = match failure {
        Failure::Client(error) => error,
        Failure::Refused(reason) => return refused(format!("{host}: {reason}")),
        Failure::NotUnderstood(what) => return refused(format!("{host}: {}", not_understood(what))),
        Failure::Unknown => {
            return unavailable(format!("{host} does not know what became of a question; wait"));
        }
    };
    if let Some((_, text)) = said(&error) {
        let refusal = find(&text);
        let text = format!("{host}: {}", told(&text, refusal));
        return match refusal.map(|refusal| refusal.passes) {
            Some(Passes::Elsewhere | Passes::Here) => unavailable(text),
            Some(Passes::Never) | None => refused(text),
        };
    }
    match cause(&error) {
        Cause::Tls(text) => {
            let cure = "check that this port is one for TLS, and that its certificate is signed for this name by the authority \
                        given: sslrootcert, or Etcd::root_certificates";
            refused(format!("{host}: the encrypted connection was not made: {text}; {cure}"))
        }
        Cause::Other(text) => unavailable(format!(
            "{host}: {text}; check the host and the port in the URL, whether the server runs, and whether it wants TLS"
        )),
    }
}

enum Cause {
    Tls(String),
    Other(String),
}

/// What lies below an error of the connection.
fn cause(error: &Error) -> Cause {
    let mut deepest: &(dyn std::error::Error + 'static) = match error {
        Error::GRpcStatus(status) => status,
        Error::TransportError(error) => error,
        other => other,
    };
    loop {
        // An error of the input and output is asked for what it holds: it names the source of that as its own.
        let inner = deepest.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = deepest.downcast_ref::<rustls::Error>();
        if let Some(tls) = tls.or_else(|| inner.and_then(|inner| inner.downcast_ref())) {
            return Cause::Tls(one_line(tls, MESSAGE_MAX));
        }
        match deepest.source() {
            Some(source) => deepest = source,
            None => return Cause::Other(one_line(deepest, MESSAGE_MAX)),
        }
    }
}

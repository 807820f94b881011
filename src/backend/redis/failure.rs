//! What went wrong, in words with a cure, without passwords or URLs.

use callsheet_actors::{adapter::one_line, port::RecordsError};
use redis::{ErrorKind, RedisError};

pub(super) use crate::backend::failure::{refused, unavailable};

/// The longest message of the server that is quoted, in bytes.
const MESSAGE_MAX: usize = 512;

/// An answer that this version does not understand.
pub(super) fn not_understood(what: &str) -> RecordsError {
    let cure = "check whether a proxy stands between, and whether the server is Redis 6 or newer";
    RecordsError::NotDone {
        reason: format!("the server answered {what} in a form that is not known; {cure}"),
    }
}

/// Words of the server by which it refuses something, and what mends it. A script's error holds them anywhere.
const REFUSALS: [(&str, &str); 15] = [
    ("NOAUTH", "the server asks for a password, and the URL has none"),
    ("WRONGPASS", "check the user and the password in the URL"),
    ("NOPERM", "give this user the rights that the documentation of Redis names"),
    ("OOM", "raise maxmemory, or delete what fills the memory"),
    (
        "READONLY",
        "the server is a replica; name its primary in the URL, or ask Sentinels for it: ?sentinel=NAME",
    ),
    ("NOREPLICAS", "bring replicas back, or lower min-replicas-to-write"),
    ("MISCONF", "the server cannot write to its disk; look at its log, and make room"),
    ("LOADING", "the server reads its data after a start; wait"),
    ("BUSY", "a script of somebody else blocks the server; SCRIPT KILL ends it, and its author should"),
    ("MASTERDOWN", "the server is a replica without its primary; name the primary in the URL"),
    ("MOVED", "the server is part of a cluster, and another one has the keys of this scope"),
    ("ASK", "the cluster moves the keys of this scope to another server; wait"),
    ("TRYAGAIN", "the cluster moves the keys of this scope to another server; wait"),
    ("CLUSTERDOWN", "the cluster is down; bring its servers back"),
    (
        "WRONGTYPE",
        "a key of this scope is not what it should be; rename what somebody else keeps under callsheet:",
    ),
];

/// What the server says of itself when it refuses a call.
pub(super) fn not_done(error: &RedisError) -> RecordsError {
    RecordsError::NotDone { reason: told(error) }
}

/// The message of the server with what mends it.
pub(super) fn told(error: &RedisError) -> String {
    let text = text(error);
    match refusal(&text) {
        Some((_, cure)) => format!("{text}; {cure}"),
        None => text,
    }
}

fn refusal(text: &str) -> Option<(&'static str, &'static str)> {
    // As Redis 7.0 tells it of what a script may not do.
    let text = if text.contains("The user executing the script can't") { "NOPERM" } else { text };
    let mut words = text.split(|character: char| !character.is_ascii_uppercase());
    words.find_map(|word| REFUSALS.into_iter().find(|(code, _)| *code == word))
}

/// Whether this server has ceased to be the one to ask.
pub(super) fn is_elsewhere(error: &RedisError) -> bool {
    let elsewhere = ["READONLY", "LOADING", "MASTERDOWN", "MOVED", "ASK", "CLUSTERDOWN"];
    refusal(&text(error)).is_some_and(|(code, _)| elsewhere.contains(&code))
}

/// Whether it is an answer of the server, so that what was asked is over.
pub(super) fn is_answer(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// Why a connection was not made, or is of no use. What the server says stays so until somebody changes it, except for
/// what goes by.
pub(super) fn of_connection(error: &RedisError, host: &str) -> RecordsError {
    let passing =
        ["LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN", "ASK", "TRYAGAIN", "OOM", "MISCONF", "NOREPLICAS"];
    let text = text(error);
    match (error.kind(), refusal(&text)) {
        (ErrorKind::RESP3NotSupported, _) => refused(TOO_OLD),
        (_, Some((code, cure))) if passing.contains(&code) => unavailable(format!("{text}; {cure}")),
        (_, Some((_, cure))) => refused(format!("{text}; {cure}")),
        (ErrorKind::AuthenticationFailed, None) => {
            refused(format!("{text}; check the user and the password in the URL"))
        }
        (ErrorKind::InvalidClientConfig, None) => refused(text),
        (_, None) => unavailable(format!(
            "{host}: {text}; check the host and the port in the URL, and whether the server runs"
        )),
    }
}

pub(super) const TOO_OLD: &str =
    "the server is older than Redis 6, which is the oldest that is known to work; upgrade it";

/// The error on one line, of bounded length.
fn text(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => one_line(format_args!("{code} {detail}"), MESSAGE_MAX),
        _ => one_line(error, MESSAGE_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_found_wherever_the_server_says_it() {
        let cases = [
            ("OOM command not allowed when used memory > 'maxmemory'.", "OOM"),
            // As Redis 6 tells the error of a script.
            (
                "ERR Error running script (call to f_8b): @user_script:74: @user_script: 74: -OOM command not allowed",
                "OOM",
            ),
            (
                "READONLY You can't write against a read only script. script: 8b, on @user_script:74.",
                "READONLY",
            ),
            ("ERR user_script:3: WRONGTYPE Operation against a key", "WRONGTYPE"),
            (
                "ERR The user executing the script can't run this command or subcommand script: e6, on @user_script:7.",
                "NOPERM",
            ),
            ("BUSY Redis is busy running a script.", "BUSY"),
        ];
        for (text, code) in cases {
            assert_eq!(refusal(text).map(|(code, _)| code), Some(code), "{text}");
        }
        assert_eq!(refusal("ERR ROOMY"), None);
    }
}

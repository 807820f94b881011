//! What went wrong with a call to the API server, and what would mend it.

use callsheet_actors::{
    TEXT_MAX,
    adapter::{bounded, one_line},
    port::{ElectError, LockError},
};
use kube::{Error, core::Status};

/// Why a call was not answered as it should be.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// Somebody has to change something first.
    Refused(String),
    /// Waiting may help.
    Unavailable(String),
    /// No answer within the deadline: what was asked may have been done.
    Timeout,
}

/// What a call was to do, for whoever has to allow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Create,
    Update,
    Watch,
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Create => "create",
            Self::Update => "update",
            Self::Watch => "watch",
        }
    }
}

impl Failure {
    /// What an error of the client says of a call in a namespace.
    pub(super) fn of(verb: Verb, namespace: &str, error: &Error) -> Self {
        match error {
            Error::Api(status) => Self::of_status(verb, namespace, status),
            other => Self::Unavailable(format!("the API server cannot be asked: {}", chain(other))),
        }
    }

    /// What an answer says that is an error.
    pub(super) fn of_status(verb: Verb, namespace: &str, status: &Status) -> Self {
        let said = bounded(&status.message, TEXT_MAX);
        match status.code {
            401 => Self::Refused(format!(
                "the API server does not know this node: {said}; check the token or certificate of its service account"
            )),
            403 => Self::Refused(format!(
                "the API server does not let this node {} the lease: {said}; give its service account a role in the \
                 namespace {namespace:?} with the rule apiGroups: [coordination.k8s.io], resources: [leases], \
                 verbs: [get, create, update, watch]",
                verb.as_str()
            )),
            404 => Self::Refused(format!(
                "there is no namespace {namespace:?}: {said}; create it, or name another one by Kubernetes::namespace"
            )),
            422 => Self::Refused(format!("the API server refuses the lease: {said}")),
            code => Self::Unavailable(format!("the API server answered {code}: {said}")),
        }
    }

    pub(super) fn to_lock_error(&self) -> LockError {
        match self.clone() {
            Self::Refused(reason) => LockError::Refused { reason },
            Self::Unavailable(reason) => LockError::Unavailable { reason },
            Self::Timeout => LockError::Timeout,
        }
    }

    pub(super) fn to_elect_error(&self) -> ElectError {
        let reason = match self.clone() {
            Self::Refused(reason) | Self::Unavailable(reason) => reason,
            Self::Timeout => "the API server did not answer within the deadline".to_owned(),
        };
        ElectError::Unavailable { reason }
    }
}

/// An error with its causes, each of which says a part.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    one_line(text, TEXT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_names_its_cure() {
        let reason = |code| {
            let status = Status::failure("no", "Reason").with_code(code);
            match Failure::of_status(Verb::Update, "jobs", &status) {
                Failure::Refused(reason) => reason,
                other => panic!("{code}: {other:?}"),
            }
        };

        for (code, words) in [
            (401, &["check the token"][..]),
            (403, &["update", "\"jobs\"", "coordination.k8s.io", "verbs: [get, create, update, watch]"]),
            (404, &["no namespace \"jobs\"", "create it"]),
            (422, &["refuses the lease"]),
        ] {
            let reason = reason(code);
            assert!(words.iter().all(|words| reason.contains(words)), "{code}: {reason}");
        }
    }

    #[test]
    fn a_server_that_is_overloaded_may_be_asked_again() {
        for code in [429, 500, 503, 504] {
            let failure =
                Failure::of_status(Verb::Get, "jobs", &Status::failure("later", "").with_code(code));
            assert!(matches!(&failure, Failure::Unavailable(reason) if reason.contains(&code.to_string())));
        }
    }
}

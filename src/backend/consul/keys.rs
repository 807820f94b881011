//! The keys under which the servers keep what belongs to a scope.

use callsheet_actors::port::{RecordKind, RecordName, RecordSession};

/// Ends the key of a record, so that none begins with another one: what begins with a key can be asked for, and a key
/// alone only if it is there. It comes before all characters that ids have.
const END: char = '\u{1}';

/// The keys of a scope. They begin with `callsheet/SCOPE/`.
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn of(scope: &str) -> Self {
        let scope = scope.replace('%', "%25").replace('/', "%2F");
        Self { prefix: format!("callsheet/{scope}/") }
    }

    pub(super) fn record(&self, name: &RecordName) -> String {
        format!("{}record/{name}{END}", self.prefix)
    }

    pub(super) fn leader(&self) -> String {
        self.record(&RecordName::only(RecordKind::Leader))
    }

    /// What the keys of all records of a kind begin with, up to their ids.
    pub(super) fn kind(&self, kind: RecordKind) -> String {
        format!("{}record/{}/", self.prefix, kind.code())
    }

    /// There, and locked by the session of Consul, as long as the session lives.
    pub(super) fn session(&self, session: RecordSession) -> String {
        format!("{}session/{:016x}", self.prefix, session.0)
    }

    /// What the keys of hints begin with.
    pub(super) fn hints(&self) -> String {
        format!("{}hint/", self.prefix)
    }
}

/// The id of a record of which the key begins with `kind`.
pub(super) fn id_of<'a>(key: &'a str, kind: &str) -> Option<&'a str> {
    key.strip_prefix(kind)?.strip_suffix(END)
}

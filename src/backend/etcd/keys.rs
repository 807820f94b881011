//! The keys under which the servers keep what belongs to a scope.

use callsheet_actors::port::{RecordKind, RecordName, RecordSession};

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
        format!("{}record/{name}", self.prefix)
    }

    pub(super) fn leader(&self) -> String {
        self.record(&RecordName::only(RecordKind::Leader))
    }

    /// What the keys of all records of a kind begin with, up to their ids.
    pub(super) fn kind(&self, kind: RecordKind) -> String {
        format!("{}record/{}/", self.prefix, kind.code())
    }

    /// The first key after those of all records of a kind: `0` is the character after the slash.
    pub(super) fn after_kind(&self, kind: RecordKind) -> String {
        format!("{}record/{}0", self.prefix, kind.code())
    }

    /// There as long as the session lives.
    pub(super) fn session(&self, session: RecordSession) -> String {
        format!("{}session/{:016x}", self.prefix, session.0)
    }

    /// What the unit at this place of a commit tells.
    pub(super) fn hint(&self, unit: usize) -> String {
        format!("{}{unit}", self.hints())
    }

    /// What the keys of hints begin with.
    pub(super) fn hints(&self) -> String {
        format!("{}hint/", self.prefix)
    }

    /// A key that is never written.
    pub(super) fn probe(&self) -> String {
        format!("{}probe", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_scope_has_keys_within_those_of_another_one() {
        let begins = |scope: &str| Keys::of(scope).prefix;

        assert_eq!(begins("billing"), "callsheet/billing/");
        assert_eq!(begins("a/b"), "callsheet/a%2Fb/");
        assert_ne!(begins("a/b"), begins("a%2Fb"));
    }
}

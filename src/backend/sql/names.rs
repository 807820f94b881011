//! Names of records as a column holds them: the kind, a slash, and the id. They are compared byte by byte.

use callsheet_actors::port::{RecordKind, RecordName};

/// What the column holds of a name.
pub(in crate::backend) fn stored(name: &RecordName) -> String {
    name.to_string()
}

/// The id in a column of a kind; `None`: it is none.
pub(in crate::backend) fn id_of(kind: RecordKind, stored: &[u8]) -> Option<&str> {
    std::str::from_utf8(stored).ok()?.strip_prefix(kind.code())?.strip_prefix('/')
}

/// Where the names of a kind begin that come after an id, and where they end.
pub(in crate::backend) struct Range {
    pub(in crate::backend) from: String,
    /// Whether the first one itself belongs to it.
    pub(in crate::backend) inclusive: bool,
    /// The first name behind the kind.
    pub(in crate::backend) to: String,
}

impl Range {
    pub(in crate::backend) fn after(kind: RecordKind, after: Option<&str>) -> Self {
        let from = format!("{}/{}", kind.code(), after.unwrap_or_default());
        // The slash ends the kind, and `0` is the character after it.
        Self { from, inclusive: after.is_none(), to: format!("{}0", kind.code()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_of_a_kind_and_no_others_are_in_its_range() {
        let stored = |kind, id: &str| stored(&RecordName::new(kind, id));
        for kind in RecordKind::ALL {
            let Range { from, to, .. } = Range::after(kind, None);
            for id in ["", "a", "\u{10ffff}", "/"] {
                let name = stored(kind, id);
                assert!(from <= name && name < to, "{name}");
                assert_eq!(id_of(kind, name.as_bytes()), Some(id));
            }
            for other in RecordKind::ALL.into_iter().filter(|other| *other != kind) {
                let name = stored(other, "a");
                assert!(name < from || name >= to, "{name} is none of {kind:?}");
                assert_eq!(id_of(kind, name.as_bytes()), None);
            }
        }
    }
}

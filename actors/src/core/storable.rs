//! Texts of others, made fit to be stored: without NUL.

use std::borrow::Cow;

/// The text with U+FFFD, the replacement character, in the place of each NUL: the one character that not
/// every store can keep. The same on every node, so that what is compared stays comparable. It may be longer:
/// a NUL has one byte, its replacement three.
pub fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nul_is_replaced_and_nothing_else() {
        let table = [
            ("", ""),
            ("a\u{1}\u{fffd}日報", "a\u{1}\u{fffd}日報"),
            ("\0", "\u{fffd}"),
            ("a\0\0b", "a\u{fffd}\u{fffd}b"),
        ];

        for (text, stored) in table {
            assert_eq!(storable(text), stored, "{text:?}");
            assert_eq!(storable(stored), stored, "once is enough");
        }
        assert!(matches!(storable("plain"), Cow::Borrowed("plain")));
    }
}

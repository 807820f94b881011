//! What is said at the end of a body: an error with its causes, the message of a panic, the reason of a veto.

use std::{fmt, ops::Deref, sync::Arc};

use super::{
    byte_budget::{ByteBudget, Charge},
    text::{TEXT_MAX, bounded},
};

/// The longest error of a body that is quoted unless told otherwise, in bytes.
pub const ERROR_BYTES_DEFAULT: usize = TEXT_MAX;
/// The least that the longest error may be, in bytes.
pub const ERROR_BYTES_MIN: usize = 256;
/// The most that the longest error may be, in bytes: four of them find room among the calls that wait for the
/// hooks of one job.
pub const ERROR_BYTES_MAX: usize = 256 * 1024;
/// The most bytes of errors on a node of runs that have ended and whose ends the store has not recorded yet, and of
/// attempts before the last one of runs that go on.
/// When they are that many, each further error is cut at [`ERROR_BYTES_MIN`] bytes, and says so.
pub const WAITING_ERROR_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A text of an end. While it is there, it takes its bytes of those that may wait on its node.
#[derive(Clone)]
pub(crate) struct EndText {
    text: Arc<str>,
    /// `None`: it is short, and found no room.
    _charge: Option<Arc<Charge>>,
}

impl EndText {
    /// The text, for what has a bound of its own.
    pub(crate) fn share(&self) -> Arc<str> {
        self.text.clone()
    }
}

impl From<&str> for EndText {
    /// A text that takes nothing of any node.
    fn from(text: &str) -> Self {
        Self { text: text.into(), _charge: None }
    }
}

impl Deref for EndText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

impl PartialEq for EndText {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for EndText {}

impl fmt::Debug for EndText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

/// How long the texts of the ends on a node may be, and how much room is left for them.
#[derive(Debug)]
pub(crate) struct EndTexts {
    longest: usize,
    waiting: Arc<ByteBudget>,
}

impl EndTexts {
    /// `longest` is in bytes.
    pub(crate) fn new(longest: usize) -> Self {
        Self { longest, waiting: ByteBudget::new(WAITING_ERROR_BYTES_MAX) }
    }

    /// Takes in what was said.
    pub(crate) fn take(&self, said: impl fmt::Display) -> EndText {
        let text = bounded(said, self.longest);
        match self.waiting.charge(text.len()) {
            Some(charge) => EndText { text: text.into(), _charge: Some(Arc::new(charge)) },
            // Less than what is kept of its run anyway, so that however many there are, they need no room.
            None => EndText { text: bounded(text, ERROR_BYTES_MIN).into(), _charge: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_finds_no_room_is_short_until_others_are_gone() {
        let texts = EndTexts::new(1_000_000);
        let long = "x".repeat(1_000_000);
        let mut waiting: Vec<_> = (0..20).map(|_| texts.take(&long)).collect();

        let whole = waiting.iter().filter(|text| text.len() == 1_000_000).count();
        assert_eq!(whole, WAITING_ERROR_BYTES_MAX / 1_000_000);
        assert!(waiting[whole..].iter().all(|text| text.ends_with("x… (cut at 256 bytes)")));

        let first = waiting[0].clone();
        waiting.remove(0);
        assert_eq!(texts.take(&long).len(), 256 + "… (cut at 256 bytes)".len(), "one of two is still there");
        drop(first);
        assert_eq!(texts.take(&long).len(), 1_000_000);
    }

    #[test]
    fn the_longest_text_is_as_long_as_told() {
        let text = EndTexts::new(ERROR_BYTES_MIN).take("x".repeat(257));

        assert_eq!(*text, format!("{}… (cut at 256 bytes)", "x".repeat(256)));
    }
}

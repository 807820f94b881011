//! The text of a cron expression, and where in it a fault is.

use std::ops::Range;

use callsheet_actors::Fault;

use super::duration::shortened;

/// The longest expression, in bytes. Longer ones are made by mistake, and could not be shown in a message.
pub(super) const EXPRESSION_MAX: usize = 256;

/// An expression as its author wrote it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a>(pub(super) &'a str);

/// What is wrong at a place: the broken rule, what stands there in a right text, and the cure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    pub(super) rule: String,
    pub(super) expected: String,
    pub(super) cure: String,
}

impl Complaint {
    pub(super) fn new(rule: impl Into<String>, expected: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { rule: rule.into(), expected: expected.into(), cure: cure.into() }
    }
}

impl<'a> Source<'a> {
    /// The words between blanks, each with its place.
    pub(super) fn words(self) -> Vec<Word<'a>> {
        let mut words = Vec::new();
        let mut rest = 0;
        for text in self.0.split_whitespace() {
            let start = rest + self.0[rest..].find(text).expect("invariant: the word is in the text");
            rest = start + text.len();
            words.push(Word { text, start });
        }
        words
    }

    /// A fault that points at `place`, a range of bytes, with a line that shows it:
    ///
    /// ```text
    /// cron "0 25 * * *": column 3: `25` is not an hour
    ///     0 25 * * *
    ///       ^^ expected a number from 0 to 23; write …
    /// ```
    pub(super) fn fault(self, place: Range<usize>, complaint: Complaint) -> Fault {
        let Complaint { rule, expected, cure } = complaint;
        if self.0.len() > EXPRESSION_MAX {
            return Fault::new("cron", shortened(self.0), format!("{rule}, expected {expected}"), cure);
        }
        let before = self.characters_before(place.start);
        let marked = (self.characters_before(place.end).saturating_sub(before)).max(1);
        let line: String = self.0.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let column = before + 1;
        let blanks = " ".repeat(before);
        let carets = "^".repeat(marked);
        let rule = format!("column {column}: {rule}\n    {line}\n    {blanks}{carets} expected {expected}");
        Fault::new("cron", self.0, rule, cure)
    }

    fn characters_before(self, byte: usize) -> usize {
        self.0.char_indices().take_while(|(start, _)| *start < byte).count()
    }
}

/// A piece of the text without blanks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    pub(super) start: usize,
}

impl Word<'_> {
    pub(super) fn place(&self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_carets_stand_below_them() {
        let source = Source("é\t25 *");

        let fault = source.fault(3..5, Complaint::new("`25` is wrong", "less", "write less"));

        assert_eq!(
            fault.to_string(),
            "cron \"é\\t25 *\": column 3: `25` is wrong\n    é 25 *\n      ^^ expected less; write less"
        );
    }

    #[test]
    fn words_know_their_places() {
        let words = Source("  a \u{2003} bc a").words();

        let places: Vec<_> = words.iter().map(|word| (word.text, word.start)).collect();

        assert_eq!(places, [("a", 2), ("bc", 8), ("a", 11)]);
    }
}

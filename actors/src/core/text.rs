//! Texts of others, made fit to be shown: of bounded length.

use std::fmt::{self, Write};

/// The longest text of a store that an event, an answer or a hook quotes, in bytes, and unless told otherwise the
/// longest of an application: an error of a body with its causes (some hundred of them), the message of a panic,
/// the veto of a hook. A longer one is cut between two characters, and `… (cut at 16,384 bytes)` behind it
/// says so. The whole text is never built.
pub const TEXT_MAX: usize = 16 * 1024;
/// The longest reason of a store that is kept of a job for as long as the job is parked, in bytes.
pub(crate) const PARKED_REASON_BYTES_MAX: usize = 1024;
/// The most bytes of a mark that says where a text was cut.
pub(crate) const MARK_MAX: usize = "… (cut at 18,446,744,073,709,551,615 bytes)".len();
/// The longest value that a message quotes, in bytes.
const QUOTED_MAX: usize = 256;

/// At most `max` bytes of what `text` shows, cut between two characters. Where something was left out, a mark
/// says so: `… (cut at 16,384 bytes)`.
///
/// The text is never held in full. One whose causes are a circle, or that is a gigabyte, costs no more than
/// what is kept. What it shows behind the cut is not asked for, so the full length is not known.
pub fn bounded(text: impl fmt::Display, max: usize) -> String {
    let mut start = Start { text: String::new(), left_out: false, max };
    // An error means that it is full, or that the text could not be shown: what there is, is kept.
    let shown = write!(start, "{text}");
    if start.left_out {
        start.text.push_str(&format!("… (cut at {} bytes)", Grouped(max as u64)));
    } else if shown.is_err() {
        start.text.push_str("(cannot be shown)");
    }
    start.text
}

/// At most `max` characters of what `text` shows. Where something was left out, the last of them is `…`. The
/// whole text is never held.
pub(crate) fn first_chars(text: impl fmt::Display, max: usize) -> String {
    let mut start = FirstChars { text: String::new(), left: max, left_out: false };
    // An error means that it is full, or that the text could not be shown: what there is, is kept.
    let _ = write!(start, "{text}");
    if start.left_out {
        start.text.pop();
        start.text.push('…');
    }
    start.text
}

/// The first characters of a text.
struct FirstChars {
    text: String,
    left: usize,
    left_out: bool,
}

impl Write for FirstChars {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        match more.char_indices().nth(self.left) {
            None => {
                self.left -= more.chars().count();
                self.text.push_str(more);
                Ok(())
            }
            Some((end, _)) => {
                self.text.push_str(&more[..end]);
                (self.left, self.left_out) = (0, true);
                Err(fmt::Error)
            }
        }
    }
}

/// Cuts a text that somebody handed in, as [`bounded`] does.
pub(crate) fn cut(text: &mut String, max: usize) {
    if text.len() > max {
        *text = bounded(&*text, max);
    }
}

/// As [`bounded`], on one line: control characters are shown as they are written in code, so that no text of
/// others can look like a line of ours.
pub fn one_line(text: impl fmt::Display, max: usize) -> String {
    let text = bounded(text, max);
    if !text.contains(char::is_control) {
        return text;
    }
    let mut line = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

/// The start of a text.
struct Start {
    text: String,
    left_out: bool,
    max: usize,
}

impl Write for Start {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = self.max - self.text.len();
        if more.len() <= room {
            self.text.push_str(more);
            return Ok(());
        }
        self.text.push_str(&more[..more.floor_char_boundary(room)]);
        self.left_out = true;
        Err(fmt::Error)
    }
}

/// A text of which at most so many bytes are shown, and how long it is if that is not all.
#[derive(Clone, Copy)]
pub(crate) struct Excerpt<'a> {
    text: &'a str,
    max: usize,
}

impl<'a> Excerpt<'a> {
    pub(crate) fn new(text: &'a str, max: usize) -> Self {
        Self { text, max }
    }

    /// A value that somebody gave.
    pub(crate) fn value(text: &'a str) -> Self {
        Self::new(text, QUOTED_MAX)
    }

    /// What is shown, and how long the text is if that is not all.
    fn parts(self) -> (&'a str, Option<usize>) {
        let Self { text, max } = self;
        if text.len() <= max {
            return (text, None);
        }
        (&text[..text.floor_char_boundary(max)], Some(text.len()))
    }
}

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (shown, None) => f.write_str(shown),
            (shown, Some(length)) => write!(f, "{shown}… ({} bytes)", Grouped(length as u64)),
        }
    }
}

/// In quotation marks, the length behind them.
impl fmt::Debug for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (shown, None) => write!(f, "{shown:?}"),
            (shown, Some(length)) => write!(f, "{shown:?}… ({} bytes)", Grouped(length as u64)),
        }
    }
}

/// A number with its thousands parted: `4,095`.
pub struct Grouped(pub u64);

impl fmt::Display for Grouped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (nth, digit) in digits.chars().enumerate() {
            if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
                f.write_char(',')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

/// A list of which the first `max` entries are shown, and how many there are beyond.
pub(crate) struct FirstOf<'a, T>(pub(crate) &'a [T], pub(crate) usize);

impl<T: fmt::Debug> fmt::Debug for FirstOf<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(all, max) = self;
        let mut list = f.debug_list();
        list.entries(all.iter().take(*max));
        if all.len() > *max {
            list.entry(&format_args!("and {} more", Grouped((all.len() - max) as u64)));
        }
        list.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_two_characters() {
        let table = [
            ("", 0, ""),
            ("abc", 3, "abc"),
            ("abcd", 3, "abc… (cut at 3 bytes)"),
            ("aéa", 2, "a… (cut at 2 bytes)"),
            ("é", 0, "… (cut at 0 bytes)"),
        ];

        for (text, max, shown) in table {
            assert_eq!(bounded(text, max), shown, "{text:?} in {max}");
        }
    }

    #[test]
    fn a_line_has_no_line_breaks() {
        assert_eq!(one_line("é\n\u{1b}[31mERROR", 100), "é\\n\\u{1b}[31mERROR");
        assert_eq!(one_line("a\nb", 2), "a\\n… (cut at 2 bytes)");
    }

    #[test]
    fn what_would_be_shown_without_end_is_cut() {
        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("again ")?;
                }
            }
        }

        assert_eq!(bounded(Endless, 8), "again ag… (cut at 8 bytes)");
    }

    #[test]
    fn what_cannot_be_shown_is_said_to_be_so() {
        struct Failing;
        impl fmt::Display for Failing {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("so far")?;
                Err(fmt::Error)
            }
        }

        assert_eq!(bounded(Failing, 100), "so far(cannot be shown)");
    }

    #[test]
    fn an_excerpt_says_how_long_the_text_is() {
        let long = "é".repeat(600_000);

        assert_eq!(Excerpt::new(&long, 3).to_string(), "é… (1,200,000 bytes)");
        assert_eq!(format!("{:?}", Excerpt::new("a\"\n", 2)), r#""a\""… (3 bytes)"#);
        assert_eq!(format!("{:?}", Excerpt::value("a\n")), r#""a\n""#);
    }

    #[test]
    fn thousands_are_parted() {
        let shown = [0, 7, 999, 1_000, 4_095, 1_234_567].map(|number| Grouped(number).to_string());

        assert_eq!(shown, ["0", "7", "999", "1,000", "4,095", "1,234,567"]);
    }

    #[test]
    fn a_list_shows_its_first_entries() {
        assert_eq!(format!("{:?}", FirstOf(&[1, 2, 3], 2)), "[1, 2, and 1 more]");
        assert_eq!(format!("{:?}", FirstOf(&[1, 2], 2)), "[1, 2]");
    }
}

//! Durations as text, in the milliseconds of schedules.

use std::{fmt, time::Duration};

use callsheet_actors::DurationText;

/// What a message quotes of a text of any length.
pub(super) fn shortened(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

/// Writes whole milliseconds as [`parse_duration`](super::parse_duration) reads them.
pub(super) struct Written(pub(super) i64);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        DurationText(Duration::from_millis(self.0.unsigned_abs())).fmt(f)
    }
}

//! A field of a cron expression in the words of `cron-parser`.

use std::ops::Range;

use super::field::{Field, number};

/// A field as `cron-parser` takes it, with the way back to what the user wrote.
pub(super) struct DialectField {
    pub(super) text: String,
    /// For each byte of the text, the bytes of the user's text that it came from.
    origins: Vec<Range<usize>>,
}

impl DialectField {
    pub(super) fn of(field: Field, text: &str) -> Self {
        let mut normal = Self { text: String::new(), origins: Vec::new() };
        let is_day = matches!(field, Field::DayOfMonth | Field::DayOfWeek);
        if is_day && text == "?" {
            normal.replace("*", 0..1);
            return normal;
        }
        let mut start = 0;
        for (nth, item) in text.split(',').enumerate() {
            if nth > 0 {
                normal.copy(",", start - 1);
            }
            normal.item(field, item, start);
            start += item.len() + 1;
        }
        normal
    }

    /// Adds one element of the list, which starts at `at`. What it does not understand, it copies:
    /// `cron-parser` says what is wrong with it.
    fn item(&mut self, field: Field, item: &str, at: usize) {
        let base = item.split('/').next().unwrap_or_default();
        let step = &item[base.len()..];
        if let Some((from, to)) = base.split_once('-')
            && let (Some(first), Some(last)) = (field.number(from), field.number(to))
        {
            self.range(field, item, at, (first, last));
        } else if let Some(number) = field.number(base) {
            let number = if field == Field::DayOfWeek && number == 7 { 0 } else { number };
            self.replace(&number.to_string(), at..at + base.len());
            self.copy(step, at + base.len());
        } else {
            self.copy(item, at);
        }
    }

    /// Adds a range of known numbers; what runs over the end becomes a list.
    fn range(&mut self, field: Field, item: &str, at: usize, (first, last): (u32, u32)) {
        let base = item.split('/').next().unwrap_or_default();
        let step = &item[base.len()..];
        let dash = base.find('-').unwrap_or_default();
        let (first, last) = field.with_one_sunday(first, last);
        let (min, max) = field.values().into_inner();

        let in_range = field.values().contains(&first) && field.values().contains(&last);
        let wraps = in_range && first > last && field.wraps();
        let by = match step.strip_prefix('/') {
            None => Some(1),
            Some(by) => number(by).filter(|by| (1..=max).contains(by)),
        };
        if let (true, Some(by)) = (wraps, by) {
            let values: Vec<String> =
                (first..=max).chain(min..=last).step_by(by as usize).map(|value| value.to_string()).collect();
            self.replace(&values.join(","), at..at + item.len());
            return;
        }
        // A range that wraps has a wrong step here; the maximum leaves that as its only fault.
        let last = if wraps { max } else { last };
        self.replace(&first.to_string(), at..at + dash);
        self.copy("-", at + dash);
        self.replace(&last.to_string(), at + dash + 1..at + base.len());
        self.copy(step, at + base.len());
    }

    fn copy(&mut self, piece: &str, at: usize) {
        self.text.push_str(piece);
        self.origins.extend((at..at + piece.len()).map(|byte| byte..byte + 1));
    }

    fn replace(&mut self, piece: &str, origin: Range<usize>) {
        self.text.push_str(piece);
        self.origins.extend(std::iter::repeat_n(origin, piece.len()));
    }

    /// Where in the user's text, of the given length, a range of the normal text came from.
    pub(super) fn origin_of(&self, span: Range<usize>, length: usize) -> Range<usize> {
        let start = self.origins.get(span.start).map_or(length, |origin| origin.start);
        if span.is_empty() {
            return start..start;
        }
        let end = self.origins.get(span.end - 1).map_or(length, |origin| origin.end);
        start..end.max(start)
    }
}

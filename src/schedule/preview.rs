//! The coming fire times, for people.

use std::fmt;

use callsheet_actors::{Fault, Faults};
use chrono::{DateTime, FixedOffset, NaiveDateTime, Offset, Timelike, Utc};

use super::{
    civil::CivilRule,
    definition::Definition,
    dst::{Fold, Gap},
    duration::{Written, shortened},
    instant,
    source::Complaint,
    tree::{Budget, CivilTimes, Tree},
    zone::Zone,
    zone_data,
    zone_name::{ZoneName, zone_named},
};

/// The most fire times of one preview.
pub const PREVIEW_MAX: usize = 10_000;

impl<K> Definition<K>
where
    Self: Into<Definition> + Clone,
{
    /// Answers the first `count` fire times after `after`, on the clocks of the schedule's own time zone, or
    /// of UTC if it has none; with a note where the clocks shifted, skipped or doubled one.
    ///
    /// Random intervals and jitter are those of a job without a name. Of a period that counts
    /// [from completion](Definition::from_completion) they are those of a job whose runs take no time.
    ///
    /// # Errors
    ///
    /// Every fault of the definition, as [`check`](Self::check); a `count` above [`PREVIEW_MAX`].
    ///
    /// ```
    /// use callsheet::schedule::daily;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let nightly = daily().at("01:30").timezone("Europe/Lisbon");
    ///
    /// let preview = nightly.preview("2026-03-28T00:00:00Z".parse()?, 3)?;
    ///
    /// assert_eq!(
    ///     preview.to_string(),
    ///     "Sat 2026-03-28 01:30:00 +00:00\n\
    ///      Sun 2026-03-29 02:30:00 +01:00  01:30 does not exist on this day: the clocks skip 1h\n\
    ///      Mon 2026-03-30 01:30:00 +01:00\n"
    /// );
    /// # Ok(())
    /// # }
    /// ```
    pub fn preview(&self, after: DateTime<Utc>, count: usize) -> Result<Preview, Faults> {
        check_count(count)?;
        let compiled = self.compile()?;
        let own = self.options.timezone.as_deref();
        let zone = own.or(compiled.tree.timezone()).and_then(|name| zone_data::current().zone(name));
        let zone = zone.unwrap_or_else(|| zone_data::current().utc());
        Ok(Preview::of(&compiled.tree, zone, after, count))
    }

    /// As [`preview`](Self::preview), on the clocks of another time zone. The fire times are the same.
    ///
    /// # Errors
    ///
    /// Every fault of the definition, and a zone that is not one; a `count` above [`PREVIEW_MAX`].
    pub fn preview_in(
        &self,
        zone: impl Into<ZoneName>,
        after: DateTime<Utc>,
        count: usize,
    ) -> Result<Preview, Faults> {
        check_count(count)?;
        let compiled = self.compile()?;
        let name = String::from(zone.into());
        let refused =
            |complaint: Complaint| Fault::new("timezone", shortened(&name), complaint.rule, complaint.cure);
        let zone = zone_named(&name).map_err(refused)?;
        Ok(Preview::of(&compiled.tree, zone, after, count))
    }
}

fn check_count(count: usize) -> Result<(), Faults> {
    if count <= PREVIEW_MAX {
        return Ok(());
    }
    let rule = "a preview has at most 10,000 fire times";
    Err(Fault::new("preview", count.to_string(), rule, "ask for fewer, and go on after the last of them")
        .into())
}

/// Some fire times in a row; made by [`Definition::preview`]. Its text has one line for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    lines: Vec<PreviewLine>,
}

/// One fire time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PreviewLine {
    /// The fire time, with the offset that is in force then.
    pub fire_time: DateTime<FixedOffset>,
    /// What the clocks did to it, and to those before it that are left out.
    pub notes: Vec<Note>,
}

/// What a change of the clocks did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Note {
    /// The time that was meant does not exist, and this one stands for it.
    Shifted {
        /// What the clocks would have shown.
        meant: NaiveDateTime,
        /// How much the clocks skip, in milliseconds.
        skipped: i64,
    },
    /// A time before this one does not exist, and was left out.
    Skipped {
        /// What the clocks would have shown.
        meant: NaiveDateTime,
    },
    /// The clocks show this time twice, and this is the first of two ticks.
    DoubledFirst,
    /// The clocks show this time twice, and this is the second of two ticks.
    DoubledSecond,
    /// The clocks show this time twice, and only the first counts.
    FirstOfTwo,
    /// The clocks show this time twice, and only the second counts.
    SecondOfTwo,
}

impl Preview {
    fn of(tree: &Tree, zone: &Zone, after: DateTime<Utc>, count: usize) -> Self {
        let mut lines = Vec::new();
        let mut before = instant::following(after) - 1;
        while lines.len() < count {
            let next = tree.first_from(before + 1, &mut Budget::default());
            let Some((millis, time)) = next.and_then(|next| Some((next, instant::from_millis(next)?))) else {
                break;
            };
            let mut notes = Vec::new();
            tree.note(before, millis, &mut notes);
            lines.push(PreviewLine { fire_time: time.with_timezone(&offset_of(zone, millis)), notes });
            before = millis;
        }
        Self { lines }
    }

    /// Returns the lines in order.
    pub fn lines(&self) -> &[PreviewLine] {
        &self.lines
    }

    /// Returns the fire times in order.
    pub fn fire_times(&self) -> impl Iterator<Item = DateTime<Utc>> {
        self.lines.iter().map(|line| line.fire_time.to_utc())
    }
}

impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl fmt::Display for PreviewLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = &self.fire_time;
        let millis = time.timestamp_subsec_millis();
        write!(f, "{}", time.format("%a %Y-%m-%d %H:%M:%S"))?;
        if millis != 0 {
            write!(f, ".{millis:03}")?;
        }
        write!(f, " {}", time.offset())?;
        for (nth, note) in self.notes.iter().enumerate() {
            f.write_str(if nth == 0 { "  " } else { "; " })?;
            match note {
                Note::Shifted { meant, skipped } if meant.date() != time.date_naive() => {
                    let (day, skipped) = (meant.date(), Written(*skipped));
                    write!(f, "{day} {} does not exist: the clocks skip {skipped}", clock(meant))?;
                }
                _ => write!(f, "{note}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shifted { meant, skipped } => {
                let skipped = Written(*skipped);
                write!(f, "{} does not exist on this day: the clocks skip {skipped}", clock(meant))
            }
            Self::Skipped { meant } => {
                write!(f, "before it, {} {} does not exist: left out", meant.date(), clock(meant))
            }
            Self::DoubledFirst => f.write_str("the clocks show it twice: the first of two"),
            Self::DoubledSecond => f.write_str("the clocks show it twice: the second of two"),
            Self::FirstOfTwo => f.write_str("the clocks show it twice: only this first one fires"),
            Self::SecondOfTwo => f.write_str("the clocks show it twice: only this second one fires"),
        }
    }
}

/// What the clocks of a zone show, less what those of UTC do.
fn offset_of(zone: &Zone, millis: i64) -> FixedOffset {
    let seconds = i32::try_from(zone.span_at(millis).offset / 1_000).ok();
    // chrono knows offsets of less than a day, and so do all zones that ever were.
    seconds.and_then(FixedOffset::east_opt).unwrap_or(Utc.fix())
}

fn clock(time: &NaiveDateTime) -> String {
    time.format(if time.second() == 0 { "%H:%M" } else { "%H:%M:%S" }).to_string()
}

impl Tree {
    /// What the clocks did to the fire time `millis`, and to those that would have been between it and
    /// `before`.
    fn note(&self, before: i64, millis: i64, notes: &mut Vec<Note>) {
        match self {
            Self::Civil(civil) => civil.note(before, millis, notes),
            Self::Interval(_)
            | Self::AfterCompletion(_)
            | Self::Random(_)
            | Self::At(_)
            | Self::Custom(_) => {}
            Self::Any(members) => {
                for member in members.iter().filter(|member| member.contains(millis, &mut Budget::default()))
                {
                    let mut found = Vec::new();
                    member.note(before, millis, &mut found);
                    found.retain(|note| !notes.contains(note));
                    notes.append(&mut found);
                }
            }
            Self::Except(except) => except.of.note(before, millis, notes),
            Self::Window(window) => window.of.note(before.max(window.from.saturating_sub(1)), millis, notes),
            Self::Jitter(jitter) => {
                let planned = |fire_time| jitter.planned(fire_time, &mut Budget::default());
                let before = planned(before).unwrap_or(before);
                jitter.of.note(before, planned(millis).unwrap_or(millis), notes);
            }
        }
    }
}

impl CivilTimes {
    fn note(&self, before: i64, millis: i64, notes: &mut Vec<Note>) {
        let zone = self.resolver.zone();
        if self.resolver.gap() == Gap::Skip {
            // The gaps since the fire time before, most of which are in the span of this one.
            for span in zone.spans_from(before).skip(1).take_while(|span| span.start <= millis) {
                let meant = self.meant_in(span.start + span.offset_before, span.start + span.offset);
                notes.extend(meant.map(|meant| Note::Skipped { meant }));
            }
        }
        let span = zone.span_at(millis);
        let civil = millis + span.offset;
        let is_own = self.meant_in(civil, civil + 1).is_some();
        // A shifted time may meet one of its own.
        let (from, to) =
            (span.start.saturating_add(span.offset_before), span.start.saturating_add(span.offset));
        let meant = match self.resolver.gap() {
            Gap::AfterGap if millis == span.start => self.meant_in(from, to),
            Gap::Shift if (from..to).contains(&(millis + span.offset_before)) => {
                let meant = millis + span.offset_before;
                self.meant_in(meant, meant + 1)
            }
            Gap::Shift | Gap::AfterGap | Gap::Skip => None,
        };
        notes.extend(meant.map(|meant| Note::Shifted { meant, skipped: to - from }));
        if !is_own {
            return;
        }
        let shown_before = civil < span.start.saturating_add(span.offset_before) && span.start != i64::MIN;
        let shown_again = civil >= span.end.saturating_add(span.offset_after) && span.end != i64::MAX;
        notes.extend(match (shown_before, shown_again, self.resolver.fold()) {
            (true, _, Fold::Both) => Some(Note::DoubledSecond),
            (_, true, Fold::Both) => Some(Note::DoubledFirst),
            (true, _, Fold::Second) => Some(Note::SecondOfTwo),
            (_, true, Fold::First) => Some(Note::FirstOfTwo),
            _ => None,
        });
    }

    /// The first civil time of the rule in a piece of civil time, the end exclusive; there is none in an
    /// empty one.
    pub(super) fn meant_in(&self, from: i64, to: i64) -> Option<NaiveDateTime> {
        let from = instant::from_millis(from).filter(|_| from < to)?.naive_utc();
        let first = self.rule.first_from(from)?;
        Some(first).filter(|first| first.and_utc().timestamp_millis() < to)
    }
}

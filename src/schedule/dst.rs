//! What becomes of the civil times that a change of the clocks removes or repeats.

/// What a civil time becomes that does not exist, because the clocks went forward over it.
///
/// The default depends on the schedule. Fixed times shift ([`Gap::Shift`]). A cron expression whose minute or
/// hour field starts with `*` skips ([`Gap::Skip`]): its pattern already fires on each side of the gap.
///
/// In New York on 2026-03-08 the clocks go from 02:00 to 03:00. A job at 02:30:
///
/// ```text
/// civil     01:30     02:00 . . . 02:30 . . . 03:00     03:30     04:00
///             |         |     does not exist    |         |         |
/// elapsed   01:30 EST   +-----------------------+       03:30 EDT
///                                               |         |
/// Shift                                         |         X  half an hour into the gap: half an hour after it
/// AfterGap                                      X         |  the first instant after the gap
/// Skip                                          |         |  (not on this day)
/// ```
///
/// | policy | 01:59 | 02:00 | 02:30 | 03:00 | times of one pattern that coincide |
/// |---|---|---|---|---|---|
/// | `Shift` | 01:59 EST | 03:00 EDT | 03:30 EDT | 03:00 EDT | are one tick |
/// | `AfterGap` | 01:59 EST | 03:00 EDT | 03:00 EDT | 03:00 EDT | are one tick |
/// | `Skip` | 01:59 EST | – | – | 03:00 EDT | – |
///
/// Source: RFC 5545, section 3.3.5, interprets a time in a gap with the offset before it (`Shift`, also known
/// as "compatible"); Debian's cron runs such a job right after the gap (`AfterGap`).
///
/// ```
/// use callsheet::schedule::{Gap, IntoSchedule, cron};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let next = |gap| -> Result<String, Box<dyn std::error::Error>> {
///     let nightly = cron("30 2 * * *").timezone("America/New_York").gap(gap).into_schedule()?;
///     let evening = "2026-03-07T18:00:00-05:00".parse()?;
///     Ok(nightly.next_after(evening).ok_or("none")?.to_rfc3339())
/// };
///
/// assert_eq!(next(Gap::Shift)?, "2026-03-08T07:30:00+00:00"); // 03:30 EDT
/// assert_eq!(next(Gap::AfterGap)?, "2026-03-08T07:00:00+00:00"); // 03:00 EDT
/// assert_eq!(next(Gap::Skip)?, "2026-03-09T06:30:00+00:00"); // 02:30 EDT, a day later
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Gap {
    /// Later by the length of the gap.
    #[default]
    Shift,
    /// The first instant after the gap.
    AfterGap,
    /// Not at all.
    Skip,
}

impl Gap {
    pub(super) const ALL: [Self; 3] = [Self::Shift, Self::AfterGap, Self::Skip];

    /// As listings and data write it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Shift => "shift",
            Self::AfterGap => "after_gap",
            Self::Skip => "skip",
        }
    }
}

/// What a civil time becomes that exists twice, because the clocks went back over it.
///
/// The default depends on the schedule. Fixed times happen once ([`Fold::First`]). A cron expression whose
/// minute or hour field starts with `*` fires both times ([`Fold::Both`]): "every ten minutes" goes on for
/// all of the longer day.
///
/// In New York on 2026-11-01 the clocks go from 02:00 back to 01:00. A job at 01:30:
///
/// ```text
/// elapsed   00:30 EDT   01:00 EDT   01:30 EDT   01:00 EST   01:30 EST   02:00 EST
///             |           |           |           |           |           |
/// First       |           |           X           |           |           |
/// Second      |           |           |           |           X           |
/// Both        |           |           X           |           X           |
/// ```
///
/// | policy | 00:30 | 01:30 | 02:00 |
/// |---|---|---|---|
/// | `First` | 00:30 EDT | 01:30 EDT | 02:00 EST |
/// | `Second` | 00:30 EDT | 01:30 EST | 02:00 EST |
/// | `Both` | 00:30 EDT | 01:30 EDT and 01:30 EST | 02:00 EST |
///
/// Source: RFC 5545, section 3.3.5, takes the first; Vixie cron repeats the wildcard jobs only.
///
/// ```
/// use callsheet::schedule::{Fold, IntoSchedule, cron};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let hours_of_the_night = |fold| -> Result<Vec<String>, Box<dyn std::error::Error>> {
///     let nightly = cron("30 1 * * *").timezone("America/New_York").fold(fold).into_schedule()?;
///     let mut fire_time = "2026-10-31T18:00:00-04:00".parse()?;
///     let mut hours = Vec::new();
///     while let Some(next) = nightly.next_after(fire_time).filter(|next| *next.to_rfc3339() < *"2026-11-02") {
///         hours.push(next.format("%H:%M").to_string());
///         fire_time = next;
///     }
///     Ok(hours)
/// };
///
/// assert_eq!(hours_of_the_night(Fold::First)?, ["05:30"]);
/// assert_eq!(hours_of_the_night(Fold::Second)?, ["06:30"]);
/// assert_eq!(hours_of_the_night(Fold::Both)?, ["05:30", "06:30"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Fold {
    /// The first time only.
    #[default]
    First,
    /// The second time only.
    Second,
    /// Both times, as two ticks.
    Both,
}

impl Fold {
    pub(super) const ALL: [Self; 3] = [Self::First, Self::Second, Self::Both];

    /// As listings and data write it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
            Self::Both => "both",
        }
    }
}

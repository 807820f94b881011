//! The identity of a definition: a digest of its form as data, written in one way only.

use std::mem::take;

use callsheet_actors::port::ScheduleIdentity;
use serde::Serialize;

use super::{CalendarForm, DailyForm, MonthlyForm, ScheduleForm, WeeklyForm};
use crate::schedule::{
    definition::{CustomKind, Definition, Kind, Options},
    expression::{Expression, Rule, expanded, zone_prefix},
    source::Source,
};

const EPOCH: &str = "1970-01-01T00:00:00Z";
const MIDNIGHT: &str = "00:00";
const UTC: &str = "UTC";

/// The identity of a definition that is right.
///
/// What is written in several ways is written in one before it is digested. The table of
/// `tests/schedule_identity.rs` fails if that, or the form, changes: then [`ScheduleIdentity::VERSION`] has
/// to grow. It has to grow as well if a default gets another meaning, since defaults are left out.
pub(in crate::schedule) fn identity_of(definition: &Definition) -> ScheduleIdentity {
    if let Kind::Custom(CustomKind(Ok(schedule))) = &definition.kind
        && definition.options.are_none()
    {
        return schedule.identity();
    }
    let form = ScheduleForm::of(definition, |schedule| Ok(schedule.identity().to_string()));
    let form = form.expect("invariant: a definition that was compiled has a form").canonical(UTC);
    ScheduleIdentity::of_data(&written(&form))
}

fn written(form: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(form).expect("invariant: texts, numbers and lists of them can always be written")
}

impl Options {
    fn are_none(&self) -> bool {
        let Self { timezone, gap, fold, anchored_at, except, starting_at, until, jitter } = self;
        timezone.is_none()
            && (gap.is_none() && fold.is_none() && jitter.is_none() && except.is_empty())
            && (anchored_at.is_none() && starting_at.is_none() && until.is_none())
    }
}

impl ScheduleForm {
    /// `outer` is the zone of the schedule around it.
    fn canonical(mut self, outer: &str) -> Self {
        self.write_cron();
        let zone = self.timezone.clone().unwrap_or_else(|| outer.to_owned());
        self.timezone.take_if(|own| own == outer);
        self.drop_default_anchor();
        self.at.as_mut().map(as_set);
        self.daily = self.daily.take().map(|daily| daily.canonical(self.starting_at.as_deref()));
        self.weekly = self.weekly.take().map(|weekly| weekly.canonical(self.starting_at.as_deref()));
        self.monthly = self.monthly.take().map(|monthly| monthly.canonical(self.starting_at.as_deref()));
        self.any = self.any.take().map(|members| set_of(members, |member| member.canonical(&zone)));
        self.except = set_of(take(&mut self.except), |calendar| calendar.canonical(&zone));
        self
    }

    /// Single blanks, capitals, the fields of a macro, and the zone of the prefix in its own key; no policy
    /// that is the default.
    fn write_cron(&mut self) {
        let Some(text) = &mut self.cron else {
            self.gap.take_if(|gap| gap == "shift");
            self.fold.take_if(|fold| fold == "first");
            return;
        };
        if self.gap.is_some() || self.fold.is_some() {
            let rule = Expression::read(Source(text)).rule;
            let all_day = matches!(rule, Some(Rule::Pattern { all_day: true, .. }));
            let (gap_default, fold_default) = if all_day { ("skip", "both") } else { ("shift", "first") };
            self.gap.take_if(|gap| gap == gap_default);
            self.fold.take_if(|fold| fold == fold_default);
        }
        let mut words: Vec<_> = text.split_whitespace().collect();
        if let Some(zone) = words.first().and_then(|first| zone_prefix(first)) {
            words.remove(0);
            self.timezone = Some(zone.to_owned());
        }
        let words = words.join(" ");
        let words = expanded(&words);
        // The units of `@every` are small letters.
        *text = if words.starts_with('@') { words.to_owned() } else { words.to_ascii_uppercase() };
    }

    /// Of `every`: without an anchor it counts from its start, or from the epoch.
    fn drop_default_anchor(&mut self) {
        let default = self.starting_at.as_deref().unwrap_or(EPOCH);
        self.anchored_at.take_if(|anchor| anchor == default);
    }
}

impl DailyForm {
    fn canonical(mut self, start: Option<&str>) -> Self {
        times_of_day(&mut self.at);
        drop_needless_anchor(&mut self.anchored_at, self.every, start);
        self
    }
}

impl WeeklyForm {
    fn canonical(mut self, start: Option<&str>) -> Self {
        as_set(&mut self.on);
        times_of_day(&mut self.at);
        drop_needless_anchor(&mut self.anchored_at, self.every, start);
        let every = self.every;
        self.week_start.take_if(|day| every == 1 || day == "monday");
        self
    }
}

impl MonthlyForm {
    fn canonical(mut self, start: Option<&str>) -> Self {
        as_set(&mut self.on);
        times_of_day(&mut self.at);
        drop_needless_anchor(&mut self.anchored_at, self.every, start);
        self
    }
}

impl CalendarForm {
    /// Without its name, which is for people.
    fn canonical(mut self, outer: &str) -> Self {
        let zone = self.timezone.clone().unwrap_or_else(|| outer.to_owned());
        self.timezone.take_if(|own| own == outer);
        self.name = None;
        as_set(&mut self.dates);
        as_set(&mut self.ranges);
        as_set(&mut self.weekdays);
        as_set(&mut self.times);
        self.schedules = set_of(self.schedules, |schedule| schedule.canonical(&zone));
        self
    }
}

/// Every day, week or month needs none; otherwise the default is the start, if there is one.
fn drop_needless_anchor(anchor: &mut Option<String>, every: u32, start: Option<&str>) {
    anchor.take_if(|anchor| every == 1 || Some(anchor.as_str()) == start);
}

fn times_of_day(at: &mut Vec<String>) {
    as_set(at);
    if at[..] == [MIDNIGHT] {
        at.clear();
    }
}

fn as_set<T: Ord>(list: &mut Vec<T>) {
    list.sort_unstable();
    list.dedup();
}

/// The forms, each once, in the order of what is written of them.
fn set_of<F: Serialize>(forms: Vec<F>, canonical: impl Fn(F) -> F) -> Vec<F> {
    let mut forms: Vec<_> = forms.into_iter().map(canonical).map(|form| (written(&form), form)).collect();
    forms.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    forms.dedup_by(|(one, _), (other, _)| one == other);
    forms.into_iter().map(|(_, form)| form).collect()
}

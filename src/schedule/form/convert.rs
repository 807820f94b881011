//! Definitions made of their form, and the form of a definition.

use callsheet_actors::Fault;
use chrono::Weekday;

use super::{
    CalendarForm, DailyForm, MonthlyForm, OfCustom, RandomForm, RangeForm, ScheduleForm, TimesForm,
    WeeklyForm,
};
use crate::schedule::{
    any::any,
    at::at,
    calendar::{Calendar, Entries},
    compile::under,
    cron::cron,
    daily::daily,
    definition::{CustomKind, Definition, Kind, Options},
    dst::{Fold, Gap},
    duration::shortened,
    every::every,
    input::{Given, Readable},
    monthly::monthly,
    random::random,
    weekly::weekly,
};

impl ScheduleForm {
    /// The definition of the form, which may still be wrong; or what cannot be put into one.
    pub(super) fn definition(self) -> Result<Definition, Vec<Fault>> {
        let kinds = self.kinds();
        let [name] = kinds[..] else {
            let rule = "a schedule has exactly one of the keys cron, every, random, daily, weekly, monthly, at and any";
            let cure = if kinds.is_empty() { "add one" } else { "keep one; `any` holds a list of schedules" };
            return Err(vec![Fault::new("schedule", kinds.join(", "), rule, cure)]);
        };
        let mut faults = Vec::new();
        let mut read_policy = |key: &str, written: Option<String>, names: &str| {
            let written = written?;
            if matches!(name, "every" | "random" | "at" | "any") {
                let rule = format!("`{name}` has no civil times of its own, so that `{key}` means nothing");
                faults.push(Fault::new(key, shortened(&written), rule, "remove it"));
                return None;
            }
            if !names.split(", ").any(|name| name == written) {
                let rule = format!("it is one of {names}");
                faults.push(Fault::new(key, shortened(&written), rule, "write one of these"));
                return None;
            }
            Some(written)
        };
        let gap = read_policy("gap", self.gap, "shift, after_gap, skip");
        let fold = read_policy("fold", self.fold, "first, second, both");
        let mut anchored_at = self.anchored_at;
        if let Some(anchor) = anchored_at.as_ref().filter(|_| name != "every") {
            let rule = format!("`anchored_at` stands beside `every` only, and not beside `{name}`");
            let cure = match name {
                "daily" | "weekly" | "monthly" => format!("move it into `{name}`"),
                _ => "remove it".into(),
            };
            faults.push(Fault::new("anchored_at", shortened(anchor), rule, cure));
        }
        if self.from_completion && name != "every" {
            let rule = format!("`from_completion` stands beside `every` only, and not beside `{name}`");
            faults.push(Fault::new("from_completion", "true", rule, "remove it"));
        }
        let from_completion = self.from_completion;
        let mut found = None;
        found = found.or(self.cron.map(|expression| cron(expression).into()));
        found = found.or(self.every.map(|period| {
            let mut definition = every(period);
            definition.kind.from_completion = from_completion;
            definition.into()
        }));
        found = found.or(self.random.map(|form| {
            let mut definition = random(form.min, form.max);
            definition.kind.seed = form.seed;
            definition.into()
        }));
        found = found.or(self.daily.map(|form| {
            anchored_at = form.anchored_at;
            daily().every(form.every).at(form.at).into()
        }));
        found = found.or(self.weekly.map(|form| {
            anchored_at = form.anchored_at;
            let mut definition = weekly().every(form.every).on(form.on).at(form.at);
            definition.kind.week_start = form.week_start.map(Into::into);
            definition.into()
        }));
        found = found.or(self.monthly.map(|form| {
            anchored_at = form.anchored_at;
            monthly().every(form.every).on(form.on).at(form.at).into()
        }));
        found = found.or(self.at.map(|instants| at(instants).into()));
        found = found.or(self.any.map(|members| any(definitions(members, "any", &mut faults)).into()));
        let definition: Definition = found.expect("invariant: there is one kind");
        let mut except = Vec::with_capacity(self.except.len());
        for (nth, form) in self.except.into_iter().enumerate() {
            except.push(form.calendar(&format!("except[{nth}]"), &mut faults));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let options = Options {
            timezone: self.timezone,
            gap: gap.and_then(|name| Gap::ALL.into_iter().find(|gap| gap.name() == name)),
            fold: fold.and_then(|name| Fold::ALL.into_iter().find(|fold| fold.name() == name)),
            anchored_at: anchored_at.map(Into::into),
            except,
            starting_at: self.starting_at.map(Into::into),
            until: self.until.map(Into::into),
            jitter: self.jitter.map(Into::into),
        };
        Ok(Definition { options, ..definition })
    }

    /// The names of the kinds that are there.
    fn kinds(&self) -> Vec<&'static str> {
        let kinds = [
            ("cron", self.cron.is_some()),
            ("every", self.every.is_some()),
            ("random", self.random.is_some()),
            ("daily", self.daily.is_some()),
            ("weekly", self.weekly.is_some()),
            ("monthly", self.monthly.is_some()),
            ("at", self.at.is_some()),
            ("any", self.any.is_some()),
        ];
        kinds.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name).collect()
    }

    /// The form of a definition that is right; or why it has none. `custom` says what is written of a
    /// schedule of the application.
    pub(super) fn of(definition: &Definition, custom: OfCustom) -> Result<Self, String> {
        let Definition { kind, options } = definition;
        let mut form = Self {
            timezone: options.timezone.clone(),
            gap: options.gap.map(|gap| gap.name().to_owned()),
            fold: options.fold.map(|fold| fold.name().to_owned()),
            except: options
                .except
                .iter()
                .map(|calendar| CalendarForm::of(calendar, custom))
                .collect::<Result<_, _>>()?,
            starting_at: options.starting_at.as_ref().map(Given::text),
            until: options.until.as_ref().map(Given::text),
            jitter: options.jitter.as_ref().map(Given::text),
            ..Self::default()
        };
        let anchored_at = options.anchored_at.as_ref().map(Given::text);
        match kind {
            Kind::Cron(cron) => form.cron = Some(cron.expression.clone()),
            Kind::Every(every) => {
                form.every = Some(every.period.text());
                form.from_completion = every.from_completion;
                form.anchored_at = anchored_at;
            }
            Kind::Random(random) => {
                let (min, max) = (random.min.text(), random.max.text());
                form.random = Some(RandomForm { min, max, seed: random.seed.clone() });
            }
            Kind::Daily(daily) => {
                let (every, at) = (daily.recurrence.every, texts(&daily.recurrence.at));
                form.daily = Some(DailyForm { every, at, anchored_at });
            }
            Kind::Weekly(weekly) => {
                let (every, at) = (weekly.recurrence.every, texts(&weekly.recurrence.at));
                let week_start = weekly.week_start.as_ref().map(full_name);
                form.weekly = Some(WeeklyForm { every, on: texts(&weekly.on), at, week_start, anchored_at });
            }
            Kind::Monthly(monthly) => {
                let (every, at) = (monthly.recurrence.every, texts(&monthly.recurrence.at));
                form.monthly = Some(MonthlyForm { every, on: monthly.on.clone(), at, anchored_at });
            }
            Kind::At(at) => form.at = Some(texts(&at.instants)),
            Kind::Any(any) => {
                let members = any.of.iter().map(|member| Self::of(member, custom));
                form.any = Some(members.collect::<Result<_, _>>()?);
            }
            Kind::Custom(CustomKind(schedule)) => {
                let schedule = schedule.as_deref().map_err(ToString::to_string)?;
                form.custom = Some(custom(schedule)?);
            }
        }
        Ok(form)
    }
}

impl CalendarForm {
    fn calendar(self, path: &str, faults: &mut Vec<Fault>) -> Calendar {
        let mut found = Vec::new();
        let schedules = definitions(self.schedules, "schedules", &mut found);
        faults.extend(found.into_iter().map(|fault| under(path, fault)));
        Calendar(std::sync::Arc::new(Entries {
            name: self.name,
            timezone: self.timezone,
            dates: self.dates.into_iter().map(Into::into).collect(),
            ranges: self.ranges.into_iter().map(|range| (range.first.into(), range.last.into())).collect(),
            weekdays: self.weekdays.into_iter().map(Into::into).collect(),
            times: self.times.into_iter().map(|times| (times.from.into(), times.to.into())).collect(),
            schedules,
        }))
    }

    fn of(calendar: &Calendar, custom: OfCustom) -> Result<Self, String> {
        let entries = &*calendar.0;
        let range =
            |(first, last): &(Given<_>, Given<_>)| RangeForm { first: first.text(), last: last.text() };
        let times = |(from, to): &(Given<_>, Given<_>)| TimesForm { from: from.text(), to: to.text() };
        Ok(Self {
            name: entries.name.clone(),
            timezone: entries.timezone.clone(),
            dates: texts(&entries.dates),
            ranges: entries.ranges.iter().map(range).collect(),
            weekdays: texts(&entries.weekdays),
            times: entries.times.iter().map(times).collect(),
            schedules: entries
                .schedules
                .iter()
                .map(|schedule| ScheduleForm::of(schedule, custom))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// The definitions of a list; faults get the path of their place.
fn definitions(forms: Vec<ScheduleForm>, path: &str, faults: &mut Vec<Fault>) -> Vec<Definition> {
    let mut definitions = Vec::with_capacity(forms.len());
    for (nth, form) in forms.into_iter().enumerate() {
        match form.definition() {
            Ok(definition) => definitions.push(definition),
            Err(found) => {
                let path = format!("{path}[{nth}]");
                faults.extend(found.into_iter().map(|fault| under(&path, fault)));
            }
        }
    }
    definitions
}

fn texts<T: Readable>(given: &[Given<T>]) -> Vec<String> {
    given.iter().map(Given::text).collect()
}

/// `sunday`
fn full_name(weekday: &Given<Weekday>) -> String {
    const NAMES: [&str; 7] = ["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"];
    match weekday.read("") {
        Ok(weekday) => NAMES[weekday.num_days_from_sunday() as usize].to_owned(),
        Err(_) => weekday.text(),
    }
}

//! Compiles definitions: each option around the kind, and every fault of all of it.

use callsheet_actors::{Fault, Faults};
use chrono::{DateTime, Utc};

use super::{
    definition::{Definition, Kind},
    dst::{Fold, Gap},
    duration::{Written, shortened},
    every::{AfterCompletion, millis_of},
    expression::zone_prefix,
    hash::Seed,
    input::Given,
    instant,
    tree::{Budget, Compiled, Custom, EXCLUDED_MAX, Except, Jitter, Tree, Window},
    zone::Zone,
    zone_data,
    zone_name::zone_named,
};

/// How deep schedules may lie within each other.
const DEPTH_MAX: usize = 16;

/// How many layers of jitter may lie within each other: a question to one is up to four to the one below.
const JITTER_DEPTH_MAX: usize = 3;

/// The most calendars of one schedule.
const CALENDARS_MAX: usize = 100;

/// At least one.
pub(super) fn all(faults: Vec<Fault>) -> Faults {
    Faults::check(faults).expect_err("invariant: there is at least one fault")
}

/// The fault of a part, seen from the whole: subjects are paths, such as `any[1].daily.at[0]`.
pub(super) fn under(part: &str, mut fault: Fault) -> Fault {
    fault.subject.insert_str(0, &format!("{part}."));
    fault
}

/// What a definition inherits from the one that it is part of.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Outer {
    pub(super) zone: Option<&'static Zone>,
    depth: usize,
}

impl Outer {
    pub(super) fn in_zone(self, zone: &'static Zone) -> Self {
        Self { zone: Some(zone), ..self }
    }

    pub(super) fn deeper(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }
}

/// What a kind is compiled with.
#[derive(Debug, Clone, Copy)]
pub(super) struct CompileContext {
    /// The definition's own zone.
    pub(super) own_zone: Option<&'static Zone>,
    /// That of the schedule around it.
    pub(super) outer: Outer,
    pub(super) gap: Option<Gap>,
    pub(super) fold: Option<Fold>,
    /// In milliseconds.
    pub(super) anchor: Option<i64>,
}

impl CompileContext {
    pub(super) fn zone(&self) -> &'static Zone {
        self.own_zone.or(self.outer.zone).unwrap_or_else(|| zone_data::current().utc())
    }
}

impl Definition {
    pub(super) fn has_exceptions(&self) -> bool {
        let is_within = match &self.kind {
            Kind::Any(any) => any.of.iter().any(Self::has_exceptions),
            Kind::Cron(_)
            | Kind::Every(_)
            | Kind::Random(_)
            | Kind::Daily(_)
            | Kind::Weekly(_)
            | Kind::Monthly(_)
            | Kind::At(_)
            | Kind::Custom(_) => false,
        };
        is_within || !self.options.except.is_empty()
    }

    pub(super) fn compile_within(&self, outer: Outer) -> Result<Compiled, Vec<Fault>> {
        if outer.depth > DEPTH_MAX {
            let rule = format!("schedules lie at most {DEPTH_MAX} deep within each other");
            return Err(vec![Fault::new("schedule", "", rule, "take some layers away")]);
        }
        let options = &self.options;
        let mut faults = Vec::new();
        let read = |given: &Option<Given<DateTime<Utc>>>, subject: &str, faults: &mut Vec<Fault>| {
            let read = given.as_ref()?.read(subject);
            read.map(instant::ceiling).map_err(|fault| faults.push(fault)).ok()
        };
        let mut later_faults = Vec::new();
        let own_zone = options.timezone.as_ref().and_then(|name| {
            let refused = |complaint: super::source::Complaint| {
                Fault::new("timezone", shortened(name), complaint.rule, complaint.cure)
            };
            zone_named(name).map_err(|complaint| later_faults.push(refused(complaint))).ok()
        });
        let anchored_at = read(&options.anchored_at, "anchored_at", &mut later_faults);
        let starting_at = read(&options.starting_at, "starting_at", &mut later_faults);
        let until = read(&options.until, "until", &mut later_faults);

        // The zone of a prefix is that of the schedule, and so of its calendars.
        let own_zone = own_zone.or_else(|| self.kind.zone_of_prefix());
        let context = CompileContext {
            own_zone,
            outer,
            gap: options.gap,
            fold: options.fold,
            anchor: anchored_at.or(starting_at),
        };
        let mut compiled = match self.kind.compile(&context, starting_at.is_some() && anchored_at.is_none()) {
            Ok(compiled) => Some(compiled),
            Err(found) => {
                faults.extend(found);
                None
            }
        };
        faults.append(&mut later_faults);
        if compiled.as_ref().is_some_and(|compiled| compiled.tree.counts_from_completion()) {
            self.refuse_beside_completion(outer, &mut faults);
        }
        self.compile_exceptions(outer.in_zone(context.zone()), &mut compiled, &mut faults);
        self.compile_window(starting_at, until, &mut compiled, &mut faults);
        self.compile_jitter(until, &mut compiled, &mut faults);
        match compiled {
            Some(compiled) if faults.is_empty() => self.check_fires(compiled),
            Some(_) | None => Err(faults),
        }
    }

    /// What asks for several fire times in a row has no sense for a schedule that knows the next one only.
    fn refuse_beside_completion(&self, outer: Outer, faults: &mut Vec<Fault>) {
        let options = &self.options;
        let refused = [
            ("anchored_at", options.anchored_at.is_some()),
            ("except", !options.except.is_empty()),
            ("jitter", options.jitter.is_some()),
            ("being part of another schedule", outer.depth > 0),
        ];
        let rule = "it is not possible for a schedule that counts from the end of the last run, of which only the \
                    next fire time is known";
        let refused = refused.into_iter().filter(|(_, is_there)| *is_there);
        faults.extend(
            refused.map(|(what, _)| Fault::new("from_completion", what, rule, "leave one of the two out")),
        );
    }

    fn compile_exceptions(&self, outer: Outer, compiled: &mut Option<Compiled>, faults: &mut Vec<Fault>) {
        let calendars = &self.options.except;
        if calendars.is_empty() {
            return;
        }
        if calendars.len() > CALENDARS_MAX {
            let rule = format!("a schedule has at most {CALENDARS_MAX} calendars");
            faults.push(Fault::new("except", calendars.len().to_string(), rule, "join some of them"));
            return;
        }
        let mut exclusions = Vec::with_capacity(calendars.len());
        for (nth, calendar) in calendars.iter().enumerate() {
            match calendar.compile(outer) {
                Ok(exclusion) => exclusions.push(exclusion),
                Err(found) => {
                    let subject = format!("except[{nth}]");
                    faults.extend(found.into_iter().map(|fault| under(&subject, fault)));
                }
            }
        }
        *compiled = compiled.take().map(|Compiled { tree, text }| {
            let names: Vec<String> = calendars.iter().map(ToString::to_string).collect();
            let text = format!("{text} except {}", names.join(", ")).into();
            let tree = Tree::Except(Box::new(Except::new(tree, exclusions.into())));
            Compiled { tree, text }
        });
    }

    fn compile_window(
        &self,
        from: Option<i64>,
        until: Option<i64>,
        compiled: &mut Option<Compiled>,
        faults: &mut Vec<Fault>,
    ) {
        if from.is_none() && until.is_none() {
            return;
        }
        if let (Some(from), Some(until)) = (from, until)
            && from >= until
            && let (Some(starting_at), Some(until)) = (&self.options.starting_at, &self.options.until)
        {
            let shown = format!("{} to {}", starting_at.text(), until.text());
            let rule = "the schedule ends before it starts";
            faults.push(Fault::new("until", shown, rule, "write an end after the start"));
        }
        *compiled = compiled.take().map(|Compiled { tree, text }| {
            let mut text = text.into_string();
            for (word, millis) in [("from", from), ("until", until)] {
                if let Some(instant) = millis.and_then(instant::from_millis) {
                    text = format!("{text} {word} {}", instant::text(instant));
                }
            }
            // A pause is not cut: it ends with the start at the earliest.
            let from = from.filter(|_| !matches!(tree, Tree::AfterCompletion(_)));
            let (from, until) = (from.unwrap_or(i64::MIN), until.unwrap_or(i64::MAX));
            Compiled { tree: Tree::Window(Box::new(Window { of: tree, from, until })), text: text.into() }
        });
    }

    fn compile_jitter(&self, until: Option<i64>, compiled: &mut Option<Compiled>, faults: &mut Vec<Fault>) {
        let Some(jitter) = &self.options.jitter else { return };
        let max = match millis_of(jitter, "jitter") {
            Ok(max) => max,
            Err(mut fault) => {
                // The rules of periods, in the words of jitter.
                fault.rule = fault.rule.replace("a period", "jitter");
                faults.push(fault);
                return;
            }
        };
        if compiled.as_ref().is_some_and(|compiled| compiled.tree.jitter_depth() >= JITTER_DEPTH_MAX) {
            let rule = format!("jitter lies at most {JITTER_DEPTH_MAX} deep within other jitter");
            faults.push(Fault::new(
                "jitter",
                jitter.shown(),
                rule,
                "give it to the outermost schedule alone",
            ));
            return;
        }
        *compiled = compiled.take().map(|Compiled { tree, text }| {
            let text = format!("{text} jitter {}", Written(max)).into();
            let jitter = Jitter { of: tree, max, until: until.unwrap_or(i64::MAX), seed: Seed::of("") };
            Compiled { tree: Tree::Jitter(Box::new(jitter)), text }
        });
    }

    /// Refuses what never fires. The kinds do so themselves; this is for what calendars and windows leave.
    fn check_fires(&self, compiled: Compiled) -> Result<Compiled, Vec<Fault>> {
        /// Some instants of our time, to ask from: a search may end at an end of time without having seen it
        /// all.
        const PROBES: [i64; 3] = [0, 1_767_225_600_000, 4_070_908_800_000];
        /// How many excluded fire times each of these questions passes over.
        const EXCLUDED: u32 = EXCLUDED_MAX / 10;
        let options = &self.options;
        if options.except.is_empty() && options.starting_at.is_none() && options.until.is_none() {
            return Ok(compiled);
        }
        let first_from = |millis| compiled.tree.first_from(millis, &mut Budget::of(EXCLUDED));
        let last_until = |millis| compiled.tree.last_until(millis, &mut Budget::of(EXCLUDED));
        let fires = first_from(i64::MIN).is_some()
            || last_until(i64::MAX).is_some()
            || PROBES.iter().any(|probe| first_from(*probe).is_some() || last_until(*probe).is_some());
        if fires {
            return Ok(compiled);
        }
        let rule = "it never fires: nothing is left of it";
        Err(vec![Fault::new("schedule", compiled.text, rule, "leave out less, or open the window")])
    }
}

impl Kind {
    /// The zone that a cron expression names itself, if there is such a zone.
    fn zone_of_prefix(&self) -> Option<&'static Zone> {
        let Self::Cron(cron) = self else { return None };
        zone_named(zone_prefix(cron.expression.split_whitespace().next()?)?).ok()
    }

    /// Compiles the kind alone. `is_start` says that the anchor is the start of the window, which listings
    /// show anyway.
    fn compile(&self, context: &CompileContext, is_start: bool) -> Result<Compiled, Vec<Fault>> {
        Ok(match self {
            Self::Cron(cron) => cron.compile(context)?,
            Self::Every(every) if every.from_completion => {
                let period = millis_of(&every.period, "every").map_err(|fault| vec![fault])?;
                let text = format!("every {} from completion", Written(period)).into();
                Compiled { text, tree: Tree::AfterCompletion(AfterCompletion::new(period, context.anchor)) }
            }
            Self::Every(every) => {
                let interval = every.compile(context.anchor).map_err(|fault| vec![fault])?;
                let text = if is_start {
                    format!("every {}", Written(interval.period))
                } else {
                    interval.to_string()
                };
                Compiled { text: text.into(), tree: Tree::Interval(interval) }
            }
            Self::Random(random) => {
                let spread = random.compile()?;
                Compiled { text: spread.to_string().into(), tree: Tree::Random(spread) }
            }
            Self::Daily(daily) => daily.compile(context)?,
            Self::Weekly(weekly) => weekly.compile(context)?,
            Self::Monthly(monthly) => monthly.compile(context)?,
            Self::At(at) => {
                let instants = at.compile()?;
                Compiled { text: instants.to_string().into(), tree: Tree::At(instants) }
            }
            Self::Any(any) => {
                any.compile(Outer { zone: context.own_zone.or(context.outer.zone), ..context.outer })?
            }
            Self::Custom(custom) => match &custom.0 {
                Ok(schedule) => Compiled {
                    text: schedule.to_string().into(),
                    tree: Tree::Custom(Custom(schedule.clone())),
                },
                Err(faults) => return Err(faults.clone().into_vec()),
            },
        })
    }
}

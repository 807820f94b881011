//! Many jobs have the schedule of the one before: it is compiled once, and they share it.

use std::{cell::RefCell, sync::Arc};

use callsheet_actors::Faults;

use super::{
    checked::Checked,
    compile::{Outer, all},
    definition::{Definition, Kind, Options},
    form::identity_of,
};

thread_local! {
    /// The last definition that this thread compiled, and what became of it.
    static LAST: RefCell<Option<(Definition, Arc<Checked>)>> = const { RefCell::new(None) };
}

impl Definition {
    /// What it becomes when a job takes it.
    pub(super) fn compiled(self) -> Result<Arc<Checked>, Faults> {
        let last = LAST.try_with(|last| {
            let last = last.borrow();
            last.as_ref().filter(|(last, _)| last.is_same_as(&self)).map(|(_, compiled)| compiled.clone())
        });
        if let Ok(Some(compiled)) = last {
            return Ok(compiled);
        }
        let compiled = self.compile_within(Outer::default()).map_err(all)?;
        let warnings = self.lint_words().into();
        let identity = identity_of(&self);
        let compiled = Arc::new(Checked { compiled, warnings, identity });
        if self.is_kept() {
            // A thread that ends keeps nothing.
            let _ = LAST.try_with(|last| last.replace(Some((self, compiled.clone()))));
        }
        Ok(compiled)
    }

    /// Whether it is kept for those after it: no schedule of the application, and no long list.
    fn is_kept(&self) -> bool {
        let is_short = match self.kind {
            Kind::Cron(_) | Kind::Every(_) | Kind::Daily(_) | Kind::Weekly(_) | Kind::Monthly(_) => true,
            Kind::Random(_) | Kind::At(_) | Kind::Any(_) | Kind::Custom(_) => false,
        };
        is_short && self.options.except.is_empty()
    }

    /// Whether both say the same in the same words. Of those that are not kept this is not known.
    fn is_same_as(&self, other: &Self) -> bool {
        let same_kind = match (&self.kind, &other.kind) {
            (Kind::Every(one), Kind::Every(other)) => one == other,
            (Kind::Cron(one), Kind::Cron(other)) => one == other,
            (Kind::Daily(one), Kind::Daily(other)) => one == other,
            (Kind::Weekly(one), Kind::Weekly(other)) => one == other,
            (Kind::Monthly(one), Kind::Monthly(other)) => one == other,
            (
                Kind::Cron(_)
                | Kind::Every(_)
                | Kind::Daily(_)
                | Kind::Weekly(_)
                | Kind::Monthly(_)
                | Kind::Random(_)
                | Kind::At(_)
                | Kind::Any(_)
                | Kind::Custom(_),
                _,
            ) => false,
        };
        same_kind && self.options.are_same_as(&other.options)
    }
}

impl Options {
    fn are_same_as(&self, other: &Self) -> bool {
        let Self { timezone, gap, fold, anchored_at, except, starting_at, until, jitter } = self;
        (except.is_empty() && other.except.is_empty())
            && (*timezone == other.timezone && *gap == other.gap && *fold == other.fold)
            && (*anchored_at == other.anchored_at && *starting_at == other.starting_at)
            && (*until == other.until && *jitter == other.jitter)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::schedule::{at, calendar, cron, daily, every};

    fn compiled(definition: impl Into<Definition>) -> Arc<Checked> {
        definition.into().compiled().expect("it is right")
    }

    #[test]
    fn neighbours_that_say_the_same_share_one_rule_and_others_do_not() {
        let minutes = |minutes: u64| every(Duration::from_secs(60 * minutes));
        let start = "2026-01-05T00:00:00Z";
        let schedules: [Definition; 9] = [
            minutes(5).into(),
            minutes(6).into(),
            minutes(5).starting_at(start).into(),
            minutes(5).anchored_at(start).into(),
            minutes(5).until(start).jitter("1s").into(),
            cron("0 9 * * *").into(),
            cron("0 9 * * *").timezone("Europe/Lisbon").into(),
            daily().at("09:00").into(),
            daily().at("09:00").gap(crate::schedule::Gap::Skip).into(),
        ];

        let shared: Vec<_> = schedules
            .iter()
            .map(|schedule| {
                let [one, other] = [(); 2].map(|()| compiled(schedule.clone()));
                assert!(Arc::ptr_eq(&one, &other), "{schedule:?}");
                one
            })
            .collect();

        let texts: std::collections::BTreeSet<_> = shared.iter().map(ToString::to_string).collect();
        let identities: std::collections::HashSet<_> = shared.iter().map(|one| one.identity).collect();
        assert_eq!(identities.len(), schedules.len(), "{texts:?}");
    }

    #[test]
    fn what_is_long_or_the_applications_own_is_not_kept() {
        for schedule in [
            Definition::from(at("2026-01-05T00:00:00Z")),
            daily().except(calendar("holidays").dates("2026-01-01")).into(),
        ] {
            let [one, other] = [(); 2].map(|()| compiled(schedule.clone()));
            assert!(!Arc::ptr_eq(&one, &other), "{schedule:?}");
        }
    }
}

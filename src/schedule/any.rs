//! Unions.

use callsheet_actors::Fault;

use super::{
    compile::{Outer, under},
    definition::Definition,
    tree::{Compiled, Tree},
};

/// The most members of one union.
const MEMBERS_MAX: usize = 1_000;

/// Fires when any of its members does; times that coincide are one tick.
///
/// Takes 1 to 1,000 members. The time zone of the union is that of the members that have none of their own.
/// [`Definition::or`] joins two schedules; `any([daily().into(), cron("0 12 * * *").into()])` takes any
/// number.
///
/// Source: RFC 5545, section 3.8.5.2: instants of several rules form one set, without duplicates.
///
/// | surprising case | what happens |
/// |---|---|
/// | two members fire at the same instant | one tick |
/// | one member has ended | the others go on |
/// | jitter on the union | is cut at the next tick of any member |
///
/// ```
/// use callsheet::schedule::{IntoSchedule, Weekday::*, cron, weekly};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let schedule = cron("0 9 * * *").or(weekly().on([Sat]).at(["09:00", "12:00"])).timezone("Europe/Lisbon");
/// let schedule = schedule.into_schedule()?;
///
/// let mut saturday = Vec::new();
/// let mut time = "2026-01-03T00:00:00Z".parse()?;
/// while let Some(next) = schedule.next_after(time).filter(|next| *next.to_rfc3339() < *"2026-01-04") {
///     saturday.push(next.format("%H:%M").to_string());
///     time = next;
/// }
/// assert_eq!(saturday, ["09:00", "12:00"]);
/// # Ok(())
/// # }
/// ```
pub fn any(of: impl IntoIterator<Item = Definition>) -> Definition<Any> {
    Definition::new(Any { of: of.into_iter().collect() })
}

/// A union; made by [`any`].
#[derive(Debug, Clone)]
pub struct Any {
    pub(super) of: Vec<Definition>,
}

impl Any {
    pub(super) fn compile(&self, outer: Outer) -> Result<Compiled, Vec<Fault>> {
        let count = self.of.len();
        if count == 0 {
            let rule = "the list of schedules is empty, so the schedule would never fire";
            return Err(vec![Fault::new("any", "", rule, "give at least one schedule")]);
        }
        if count > MEMBERS_MAX {
            let rule = format!("a union has at most {MEMBERS_MAX} schedules");
            return Err(vec![Fault::new("any", count.to_string(), rule, "split it into several jobs")]);
        }
        let mut faults = Vec::new();
        let (mut trees, mut texts) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (nth, member) in self.of.iter().enumerate() {
            match member.compile_within(outer.deeper()) {
                Ok(Compiled { tree, text }) => {
                    trees.push(tree);
                    texts.push(text.into_string());
                }
                Err(found) => {
                    let subject = format!("any[{nth}]");
                    faults.extend(found.into_iter().map(|fault| under(&subject, fault)));
                }
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        // Alone it is the union, and not hidden in one.
        if count == 1 {
            let (tree, text) = (trees.remove(0), texts.remove(0));
            return Ok(Compiled { tree, text: text.into() });
        }
        let text = format!("any of [{}]", texts.join("; "));
        Ok(Compiled { tree: Tree::Any(trees.into()), text: text.into() })
    }
}

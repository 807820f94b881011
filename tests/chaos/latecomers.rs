//! Histories in which a node that stood still begins what it had lost meanwhile.

use super::{
    calm::{at, broken},
    doctored::{frozen, has, lost_to_another},
    history::BodyMark,
};

#[test]
fn a_lost_run_may_begin_late_but_not_for_longer_than_a_lease() {
    let what = "began with the token 5 after";
    for (began, is_lost, frozen_until, wrong) in [
        (9_900, true, None, false),
        (10_100, true, None, true),
        (20_500, true, Some(20_400), false),
        (23_500, true, Some(20_400), true),
        (9_900, false, None, true),
    ] {
        let broken = broken(|it| {
            lost_to_another(it, began + 10);
            // Its key is taken over at once.
            it.bodies.push(BodyMark { token: 6, started_at: at(8_001), ..it.bodies[10].clone() });
            it.bodies[4].started_at = at(began);
            if !is_lost {
                it.books.runs[4].outcome = Some("succeeded".into());
            }
            if let Some(until) = frozen_until {
                frozen(it, 5_010, until);
            }
        });

        assert_eq!(has(&broken, what), wrong, "{began} {is_lost} {frozen_until:?}: {broken:#?}");
    }
}

#[test]
fn a_lost_run_that_begins_late_may_meet_another_one_for_a_lease() {
    let what = "two bodies of the key key at once for 48 ms";
    // The run of tick 5 was lost at 8 s. That of tick 11 is under way from 11.002 to 11.1 s.
    for (lost, frozen_until, wrong) in
        [(true, Some(11_040), false), (true, None, true), (false, Some(11_040), true)]
    {
        let broken = broken(|it| {
            lost_to_another(it, 11_500);
            it.bodies[4].started_at = at(11_052);
            if !lost {
                it.books.runs[4].outcome = Some("succeeded".into());
            }
            if let Some(until) = frozen_until {
                frozen(it, 5_010, until);
            }
        });

        assert_eq!(has(&broken, what), wrong, "{lost} {frozen_until:?}: {broken:#?}");
    }
}

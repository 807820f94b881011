use super::*;

const TERM: Term = Term(7);
const LEASE: Lease = Lease { duration: Duration::from_secs(6), margin: Duration::from_secs(1) };

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn won(started: Duration) -> Input {
    let grant = Grant {
        term: TERM,
        lease: Some(LEASE),
        waited: Duration::ZERO,
        former_zone_data: None,
        undecided_from: None,
    };
    Input::CampaignEnded { started, answer: Some(Campaign::Won(grant)) }
}

fn leader() -> ElectionMachine {
    let mut machine = ElectionMachine::new(LEASE.duration);
    assert_eq!(machine.step(s(0), Input::SessionOpened)[..], [Effect::Campaign]);
    assert_eq!(machine.step(s(0), won(s(0)))[..], [Effect::Gained(TERM, None, None)]);
    machine
}

#[test]
fn trust_is_counted_from_the_start_of_the_attempt() {
    let mut machine = ElectionMachine::new(LEASE.duration);
    machine.step(s(10), Input::SessionOpened);

    let effects = machine.step(s(13), won(s(10)));

    assert_eq!(effects[..], [Effect::Gained(TERM, None, None)]);
    assert_eq!(machine.term(s(14)), Some((TERM, Some(s(15)))));
    assert_eq!(machine.term(s(15)), None);
}

#[test]
fn a_grant_that_comes_after_its_trust_is_given_back() {
    let mut machine = ElectionMachine::new(LEASE.duration);
    machine.step(s(10), Input::SessionOpened);

    let effects = machine.step(s(15), won(s(10)));

    assert_eq!(effects[..], [Effect::Resign(TERM)]);
    assert_eq!(machine.term(s(15)), None);
}

#[test]
fn a_leader_renews_before_half_of_the_lease() {
    let mut machine = leader();
    let pause = Duration::from_millis(2_940);
    assert_eq!(machine.wake_in(s(0)), Some(pause));

    assert_eq!(machine.step(s(2), Input::WakeUp)[..], []);
    assert_eq!(machine.step(s(3), Input::WakeUp)[..], [Effect::Renew(TERM)]);
    machine.step(s(4), Input::RenewalEnded { term: TERM, started: s(3), answer: Some(Renewal::Renewed) });

    assert_eq!(machine.term(s(4)), Some((TERM, Some(s(8)))));
    assert_eq!(machine.wake_in(s(4)), Some(pause - s(1)));
}

const ALLOWED: Objections = Objections { refused: false, led: false, yields: None };

fn considers() -> ElectionMachine {
    let mut machine = ElectionMachine::new(LEASE.duration);
    machine.set_considers(true);
    assert_eq!(machine.step(s(0), Input::SessionOpened)[..], [Effect::Consider]);
    machine
}

#[test]
fn a_node_that_may_not_lead_looks_again_and_campaigns_when_it_may() {
    let mut machine = considers();

    assert_eq!(machine.step(s(0), Input::Considered(Objections { refused: true, ..ALLOWED }))[..], []);
    assert_eq!(machine.wake_in(s(0)), Some(LOOK_EVERY));
    assert_eq!(machine.step(s(1), Input::WakeUp)[..], [Effect::Consider]);
    assert_eq!(machine.step(s(1), Input::Considered(ALLOWED))[..], [Effect::Campaign]);
}

#[test]
fn a_leader_that_may_not_lead_resigns() {
    let mut machine = leader();

    assert_eq!(machine.step(s(1), Input::Considered(ALLOWED))[..], []);
    let effects = machine.step(s(1), Input::Considered(Objections { refused: true, ..ALLOWED }));

    let lost = Effect::Lost(TERM, StepDownReason::Refused);
    assert_eq!(effects[..], [lost, Effect::Resign(TERM), Effect::Consider]);
    assert_eq!(machine.term(s(1)), None);
}

#[test]
fn a_node_that_was_asked_to_resign_campaigns_after_the_pause() {
    let mut machine = leader();

    let effects = machine.step(s(1), Input::StandAside { until: s(3) });

    let lost = Effect::Lost(TERM, StepDownReason::Requested);
    assert_eq!(effects[..], [lost, Effect::Resign(TERM), Effect::Consider]);
    assert_eq!(machine.step(s(1), Input::Considered(ALLOWED))[..], []);
    assert_eq!(machine.step(s(2), Input::WakeUp)[..], [Effect::Consider]);
    assert_eq!(machine.step(s(2), Input::Considered(ALLOWED))[..], []);
    assert_eq!(machine.step(s(3), Input::WakeUp)[..], [Effect::Consider]);
    assert_eq!(machine.step(s(3), Input::Considered(ALLOWED))[..], [Effect::Campaign]);
}

#[test]
fn a_node_that_was_asked_to_resign_stands_again_once_another_one_leads() {
    let mut machine = leader();
    machine.step(s(1), Input::StandAside { until: s(30) });
    let led = Objections { led: true, ..ALLOWED };

    assert_eq!(machine.step(s(2), Input::Considered(led))[..], [Effect::Consider], "others hear of it");
    assert!(!machine.is_aside(s(2)));
    assert_eq!(machine.step(s(2), Input::Considered(led))[..], [Effect::Campaign]);
}

#[test]
fn a_term_that_is_won_after_the_node_was_asked_to_resign_is_given_back() {
    let mut machine = ElectionMachine::new(LEASE.duration);
    machine.step(s(0), Input::SessionOpened);

    assert_eq!(machine.step(s(1), Input::StandAside { until: s(30) })[..], [Effect::Consider]);
    assert_eq!(machine.step(s(2), won(s(0)))[..], [Effect::Resign(TERM)]);
    assert_eq!(machine.term(s(2)), None);
}

#[test]
fn a_node_yields_to_a_candidate_that_does_not_come_to_lead_for_a_lease() {
    let mut machine = considers();
    let yields = Objections { yields: Some(StepDownReason::Yielded), ..ALLOWED };
    let mut campaigned = None;

    for second in 0..60 {
        let effects = machine.step(s(second), Input::Considered(yields));
        if effects[..] == [Effect::Campaign] {
            campaigned = Some(second);
            break;
        }
        assert_eq!(effects[..], []);
        assert_eq!(machine.step(s(second + 1), Input::WakeUp)[..], [Effect::Consider]);
    }

    assert_eq!(campaigned, Some(7), "the lease is 6 s");
}

#[test]
fn a_short_lease_is_renewed_at_a_third_of_it() {
    // The lease, its margin, the pause.
    let cases = [(1_000, 200, 330), (3_000, 600, 990), (5_000, 1_000, 2_450), (60_000, 12_000, 29_400)];
    for (duration, margin, pause) in cases {
        let [duration, margin, pause] = [duration, margin, pause].map(Duration::from_millis);
        assert_eq!(renew_at(s(7), Lease { duration, margin }), s(7) + pause, "{duration:?}");
    }
}

#[test]
fn what_a_campaign_waited_before_it_asked_is_no_part_of_the_attempt() {
    let mut machine = ElectionMachine::new(LEASE.duration);
    machine.step(s(10), Input::SessionOpened);
    let grant =
        Grant { term: TERM, lease: Some(LEASE), waited: s(3), former_zone_data: None, undecided_from: None };

    let effects =
        machine.step(s(16), Input::CampaignEnded { started: s(10), answer: Some(Campaign::Won(grant)) });

    assert_eq!(effects[..], [Effect::Gained(TERM, None, None)]);
    assert_eq!(machine.term(s(16)), Some((TERM, Some(s(18)))));
}

#[test]
fn a_renewal_without_an_answer_does_not_stretch_the_trust() {
    let mut machine = leader();
    machine.step(s(2), Input::WakeUp);

    let effects = machine.step(s(4), Input::RenewalEnded { term: TERM, started: s(2), answer: None });

    assert_eq!(effects[..], []);
    assert_eq!(machine.wake_in(s(4)), Some(RETRY_MIN));
    assert_eq!(machine.term(s(4)), Some((TERM, Some(s(5)))));
}

#[test]
fn a_leader_whose_trust_ran_out_steps_down_before_it_does_anything_else() {
    let mut machine = leader();
    machine.step(s(2), Input::WakeUp);

    let effects = machine.step(s(5), Input::WakeUp);

    assert_eq!(effects[..], [Effect::Lost(TERM, StepDownReason::TrustExpired), Effect::Campaign]);
}

#[test]
fn a_renewal_that_succeeds_after_the_trust_ran_out_does_not_bring_it_back() {
    let mut machine = leader();
    machine.step(s(2), Input::WakeUp);

    let effects =
        machine.step(s(9), Input::RenewalEnded { term: TERM, started: s(2), answer: Some(Renewal::Renewed) });

    assert_eq!(effects[..], [Effect::Lost(TERM, StepDownReason::TrustExpired), Effect::Campaign]);
}

#[test]
fn an_answer_about_a_former_term_changes_nothing() {
    let mut machine = leader();
    machine.step(s(2), Input::WakeUp);

    let answer = Some(Renewal::Deposed);
    let effects = machine.step(s(3), Input::RenewalEnded { term: Term(6), started: s(2), answer });

    assert_eq!(effects[..], []);
    assert_eq!(machine.term(s(3)), Some((TERM, Some(s(5)))));
}

#[test]
fn a_deposed_leader_steps_down_at_once() {
    let mut machine = leader();
    assert_eq!(machine.step(s(1), Input::Deposed { term: Term(6) })[..], []);

    let effects = machine.step(s(1), Input::Deposed { term: TERM });

    assert_eq!(effects[..], [Effect::Lost(TERM, StepDownReason::Deposed)]);
    assert_eq!(machine.step(s(2), Input::WakeUp)[..], [Effect::Campaign]);
}

#[test]
fn a_leader_that_is_not_fit_gives_its_term_back_and_campaigns_later() {
    let mut machine = leader();
    let why = StepDownReason::Stalled;

    let effects = machine.step(s(1), Input::Unfit { why });

    assert_eq!(effects[..], [Effect::Lost(TERM, why), Effect::Resign(TERM)]);
    assert_eq!(machine.step(s(1), Input::Unfit { why })[..], []);
    assert_eq!(machine.wake_in(s(1)), Some(RETRY_MIN));
}

#[test]
fn a_leader_hears_by_which_time_zone_data_the_one_before_went() {
    let mut machine = ElectionMachine::new(LEASE.duration);
    machine.step(s(0), Input::SessionOpened);
    let grant = Grant {
        term: TERM,
        lease: Some(LEASE),
        waited: Duration::ZERO,
        former_zone_data: Some("2031a".into()),
        undecided_from: None,
    };
    let answer = Some(Campaign::Won(grant));

    let effects = machine.step(s(1), Input::CampaignEnded { started: s(0), answer });

    assert_eq!(effects[..], [Effect::Gained(TERM, Some("2031a".into()), None)]);
}

#[test]
fn a_lost_session_ends_the_term_until_another_one_is_open() {
    let mut machine = leader();

    let effects = machine.step(s(1), Input::SessionLost);

    assert_eq!(effects[..], [Effect::Lost(TERM, StepDownReason::SessionLost)]);
    assert_eq!(machine.wake_in(s(1)), None);
    assert_eq!(machine.step(s(3), Input::SessionOpened)[..], [Effect::Campaign]);
}

#[test]
fn a_node_that_resigned_neither_leads_nor_campaigns() {
    let mut machine = leader();

    let effects = machine.step(s(1), Input::Resign);

    assert_eq!(effects[..], [Effect::Lost(TERM, StepDownReason::Resigned), Effect::Resign(TERM)]);
    assert_eq!(machine.step(s(2), Input::SessionOpened)[..], []);
}

#[test]
fn a_term_that_is_won_while_resigning_is_given_back() {
    let mut machine = ElectionMachine::new(LEASE.duration);
    machine.step(s(0), Input::SessionOpened);
    assert_eq!(machine.step(s(1), Input::Resign)[..], []);

    assert_eq!(machine.step(s(2), won(s(0)))[..], [Effect::Resign(TERM)]);
}

#[test]
fn campaigns_without_an_answer_are_tried_again_with_growing_pauses() {
    let mut machine = ElectionMachine::new(LEASE.duration);
    machine.step(s(0), Input::SessionOpened);
    let mut now = s(0);
    let mut pauses = Vec::new();

    for _ in 0..7 {
        machine.step(now, Input::CampaignEnded { started: now, answer: None });
        let pause = machine.wake_in(now).unwrap();
        pauses.push(pause.as_millis());
        now += pause;
        assert_eq!(machine.step(now, Input::WakeUp)[..], [Effect::Campaign]);
    }

    assert_eq!(pauses, [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000]);
}

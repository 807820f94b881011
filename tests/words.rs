//! What is one word in JSON is the same word in texts.

use std::fmt::{Debug, Display};

use callsheet::{
    BodyThreads, CancelReason, Fires, HowDrained, JobState, OnLost, Outcome, RunPhase, SkipReason,
    StepDownReason, port::Role,
};
use serde::{Serialize, de::DeserializeOwned};

/// The words of all variants: a wrong one is named by serde together with those that there are.
fn words<T: DeserializeOwned + Debug>() -> Vec<String> {
    let error = serde_json::from_str::<T>("\"no such word\"").expect_err("there is none").to_string();
    error.split('`').skip(3).step_by(2).map(str::to_owned).collect()
}

fn is_shown_as_in_json<T: Serialize + DeserializeOwned + Display + Debug>(at_least: usize) {
    let words = words::<T>();
    assert!(words.len() >= at_least, "{words:?}");

    for word in words {
        let value: T = serde_json::from_value(word.clone().into()).expect("it is a word of this type");
        assert_eq!(value.to_string(), word);
    }
}

#[test]
fn a_value_of_one_word_is_shown_as_in_json() {
    is_shown_as_in_json::<BodyThreads>(3);
    is_shown_as_in_json::<CancelReason>(8);
    is_shown_as_in_json::<Fires>(3);
    is_shown_as_in_json::<HowDrained>(3);
    is_shown_as_in_json::<JobState>(11);
    is_shown_as_in_json::<OnLost>(2);
    is_shown_as_in_json::<Outcome>(6);
    is_shown_as_in_json::<Role>(3);
    is_shown_as_in_json::<RunPhase>(5);
    is_shown_as_in_json::<SkipReason>(5);
    is_shown_as_in_json::<StepDownReason>(11);
}

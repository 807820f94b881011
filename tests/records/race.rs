//! Three nodes over records that lose answers.

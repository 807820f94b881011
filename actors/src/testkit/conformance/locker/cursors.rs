//! Moves of cursors by skips.

use super::*;

impl Suite {
    pub(super) async fn skips_move_the_cursor_by_compare_and_set(&self) {
        let cursor = self.due_job("skips").await;
        let to = just_after(cursor);
        let skips = Skips::new(SkipReason::Overlap, 1, false);
        let asked = CursorAdvance {
            id: Uuid::new_v4(),
            job: name("skips"),
            expected: cursor,
            to,
            skips,
            authority: Authority::Term(self.term),
        };
        let advanced = self.locker.advance(std::slice::from_ref(&asked)).await.expect("an answer");
        assert_eq!(advanced, [Advanced::Done]);
        let advanced = self.locker.advance(std::slice::from_ref(&asked)).await.expect("an answer");
        assert_eq!(advanced, [Advanced::Done], "it is the same move, whose answer was lost");
        let authority = Authority::Term(Term(self.term.0 - 1));
        let late = CursorAdvance { authority, ..asked.clone() };
        let advanced = self.locker.advance(&[late]).await.expect("an answer");
        assert_eq!(advanced, [Advanced::Done], "on whatever basis it is asked again");
        let other = CursorAdvance { id: Uuid::new_v4(), ..asked };
        let advanced = self.locker.advance(&[other]).await.expect("an answer");
        assert_eq!(advanced, [Advanced::Elsewhere { cursor: to.instant() }]);
    }

    pub(super) async fn a_tick_that_is_not_due_cannot_be_skipped(&self) {
        let cursor = self.due_job("not-due").await;
        let job = name("not-due");
        let to = FireTime::new(cursor + TimeDelta::hours(1));
        let skips = Skips::new(SkipReason::Misfire, 1, false);
        let authority = Authority::Term(self.term);
        let asked = CursorAdvance { id: Uuid::new_v4(), job, expected: cursor, to, skips, authority };

        let advanced = self.locker.advance(&[asked]).await.expect("an answer");

        assert_eq!(advanced, [Advanced::Elsewhere { cursor }], "the node's clock is wrong");
    }

    pub(super) async fn a_skip_cannot_reopen_a_tick(&self) {
        let cursor = self.due_job("no-way-back").await;
        let fire_time = just_after(cursor);
        let request = self.tick("no-way-back", cursor, fire_time);
        let token = self.granted(&request).await;
        self.complete(&request, token).await;
        let skips = Skips::new(SkipReason::Misfire, 1, false);
        let asked = CursorAdvance {
            id: Uuid::new_v4(),
            job: name("no-way-back"),
            expected: cursor,
            to: fire_time,
            skips,
            authority: Authority::Term(self.term),
        };
        let advanced = self.locker.advance(&[asked]).await.expect("an answer");
        assert_eq!(advanced, [Advanced::Elsewhere { cursor: fire_time.instant() }]);
    }
}

//! Pace: how soon work is done again that costs as much for one change as for a thousand. A change after a quiet while is followed at once;
//! where they keep coming, each turn gathers those that came meanwhile, and most of the time is left to others.

use std::time::Duration;

use tokio::time::Instant;

/// What the rest after a turn lasts, in times of what the turn took: a fifth of the time is work.
const REST: u32 = 4;
/// The longest rest, so that no change waits for long.
const LONGEST: Duration = Duration::from_secs(1);

/// When the next turn may begin.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    next: Instant,
}

impl Default for Pace {
    /// The first turn may begin at once.
    fn default() -> Self {
        Self { next: Instant::now() }
    }
}

impl Pace {
    /// A turn that began then has ended now.
    pub fn ended(&mut self, began: Instant) {
        let now = Instant::now();
        self.next = now + rest(now - began);
    }

    /// The earliest time of the next.
    pub fn next(&self) -> Instant {
        self.next
    }
}

/// How long to rest after a turn that took so long.
fn rest(took: Duration) -> Duration {
    (took * REST).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_turn_is_followed_by_a_longer_rest_up_to_a_limit() {
        for (took, expected) in [(0, 0), (20, 80), (250, 1_000), (9_000, 1_000)] {
            assert_eq!(rest(Duration::from_millis(took)), Duration::from_millis(expected));
        }
    }

    #[tokio::test]
    async fn the_next_turn_may_begin_when_the_rest_is_over() {
        let began = Instant::now();
        let mut pace = Pace::default();
        assert!(pace.next() <= Instant::now());
        tokio::time::sleep(Duration::from_millis(5)).await;
        pace.ended(began);
        let took = began.elapsed();
        assert!(pace.next() > began + took, "a rest follows");
        assert!(pace.next() <= began + took + rest(took));
    }
}

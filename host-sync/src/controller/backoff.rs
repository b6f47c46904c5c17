//! How long to wait after a failure: doubling, capped, with jitter, so that nothing that is down is hammered in step.

use std::time::Duration;

/// The wait after the first failure.
const FIRST: Duration = Duration::from_secs(1);

/// The wait after `failures` failures in a row, at most `cap`. `jitter` is a random number; up to a fifth is taken off.
pub(super) fn delay(failures: u32, cap: Duration, jitter: u32) -> Duration {
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(cap);
    let part = f64::from(jitter) / f64::from(u32::MAX);
    doubled.mul_f64(1.0 - part / 5.0)
}

/// A random number; zero where the system has none to give, which costs the jitter and nothing else.
pub(super) fn jitter() -> u32 {
    getrandom::u32().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_jitter_only_shortens() {
        let cap = Duration::from_mins(1);
        let seconds: Vec<u64> = (1..9).map(|failures| delay(failures, cap, 0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delay(3, cap, u32::MAX), Duration::from_millis(3200));
        assert_eq!(delay(u32::MAX, cap, 0), cap);
    }
}

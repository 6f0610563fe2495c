//! Randomness for delays.
//!
//! Responsible for: spreading retries and restarts, so that those that failed together do not
//! come back together.
//! Not responsible for: anything that must not be guessed, or be repeatable; decisions take their
//! randomness as an argument.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A number from 0 (inclusive) to 1 (exclusive), different at each call.
pub fn jitter() -> f64 {
    // Every `RandomState` has keys of its own, seeded by the operating system, so the hash of
    // nothing under them is a fresh random number. 53 bits are what an f64 holds exactly.
    let random = RandomState::new().build_hasher().finish() >> 11;
    random as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_in_range_and_spreads() {
        let drawn: Vec<f64> = (0..1000).map(|_| jitter()).collect();
        assert!(drawn.iter().all(|number| (0.0..1.0).contains(number)));
        for tenth in 0..10 {
            let range = f64::from(tenth) / 10.0..f64::from(tenth + 1) / 10.0;
            assert!(drawn.iter().any(|number| range.contains(number)), "nothing in {range:?}");
        }
    }
}

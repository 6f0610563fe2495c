//! Numbers that look random and can be had again.
//!
//! Responsible for: hashing a path of numbers to one number, by the finalizer of SplitMix64
//! (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, OOPSLA 2014). Each value
//! stands on its own, so any row can be made without those before it.
//! Not responsible for: secrets; whoever knows the seed knows everything.

/// The number at the end of a path.
pub(super) fn mix(path: &[u64]) -> u64 {
    path.iter().fold(0, |state, part| {
        let mut z = (state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// The number as a fraction, from 0 (inclusive) to 1 (exclusive).
pub(super) fn unit(number: u64) -> f64 {
    // 53 bits are what an f64 holds exactly.
    (number >> 11) as f64 / (1_u64 << 53) as f64
}

/// One of the choices.
pub(super) fn pick<T: Copy>(number: u64, choices: &[T]) -> T {
    choices[(number % choices.len() as u64) as usize]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_path_always_leads_to_the_same_number_and_neighbours_elsewhere() {
        assert_eq!(mix(&[7, 1]), mix(&[7, 1]));
        let numbers: BTreeSet<u64> =
            (0..100).flat_map(|a| (0..100).map(move |b| mix(&[a, b]))).collect();
        assert_eq!(numbers.len(), 10_000);
    }

    #[test]
    fn fractions_stay_in_range_and_spread() {
        let mean = (0..1000).map(|n| unit(mix(&[n]))).sum::<f64>() / 1000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
        assert!((0..1000).all(|n| (0.0..1.0).contains(&unit(mix(&[n])))));
    }
}

//! How many bytes each partition may buffer, where all of them share a total.
//!
//! Responsible for: when a partition has to be paused because of what the others hold, and when
//! it may be resumed.
//! Not responsible for: the marks that each buffer has for itself, counting bytes, or pausing
//! (`broker::group`).
//!
//! Half of the total is divided evenly: that much a partition may hold whatever the others do, so
//! nobody who holds nothing ever waits for somebody who is stuck. What a partition holds beyond
//! its own part is *borrowed* from the rest, which all have in common, so a few busy partitions
//! may have most of the memory.
//!
//! ```text
//! total 64 MiB, 4 partitions   ├ own 8 ┼ own 8 ┼ own 8 ┼ own 8 ┼────── in common 32 ──────┤
//! ```
//!
//! A partition is told to stop once it has read too much. All buffers together therefore exceed
//! the total by what each partition reads in one round at most.

/// A total, and how many partitions share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferShare {
    /// Bytes that all partitions may hold together.
    pub total: usize,
    /// Partitions that there are; 0 counts as 1.
    pub partitions: usize,
}

impl BufferShare {
    /// What a partition may hold whatever the others do.
    pub fn own(self) -> usize {
        self.total / 2 / self.partitions.max(1)
    }

    /// What all partitions together may borrow.
    pub fn shared(self) -> usize {
        self.total.saturating_sub(self.own().saturating_mul(self.partitions))
    }

    /// What a partition that holds `held` bytes has borrowed.
    pub fn borrowed(self, held: usize) -> usize {
        held.saturating_sub(self.own())
    }

    /// Whether a partition that holds `held` bytes has to be paused while all have borrowed
    /// `borrowed` bytes together.
    pub fn is_full(self, held: usize, borrowed: usize) -> bool {
        held > self.own() && borrowed >= self.shared()
    }

    /// Whether a partition that was paused may be resumed: half of its own part is free, or half
    /// of what all have in common.
    pub fn has_room(self, held: usize, borrowed: usize) -> bool {
        held <= self.own() / 2 || borrowed <= self.shared() / 2
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: usize = 1 << 20;

    fn share(total: usize, partitions: usize) -> BufferShare {
        BufferShare { total, partitions }
    }

    #[test]
    fn half_of_the_total_is_divided_and_half_is_common() {
        let share = share(64 * MIB, 4);
        assert_eq!((share.own(), share.shared()), (8 * MIB, 32 * MIB));
        assert_eq!([share.borrowed(MIB), share.borrowed(11 * MIB)], [0, 3 * MIB]);
    }

    #[test]
    fn one_busy_partition_may_have_the_common_half_too() {
        let share = share(64 * MIB, 4);
        assert!(!share.is_full(40 * MIB - 1, share.borrowed(40 * MIB - 1)));
        assert!(share.is_full(40 * MIB, share.borrowed(40 * MIB)));
    }

    #[test]
    fn whoever_has_borrowed_nothing_goes_on_while_others_hold_everything() {
        let share = share(64 * MIB, 4);
        assert!(!share.is_full(8 * MIB, 100 * MIB));
        assert!(share.is_full(8 * MIB + 1, 32 * MIB));
    }

    #[test]
    fn a_paused_partition_waits_for_half_of_its_own_part_or_of_the_common_one() {
        let share = share(64 * MIB, 4);
        assert!(!share.has_room(4 * MIB + 1, 16 * MIB + 1));
        assert!(share.has_room(4 * MIB, 32 * MIB));
        assert!(share.has_room(9 * MIB, 16 * MIB));
    }

    #[test]
    fn a_total_too_small_to_be_divided_still_lets_everybody_go_on_in_turn() {
        let share = share(1, 1_000);
        assert!(share.is_full(1, 1), "what was read is worked off first");
        assert!(share.has_room(0, 1_000));
    }

    /// What partitions do: each reads a round unless it is paused, and works off some of it.
    #[derive(Clone, Debug)]
    enum Step {
        Read(prop::sample::Index, usize),
        WorkOff(prop::sample::Index, usize),
        /// Resumes whoever may be.
        Look,
    }

    const ROUND: usize = 300;

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let index = any::<prop::sample::Index>;
        let step = prop_oneof![
            8 => (index(), 1..=ROUND).prop_map(|(index, bytes)| Step::Read(index, bytes)),
            6 => (index(), 1..2 * ROUND).prop_map(|(index, bytes)| Step::WorkOff(index, bytes)),
            4 => Just(Step::Look),
        ];
        prop::collection::vec(step, 0..400)
    }

    #[derive(Clone, Copy, Default)]
    struct Partition {
        held: usize,
        paused: bool,
    }

    fn borrowed(share: BufferShare, partitions: &[Partition]) -> usize {
        partitions.iter().map(|partition| share.borrowed(partition.held)).sum()
    }

    fn look(share: BufferShare, partitions: &mut [Partition]) {
        let borrowed = borrowed(share, partitions);
        for partition in partitions {
            partition.paused &= !share.has_room(partition.held, borrowed);
        }
    }

    proptest! {
        #[test]
        fn the_sum_stays_within_the_total_and_a_round_each_and_nobody_is_stuck(
            total in 0_usize..5_000,
            count in 1_usize..12,
            script in steps(),
        ) {
            let share = share(total, count);
            let mut partitions = vec![Partition::default(); count];
            for step in script {
                match step {
                    Step::Read(index, bytes) => {
                        let index = index.index(count);
                        if !partitions[index].paused {
                            partitions[index].held += bytes;
                            let borrowed = borrowed(share, &partitions);
                            let partition = &mut partitions[index];
                            partition.paused = share.is_full(partition.held, borrowed);
                        }
                    }
                    Step::WorkOff(index, bytes) => {
                        let partition = &mut partitions[index.index(count)];
                        partition.held = partition.held.saturating_sub(bytes);
                    }
                    Step::Look => look(share, &mut partitions),
                }
                let held: usize = partitions.iter().map(|partition| partition.held).sum();
                prop_assert!(held <= total + count * ROUND, "{} of {}", held, total);
            }
            look(share, &mut partitions);
            for partition in &partitions {
                prop_assert!(!partition.paused || partition.held > 0, "paused, with nothing held");
            }
            partitions.iter_mut().for_each(|partition| partition.held = 0);
            look(share, &mut partitions);
            prop_assert!(partitions.iter().all(|partition| !partition.paused));
        }
    }
}

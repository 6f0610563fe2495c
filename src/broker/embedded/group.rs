//! Consumer groups of one process.
//!
//! Responsible for: who is entitled to which partition, and what each member has to do next to
//! get there. A partition is handed to a member only once no other holds it, so the one who gives
//! it up can still commit. Shares follow Kafka's range and sticky (KIP-54) assignors, and the two
//! ways to change hands its eager and cooperative (KIP-429) protocols:
//!
//! | | a member whose share changed | when it gets its new partitions |
//! |---|---|---|
//! | range | gives up everything it holds | once every member has given up everything |
//! | cooperative | gives up what moves away | each as soon as it is free |
//!
//! Not responsible for: calling anybody back, or committing (`consumer`). Pure: no clock, no I/O.

use std::collections::{BTreeMap, BTreeSet};

use crate::broker::Assignor;
use crate::model::{Topic, TopicPartition};

/// Number of a member within its group, in the order of joining.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MemberId(u64);

/// Partition count of a topic; 0 while it does not exist.
pub(super) type Counts<'a> = &'a dyn Fn(&Topic) -> i32;

type Partitions = BTreeSet<TopicPartition>;

/// What a member has to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing, until the group changes.
    Settled,
    /// Nothing, but other members may go on now: tell them, and ask again.
    Acknowledged,
    /// Give these up, then report them as released.
    Revoke(Vec<TopicPartition>),
    /// Forget these, they are gone.
    Lose(Vec<TopicPartition>),
    /// Take these.
    Assign(Vec<TopicPartition>),
}

#[derive(Debug)]
struct Member {
    topics: Vec<Topic>,
    /// What it is entitled to.
    share: Partitions,
    /// What it holds, until it has given it up.
    owned: Partitions,
    /// What was taken from it without asking, and it does not know yet.
    lost: Partitions,
    /// The last generation for which it has given up everything.
    generation: u64,
}

/// One consumer group.
#[derive(Debug, Default)]
pub(super) struct Group {
    assignor: Assignor,
    members: BTreeMap<MemberId, Member>,
    joined: u64,
    /// Raised by each eager rebalance.
    generation: u64,
    /// Taken out of the group by a script.
    withheld: Partitions,
}

impl Group {
    /// Adds a member; `None` if the group spreads its partitions in another way.
    pub(super) fn join(
        &mut self,
        topics: Vec<Topic>,
        assignor: Assignor,
        counts: Counts<'_>,
    ) -> Option<MemberId> {
        if self.members.is_empty() {
            self.assignor = assignor;
        }
        if self.assignor != assignor {
            return None;
        }
        self.joined += 1;
        let id = MemberId(self.joined);
        let member = Member {
            topics,
            share: Partitions::new(),
            owned: Partitions::new(),
            lost: Partitions::new(),
            generation: self.generation,
        };
        self.members.insert(id, member);
        self.rebalance(counts);
        Some(id)
    }

    /// Removes a member; what it held is free at once.
    pub(super) fn leave(&mut self, id: MemberId, counts: Counts<'_>) {
        if self.members.remove(&id).is_some() {
            self.rebalance(counts);
        }
    }

    /// A topic came into being.
    pub(super) fn topic_created(&mut self, topic: &Topic, counts: Counts<'_>) {
        if self.members.values().any(|member| member.topics.contains(topic)) {
            self.rebalance(counts);
        }
    }

    /// Whether the member holds the partition.
    pub(super) fn owns(&self, id: MemberId, partition: &TopicPartition) -> bool {
        self.members.get(&id).is_some_and(|member| member.owned.contains(partition))
    }

    /// The member has given these up.
    pub(super) fn release(&mut self, id: MemberId, partitions: &[TopicPartition]) {
        if let Some(member) = self.members.get_mut(&id) {
            member.owned.retain(|owned| !partitions.contains(owned));
        }
    }

    /// Takes partitions out of the group: their holders are asked to give them up.
    pub(super) fn withhold(&mut self, partitions: &[TopicPartition]) {
        self.withheld.extend(partitions.iter().cloned());
    }

    /// Takes partitions out of the group behind the backs of their holders.
    pub(super) fn lose(&mut self, partitions: &[TopicPartition]) {
        self.withhold(partitions);
        for member in self.members.values_mut() {
            for partition in partitions {
                if let Some(lost) = member.owned.take(partition) {
                    member.lost.insert(lost);
                }
            }
        }
    }

    /// Puts partitions back that were taken out.
    pub(super) fn restore(&mut self, partitions: &[TopicPartition]) {
        self.withheld.retain(|withheld| !partitions.contains(withheld));
    }

    /// What the member has to do next.
    pub(super) fn step(&mut self, id: MemberId) -> Step {
        let generation = self.generation;
        let Some(member) = self.members.get_mut(&id) else { return Step::Settled };
        if !member.lost.is_empty() {
            return Step::Lose(std::mem::take(&mut member.lost).into_iter().collect());
        }
        if member.generation != generation {
            if !member.owned.is_empty() {
                return Step::Revoke(member.owned.iter().cloned().collect());
            }
            member.generation = generation;
            return Step::Acknowledged;
        }
        let entitled: Partitions = member.share.difference(&self.withheld).cloned().collect();
        let surplus: Vec<_> = member.owned.difference(&entitled).cloned().collect();
        if !surplus.is_empty() {
            return Step::Revoke(surplus);
        }
        let missing: Vec<_> = entitled.difference(&member.owned).cloned().collect();
        self.hand_over(id, missing)
    }

    fn hand_over(&mut self, id: MemberId, mut missing: Vec<TopicPartition>) -> Step {
        let wanted = missing.len();
        missing.retain(|partition| {
            let mut others = self.members.iter().filter(|(other, _)| **other != id);
            !others.any(|(_, member)| member.owned.contains(partition))
        });
        let eager = self.assignor == Assignor::Range;
        let waiting = self.members.values().any(|member| member.generation != self.generation);
        if missing.is_empty() || (eager && (waiting || missing.len() < wanted)) {
            return Step::Settled;
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.owned.extend(missing.iter().cloned());
        }
        Step::Assign(missing)
    }

    fn rebalance(&mut self, counts: Counts<'_>) {
        match self.assignor {
            Assignor::Range => {
                self.generation += 1;
                self.share_by_range(counts);
            }
            Assignor::CooperativeSticky => self.share_sticky(counts),
        }
    }

    fn share_by_range(&mut self, counts: Counts<'_>) {
        for member in self.members.values_mut() {
            member.share.clear();
        }
        for topic in self.topics() {
            let mut subscribers: Vec<_> =
                self.members.values_mut().filter(|member| member.topics.contains(&topic)).collect();
            let partitions = counts(&topic);
            let members = subscribers.len() as i32;
            let mut next = 0;
            for (rank, member) in subscribers.iter_mut().enumerate() {
                let extra = i32::from((rank as i32) < partitions % members);
                let end = next + partitions / members + extra;
                member.share.extend((next..end).map(|p| TopicPartition::new(topic.clone(), p)));
                next = end;
            }
        }
    }

    fn share_sticky(&mut self, counts: Counts<'_>) {
        let mut unclaimed: Partitions = self
            .topics()
            .into_iter()
            .flat_map(|topic| {
                (0..counts(&topic)).map(move |p| TopicPartition::new(topic.clone(), p))
            })
            .collect();
        for member in self.members.values() {
            unclaimed.retain(|partition| !member.share.contains(partition));
        }
        for partition in unclaimed {
            let poorest = self
                .members
                .values_mut()
                .filter(|member| member.topics.contains(&partition.topic))
                .min_by_key(|member| member.share.len());
            if let Some(member) = poorest {
                member.share.insert(partition);
            }
        }
        while self.move_one() {}
    }

    /// Moves one partition from a rich member to a poor one, if that evens them out.
    fn move_one(&mut self) -> bool {
        let mut best: Option<(usize, MemberId, MemberId, TopicPartition)> = None;
        for (rich_id, rich) in &self.members {
            for (poor_id, poor) in &self.members {
                let gap = rich.share.len().saturating_sub(poor.share.len());
                if gap < 2 || best.as_ref().is_some_and(|(widest, ..)| *widest >= gap) {
                    continue;
                }
                let movable = rich.share.iter().rev().find(|p| poor.topics.contains(&p.topic));
                if let Some(partition) = movable {
                    best = Some((gap, *rich_id, *poor_id, partition.clone()));
                }
            }
        }
        let Some((_, rich, poor, partition)) = best else { return false };
        if let Some(member) = self.members.get_mut(&rich) {
            member.share.remove(&partition);
        }
        if let Some(member) = self.members.get_mut(&poor) {
            member.share.insert(partition);
        }
        true
    }

    fn topics(&self) -> BTreeSet<Topic> {
        self.members.values().flat_map(|member| member.topics.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests;

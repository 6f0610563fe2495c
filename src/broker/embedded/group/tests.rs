//! Tests of consumer groups.
//!
//! Responsible for: shares, the order in which partitions change hands, scripted changes.
//! Not responsible for: callbacks and commits (`embedded::tests`, the contract suite).

use proptest::prelude::*;

use super::*;

fn counts(topic: &Topic) -> i32 {
    match topic.as_str() {
        "orders" => 6,
        "users" => 3,
        _ => 0,
    }
}

fn orders(parts: &[i32]) -> Vec<TopicPartition> {
    parts.iter().map(|part| TopicPartition::new("orders", *part)).collect()
}

fn join(group: &mut Group, topics: &[&str], assignor: Assignor) -> MemberId {
    let topics = topics.iter().map(|name| Topic::from(*name)).collect();
    group.join(topics, assignor, &counts).unwrap()
}

/// Takes one step; gives up at once what it is asked to.
fn step(group: &mut Group, id: MemberId) -> Step {
    let step = group.step(id);
    if let Step::Revoke(partitions) = &step {
        group.release(id, partitions);
    }
    step
}

/// Lets every member go on until none has anything left to do.
fn settle(group: &mut Group) {
    let ids: Vec<_> = group.members.keys().copied().collect();
    for _ in 0..1000 {
        let busy = ids.iter().filter(|id| step(group, **id) != Step::Settled).count();
        if busy == 0 {
            return;
        }
    }
    panic!("the group does not settle: {group:?}");
}

fn owned(group: &Group, id: MemberId) -> Vec<TopicPartition> {
    group.members[&id].owned.iter().cloned().collect()
}

#[test]
fn range_gives_consecutive_partitions_in_the_order_of_joining() {
    let mut group = Group::default();
    let ids: Vec<_> = (0..4).map(|_| join(&mut group, &["orders"], Assignor::Range)).collect();
    settle(&mut group);
    assert_eq!(owned(&group, ids[0]), orders(&[0, 1]));
    assert_eq!(owned(&group, ids[1]), orders(&[2, 3]));
    assert_eq!(owned(&group, ids[2]), orders(&[4]));
    assert_eq!(owned(&group, ids[3]), orders(&[5]));
}

#[test]
fn eager_members_get_nothing_before_everybody_gave_up_everything() {
    let mut group = Group::default();
    let first = join(&mut group, &["orders"], Assignor::Range);
    settle(&mut group);
    let second = join(&mut group, &["orders"], Assignor::Range);
    assert_eq!(step(&mut group, second), Step::Acknowledged);
    assert_eq!(step(&mut group, second), Step::Settled, "the first still holds everything");
    assert_eq!(group.step(first), Step::Revoke(orders(&[0, 1, 2, 3, 4, 5])));
    assert_eq!(step(&mut group, second), Step::Settled, "given up only when released");
    group.release(first, &orders(&[0, 1, 2, 3, 4, 5]));
    assert_eq!(step(&mut group, first), Step::Acknowledged);
    assert_eq!(step(&mut group, second), Step::Assign(orders(&[3, 4, 5])));
    assert_eq!(step(&mut group, first), Step::Assign(orders(&[0, 1, 2])));
}

#[test]
fn cooperative_members_give_up_only_what_moves() {
    let mut group = Group::default();
    let first = join(&mut group, &["orders"], Assignor::CooperativeSticky);
    settle(&mut group);
    let second = join(&mut group, &["orders"], Assignor::CooperativeSticky);
    assert_eq!(step(&mut group, second), Step::Settled);
    let Step::Revoke(moving) = group.step(first) else { panic!("nothing moves") };
    assert_eq!(moving.len(), 3);
    assert_eq!(step(&mut group, second), Step::Settled, "given up only when released");
    group.release(first, &moving);
    assert_eq!(step(&mut group, second), Step::Assign(moving));
    assert_eq!(step(&mut group, first), Step::Settled, "what stayed was never touched");
}

#[test]
fn what_a_leaving_member_held_goes_to_the_others() {
    for assignor in [Assignor::Range, Assignor::CooperativeSticky] {
        let mut group = Group::default();
        let first = join(&mut group, &["orders"], assignor);
        let second = join(&mut group, &["orders"], assignor);
        settle(&mut group);
        group.leave(first, &counts);
        settle(&mut group);
        assert_eq!(owned(&group, second), orders(&[0, 1, 2, 3, 4, 5]), "{assignor:?}");
    }
}

#[test]
fn a_member_that_spreads_partitions_in_another_way_is_refused() {
    let mut group = Group::default();
    join(&mut group, &["orders"], Assignor::Range);
    let topics = vec![Topic::from("orders")];
    assert_eq!(group.join(topics, Assignor::CooperativeSticky, &counts), None);
}

#[test]
fn withheld_partitions_are_given_up_alone_and_come_back_when_restored() {
    for assignor in [Assignor::Range, Assignor::CooperativeSticky] {
        let mut group = Group::default();
        let member = join(&mut group, &["orders"], assignor);
        settle(&mut group);
        group.withhold(&orders(&[1, 4]));
        assert_eq!(step(&mut group, member), Step::Revoke(orders(&[1, 4])), "{assignor:?}");
        assert_eq!(step(&mut group, member), Step::Settled, "{assignor:?}");
        group.restore(&orders(&[1, 4]));
        assert_eq!(step(&mut group, member), Step::Assign(orders(&[1, 4])), "{assignor:?}");
    }
}

#[test]
fn lost_partitions_are_no_longer_owned_before_the_member_hears_of_it() {
    let mut group = Group::default();
    let member = join(&mut group, &["orders"], Assignor::Range);
    settle(&mut group);
    group.lose(&orders(&[2]));
    assert!(!group.owns(member, &TopicPartition::new("orders", 2)));
    assert!(group.owns(member, &TopicPartition::new("orders", 3)));
    assert_eq!(step(&mut group, member), Step::Lose(orders(&[2])));
    assert_eq!(step(&mut group, member), Step::Settled);
}

#[test]
fn a_topic_created_later_is_shared_out() {
    let mut group = Group::default();
    let nothing = |_: &Topic| 0;
    let topics = vec![Topic::from("users")];
    let member = group.join(topics, Assignor::CooperativeSticky, &nothing).unwrap();
    settle(&mut group);
    assert!(owned(&group, member).is_empty());
    group.topic_created(&Topic::from("users"), &counts);
    settle(&mut group);
    assert_eq!(owned(&group, member).len(), 3);
}

#[derive(Clone, Debug)]
enum Act {
    Join(bool),
    Leave(usize),
    Step(usize),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => any::<bool>().prop_map(Act::Join),
        1 => any::<usize>().prop_map(Act::Leave),
        4 => any::<usize>().prop_map(Act::Step),
    ]
}

fn chosen(group: &Group, index: usize) -> Option<MemberId> {
    let ids: Vec<_> = group.members.keys().copied().collect();
    (!ids.is_empty()).then(|| ids[index % ids.len()])
}

fn holders(group: &Group, partition: &TopicPartition) -> usize {
    group.members.values().filter(|member| member.owned.contains(partition)).count()
}

proptest! {
    #[test]
    fn no_partition_has_two_holders_and_every_one_finds_its_holder(
        cooperative in any::<bool>(),
        acts in prop::collection::vec(act(), 1..40),
    ) {
        let assignor =
            if cooperative { Assignor::CooperativeSticky } else { Assignor::Range };
        let mut group = Group::default();
        let all: Vec<_> = orders(&[0, 1, 2, 3, 4, 5])
            .into_iter()
            .chain((0..3).map(|part| TopicPartition::new("users", part)))
            .collect();
        for act in acts {
            match act {
                Act::Join(both) => {
                    let topics: &[&str] = if both { &["orders", "users"] } else { &["orders"] };
                    join(&mut group, topics, assignor);
                }
                Act::Leave(index) => {
                    if let Some(id) = chosen(&group, index) {
                        group.leave(id, &counts);
                    }
                }
                Act::Step(index) => {
                    if let Some(id) = chosen(&group, index) {
                        step(&mut group, id);
                    }
                }
            }
            for partition in &all {
                prop_assert!(holders(&group, partition) <= 1);
            }
        }
        settle(&mut group);
        for partition in &all {
            let subscribed =
                group.members.values().any(|member| member.topics.contains(&partition.topic));
            prop_assert_eq!(holders(&group, partition), usize::from(subscribed));
        }
    }
}

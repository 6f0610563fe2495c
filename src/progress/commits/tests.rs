//! Tests of the merging slot for commits.

use super::Commits;
use crate::model::{Offset, TopicPartition};

fn partition(number: i32) -> TopicPartition {
    TopicPartition::new("orders", number)
}

fn offered(offers: &[(i32, i64)]) -> Commits {
    let mut commits = Commits::new();
    for (number, offset) in offers {
        commits.offer(partition(*number), Offset(*offset));
    }
    commits
}

#[test]
fn the_furthest_position_of_each_partition_is_taken_once() {
    let mut commits = offered(&[(1, 5), (0, 7), (1, 9), (1, 8)]);
    assert!(!commits.is_empty());
    assert_eq!(commits.take(), [(partition(0), Offset(7)), (partition(1), Offset(9))]);
    assert!(commits.is_empty());
    assert!(commits.take().is_empty());
}

#[test]
fn a_failed_commit_that_is_put_back_undoes_nothing() {
    let mut commits = offered(&[(0, 5), (1, 5)]);
    let failed = commits.take();
    commits.offer(partition(0), Offset(8));
    failed.into_iter().for_each(|(partition, offset)| commits.offer(partition, offset));
    assert_eq!(commits.take(), [(partition(0), Offset(8)), (partition(1), Offset(5))]);
}

#[test]
fn after_a_position_was_taken_a_lower_one_may_follow() {
    let mut commits = offered(&[(0, 50)]);
    commits.take();
    commits.offer(partition(0), Offset(20));
    assert_eq!(commits.take(), [(partition(0), Offset(20))]);
}

#[test]
fn a_partition_that_goes_gives_its_last_position_and_leaves_the_others() {
    let mut commits = offered(&[(0, 5), (1, 6), (2, 7)]);
    let gone = [partition(2), partition(0), partition(9)];
    let last = [(partition(2), Offset(7)), (partition(0), Offset(5))];
    assert_eq!(commits.remove(&gone), last);
    assert_eq!(commits.take(), [(partition(1), Offset(6))]);
}

//! Partitions and offsets in librdkafka's form, and back.
//!
//! Responsible for: the conversion, and for keeping names out that the binding would panic on.
//! Not responsible for: what the lists are used for.

use rdkafka::{Offset as KafkaOffset, TopicPartitionList};

use crate::broker::BrokerError;
use crate::model::{Offset, Topic, TopicPartition};

/// Refuses names that no topic can have (Kafka's own rule).
pub(super) fn check_topic(topic: &Topic) -> Result<(), BrokerError> {
    let name = topic.as_str();
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 249 || !name.chars().all(legal) {
        return Err(BrokerError::Fatal(format!(
            "{name:?} is no topic name: up to 249 letters, digits, dots, underscores and dashes"
        )));
    }
    Ok(())
}

/// These partitions, without offsets.
pub(super) fn of_partitions(
    partitions: &[TopicPartition],
) -> Result<TopicPartitionList, BrokerError> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        check_topic(&partition.topic)?;
        list.add_partition(partition.topic.as_str(), partition.partition.0);
    }
    Ok(list)
}

/// These partitions, each at its offset.
pub(super) fn of_offsets(
    offsets: &[(TopicPartition, Offset)],
) -> Result<TopicPartitionList, BrokerError> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (partition, offset) in offsets {
        check_topic(&partition.topic)?;
        list.add_partition_offset(
            partition.topic.as_str(),
            partition.partition.0,
            KafkaOffset::Offset(offset.0),
        )
        .map_err(|_| BrokerError::Fatal(format!("{offset} is no offset of {partition}")))?;
    }
    Ok(list)
}

/// A whole assignment: some partitions at new offsets, the others where they are, or, while they
/// wait for their position, at the beginning.
pub(super) fn of_assignment<'a>(
    all: impl Iterator<Item = (&'a TopicPartition, Option<Offset>)>,
    moved: &[(TopicPartition, Offset)],
) -> Result<TopicPartitionList, BrokerError> {
    let mut list = of_offsets(moved)?;
    for (partition, position) in all {
        if moved.iter().any(|(one, _)| one == partition) {
            continue;
        }
        let offset =
            position.map_or(KafkaOffset::Beginning, |offset| KafkaOffset::Offset(offset.0));
        list.add_partition_offset(partition.topic.as_str(), partition.partition.0, offset)
            .map_err(|_| BrokerError::Fatal(format!("{offset:?} is no offset of {partition}")))?;
    }
    Ok(list)
}

/// The partitions that librdkafka names.
pub(super) fn partitions(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements()
        .iter()
        .map(|entry| TopicPartition::new(entry.topic(), entry.partition()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_come_back_as_they_went_in() {
        let given = [TopicPartition::new("a", 0), TopicPartition::new("b.c_d-e", 11)];
        assert_eq!(partitions(&of_partitions(&given).unwrap()), given);
    }

    #[test]
    fn names_that_no_topic_can_have_are_refused() {
        let long = "x".repeat(250);
        for name in ["", "a b", "a\0b", "ä", "a/b", long.as_str()] {
            let partition = TopicPartition::new(name, 0);
            assert!(of_partitions(std::slice::from_ref(&partition)).is_err(), "{name:?}");
            assert!(of_offsets(&[(partition, Offset::ZERO)]).is_err(), "{name:?}");
        }
    }

    #[test]
    fn an_assignment_keeps_the_partitions_that_are_not_moved() {
        let [a, b, c] = [0, 1, 2].map(|number| TopicPartition::new("orders", number));
        let all = [(&a, None), (&b, Some(Offset(7))), (&c, None)];
        let list = of_assignment(all.into_iter(), &[(a.clone(), Offset(3))]).unwrap();
        let offset = |number| list.find_partition("orders", number).map(|entry| entry.offset());
        assert_eq!(list.count(), 3);
        assert_eq!(offset(0), Some(KafkaOffset::Offset(3)));
        assert_eq!(offset(1), Some(KafkaOffset::Offset(7)));
        assert_eq!(offset(2), Some(KafkaOffset::Beginning));
    }

    #[test]
    fn an_offset_below_zero_is_refused() {
        let before_the_beginning = [(TopicPartition::new("a", 0), Offset(-1))];
        assert!(of_offsets(&before_the_beginning).is_err());
    }
}

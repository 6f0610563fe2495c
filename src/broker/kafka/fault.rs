//! librdkafka's errors as [`BrokerError`].
//!
//! Responsible for: telling what may pass by itself from what will not, and what concerns one
//! topic or one record; texts that name what was tried and hold no property value.
//! Not responsible for: logging or retrying.

#[cfg(test)]
mod tests;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaConfRes;

use crate::broker::BrokerError;
use crate::model::Topic;

/// A client or its settings could not be made. librdkafka's own text may quote the value of a
/// property, which may be a secret, so it is left out where it does.
pub(super) fn creating(what: &str, error: KafkaError) -> BrokerError {
    BrokerError::Fatal(match error {
        KafkaError::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, name, _) => {
            format!("librdkafka knows no property {name}")
        }
        KafkaError::ClientConfig(_, _, name, _) => {
            format!("librdkafka takes no such value for the property {name}")
        }
        KafkaError::ClientCreation(text) => format!("cannot create the kafka {what}: {text}"),
        KafkaError::Nul(_) => "a kafka property holds a NUL byte".to_owned(),
        other => format!("cannot create the kafka {what}: {other}"),
    })
}

/// Something failed that concerns no topic in particular. `tried` says what was attempted.
pub(super) fn general(tried: &str, error: &KafkaError) -> BrokerError {
    let text = format!("{tried}: {error}");
    let lasting = match error {
        KafkaError::MessageConsumptionFatal(_)
        | KafkaError::Subscription(_)
        | KafkaError::AdminOpCreation(_)
        | KafkaError::Nul(_) => true,
        KafkaError::AdminOp(code) => is_lasting(*code),
        other => other.rdkafka_error_code().is_some_and(is_lasting),
    };
    if lasting { BrokerError::Fatal(text) } else { BrokerError::Unavailable(text) }
}

/// Something failed on `topic`.
pub(super) fn on_topic(topic: &Topic, tried: &str, error: &KafkaError) -> BrokerError {
    match error.rdkafka_error_code() {
        Some(code) if means_unknown_topic(code) => BrokerError::UnknownTopic(topic.clone()),
        _ => general(&format!("{tried} of topic {topic}"), error),
    }
}

/// The answer to an administrative request that concerns `topic`.
pub(super) fn administering(topic: &Topic, tried: &str, code: RDKafkaErrorCode) -> BrokerError {
    if means_unknown_topic(code) {
        BrokerError::UnknownTopic(topic.clone())
    } else if is_lasting(code) {
        BrokerError::Fatal(format!("{tried} of topic {topic}: {code}"))
    } else {
        BrokerError::Unavailable(format!("{tried} of topic {topic}: {code}"))
    }
}

/// What a poll brought in place of a record. `reason` is what the client said beside the code.
pub(super) fn polling(group: &str, error: &KafkaError, reason: Option<&str>) -> BrokerError {
    let tried = match reason {
        Some(reason) => format!("consumer of group {group}: {reason}"),
        None => format!("consumer of group {group}"),
    };
    general(&tried, error)
}

/// A record of `size` bytes was not taken by `topic`.
pub(super) fn delivery(topic: &Topic, size: usize, error: &KafkaError) -> BrokerError {
    use RDKafkaErrorCode as Code;
    let too_large = |why: String| BrokerError::TooLarge { topic: topic.clone(), size, why };
    let Some(code) = error.rdkafka_error_code() else {
        // The only one without a code is a NUL byte in the name: no topic can have that.
        return BrokerError::UnknownTopic(topic.clone());
    };
    match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            too_large(code.to_string())
        }
        // The traits have no word for a record that is refused for another reason. It concerns
        // this record alone and no attempt will change it, so it is told like one too large.
        Code::InvalidRecord | Code::InvalidTimestamp => {
            too_large(format!("refused for what it holds, not for its size: {code}"))
        }
        code if means_unknown_topic(code) => BrokerError::UnknownTopic(topic.clone()),
        code if is_lasting(code) || breaks_the_sequence(code) => {
            BrokerError::Fatal(format!("a record for topic {topic} was not delivered: {code}"))
        }
        code => BrokerError::Unavailable(format!(
            "a record for topic {topic} was not delivered: {code}"
        )),
    }
}

/// The topic, or the partition of it, does not exist.
pub(super) fn means_unknown_topic(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownPartition
    )
}

/// The idempotent producer lost its place: it must not go on.
fn breaks_the_sequence(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::OutOfOrderSequenceNumber
            | RDKafkaErrorCode::InvalidProducerEpoch
            | RDKafkaErrorCode::InvalidProducerIdMapping
            | RDKafkaErrorCode::UnknownProducerId
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::GaplessGuarantee
            | RDKafkaErrorCode::Inconsistent
    )
}

/// Somebody has to change something first. A refused login is not among these: brokers refuse
/// logins while they start.
fn is_lasting(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Fatal
            | RDKafkaErrorCode::InvalidArgument
            | RDKafkaErrorCode::NotImplemented
            | RDKafkaErrorCode::UnknownProtocol
            | RDKafkaErrorCode::UnsupportedFeature
            | RDKafkaErrorCode::UnsupportedVersion
            | RDKafkaErrorCode::UnsupportedSASLMechanism
            | RDKafkaErrorCode::SecurityDisabled
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::TransactionalIdAuthorizationFailed
            | RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::InvalidGroupId
            | RDKafkaErrorCode::InvalidSessionTimeout
            | RDKafkaErrorCode::InconsistentGroupProtocol
            | RDKafkaErrorCode::FencedInstanceId
            | RDKafkaErrorCode::InvalidPartitions
            | RDKafkaErrorCode::InvalidConfig
            | RDKafkaErrorCode::InvalidRequest
            | RDKafkaErrorCode::PolicyViolation
    )
}

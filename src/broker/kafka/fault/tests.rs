//! What librdkafka's errors become.

use super::*;

fn topic() -> Topic {
    Topic::from("orders")
}

#[test]
fn a_property_that_is_refused_is_named_without_its_value() {
    let refused = KafkaError::ClientConfig(
        RDKafkaConfRes::RD_KAFKA_CONF_INVALID,
        "Invalid value \"hunter2\" for configuration property".to_owned(),
        "sasl.password".to_owned(),
        "hunter2".to_owned(),
    );
    let text = creating("producer", refused).to_string();
    assert!(text.contains("sasl.password"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_broker_that_is_away_may_come_back() {
    for code in [
        RDKafkaErrorCode::BrokerTransportFailure,
        RDKafkaErrorCode::AllBrokersDown,
        RDKafkaErrorCode::OperationTimedOut,
        RDKafkaErrorCode::PollExceeded,
        RDKafkaErrorCode::UnknownTopicOrPartition,
        RDKafkaErrorCode::SaslAuthenticationFailed,
    ] {
        let error = polling("g", &KafkaError::MessageConsumption(code), None);
        assert!(error.is_transient(), "{error:?}");
    }
}

#[test]
fn what_somebody_has_to_change_first_is_fatal() {
    let errors = [
        KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::FencedInstanceId),
        KafkaError::MessageConsumption(RDKafkaErrorCode::TopicAuthorizationFailed),
        KafkaError::AdminOp(RDKafkaErrorCode::ClusterAuthorizationFailed),
        KafkaError::Subscription("Invalid argument".to_owned()),
    ];
    for error in errors {
        assert!(matches!(general("reading", &error), BrokerError::Fatal(_)), "{error:?}");
    }
}

#[test]
fn the_clients_own_words_are_kept() {
    let code = RDKafkaErrorCode::UnknownTopicOrPartition;
    let error = KafkaError::MessageConsumption(code);
    let text = polling("g", &error, Some("Subscribed topic not available: orders")).to_string();
    assert!(text.contains("group g") && text.contains("orders"), "{text}");
}

#[test]
fn a_look_up_on_a_topic_that_is_missing_names_the_topic() {
    let error = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownPartition);
    assert_eq!(on_topic(&topic(), "watermarks", &error), BrokerError::UnknownTopic(topic()));
}

#[test]
fn a_delivery_error_tells_the_record_from_the_broker() {
    let of = |code| delivery(&topic(), 7, &KafkaError::MessageProduction(code));
    assert!(matches!(
        of(RDKafkaErrorCode::MessageSizeTooLarge),
        BrokerError::TooLarge { size: 7, .. }
    ));
    assert!(matches!(of(RDKafkaErrorCode::InvalidRecord), BrokerError::TooLarge { .. }));
    assert_eq!(of(RDKafkaErrorCode::UnknownTopic), BrokerError::UnknownTopic(topic()));
    assert!(matches!(of(RDKafkaErrorCode::Fatal), BrokerError::Fatal(_)));
    assert!(matches!(of(RDKafkaErrorCode::OutOfOrderSequenceNumber), BrokerError::Fatal(_)));
    assert!(of(RDKafkaErrorCode::PurgeQueue).is_transient());
    assert!(of(RDKafkaErrorCode::NotEnoughReplicas).is_transient());
}

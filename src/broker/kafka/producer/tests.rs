//! What the producer does without a broker: nothing listens where these connect to.

use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::broker::kafka::Security;

const SOON: Duration = Duration::from_secs(30);

fn producer(properties: &[(&str, &str)]) -> KafkaProducer {
    let properties: BTreeMap<String, String> =
        properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let (bootstrap, security) = ("127.0.0.1:1".to_owned(), Security::default());
    let config = KafkaConfig { bootstrap, properties, security };
    KafkaProducer::new(&config, &Arc::new(Limits::new(1_000_000)), &Arc::default()).unwrap()
}

fn record(bytes: usize) -> ProducerRecord {
    ProducerRecord::new(Topic::from("orders"), vec![7; bytes])
}

fn delivery() -> (Delivery, Receiver<Outcome>) {
    let (tell, told) = channel();
    // A test that is over listens no more.
    let on_delivery = move |outcome| drop(tell.send(outcome));
    (Box::new(on_delivery), told)
}

#[test]
fn a_record_that_is_too_large_is_told_through_its_delivery() {
    let producer = producer(&[("message.max.bytes", "2000")]);
    let (on_delivery, told) = delivery();
    assert!(producer.send(record(3000), on_delivery).is_ok());
    let outcome = told.recv_timeout(SOON).unwrap();
    assert!(matches!(outcome, Err(BrokerError::TooLarge { size: 3000, .. })), "{outcome:?}");
    assert!(producer.flush(SOON));
}

#[test]
fn a_full_queue_gives_the_record_and_its_delivery_back() {
    let producer = producer(&[("queue.buffering.max.messages", "1")]);
    let (first, _told) = delivery();
    assert!(producer.send(record(10), first).is_ok());
    let (second, told) = delivery();
    let Err(QueueFull(given_back, second)) = producer.send(record(20), second) else {
        panic!("the queue took a second record");
    };
    assert_eq!(given_back, record(20));
    second(Err(BrokerError::Unavailable("tried".to_owned())));
    assert!(told.recv_timeout(SOON).unwrap().is_err());
}

#[test]
fn a_record_waits_for_a_broker_that_is_away() {
    let producer = producer(&[]);
    let (on_delivery, told) = delivery();
    assert!(producer.send(record(10), on_delivery).is_ok());
    assert!(!producer.flush(Duration::from_millis(10)));
    assert!(told.try_recv().is_err());
}

#[test]
fn a_dropped_producer_reports_what_it_still_held() {
    let producer = producer(&[]);
    let (on_delivery, told) = delivery();
    assert!(producer.send(record(10), on_delivery).is_ok());
    drop(producer);
    let outcome = told.recv_timeout(SOON).unwrap();
    assert!(outcome.is_err_and(|error| error.is_transient()));
}

#[test]
fn topics_share_a_client_unless_they_take_small_batches_only() {
    let producer = producer(&[]);
    let client = |name: &str| producer.client_for(&Topic::from(name)).unwrap();
    producer.limits.learn(&Topic::from("small"), 2000);
    producer.limits.learn(&Topic::from("as small"), 1900);
    assert!(Arc::ptr_eq(&client("orders"), &client("others")));
    assert!(!Arc::ptr_eq(&client("orders"), &client("small")));
    assert!(Arc::ptr_eq(&client("small"), &client("as small")));
}

#[test]
fn a_delivery_that_panics_does_not_stop_the_others() {
    let producer = producer(&[("message.max.bytes", "2000")]);
    assert!(producer.send(record(3000), Box::new(|_| panic!("on purpose"))).is_ok());
    let (on_delivery, told) = delivery();
    assert!(producer.send(record(3000), on_delivery).is_ok());
    assert!(told.recv_timeout(SOON).unwrap().is_err());
    assert!(producer.flush(SOON));
}

//! Tests of the probes.

use std::sync::Mutex;

use super::*;
use crate::broker::{TopicInfo, TopicSpec};
use crate::model::{Offset, TopicPartition};

/// Answers what it is told to.
struct Scripted(Mutex<Result<Vec<&'static str>, BrokerError>>);

impl Scripted {
    fn says(&self, answer: Result<Vec<&'static str>, BrokerError>) {
        *self.0.lock().unwrap() = answer;
    }
}

impl Admin for Scripted {
    fn ensure(&self, _topics: &[TopicSpec]) -> Result<(), BrokerError> {
        Ok(())
    }

    fn describe(&self, _topics: Option<&[Topic]>) -> Result<Vec<TopicInfo>, BrokerError> {
        let names = self.0.lock().unwrap().clone()?;
        let info = |name: &str| TopicInfo { name: Topic::from(name), partitions: 1 };
        Ok(names.into_iter().map(info).collect())
    }

    fn delete_records(&self, _before: &[(TopicPartition, Offset)]) -> Result<(), BrokerError> {
        Ok(())
    }
}

fn away(instruments: &Instruments) -> Vec<(String, String)> {
    let nodes = instruments.unavailable.nodes().into_iter();
    nodes.map(|away| (away.node.to_string(), away.why)).collect()
}

#[tokio::test]
async fn a_missing_topic_is_its_sources_trouble_and_a_silent_broker_everybodys() {
    let (instruments, mut found) = (Instruments::default(), Found::default());
    let scripted = Arc::new(Scripted(Mutex::new(Ok(vec!["payments"]))));
    let admin: Arc<dyn Admin> = scripted.clone();
    let read = |node: &str| Read { node: node.into(), topic: node.into() };
    let sources = [read("orders"), read("payments")];

    found.broker(&sources, &admin, &instruments).await;
    let missing = ("orders".to_owned(), "topic orders does not exist".to_owned());
    assert_eq!(away(&instruments), std::slice::from_ref(&missing));

    scripted.says(Err(BrokerError::Unavailable("connection refused".to_owned())));
    found.broker(&sources, &admin, &instruments).await;
    let silent = ("broker".to_owned(), "connection refused".to_owned());
    assert_eq!(away(&instruments), [silent, missing]);

    scripted.says(Ok(vec!["orders", "payments"]));
    found.broker(&sources, &admin, &instruments).await;
    assert!(away(&instruments).is_empty());
}

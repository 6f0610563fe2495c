//! Publications on the embedded log in memory: what is acked settles, in order.

use super::*;
use crate::broker::embedded::EmbeddedLog;
use crate::broker::{Broker, TopicSpec};
use crate::model::event::CommandAction;
use crate::progress::obligation::Scope;

const PATIENCE: Duration = Duration::from_secs(10);

fn progress() -> ProgressTopic {
    ProgressTopic { topic: "p.progress".into(), partitions: 3, max_bytes: LARGEST_MESSAGE }
}

fn log() -> Arc<EmbeddedLog> {
    let log = EmbeddedLog::in_memory(Arc::new(|| 0)).unwrap();
    let topic = TopicSpec {
        name: "p.progress".into(),
        partitions: Some(3),
        settings: std::collections::BTreeMap::new(),
    };
    log.admin().unwrap().ensure(&[topic]).unwrap();
    log
}

fn context(log: &EmbeddedLog) -> PublisherContext {
    PublisherContext {
        publisher: Publisher::new(),
        producer: log.producer().unwrap(),
        escalation: Arc::default(),
        room: Arc::default(),
    }
}

#[test]
fn a_shard_key_always_leads_to_the_same_partition() {
    let progress = progress();
    let record = progress.record("cluster-a", b"{}".to_vec());
    assert_eq!(record.partition, Some(partitioner::partition_of(b"cluster-a", 3)));
    assert_eq!(record.partition, progress.record("cluster-a", b"[]".to_vec()).partition);
    assert_eq!(record.key.as_deref(), Some(&b"cluster-a"[..]));
}

#[test]
fn a_command_goes_to_the_shard_of_its_manifest_whatever_its_key() {
    let command = Command {
        manifest: "m".into(),
        action: CommandAction::Force,
        who: "ann".into(),
        why: "late".into(),
        at: 0,
    };
    assert_eq!(progress().command(2, command).partition, Some(2));
}

#[actix::test]
async fn the_parent_is_settled_when_the_broker_has_acked_and_not_before() {
    let log = log();
    let context = context(&log);
    let publisher = context.publisher.clone();
    let (scope, mut duties) = Scope::open(2);
    log.faults().hold_produce();
    for (number, outcome) in [Outcome::Delivered, Outcome::DeadLettered].into_iter().enumerate() {
        let record = progress().record("k", number.to_string().into_bytes());
        publisher.publish(Publication { record, duty: duties.remove(0), outcome });
    }
    actix::spawn(context.clone().run());
    while publisher.waiting() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(scope.outcome(0), None, "the broker has not answered");
    log.faults().release_produce();
    assert!(context.producer.flush(PATIENCE));
    assert_eq!(scope.outcome(0), Some(Outcome::Delivered));
    assert_eq!(scope.outcome(1), Some(Outcome::DeadLettered));
}

#[test]
fn a_refusal_ends_the_pipeline_by_name_and_an_outage_does_not() {
    let escalation = Escalation::default();
    let topic = Topic::from("p.progress");
    let (scope, mut duties) = Scope::open(2);
    let away = BrokerError::Unavailable("closed".into());
    settle(Err(away), duties.remove(0), Outcome::Delivered, &topic, &escalation);
    assert_eq!(escalation.get(), None);
    let fatal = BrokerError::Fatal("no".into());
    settle(Err(fatal), duties.remove(0), Outcome::Delivered, &topic, &escalation);
    assert!(escalation.get().is_some_and(|end| end.why.contains("p.progress")));
    assert_eq!(scope.outcome(0), Some(Outcome::Abandoned), "it is read again");
    assert_eq!(scope.outcome(1), Some(Outcome::Abandoned));
}

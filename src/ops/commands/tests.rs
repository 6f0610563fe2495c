//! Commands on a log in memory, with the test in the place of the shard's owner.

use super::*;
use crate::broker::ProducerRecord;
use crate::broker::embedded::EmbeddedLog;
use crate::model::event::ProgressEvent;
use crate::ops::audit::AuditRecord;
use crate::ops::fixture::{self, Filled, LAST, manifest};

const LONG: Duration = Duration::from_secs(20);

fn asked() -> Asked {
    Asked { who: "ann".to_owned(), why: "the cluster is gone".to_owned() }
}

/// A store with manifest `m`, the log, and an operator. The next change of the store is that of
/// the next event in the progress topic.
async fn prepared(row: ManifestRow) -> (Filled, Arc<EmbeddedLog>, Operator) {
    let mut filled = Filled::new().await;
    filled.put(row, &[]).await;
    let log = fixture::log();
    let operator = fixture::operator(&log, Some(filled.reader()));
    let earlier = ProducerRecord::new("sales.progress".into(), "an earlier event");
    fixture::put(&operator, earlier).await;
    (filled, log, operator)
}

/// The command in the progress topic, once it is there.
async fn command(log: &EmbeddedLog) -> Command {
    loop {
        let events = fixture::records(log, &"sales.progress".into());
        if let Some(record) = events.get(1) {
            let event = serde_json::from_slice(record.value.as_ref().unwrap()).unwrap();
            let ProgressEvent::Command(command) = event else { panic!("no command") };
            return command;
        }
        tokio::task::yield_now().await;
    }
}

fn audit(log: &EmbeddedLog) -> Vec<(String, String)> {
    let records = fixture::records(log, &"sales.audit".into()).into_iter();
    let read = records.map(|record| serde_json::from_slice(&record.value.unwrap()).unwrap());
    read.map(|record: AuditRecord| (record.what, record.result)).collect()
}

fn entry(what: &str, result: &str) -> (String, String) {
    (what.to_owned(), result.to_owned())
}

#[tokio::test]
async fn a_command_is_answered_when_the_owner_has_applied_it() {
    let (mut filled, log, operator) = prepared(manifest("m")).await;
    let key = ManifestKey::from("m");
    let asked = asked();
    let commanding = operator.command(&key, CommandAction::Cancel, &asked, LONG);
    let owning = async {
        let command = command(&log).await;
        assert_eq!((command.who.as_str(), command.at), ("ann", LAST));
        assert_eq!(audit(&log), [entry("manifest.cancel", "asked")], "before it is acted on");
        let row = ManifestRow {
            phase: ManifestPhase::Cancelled,
            note: Some("cancelled by ann: the cluster is gone".to_owned()),
            ..manifest("m")
        };
        filled.put(row, &[]).await;
    };
    let (commanded, ()) = tokio::join!(commanding, owning);
    let commanded = commanded.unwrap();
    assert_eq!((commanded.applied, commanded.phase.as_str()), (true, "cancelled"));
    assert_eq!(commanded.note.as_deref(), Some("cancelled by ann: the cluster is gone"));
    let wanted = [entry("manifest.cancel", "asked"), entry("manifest.cancel", "done")];
    assert_eq!(audit(&log), wanted);
}

#[tokio::test]
async fn a_command_that_nobody_has_applied_yet_is_no_error() {
    let (_filled, log, operator) = prepared(manifest("m")).await;
    let wait = Duration::from_millis(1);
    let key = ManifestKey::from("m");
    let commanded = operator.command(&key, CommandAction::Force, &asked(), wait).await.unwrap();
    assert_eq!((commanded.applied, commanded.phase.as_str()), (false, "open"));
    assert_eq!(command(&log).await.action, CommandAction::Force);
    assert_eq!(audit(&log).last(), Some(&entry("manifest.force", "sent")));
}

#[tokio::test]
async fn a_command_that_the_owner_skips_is_refused() {
    let (mut filled, log, operator) = prepared(manifest("m")).await;
    let key = ManifestKey::from("m");
    let extend = CommandAction::Extend { by_seconds: 60 };
    let asked = asked();
    let commanding = operator.command(&key, extend, &asked, LONG);
    let owning = async {
        command(&log).await;
        filled.put(manifest("another"), &[]).await;
    };
    let (commanded, ()) = tokio::join!(commanding, owning);
    assert!(matches!(commanded, Err(OpsError::Refused(why)) if why.contains("extend")));
}

#[tokio::test]
async fn what_is_so_already_or_cannot_be_is_not_sent() {
    let complete = fixture::completed("m", 1, "all_done");
    let (_filled, log, operator) = prepared(complete).await;
    let key = ManifestKey::from("m");
    let forced = operator.command(&key, CommandAction::Force, &asked(), LONG).await.unwrap();
    assert_eq!(forced.note.as_deref(), Some("it is complete: nothing was sent"));
    let cancelled = operator.command(&key, CommandAction::Cancel, &asked(), LONG).await;
    assert!(matches!(cancelled, Err(OpsError::Refused(why)) if why.contains("has completed")));
    let unknown = operator.command(&"n".into(), CommandAction::Force, &asked(), LONG).await;
    assert!(matches!(unknown, Err(OpsError::Unknown(_))));
    let nobody = Asked { who: String::new(), ..asked() };
    let unsaid = operator.command(&key, CommandAction::Reopen, &nobody, LONG).await;
    assert!(matches!(unsaid, Err(OpsError::Invalid(why)) if why.contains("`who`")));
    assert!(audit(&log).is_empty());
    assert_eq!(fixture::records(&log, &"sales.progress".into()).len(), 1);
}

#[tokio::test]
async fn a_rehearsal_says_what_would_happen_and_sends_nothing() {
    let (filled, log, _operator) = prepared(manifest("m")).await;
    let (store, pipeline, key) = (filled.reader(), fixture::pipeline(), ManifestKey::from("m"));
    let rehearsed = async |action| rehearse(&*store, &pipeline, &key, action).await;
    let force = rehearsed(CommandAction::Force).await.unwrap();
    assert_eq!((force.applied, force.note.as_deref()), (false, Some("force would be sent")));
    let reopen = rehearsed(CommandAction::Reopen).await.unwrap();
    assert_eq!(reopen.note.as_deref(), Some("nothing would change: it is open"));
    assert!(matches!(rehearsed(CommandAction::Retry).await, Err(OpsError::Refused(_))));
    assert_eq!(fixture::records(&log, &"sales.progress".into()).len(), 1);
}

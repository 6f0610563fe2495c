//! The ingress with a spool that replicas share: here a folder, in the place of a bucket.

use super::*;

/// A server whose own folder lies below `dir`, and which shares the spool there.
fn replica(dir: &Path, number: usize, adopt: Duration, broker: &Arc<Broker>) -> IngressServer {
    let spool = ObjectRoot::open(dir.join("spool").to_str().unwrap(), None).unwrap();
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let settings = IngressSettings {
        adopt_after: adopt,
        shared: BTreeMap::from([("uploads".into(), spool)]),
        ..settings(&dir.join(format!("replica-{number}")), listen)
    };
    start_with(settings, broker)
}

/// Objects in a folder of the shared spool.
fn objects(dir: &Path, folder: &str) -> usize {
    let entries = std::fs::read_dir(dir.join("spool/uploads").join(folder));
    entries.map_or(0, |entries| entries.flatten().count())
}

async fn upload(server: &IngressServer) -> serde_json::Value {
    let (status, answer) = post(server, ORG, &[("file", GOOD, b"payload")]).await;
    assert_eq!(status, 202, "{answer}");
    serde_json::from_str(&answer).unwrap()
}

const NEVER: Duration = Duration::from_secs(3600);

#[test]
fn an_upload_to_one_replica_is_announced_by_it_and_handed_out_by_all() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let broker = Broker::new(Mood::Acks);
        let first = replica(dir.path(), 1, NEVER, &broker);
        let second = replica(dir.path(), 2, NEVER, &broker);
        upload(&first).await;
        until(|| objects(dir.path(), "sent") == 1 && objects(dir.path(), "waiting") == 0).await;
        let left = dir.path().join("replica-1/uploads");
        until(|| std::fs::read_dir(&left).unwrap().count() == 0).await;

        let record = broker.log().records.pop().unwrap();
        let announced: serde_json::Value = serde_json::from_slice(&record.value.unwrap()).unwrap();
        let url = announced["url"].as_str().unwrap();
        let base = format!("http://{}", first.local_addr());
        let path = url.strip_prefix(&base).unwrap();
        for server in [&first, &second] {
            let found = server.payloads()[0].find(url).await;
            let Some(Ok(Payload::Object(object))) = found else { panic!("{found:?}") };
            assert_eq!(object.bytes(), 7);
            let got = request(server, &format!("GET {path} HTTP/1.1\r\n"), b"").await;
            assert_eq!(got, (200, "payload".to_owned()));
        }
        let elsewhere = second.payloads()[0].find("http://127.0.0.1:1/other/7").await;
        assert!(elsewhere.is_none(), "{elsewhere:?}");
        first.stop().await;
        second.stop().await;
    });
}

#[test]
fn what_a_replica_leaves_unannounced_is_announced_by_another() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let away = Broker::new(Mood::IsAway);
        let first = replica(dir.path(), 1, NEVER, &away);
        upload(&first).await;
        first.stop().await;
        assert_eq!((objects(dir.path(), "waiting"), objects(dir.path(), "sent")), (1, 0));

        let back = Broker::new(Mood::Acks);
        let second = replica(dir.path(), 2, Duration::from_millis(100), &back);
        until(|| objects(dir.path(), "sent") == 1 && objects(dir.path(), "waiting") == 0).await;
        assert_eq!(back.log().records.len(), 1);
        second.stop().await;
    });
}

#[test]
fn a_store_that_is_away_is_a_503_that_says_when_to_come_back() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let broker = Broker::new(Mood::Acks);
        let server = replica(dir.path(), 1, NEVER, &broker);
        // Where the ingress has its folder, nothing can be put.
        std::fs::write(dir.path().join("spool/uploads"), b"in the way").unwrap();
        let (status, answer) = post(&server, ORG, &[("file", GOOD, b"payload")]).await;
        assert_eq!(status, 503, "{answer}");
        assert!(broker.log().records.is_empty());

        std::fs::remove_file(dir.path().join("spool/uploads")).unwrap();
        upload(&server).await;
        server.stop().await;
    });
}

#[test]
fn uploads_from_before_the_spool_was_shared_are_announced_and_handed_out() {
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("replica-1");
    run(async {
        let away = Broker::new(Mood::IsAway);
        let server = start(&own, &away);
        upload(&server).await;
        assert_eq!(count(&own, "json"), 1);
        server.stop().await;

        let back = Broker::new(Mood::Acks);
        let server = replica(dir.path(), 1, NEVER, &back);
        until(|| count(&own, "sent") == 1).await;
        let record = back.log().records.pop().unwrap();
        let announced: serde_json::Value = serde_json::from_slice(&record.value.unwrap()).unwrap();
        let found = server.payloads()[0].find(announced["url"].as_str().unwrap()).await;
        assert!(matches!(found, Some(Ok(Payload::File(_)))), "{found:?}");
        server.stop().await;
    });
}

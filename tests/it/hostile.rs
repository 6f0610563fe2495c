//! Hostile archives through a whole process: each is a dead letter, none of them takes the memory
//! that it asks for, and nothing is touched but the data folder.

use std::collections::BTreeSet;
use std::io::{Read, Write, copy, repeat};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use tidemill::broker::ProducerRecord;
use tidemill::broker::embedded::EmbeddedLog;
use tidemill::model::Topic;

use crate::api::Api;
use crate::harness::{Reader, Tidemill, produce, wait_for, wait_within};

const MIB: u64 = 1 << 20;
/// What the largest archive unpacks to: more than all memory that the process may take.
const BOMB: u64 = 600 * MIB;
/// The most memory that the process may have had at any time.
const MOST_MEMORY: u64 = 350 * MIB;
/// How long all of them may take.
const PATIENCE: Duration = Duration::from_secs(180);

fn header(kind: u8, name: &str, size: u64, target: &str) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.as_old_mut().linkflag = [kind];
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    header
}

/// A packed tar archive; what is zero in it is made on the way.
struct Packed(GzEncoder<Vec<u8>>);

impl Packed {
    fn new() -> Self {
        Self(GzEncoder::new(Vec::new(), Compression::fast()))
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.write_all(bytes).expect("it is packed");
        self
    }

    fn entry(self, kind: u8, name: &str, target: &str) -> Self {
        self.raw(header(kind, name, 0, target).as_bytes())
    }

    fn file(self, name: &str, content: &str) -> Self {
        let padding = vec![0; content.len().next_multiple_of(512) - content.len()];
        let header = header(b'0', name, content.len() as u64, "");
        self.raw(header.as_bytes()).raw(content.as_bytes()).raw(&padding)
    }

    fn zeros(mut self, bytes: u64) -> Self {
        copy(&mut repeat(0).take(bytes), &mut self.0).expect("they are packed");
        self
    }

    fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).0.finish().expect("it is packed")
    }
}

/// What is served, under its number: first a good archive, then the others.
fn archives(victim: &Path) -> Vec<Vec<u8>> {
    let victim = victim.to_str().expect("a path of text");
    let empty = Packed::new().0.finish().expect("nothing is packed");
    let good = Packed::new().file("a.csv", "1\n").file("b.csv", "2\n").end();
    let names = (0..20_000).fold(Packed::new(), |tar, n| tar.file(&format!("{n}"), ""));
    let bomb = (0..10).fold(Packed::new(), |tar, n| {
        tar.raw(header(b'0', &format!("{n}"), BOMB / 10, "").as_bytes()).zeros(BOMB / 10)
    });
    let mut damaged = good.clone();
    let at = damaged.len() - 6;
    damaged[at] ^= 1;
    vec![
        good.clone(),
        Packed::new().file("../victim.txt", "harm").end(),
        Packed::new().file(victim, "harm").end(),
        Packed::new().entry(b'2', "link", victim).file("link/x", "harm").end(),
        Packed::new().entry(b'1', "link", victim).end(),
        Packed::new().entry(b'6', "pipe", "").end(),
        Packed::new().entry(b'3', "device", "").end(),
        Packed::new().file("a.csv", "1").file("./a.csv", "2").end(),
        Packed::new().raw(header(b'x', "p", 1 << 33, "").as_bytes()).end(),
        Packed::new().raw(header(b'0', "x", 1 << 40, "").as_bytes()).end(),
        names.end(),
        bomb.end(),
        Packed::new().zeros(BOMB).end(),
        [&empty.repeat(200_000)[..], b"and then garbage"].concat(),
        good[..good.len() / 2].to_vec(),
        [&good[..], b"and something behind it"].concat(),
        damaged,
        b"<html>502 Bad Gateway</html>".to_vec(),
    ]
}

fn serve(archives: Vec<Vec<u8>>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut head = [0; 4096];
            let count = stream.read(&mut head).unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..count]).into_owned();
            let number = head.split(['/', ' ']).find_map(|word| word.parse::<usize>().ok());
            let Some(body) = number.and_then(|number| archives.get(number)) else { continue };
            let length = body.len();
            // Whoever hangs up too early tries again.
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(body);
        }
    });
    port
}

fn topology(port: u16) -> String {
    format!(
        "version = 1\nname = \"hostile\"\n\n[sources.orders]\ntype = \"kafka\"\n\
         topic = \"orders\"\ndecode = \"json\"\n\n[processors.payload]\ntype = \"fetch\"\n\
         inputs = [\"orders\"]\nurl = \".url\"\n\
         allow = [{{ origin = \"http://127.0.0.1:{port}\", private = true }}]\n\n\
         [processors.files]\ntype = \"unarchive\"\ninputs = [\"payload\"]\n\
         limits = {{ entries = 2000, entry = \"64 MiB\", total = \"500 MiB\", ratio = 100000 }}\n\n\
         [sinks.out]\ntype = \"kafka\"\ninputs = [\"files\"]\ntopic = \"members\"\n"
    )
}

/// Names in a folder.
fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect()
}

#[test]
fn hostile_archives_are_dead_letters_and_take_neither_memory_nor_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let victim = folder.path().join("victim.txt");
    std::fs::write(&victim, "unharmed").expect("a file");
    let archives = archives(&victim);
    let count = archives.len();
    let port = serve(archives);
    std::fs::write(folder.path().join("topology.toml"), topology(port)).expect("the topology");
    let data = folder.path().join("data/log");
    std::fs::create_dir_all(&data).expect("the folder");
    let open = || EmbeddedLog::open(&data, Arc::new(|| 0)).expect("the log");
    let log = open();
    produce(
        &*log,
        (0..count).map(|number| {
            let value = format!(r#"{{"url":"http://127.0.0.1:{port}/{number}"}}"#);
            let mut record = ProducerRecord::new(Topic::from("orders"), value);
            record.key = Some(Bytes::from(format!("{number}")));
            record
        }),
    );
    log.close();
    drop(log);
    let before = names(folder.path());

    let process = Tidemill::start(&["run", "topology.toml"], folder.path());
    let api = Api::of(&process);
    wait_for("the pipeline", || (api.get("/readyz").1["started"] == true).then_some(()));
    wait_within(PATIENCE, "a dead letter for every archive but the first", || {
        let failed = api.metrics().sum("kafka_consumer_messages_failed_total") as usize;
        (failed == count - 1).then_some(())
    });
    let peak = process.peak_memory().expect("it runs");
    assert!(peak < MOST_MEMORY, "it had {} MiB at a time", peak / MIB);
    process.signal("TERM");
    let (status, text) = process.wait();
    assert!(status.success() && text.contains("complete=true"), "{text}");

    assert_eq!(names(folder.path()), before, "nothing beside the data folder");
    assert_eq!(std::fs::read_to_string(&victim).expect("the file"), "unharmed");
    assert_eq!(names(&folder.path().join("data/spool")), BTreeSet::new(), "nothing is left");
    let log = open();
    let read = |topic: &str| {
        let mut reader = Reader::new(&*log, &Topic::from(topic));
        reader.read_until_quiet(Duration::from_millis(500));
        reader.records.len()
    };
    assert_eq!((read("members"), read("hostile.dead-letters")), (2, count - 1));
}

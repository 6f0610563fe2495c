//! Responsible for: which objects come of which rows, and that nothing leaves before the commit.
//! Not responsible for: uploading (`upload`).

use std::io::Read;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;
use crate::expr::{Template, fixtures};
use crate::model::event::MemberFacts;
use crate::model::{Columns, Digest, Metadata};
use crate::progress::obligation::{OnClose, Scope};
use crate::runtime::inbox::{Inbox, inbox};
use crate::sink::parquet::run::MAX_OBJECTS;
use crate::spool::DiskBudget;

const PATH: &str = "{%schema}/source={.cluster}/month={month}/{%member}-{%part}.parquet";

/// A writer whose packages can be looked at.
struct Bench {
    writer: ParquetWriter,
    packages: Inbox<PackageBatch>,
    budget: DiskBudget,
    folder: tempfile::TempDir,
}

impl Bench {
    fn new(change: impl FnOnce(&mut config::ParquetSink)) -> Self {
        let mut config = config::ParquetSink {
            url: "unused".into(),
            s3: None,
            path: Template::parse(PATH).unwrap(),
            omit: vec!["month".into()],
            zstd: 1,
            row_group_rows: 5000,
            object_rows: 100_000,
            objects: None,
        };
        change(&mut config);
        let folder = tempfile::tempdir().unwrap();
        let budget = DiskBudget::new(2 << 30);
        let spool = Spool::new(folder.path(), budget.clone()).unwrap();
        let (address, packages) = inbox("lake", 8);
        let writer =
            ParquetWriter::new("lake".into(), "costs".into(), &config, spool, address).unwrap();
        Self { writer, packages, budget, folder }
    }

    fn accept(&mut self, record: Record) -> Result<(), Failure> {
        self.writer.accept(record, ScopeId::INPUT)
    }

    /// Ends the input record well; returns what left under its duty.
    fn commit(&mut self) -> PackageBatch {
        self.writer.prepare().unwrap();
        self.writer.commit(&Duties::new(Obligation::detached()));
        self.writer.flush().unwrap();
        self.left()
    }

    /// What was handed to the actor.
    fn left(&mut self) -> PackageBatch {
        // A message of its own marks the end, so that this never waits.
        self.writer.sink.blocking_send(Vec::new()).unwrap();
        let mut left = Vec::new();
        loop {
            match self.packages.blocking_recv() {
                Some(batch) if !batch.is_empty() => left.extend(batch),
                _ => return left,
            }
        }
    }

    fn objects(&mut self) -> Vec<FinishedObject> {
        self.commit().into_iter().flat_map(|package| package.objects).collect()
    }
}

fn rows(months: &[&str], from: i64) -> RecordBatch {
    let numbers: ArrayRef =
        Arc::new(Int64Array::from_iter_values(from..from + months.len() as i64));
    let texts = (0..months.len()).map(|index| format!("pod-{}", index % 7));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
    let months: ArrayRef = Arc::new(StringArray::from_iter_values(months));
    let columns = [("n", numbers, false), ("pod", texts, false), ("month", months, true)];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

fn record(member: &str, rows: RecordBatch) -> Record {
    let mut record = fixtures::record(r#"{"cluster":"c-1"}"#);
    record.meta = Arc::new(Metadata {
        manifest: Some("m-1".into()),
        member: Some(member.into()),
        schema: Some("pods".into()),
        ..Metadata::default()
    });
    record.body = Body::Columns(Columns { rows });
    record
}

fn bytes_of(object: &FinishedObject) -> Bytes {
    let mut bytes = Vec::new();
    object.content.open().read_to_end(&mut bytes).unwrap();
    bytes.into()
}

/// Column names, and the numbers of column `n`.
fn read(object: &FinishedObject) -> (Vec<String>, Vec<i64>) {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes_of(object)).unwrap();
    let names = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
    let mut numbers = Vec::new();
    for batch in builder.build().unwrap() {
        let batch = batch.unwrap();
        let column = batch.column_by_name("n").unwrap();
        numbers.extend_from_slice(column.as_primitive::<Int64Type>().values());
    }
    (names, numbers)
}

/// The path without the digest.
fn plain(object: &FinishedObject) -> String {
    let (stem, extension) = object.path.rsplit_once('.').unwrap();
    let (stem, digest) = stem.rsplit_once('-').unwrap();
    assert_eq!(digest.len(), 16);
    assert!(digest.bytes().all(|digit| digit.is_ascii_hexdigit()));
    format!("{stem}.{extension}")
}

#[test]
fn rows_are_cut_by_the_columns_of_the_path_which_are_not_in_the_file() {
    let mut bench = Bench::new(|_| ());
    bench.accept(record("a.csv", rows(&["03", "04", "03"], 0))).unwrap();
    bench.accept(record("a.csv", rows(&["04"], 3))).unwrap();
    let objects = bench.objects();
    assert_eq!(
        objects.iter().map(plain).collect::<Vec<_>>(),
        ["pods/source=c-1/month=03/a.csv-0.parquet", "pods/source=c-1/month=04/a.csv-0.parquet",]
    );
    let names = vec!["n".to_owned(), "pod".to_owned()];
    assert_eq!(read(&objects[0]), (names.clone(), vec![0, 2]));
    assert_eq!(read(&objects[1]), (names, vec![1, 3]));
    assert_eq!(objects[1].rows, 2);
    assert_eq!(objects[1].schema.as_deref(), Some("pods"));
    assert_eq!(
        serde_json::to_value(&objects[1].columns).unwrap(),
        serde_json::json!({"month": "04"})
    );
}

#[test]
fn the_same_rows_make_the_same_objects_however_they_are_batched() {
    let months: Vec<_> = (0..20_000).map(|n| if n % 3 == 0 { "03" } else { "04" }).collect();
    let all = rows(&months, 0);
    let objects = |sizes: &[usize]| {
        let mut bench = Bench::new(|config| config.object_rows = 9000);
        let mut start = 0;
        for size in sizes.iter().cycle() {
            let size = (*size).min(all.num_rows() - start);
            bench.accept(record("a.csv", all.slice(start, size))).unwrap();
            start += size;
            if start == all.num_rows() {
                break;
            }
        }
        let objects = bench.objects();
        objects.iter().map(|object| (object.path.clone(), bytes_of(object))).collect::<Vec<_>>()
    };
    let whole = objects(&[20_000]);
    assert_eq!(whole.len(), 3);
    assert!(whole == objects(&[8192]), "batches as a reader makes them");
    assert!(whole == objects(&[1, 700, 3000]), "any batches");
}

#[test]
fn more_rows_than_an_object_takes_make_numbered_parts() {
    let mut bench = Bench::new(|config| config.object_rows = 2);
    bench.accept(record("a.csv", rows(&["03"; 5], 0))).unwrap();
    let objects = bench.objects();
    let paths: Vec<_> = objects.iter().map(plain).collect();
    let part = |number: usize| format!("pods/source=c-1/month=03/a.csv-{number}.parquet");
    assert_eq!(paths, [part(0), part(1), part(2)]);
    assert_eq!(
        objects.iter().map(|o| read(o).1).collect::<Vec<_>>(),
        [vec![0, 1], vec![2, 3], vec![4]]
    );
}

#[test]
fn parts_without_a_number_in_the_path_still_have_names_of_their_own() {
    let mut bench = Bench::new(|config| {
        config.object_rows = 1;
        config.path = Template::parse("all.parquet").unwrap();
        config.omit = Vec::new();
    });
    let same = rows(&["03"], 7);
    bench.accept(record("a.csv", same.clone())).unwrap();
    bench.accept(record("a.csv", same.clone())).unwrap();
    bench.accept(record("b.csv", same)).unwrap();
    let mut paths: Vec<_> = bench.objects().into_iter().map(|object| object.path).collect();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 3, "equal rows of two parts or members are not one object");
}

#[test]
fn a_replay_has_the_same_names_and_bytes_and_other_rows_have_other_names() {
    let mut bench = Bench::new(|_| ());
    let mut objects_of = |from: i64| {
        bench.accept(record("a.csv", rows(&["03", "03"], from))).unwrap();
        bench.objects()
    };
    let (first, again, other) = (objects_of(0), objects_of(0), objects_of(1));
    assert_eq!(first[0].path, again[0].path);
    assert_eq!(bytes_of(&first[0]), bytes_of(&again[0]));
    assert_ne!(first[0].path, other[0].path);
    assert_eq!(plain(&first[0]), plain(&other[0]));
}

#[test]
fn objects_leave_under_a_part_of_their_duty_and_no_rows_are_settled_at_once() {
    let mut bench = Bench::new(|_| ());
    let (scope, mut inputs) = Scope::open(1);
    let duties = Duties::new(inputs.pop().unwrap());
    bench.accept(record("a.csv", rows(&["03"], 0))).unwrap();
    bench.writer.prepare().unwrap();
    bench.writer.commit(&duties);
    bench.accept(record("b.csv", rows(&[], 0))).unwrap();
    bench.writer.prepare().unwrap();
    bench.writer.commit(&duties);
    bench.writer.flush().unwrap();
    let mut left = bench.left();
    assert_eq!(left.len(), 1, "nothing is uploaded for b");
    duties.into_innermost_first().for_each(|duty| duty.settle(Outcome::Filtered));
    assert_eq!(scope.outcome(0), None, "a is not durable yet");
    left.pop().unwrap().duty.settle(Outcome::Delivered);
    assert_eq!(scope.outcome(0), Some(Outcome::Delivered));
}

/// Settles the outer part as the inner ones ended.
struct Pass;

impl OnClose for Pass {
    fn close(self: Box<Self>, parent: Obligation, outcome: Outcome, _: MemberFacts) {
        parent.settle(outcome);
    }
}

#[test]
fn each_scope_is_a_package_of_its_own_and_its_cuts_do_not_depend_on_the_others() {
    let mut bench = Bench::new(|_| ());
    bench.writer.accept(record("a.csv", rows(&["03"], 0)), ScopeId(1)).unwrap();
    bench.writer.accept(record("b.csv", rows(&["03"], 1)), ScopeId(2)).unwrap();
    bench.writer.prepare().unwrap();
    let mut duties = Duties::new(Obligation::detached());
    duties.nest(ScopeId::INPUT, Box::new(Pass), true);
    duties.nest(ScopeId::INPUT, Box::new(Pass), true);
    bench.writer.commit(&duties);
    bench.writer.flush().unwrap();
    let together: Vec<_> = bench.left().into_iter().map(|package| package.objects).collect();
    assert_eq!(together.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
    bench.accept(record("b.csv", rows(&["03"], 1))).unwrap();
    assert_eq!(bench.objects()[0].path, together[1][0].path, "a replay of b alone is the same");
}

#[test]
fn nothing_of_an_aborted_record_leaves_and_its_disk_is_free_again() {
    let mut bench = Bench::new(|config| config.object_rows = 1);
    bench.accept(record("a.csv", rows(&["03", "04"], 0))).unwrap();
    bench.writer.abort();
    assert!(bench.commit().is_empty());
    assert_eq!(bench.budget.free(), bench.budget.total());
}

#[test]
fn a_record_that_fails_does_not_keep_the_spool_of_those_before_it() {
    let mut bench = Bench::new(|_| ());
    bench.accept(record("a.csv", rows(&["03"], 0))).unwrap();
    bench.writer.prepare().unwrap();
    bench.writer.commit(&Duties::new(Obligation::detached()));
    bench.accept(record("b.csv", rows(&["03"], 0))).unwrap();
    bench.writer.abort();
    assert_eq!(bench.left().len(), 1, "a is on its way though its batch has not ended");
}

#[test]
fn attempts_of_different_digests_have_objects_of_their_own() {
    let mut bench = Bench::new(|_| ());
    let mut path_of = |digest: u8| {
        let mut record = record("a.csv", rows(&["03"], 0));
        let digest = Some(Digest::from_bytes([digest; 16]));
        record.meta = Arc::new(Metadata { digest, ..(*record.meta).clone() });
        bench.accept(record).unwrap();
        bench.objects()[0].path.clone()
    };
    assert_eq!(path_of(1), path_of(1));
    assert_ne!(path_of(1), path_of(2), "one of them may be retired");
}

#[test]
fn values_that_are_not_there_or_hostile_stay_within_their_component() {
    let mut bench = Bench::new(|_| ());
    bench.accept(record("../a b", rows(&["", "a/b"], 0))).unwrap();
    let paths: Vec<_> = bench.objects().iter().map(plain).collect();
    assert_eq!(
        paths,
        [
            "pods/source=c-1/month=__HIVE_DEFAULT_PARTITION__/..%2Fa%20b-0.parquet",
            "pods/source=c-1/month=a%2Fb/..%2Fa%20b-0.parquet",
        ]
    );
    assert_eq!(bench.accept(record("a", rows(&[".."], 0))), Ok(()), "rows wait for their block");
    let class = bench.writer.prepare().unwrap_err().class().cloned();
    assert_eq!(class, Some(crate::expr::template::BAD_PATH));
}

#[test]
fn many_values_are_written_with_few_objects_open_and_too_many_are_refused() {
    let months: Vec<_> = (0..100).map(|month| format!("{:03}", month % 50)).collect();
    let months: Vec<_> = months.iter().map(String::as_str).collect();
    let mut bench = Bench::new(|_| ());
    bench.accept(record("a.csv", rows(&months, 0))).unwrap();
    let objects = bench.objects();
    assert_eq!(objects.len(), 50, "within a block all rows of a value are together");
    assert_eq!(objects.iter().map(|object| object.rows).sum::<u64>(), 100);

    let months: Vec<_> = (0..=MAX_OBJECTS).map(|month| month.to_string()).collect();
    let months: Vec<_> = months.iter().map(String::as_str).collect();
    bench.accept(record("a.csv", rows(&months, 0))).unwrap();
    let failure = bench.writer.prepare().unwrap_err();
    assert_eq!(failure.class(), Some(&FailureClass::TOO_LARGE));
}

#[test]
fn a_disk_that_fails_makes_the_sink_unavailable_and_not_the_record_bad() {
    let mut bench = Bench::new(|_| ());
    std::fs::remove_dir_all(bench.folder.path()).unwrap();
    bench.accept(record("a.csv", rows(&["03"], 0))).unwrap();
    let failure = bench.writer.prepare().unwrap_err();
    assert!(matches!(failure, Failure::Unavailable { .. }), "{failure}");
}

#[test]
fn rows_without_the_columns_of_the_path_and_records_without_rows_are_poison() {
    let mut bench = Bench::new(|config| {
        config.path = Template::parse("{day}.parquet").unwrap();
    });
    let failure = bench.accept(record("a.csv", rows(&["03"], 0))).unwrap_err();
    assert!(failure.why().contains("day"), "{failure}");
    let failure = bench.accept(fixtures::record("{}")).unwrap_err();
    assert_eq!(failure.class(), Some(&FailureClass::REJECTED));
}

//! Responsible for: proving that bytes on disk are bounded, given back, and that a full disk is
//! told from a body that is too large.
//! Not responsible for: reading blobs (`model::body`).

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::{Arc, mpsc};
use std::task::{Context, Waker};

use proptest::prelude::*;

use super::*;
use crate::model::Blob;

const KIB: u64 = 1024;

fn spool(bytes: u64) -> (tempfile::TempDir, Spool) {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::new(folder.path().join("spool"), DiskBudget::new(bytes)).unwrap();
    (folder, spool)
}

fn reserve(budget: &DiskBudget, bytes: u64) -> Option<DiskPermit> {
    budget.reserve_blocking(bytes, &mut || false)
}

fn text(blob: &Blob) -> String {
    let mut text = String::new();
    blob.open().read_to_string(&mut text).unwrap();
    text
}

fn waits<T>(future: Pin<&mut impl Future<Output = T>>) -> bool {
    future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
}

#[test]
fn a_finished_file_keeps_only_what_it_uses_until_its_last_blob_goes() {
    let (_folder, spool) = spool(100 * KIB);
    let mut writer = spool.create(reserve(spool.budget(), 100 * KIB).unwrap()).unwrap();
    assert_eq!(spool.budget().free(), 0);
    writer.append(b"abc").unwrap();
    writer.append(b"defg").unwrap();
    let file = writer.finish();
    assert_eq!(spool.budget().free(), 99 * KIB, "rounded up to one unit");
    let (first, second) = (Blob::new(file.clone(), 0, 3), Blob::new(file, 3, 4));
    assert_eq!((text(&first), text(&second)), ("abc".to_owned(), "defg".to_owned()));
    drop(first);
    assert_eq!(spool.budget().free(), 99 * KIB);
    drop(second);
    assert_eq!(spool.budget().free(), 100 * KIB);
}

#[test]
fn spooled_files_have_no_name() {
    let (folder, spool) = spool(10 * KIB);
    let mut writer = spool.create(reserve(spool.budget(), KIB).unwrap()).unwrap();
    writer.append(b"secret").unwrap();
    let blob = writer.finish_blob();
    assert_eq!(std::fs::read_dir(folder.path().join("spool")).unwrap().count(), 0);
    assert_eq!((text(&blob), blob.len()), ("secret".to_owned(), 6));
}

#[test]
fn bytes_beyond_the_permit_are_refused_before_they_are_written() {
    let (_folder, spool) = spool(10 * KIB);
    let mut writer = spool.create(reserve(spool.budget(), 5).unwrap()).unwrap();
    writer.append(b"12345").unwrap();
    let error = writer.append(b"6").unwrap_err();
    assert_eq!(error, SpoolError::BeyondPermit { limit: 5 });
    assert_eq!(writer.written(), 5);
    let through_write = writer.write(b"6").unwrap_err();
    assert_eq!(through_write.kind(), io::ErrorKind::FileTooLarge);
    assert_eq!(Failure::from(error).class(), Some(&FailureClass::TOO_LARGE));
}

#[test]
fn a_dropped_writer_gives_everything_back() {
    let (_folder, spool) = spool(10 * KIB);
    let mut writer = spool.create(reserve(spool.budget(), 10 * KIB).unwrap()).unwrap();
    writer.append(&[0; 4096]).unwrap();
    drop(writer);
    assert_eq!(spool.budget().free(), 10 * KIB);
}

#[test]
fn a_full_disk_is_an_unavailable_dependency() {
    let budget = DiskBudget::new(KIB);
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let folder: Arc<Path> = Arc::from(Path::new("spool"));
    let mut writer = SpoolWriter::new(full, folder, reserve(&budget, KIB).unwrap());
    let error = writer.append(b"x").unwrap_err();
    assert!(matches!(error, SpoolError::DiskFull { .. }), "{error:?}");
    assert_eq!(writer.write(b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert!(matches!(Failure::from(error), Failure::Unavailable { .. }));
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let blocker = folder.path().join("file");
    std::fs::write(&blocker, b"").unwrap();
    let error = Spool::new(blocker.join("spool"), DiskBudget::new(1)).unwrap_err();
    assert!(error.to_string().contains("spool"), "{error}");
}

#[test]
fn more_than_the_whole_budget_is_cut_down_to_it() {
    let budget = DiskBudget::new(4 * KIB);
    let permit = reserve(&budget, u64::MAX).unwrap();
    assert_eq!((permit.bytes(), budget.free()), (4 * KIB, 0));
}

#[test]
fn a_permit_shrinks_and_never_grows() {
    let budget = DiskBudget::new(8 * KIB);
    let mut permit = reserve(&budget, 8 * KIB).unwrap();
    permit.shrink(3 * KIB);
    assert_eq!((permit.bytes(), budget.free()), (3 * KIB, 5 * KIB));
    permit.shrink(6 * KIB);
    assert_eq!((permit.bytes(), budget.free()), (3 * KIB, 5 * KIB));
}

#[test]
fn a_blocked_thread_gives_up_when_told_and_keeps_nothing() {
    let budget = DiskBudget::new(2 * KIB);
    let held = reserve(&budget, KIB).unwrap();
    let mut asked = 0;
    let refused = budget.reserve_blocking(2 * KIB, &mut || {
        asked += 1;
        asked < 2
    });
    assert!(refused.is_none());
    assert_eq!(asked, 2);
    drop(held);
    assert_eq!(budget.free(), 2 * KIB);
}

#[test]
fn a_blocked_thread_goes_on_when_bytes_come_back() {
    let budget = DiskBudget::new(2 * KIB);
    let held = reserve(&budget, 2 * KIB).unwrap();
    let (waiting, waits) = mpsc::channel();
    let theirs = budget;
    let thread = std::thread::spawn(move || {
        theirs.reserve_blocking(KIB, &mut || waiting.send(()).is_ok()).map(|permit| permit.bytes())
    });
    waits.recv().unwrap();
    drop(held);
    // Kept until the end: the thread gives up once nobody listens.
    assert_eq!(thread.join().unwrap(), Some(KIB));
    drop(waits);
}

#[tokio::test]
async fn tasks_are_served_in_order_so_that_large_reservations_are_not_starved() {
    let budget = DiskBudget::new(4 * KIB);
    let held = budget.reserve(2 * KIB).await;
    let mut large = pin!(budget.reserve(4 * KIB));
    let mut small = pin!(budget.reserve(KIB));
    assert!(waits(large.as_mut()));
    assert!(waits(small.as_mut()), "behind the large one");
    drop(held);
    let large = large.await;
    assert!(waits(small.as_mut()));
    drop(large);
    assert_eq!(small.await.bytes(), KIB);
}

proptest! {
    #[test]
    fn what_is_held_and_what_is_free_always_make_up_the_total(
        steps in prop::collection::vec((0u8..3, 0u64..6 * KIB, 0usize..8), 1..60),
    ) {
        let budget = DiskBudget::new(16 * KIB);
        let mut held: Vec<DiskPermit> = Vec::new();
        for (step, bytes, which) in steps {
            match step {
                0 => held.extend(reserve(&budget, bytes)),
                1 if !held.is_empty() => {
                    let which = which % held.len();
                    held[which].shrink(bytes);
                }
                _ if !held.is_empty() => drop(held.swap_remove(which % held.len())),
                _ => {}
            }
            let taken: u64 = held.iter().map(|permit| permit.bytes().div_ceil(KIB) * KIB).sum();
            prop_assert_eq!(taken + budget.free(), budget.total());
        }
    }
}

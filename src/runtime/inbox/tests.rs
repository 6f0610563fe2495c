//! Responsible for: backpressure, handing over between readers, and the ways a queue ends.
//! Not responsible for: restarts of the readers (`runtime::supervisor`).

use std::thread;

use futures_util::StreamExt;

use super::*;

fn filled(capacity: u32) -> (Address<u32>, Inbox<u32>) {
    let (address, inbox) = inbox("test", capacity as usize);
    for number in 1..=capacity {
        address.try_send(number).unwrap();
    }
    (address, inbox)
}

#[tokio::test]
async fn a_full_inbox_holds_the_sender_back_until_the_reader_makes_room() {
    let (address, inbox) = filled(2);
    assert!(matches!(address.try_send(3), Err(TrySendError::Full(3))));
    let mut third = Box::pin(address.send(3));
    assert!((&mut third).now_or_never().is_none());

    let mut open = inbox.open().await;
    assert_eq!(open.recv().await, Some(1));
    third.await.unwrap();
    assert_eq!(open.recv_many(10).await, [2, 3]);
}

#[tokio::test]
async fn whoever_watches_the_depth_does_not_keep_the_inbox_open() {
    let (address, inbox) = filled(2);
    let depth = address.depth();
    assert_eq!(depth(), 2);
    let mut open = inbox.open().await;
    open.recv().await.unwrap();
    assert_eq!(depth(), 1);
    drop(address);
    open.recv().await.unwrap();
    assert_eq!((open.recv().await, depth()), (None, 0));
}

#[tokio::test]
async fn what_waits_passes_to_the_next_reader() {
    let (address, inbox) = filled(3);
    let mut first = inbox.open().await;
    assert_eq!(first.recv().await, Some(1));
    drop(first);

    let mut second = inbox.open().await;
    assert_eq!(second.recv_many(1).await, [2]);
    drop(address);
    assert_eq!(second.collect::<Vec<_>>().await, [3]);
}

#[tokio::test]
async fn there_is_one_reader_at_a_time() {
    let (_address, inbox) = filled(1);
    let first = inbox.open().await;
    let mut second = Box::pin(inbox.open());
    assert!((&mut second).now_or_never().is_none());
    drop(first);
    assert_eq!(second.await.recv().await, Some(1));
}

#[tokio::test]
async fn a_closed_inbox_gives_messages_back_and_ends_after_those_that_wait() {
    let (address, inbox) = filled(2);
    inbox.close();
    let refused = address.send(3).await.unwrap_err();
    assert_eq!((&*refused.inbox, refused.message), ("test", 3));
    assert!(matches!(address.try_send(4), Err(TrySendError::Closed(4))));

    let mut open = inbox.open().await;
    assert_eq!(open.recv().await, Some(1));
    drop(open);
    let mut next = inbox.open().await;
    assert_eq!(next.recv().await, Some(2));
    assert_eq!(next.recv().await, None);
    assert!(next.recv_many(5).await.is_empty());
}

#[tokio::test]
async fn close_turns_away_senders_that_no_reader_will_make_room_for() {
    let (address, inbox) = filled(1);
    let mut waiting = Box::pin(address.send(2));
    assert!((&mut waiting).now_or_never().is_none());
    inbox.close();
    assert_eq!(waiting.await.unwrap_err().message, 2);
}

#[tokio::test]
async fn a_reader_that_leaves_after_close_does_not_strand_senders() {
    let (address, inbox) = filled(1);
    let reader = inbox.open().await;
    let mut waiting = Box::pin(address.send(2));
    assert!((&mut waiting).now_or_never().is_none());
    inbox.close();
    assert!((&mut waiting).now_or_never().is_none(), "the reader may still make room");
    drop(reader);
    assert_eq!(waiting.await.unwrap_err().message, 2);
}

#[tokio::test]
async fn a_send_that_began_before_close_gets_its_room_from_the_reader() {
    let (address, inbox) = filled(1);
    let mut reader = inbox.open().await;
    let mut waiting = Box::pin(address.send(2));
    assert!((&mut waiting).now_or_never().is_none());
    inbox.close();
    assert_eq!(reader.recv().await, Some(1));
    waiting.await.unwrap();
    assert_eq!(reader.recv().await, Some(2));
    assert_eq!(reader.recv().await, None);
}

#[tokio::test]
async fn the_last_address_ends_the_queue() {
    let (address, inbox) = filled(1);
    let other = address.clone();
    let mut open = inbox.open().await;
    assert_eq!(open.recv().await, Some(1));
    drop(address);
    assert!(open.recv().now_or_never().is_none(), "an address is left");
    drop(other);
    assert_eq!(open.recv().await, None);
}

#[tokio::test]
async fn without_any_reader_to_come_messages_are_dropped_and_given_back() {
    let (address, inbox) = inbox("test", 1);
    let waiting = Arc::new(());
    address.send(waiting.clone()).await.unwrap();
    assert_eq!(Arc::strong_count(&waiting), 2);
    drop(inbox);
    assert_eq!(Arc::strong_count(&waiting), 1);
    assert!(address.send(waiting).await.is_err());
}

#[test]
fn counts_what_waits() {
    let (address, inbox) = filled(2);
    assert_eq!((address.len(), address.capacity(), address.name()), (2, 2, "test"));
    assert_eq!(inbox.blocking_recv(), Some(1));
    assert_eq!((address.len(), address.is_empty()), (1, false));
    assert_eq!(inbox.blocking_recv(), Some(2));
    assert!(address.is_empty());
}

#[test]
fn threads_are_held_back_too_and_keep_their_order() {
    let (address, inbox) = inbox("test", 2);
    let sender = thread::spawn(move || {
        for number in 0..100 {
            address.blocking_send(number).unwrap();
        }
    });
    let mut received = Vec::new();
    let mut open = inbox.blocking_open();
    loop {
        let batch = open.blocking_recv_many(3);
        if batch.is_empty() {
            break;
        }
        assert!(batch.len() <= 3);
        received.extend(batch);
    }
    assert_eq!(received, (0..100).collect::<Vec<_>>());
    sender.join().unwrap();
}

#[test]
fn a_blocked_thread_wakes_when_the_inbox_is_closed() {
    let (_address, inbox) = inbox::<u32>("test", 1);
    let reader = thread::spawn({
        let inbox = inbox.clone();
        move || inbox.blocking_recv()
    });
    inbox.close();
    assert_eq!(reader.join().unwrap(), None);
}

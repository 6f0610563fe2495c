//! A bounded queue of messages that outlives the actor that reads it.
//!
//! Responsible for: holding senders back when the reader is slow, dead or not yet there; letting
//! one reader at a time have the queue; handing what waits in it to the next incarnation.
//! Not responsible for: building that incarnation (`runtime::supervisor`).
//!
//! A tokio channel whose receiver lies in a shared mutex: the reader holds the guard of the mutex,
//! so however it ends, its `Drop` puts the queue back and the next reader finds all that waits.
//! Only the message that the reader had taken out already goes down with it.
//!
//! The queue ends in two ways. [`Inbox::close`] (or the drop of the last [`Address`]) takes no new
//! messages, and the reader sees the end once it has read those that wait. The drop of the last
//! [`Inbox`] means that nobody can ever read again: what waits is dropped, senders get their
//! messages back.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::task::{Context, Poll};

use actix::{Actor, AsyncContext, StreamHandler};
use futures_util::{FutureExt, Stream};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, mpsc};

/// The inbox takes no more messages; the one that was to be sent comes back.
pub struct Closed<M> {
    /// Name of the inbox.
    pub inbox: Arc<str>,
    /// What was to be sent.
    pub message: M,
}

impl<M> fmt::Debug for Closed<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closed").field("inbox", &self.inbox).finish_non_exhaustive()
    }
}

impl<M> fmt::Display for Closed<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inbox {} is closed", self.inbox)
    }
}

impl<M> std::error::Error for Closed<M> {}

/// Why a message could not be sent at once; it comes back.
pub enum TrySendError<M> {
    /// There is no room at the moment.
    Full(M),
    /// There will never be room again.
    Closed(M),
}

impl<M> fmt::Debug for TrySendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

impl<M> fmt::Display for TrySendError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "inbox is full",
            Self::Closed(_) => "inbox is closed",
        })
    }
}

impl<M> std::error::Error for TrySendError<M> {}

/// Makes an inbox for `capacity` waiting messages (at least one). The name is for errors and logs.
pub fn inbox<M: Send + 'static>(
    name: impl Into<Arc<str>>,
    capacity: usize,
) -> (Address<M>, Inbox<M>) {
    let name = name.into();
    let capacity = capacity.max(1);
    let (sender, receiver) = mpsc::channel(capacity);
    let door = Arc::new(Door { name: name.clone(), capacity, sender: RwLock::new(Some(sender)) });
    let inbox = Inbox {
        name,
        door: Arc::downgrade(&door),
        closed: Arc::default(),
        receiver: Arc::new(AsyncMutex::new(receiver)),
    };
    (Address { door }, inbox)
}

/// What all addresses of an inbox share.
struct Door<M> {
    name: Arc<str>,
    capacity: usize,
    /// `None` once the inbox is closed. Every send works on a clone of its own, so a send that
    /// has begun is not cut off, and the queue ends when the last of them is through.
    sender: RwLock<Option<mpsc::Sender<M>>>,
}

impl<M> Door<M> {
    fn sender(&self) -> Option<mpsc::Sender<M>> {
        self.sender.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn close(&self) {
        let sender = self.sender.write().unwrap_or_else(PoisonError::into_inner).take();
        // Dropping the last sender wakes the reader, which is not to happen under the lock.
        drop(sender);
    }
}

/// Where messages are sent to. It stays valid across incarnations of the reader.
pub struct Address<M> {
    door: Arc<Door<M>>,
}

impl<M> Clone for Address<M> {
    fn clone(&self) -> Self {
        Self { door: self.door.clone() }
    }
}

impl<M> fmt::Debug for Address<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("inbox", &self.door.name).finish_non_exhaustive()
    }
}

impl<M: Send + 'static> Address<M> {
    /// Sends a message; waits while the inbox is full, also while its reader is being restarted.
    /// If the future is dropped before it is ready, the message is dropped with it.
    ///
    /// # Errors
    /// The inbox is closed, or nobody can read it any more.
    pub async fn send(&self, message: M) -> Result<(), Closed<M>> {
        let Some(sender) = self.door.sender() else { return Err(self.refuse(message)) };
        sender.send(message).await.map_err(|refused| self.refuse(refused.0))
    }

    /// Sends a message from a thread that may block; waits as [`Address::send`] does.
    ///
    /// # Errors
    /// The inbox is closed, or nobody can read it any more.
    ///
    /// # Panics
    /// If called on an arbiter or another asynchronous thread, which must never block.
    pub fn blocking_send(&self, message: M) -> Result<(), Closed<M>> {
        let Some(sender) = self.door.sender() else { return Err(self.refuse(message)) };
        sender.blocking_send(message).map_err(|refused| self.refuse(refused.0))
    }

    /// Sends a message if there is room for it now.
    ///
    /// # Errors
    /// The inbox is full, or closed.
    pub fn try_send(&self, message: M) -> Result<(), TrySendError<M>> {
        let Some(sender) = self.door.sender() else { return Err(TrySendError::Closed(message)) };
        sender.try_send(message).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(message) => TrySendError::Full(message),
            mpsc::error::TrySendError::Closed(message) => TrySendError::Closed(message),
        })
    }

    /// Messages that wait to be read; 0 once the inbox is closed.
    pub fn len(&self) -> usize {
        let sender = self.door.sender();
        sender.map_or(0, |sender| sender.max_capacity().saturating_sub(sender.capacity()))
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tells how many messages wait, without keeping the inbox open; 0 once nobody can send.
    pub fn depth(&self) -> Box<dyn Fn() -> usize + Send + Sync> {
        let door = Arc::downgrade(&self.door);
        Box::new(move || door.upgrade().map_or(0, |door| Self { door }.len()))
    }

    /// Messages that may wait before senders are held back.
    pub fn capacity(&self) -> usize {
        self.door.capacity
    }

    /// Name of the inbox.
    pub fn name(&self) -> &str {
        &self.door.name
    }

    fn refuse(&self, message: M) -> Closed<M> {
        Closed { inbox: self.door.name.clone(), message }
    }
}

/// The reading end. Clones are handles of the same queue: whoever builds the reader keeps one, and
/// gives one to each incarnation.
pub struct Inbox<M> {
    name: Arc<str>,
    /// Weak, so that the queue ends when nobody is left who could send.
    door: Weak<Door<M>>,
    /// Set by `close`, for a reader that leaves the queue behind.
    closed: Arc<AtomicBool>,
    receiver: Arc<AsyncMutex<mpsc::Receiver<M>>>,
}

impl<M> Clone for Inbox<M> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            door: self.door.clone(),
            closed: self.closed.clone(),
            receiver: self.receiver.clone(),
        }
    }
}

impl<M> fmt::Debug for Inbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<M> Inbox<M> {
    /// Takes no more messages, for good. Those that wait can still be read; after the last of
    /// them the reader sees the end. Sends that wait for room get it from the reader, or their
    /// message back if there is none.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        if let Some(door) = self.door.upgrade() {
            door.close();
        }
        self.turn_away_senders_if_unattended();
    }

    /// Name of the inbox.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// After `close`, nobody may wait for room that no reader makes. Called by `close` after it
    /// has set the flag, and by a leaving reader after it has given the queue back: whichever is
    /// later finds the flag set and the queue free.
    fn turn_away_senders_if_unattended(&self) {
        if self.closed.load(Ordering::SeqCst)
            && let Ok(mut receiver) = self.receiver.try_lock()
        {
            receiver.close();
        }
    }
}

impl<M: Send + 'static> Inbox<M> {
    /// Waits until no one else reads, then opens the queue.
    pub async fn open(&self) -> OpenInbox<M> {
        let guard = self.receiver.clone().lock_owned().await;
        OpenInbox { guard: Some(guard), inbox: self.clone() }
    }

    /// Opens the queue from a thread that may block.
    ///
    /// # Panics
    /// If called on an arbiter or another asynchronous thread, which must never block.
    pub fn blocking_open(&self) -> OpenInbox<M> {
        let guard = self.receiver.clone().blocking_lock_owned();
        OpenInbox { guard: Some(guard), inbox: self.clone() }
    }

    /// Opens the queue, takes the next message and lets go of the queue again, so that somebody
    /// else may read while the message is worked on; `None` after the last one.
    ///
    /// # Panics
    /// If called on an arbiter or another asynchronous thread, which must never block.
    pub fn blocking_recv(&self) -> Option<M> {
        self.blocking_open().blocking_recv()
    }

    /// Feeds the messages to an actor, to be called in its `started`: opens the queue as soon as
    /// the incarnation before has let go of it, and reads for as long as the actor lives. After
    /// the last message of a closed inbox the actor's [`StreamHandler::finished`] is called.
    pub fn attach<A>(&self, ctx: &mut actix::Context<A>)
    where
        A: Actor<Context = actix::Context<A>> + StreamHandler<M>,
    {
        let inbox = self.clone();
        ctx.add_stream(async move { inbox.open().await }.flatten_stream());
    }
}

/// The queue, held by its one reader. A stream of its messages; dropping it lets the next reader
/// have it.
pub struct OpenInbox<M> {
    /// `None` only while it is being dropped.
    guard: Option<OwnedMutexGuard<mpsc::Receiver<M>>>,
    inbox: Inbox<M>,
}

impl<M> OpenInbox<M> {
    /// The next message; `None` after the last one of a closed inbox.
    pub async fn recv(&mut self) -> Option<M> {
        match &mut self.guard {
            Some(receiver) => receiver.recv().await,
            None => None,
        }
    }

    /// Waits for a message, then takes all that wait, but at most `max` (at least one). Nothing
    /// means the end of a closed inbox.
    pub async fn recv_many(&mut self, max: usize) -> Vec<M> {
        let mut messages = Vec::new();
        if let Some(receiver) = &mut self.guard {
            receiver.recv_many(&mut messages, max.max(1)).await;
        }
        messages
    }

    /// The next message, for a thread that may block; `None` after the last one.
    ///
    /// # Panics
    /// If called on an arbiter or another asynchronous thread, which must never block.
    pub fn blocking_recv(&mut self) -> Option<M> {
        self.guard.as_mut()?.blocking_recv()
    }

    /// As [`OpenInbox::recv_many`], for a thread that may block.
    ///
    /// # Panics
    /// If called on an arbiter or another asynchronous thread, which must never block.
    pub fn blocking_recv_many(&mut self, max: usize) -> Vec<M> {
        let mut messages = Vec::new();
        if let Some(receiver) = &mut self.guard {
            receiver.blocking_recv_many(&mut messages, max.max(1));
        }
        messages
    }
}

impl<M> Stream for OpenInbox<M> {
    type Item = M;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<M>> {
        match &mut self.get_mut().guard {
            Some(receiver) => receiver.poll_recv(cx),
            None => Poll::Ready(None),
        }
    }
}

impl<M> Drop for OpenInbox<M> {
    fn drop(&mut self) {
        drop(self.guard.take());
        self.inbox.turn_away_senders_if_unattended();
    }
}

impl<M> fmt::Debug for OpenInbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenInbox").field("name", &self.inbox.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

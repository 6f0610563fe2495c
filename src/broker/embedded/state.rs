//! What the embedded log knows without asking its database.
//!
//! Responsible for: topics, the heads of their partitions, groups, and waking whoever waits for
//! one of them to change.
//! Not responsible for: durability. Heads move only after the commit that moved them.
//!
//! Lock order: a connection first, then the state; no SQL runs under the lock of the state.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use crate::broker::embedded::Clock;
use crate::broker::embedded::database::{self, Location};
use crate::broker::embedded::folder;
use crate::broker::embedded::group::{Group, MemberId, Step};
use crate::broker::embedded::queue::Queue;
use crate::broker::embedded::settings::Settings;
use crate::broker::{Assignor, BrokerError};
use crate::model::{Offset, Topic, TopicPartition};
use crate::runtime::file_lock::FileLock;

/// Partitions of a topic that nobody declared.
const DEFAULT_PARTITIONS: i32 = 4;

/// The ends of one partition.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    /// First position that can be read.
    pub(super) start: Offset,
    /// Position after the last record.
    pub(super) end: Offset,
}

/// One topic.
pub(super) struct TopicState {
    /// Its number in the database.
    pub(super) id: i64,
    /// Its settings.
    pub(super) settings: Settings,
    /// Its partitions, by number.
    pub(super) heads: Vec<Head>,
}

/// Guarded by the one lock of [`Shared`].
#[derive(Default)]
pub(super) struct State {
    /// All topics.
    pub(super) topics: BTreeMap<Topic, TopicState>,
    /// Groups that ever had a member in this process.
    groups: BTreeMap<Arc<str>, Group>,
    /// Whether a script keeps records from consumers.
    pub(super) fetch_held: bool,
    /// Whether the log is closed.
    pub(super) closed: bool,
}

impl State {
    /// Number of the topic and head of the partition.
    pub(super) fn locate(&self, partition: &TopicPartition) -> Result<(i64, Head), BrokerError> {
        let index = usize::try_from(partition.partition.0).ok();
        let found = self.topics.get(&partition.topic).and_then(|topic| {
            index.and_then(|index| topic.heads.get(index)).map(|head| (topic.id, *head))
        });
        found.ok_or_else(|| BrokerError::UnknownTopic(partition.topic.clone()))
    }

    /// Applies a change to the head of a partition, if there is one.
    pub(super) fn move_head(&mut self, topic: &Topic, part: i32, change: impl FnOnce(&mut Head)) {
        let index = usize::try_from(part).unwrap_or(usize::MAX);
        let topic = self.topics.get_mut(topic);
        if let Some(head) = topic.and_then(|topic| topic.heads.get_mut(index)) {
            change(head);
        }
    }

    /// Makes a new topic known, to subscribed groups too.
    pub(super) fn add_topic(&mut self, name: &Topic, topic: TopicState) {
        self.topics.insert(name.clone(), topic);
        let Self { topics, groups, .. } = self;
        for group in groups.values_mut() {
            group.topic_created(name, &|topic| partitions_of(topics, topic));
        }
    }

    /// The group of that name, if it ever had a member.
    pub(super) fn group(&mut self, name: &str) -> Option<&mut Group> {
        self.groups.get_mut(name)
    }

    /// Adds a member to a group.
    pub(super) fn join(
        &mut self,
        name: &Arc<str>,
        topics: &[Topic],
        assignor: Assignor,
    ) -> Result<MemberId, BrokerError> {
        let counts = &self.topics;
        let group = self.groups.entry(Arc::clone(name)).or_default();
        group.join(topics.to_vec(), assignor, &|topic| partitions_of(counts, topic)).ok_or_else(
            || {
                BrokerError::Fatal(format!(
                    "group {name} spreads its partitions in another way than {assignor:?}"
                ))
            },
        )
    }

    /// Removes a member from its group.
    pub(super) fn leave(&mut self, name: &str, member: MemberId) {
        let counts = &self.topics;
        if let Some(group) = self.groups.get_mut(name) {
            group.leave(member, &|topic| partitions_of(counts, topic));
        }
    }
}

fn partitions_of(topics: &BTreeMap<Topic, TopicState>, topic: &Topic) -> i32 {
    topics.get(topic).map_or(0, |topic| i32::try_from(topic.heads.len()).unwrap_or(i32::MAX))
}

/// The next step of a member, and what it was decided on.
pub(super) struct Stepped {
    /// What to do.
    pub(super) step: Step,
    /// Version of the state; while it lasts there is no other step after a settled one.
    pub(super) version: u64,
    /// Whether a script keeps records from consumers.
    pub(super) fetch_held: bool,
}

/// What all handles on one log and its writer thread share.
pub(super) struct Shared {
    /// The connection that writes.
    pub(super) writing: Arc<Mutex<Connection>>,
    /// The connection of look-ups.
    pub(super) looking_up: Arc<Mutex<Connection>>,
    /// What waits for the writer thread.
    pub(super) queue: Queue,
    /// Partitions of topics that nobody declared.
    pub(super) default_partitions: AtomicI32,
    clock: Clock,
    location: Location,
    state: Mutex<State>,
    changed: Condvar,
    /// Raised, under the lock of the state, by every change that concerns an assignment.
    version: AtomicU64,
    /// Dropped last: the connections above are closed before the folder is free.
    folder: Mutex<Option<FileLock>>,
}

impl Shared {
    /// Opens the log in `folder`, or one in memory.
    pub(super) fn open(folder: Option<&Path>, clock: Clock) -> Result<Self, BrokerError> {
        let lock = folder.map(folder::lock).transpose()?;
        let (writing, location) = database::open(folder)?;
        let topics = database::topics(&locked(&writing))?;
        let looking_up = location.reader()?;
        Ok(Self {
            writing,
            looking_up,
            queue: Queue::default(),
            default_partitions: AtomicI32::new(DEFAULT_PARTITIONS),
            clock,
            location,
            state: Mutex::new(State { topics, ..State::default() }),
            changed: Condvar::new(),
            version: AtomicU64::new(1),
            folder: Mutex::new(lock),
        })
    }

    /// The state, to look at.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Changes something that concerns an assignment.
    pub(super) fn update<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state();
        let result = change(&mut state);
        self.version.fetch_add(1, Ordering::Release);
        drop(state);
        self.changed.notify_all();
        result
    }

    /// Changes heads of partitions.
    pub(super) fn publish(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }

    /// Waits until the state no longer holds the caller up, at most for `wait`.
    pub(super) fn wait(&self, wait: Duration, held_up: impl FnMut(&mut State) -> bool) {
        let state = self.state();
        drop(self.changed.wait_timeout_while(state, wait, held_up));
    }

    /// The version of what concerns assignments.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The next step of a member of a group.
    pub(super) fn step(&self, group: &str, member: MemberId) -> Result<Stepped, BrokerError> {
        let mut state = self.state();
        if state.closed {
            return Err(closed());
        }
        let step = state.group(group).map_or(Step::Settled, |group| group.step(member));
        let others_may_go_on = step == Step::Acknowledged;
        if others_may_go_on {
            self.version.fetch_add(1, Ordering::Release);
        }
        let stepped = Stepped { step, version: self.version(), fetch_held: state.fetch_held };
        drop(state);
        if others_may_go_on {
            self.changed.notify_all();
        }
        Ok(stepped)
    }

    /// Number of the topic and head of the partition.
    pub(super) fn locate(&self, partition: &TopicPartition) -> Result<(i64, Head), BrokerError> {
        self.state().locate(partition)
    }

    /// Another connection to read with.
    pub(super) fn reader(&self) -> Result<Arc<Mutex<Connection>>, BrokerError> {
        self.location.reader()
    }

    /// Milliseconds since the Unix epoch.
    pub(super) fn now(&self) -> i64 {
        (self.clock)()
    }

    /// Refuses everything from now on.
    pub(super) fn close(&self) {
        self.update(|state| state.closed = true);
        self.queue.close();
    }

    /// Lets another process have the folder.
    pub(super) fn release_folder(&self) {
        locked(&self.folder).take();
    }

    /// Fails once the log is closed.
    pub(super) fn check_open(&self) -> Result<(), BrokerError> {
        if self.state().closed { Err(closed()) } else { Ok(()) }
    }
}

/// What everybody hears who uses a closed log.
pub(super) fn closed() -> BrokerError {
    BrokerError::Unavailable("the embedded log is closed".to_owned())
}

/// Locks; a thread that panicked under the lock left a whole value behind, since nothing that is
/// locked here is changed in several steps that depend on each other.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Membership in a consumer group: the poll thread, buffers, and an actor per partition.
//!
//! Responsible for: everything between a [`Consumer`](crate::broker::Consumer) and the actors
//! that own its partitions: routing, pausing, seeking, commits, rebalances; where those actors note
//! how far they are behind.
//! Not responsible for: what those actors do. Stage 1 puts a partition consumer there (`source`),
//! stage 2 a manifest aggregator (`completion`).

pub mod assignment;
pub mod budget;
pub mod buffer;
pub mod lag;
pub mod poll;

pub use assignment::{
    Assignment, AssignmentContext, AssignmentEvent, Drained, PartitionActors, PartitionMessage,
};
pub use budget::BufferBudget;
pub use buffer::{BufferLimits, Fill, PartitionBuffer};
pub use lag::{InFlight, Lags, PartitionLag, PartitionReading};
pub use poll::{PollOrders, PollSettings, PollThread};

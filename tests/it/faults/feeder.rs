//! Produces the load while everything around it fails.
//!
//! Responsible for: a steady rate, and producing everything of the plan in the end.
//! Not responsible for: what the load is (`plan`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::plan::{Expected, Plan};
use super::rig::{Rig, SETTLING};
use crate::harness::{Refused, send};

/// Records that are produced at once.
const BURST: u32 = 10;

/// A thread that produces.
pub struct Feeder {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Expected>,
}

impl Feeder {
    /// Produces `plan`, so many records a second.
    pub fn start(rig: &Rig, mut plan: Plan, rate: u32) -> Self {
        let (producer, topic) = (rig.producer(), rig.source.clone());
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let pause = Duration::from_secs(1) * BURST / rate.max(1);
        let thread = thread::spawn(move || {
            let refused = Refused::default();
            while !told.load(Ordering::Acquire) {
                for burst in plan.wave().chunks(BURST as usize) {
                    for event in burst {
                        send(&*producer, event.record(&topic), &refused);
                    }
                    if !told.load(Ordering::Acquire) {
                        thread::park_timeout(pause);
                    }
                }
            }
            for event in plan.rest() {
                send(&*producer, event.record(&topic), &refused);
            }
            assert!(producer.flush(SETTLING), "everything is acked in time");
            assert!(refused.lock().unwrap().is_empty(), "the broker refused records");
            plan.expected()
        });
        Self { stop, thread }
    }

    /// Produces what is left of the present wave, and says what everything has to lead to.
    pub fn finish(self) -> Expected {
        self.stop.store(true, Ordering::Release);
        self.thread.join().expect("everything was produced")
    }
}

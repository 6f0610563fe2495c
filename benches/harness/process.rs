//! What a run costs.
//!
//! Responsible for: wall time, CPU time and peak memory of this process between two moments.
//! Not responsible for: child processes and servers, whose cost is not counted.
//!
//! CPU time is user and system time of all threads from `/proc/self/stat`, in ticks of 10 ms
//! (`USER_HZ` is 100 for every program on Linux); a run should take a second or more.

use std::fs;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidemill::runtime::clock::{Clock, SystemClock};

use super::Tried;

/// Length of a tick in `/proc/self/stat`.
const TICK: Duration = Duration::from_millis(10);
/// Fields of that file between the name of the program and the user time.
const BEFORE_USER_TIME: usize = 11;

/// What one run cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// Items worked on.
    pub items: u64,
    /// Bytes worked on.
    pub bytes: u64,
    /// Wall time.
    pub wall: Duration,
    /// User and system time.
    pub cpu: Duration,
    /// Peak of the resident memory in bytes.
    pub peak: u64,
    /// What else is worth saying.
    pub note: String,
    /// How long single items took, in a row that is about that.
    pub latency: Option<Percentiles>,
}

/// How long single items took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half of them, at most.
    pub p50: Duration,
    /// 99 of 100, at most.
    pub p99: Duration,
    /// 999 of 1000, at most.
    pub p999: Duration,
}

impl Percentiles {
    /// Those of these times; `None` without any.
    pub fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        // The nearest rank: the smallest time that so many of 1000 do not exceed.
        let at = |of_thousand: usize| {
            let rank = (times.len() * of_thousand).div_ceil(1000);
            times.get(rank.checked_sub(1)?).copied()
        };
        Some(Self { p50: at(500)?, p99: at(990)?, p999: at(999)? })
    }
}

impl Sample {
    /// The same, with something to say.
    #[must_use]
    pub fn with_note(self, note: String) -> Self {
        Self { note, ..self }
    }

    /// The same, with the times of single items.
    #[must_use]
    pub fn with_latency(self, latency: Percentiles) -> Self {
        Self { latency: Some(latency), ..self }
    }

    /// Items in a second.
    pub fn speed(&self) -> f64 {
        self.items as f64 / self.wall.as_secs_f64()
    }

    /// CPU seconds for a million items.
    pub fn cpu_per_million(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.items as f64
    }
}

/// Measures from its start to its stop.
pub struct Meter {
    clock: SystemClock,
    cpu: Duration,
}

impl Meter {
    /// Starts measuring.
    pub fn start() -> Tried<Self> {
        // Lets the peak begin anew. Where that is refused, it includes what came before.
        let _ = fs::write("/proc/self/clear_refs", "5");
        Ok(Self { cpu: cpu_time()?, clock: SystemClock::new() })
    }

    /// Stops: so much was done.
    pub fn stop(self, items: u64, bytes: u64) -> Tried<Sample> {
        let wall = self.clock.now().0;
        let cpu = cpu_time()?.saturating_sub(self.cpu);
        let (peak, note) = (peak_memory()?, String::new());
        Ok(Sample { items, bytes, wall, cpu, peak, note, latency: None })
    }
}

fn cpu_time() -> Tried<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name of the program is in parentheses and may hold anything.
    let (_, fields) = stat.rsplit_once(')').ok_or("/proc/self/stat has no name of a program")?;
    let mut times = fields.split_whitespace().skip(BEFORE_USER_TIME);
    let mut next = || -> Tried<u32> {
        Ok(times.next().ok_or("/proc/self/stat ends before its times")?.parse()?)
    };
    Ok(TICK * (next()? + next()?))
}

fn peak_memory() -> Tried<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = peak.and_then(|peak| peak.trim().strip_suffix(" kB"));
    Ok(kilobytes.ok_or("/proc/self/status names no peak")?.parse::<u64>()? * 1024)
}

//! Nothing lost, nothing twice: replicas, broker, database and receiver fail under load, and an
//! audit that knows nothing of the engine compares what is left with what was produced.
//!
//! `docs/reliability.md` says what this proves, and how a failing run is repeated. The modules
//! of the first list also make the soak (`benches/soak.rs`).

mod audit;
mod evidence;
mod feeder;
mod plan;
pub mod proxy;
mod receiver;
mod rig;
mod run;
pub mod servers;

mod auditing;
mod controls;
mod points;
mod records;

use std::time::Duration;

use tidemill::runtime::fault;

use crate::database;
use crate::harness::bootstrap;
use audit::audit;
use evidence::Evidence;
use plan::{Mix, Plan};
use rig::{Rig, SETTLING};
use run::{Kind, Profile, Until, run};

/// Replays the load and the faults of a run that failed.
const SEED: &str = "TIDEMILL_FAULT_SEED";

/// # Panics
/// In a build that cannot be told to fail: the test would prove nothing.
fn require_faults() {
    assert!(
        fault::is_compiled_in(),
        "built without the feature fault-injection: run the tests through scripts/test"
    );
}

/// Whoever holds the connection must not wait for another one, nor be kept from going on by
/// somebody who waits for it.
#[test]
fn one_connection_to_the_database_is_enough() {
    let mut rig = Rig::new(&bootstrap(), &database::server(), None);
    rig.set("TIDEMILL_STATE_CONNECTIONS", "1");
    let mut plan = Plan::new(11, Mix::SMALL);
    rig.start(0, None);
    for _ in 0..3 {
        let wave = plan.wave();
        rig.produce(&wave);
    }
    rig.wait_until_read();
    let expected = plan.expected();
    rig.finish(expected.lists.len(), SETTLING);
    let findings = audit(&expected, &Evidence::of(&rig));
    assert!(findings.is_clean(), "{findings}");
}

#[test]
fn nothing_is_lost_and_nothing_happens_twice_while_everything_fails_once() {
    require_faults();
    let seed = std::env::var(SEED).map_or(1, |seed| seed.parse().expect("a seed is a number"));
    let until = Until { faults: Kind::ALL.len(), elapsed: Duration::MAX };
    let report = run(&Profile { seed, replicas: 2, rate: 100, until });
    assert!(
        report.findings.is_clean(),
        "{report}\n{}repeat with {SEED}={seed} scripts/test everything_fails_once",
        report.findings
    );
}

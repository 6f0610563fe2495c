//! Settled members applied to manifests in memory.
//!
//! Responsible for: the state machine of manifests behind a map of their keys, against a standard
//! map of sets of strings.
//! Not responsible for: reading the events or storing what they change.
//!
//! Both sides get the same updates in the same random order. The engine's manifests have heard
//! what they expect before; the baseline only remembers what it was told.

use std::collections::{HashMap, HashSet};
use std::hint::black_box;

use tidemill::model::event::{Expected, MemberFacts, MemberState, ProgressEvent, Settled};
use tidemill::model::{Digest, ManifestKey, MemberId, NodeName};
use tidemill::progress::deadline::Moment;
use tidemill::progress::manifest::{Effect, ManifestState, Rules};

use crate::harness::process::{Meter, Sample};
use crate::harness::records::Random;
use crate::harness::{About, Row, Setting, Side, Tried, Unit};

/// Manifests of one run.
const MANIFESTS: u64 = 10_000;
/// Members of each.
const MEMBERS: u64 = 100;

/// The row.
pub struct Aggregate;

impl Row for Aggregate {
    fn about(&self) -> About {
        About {
            name: "aggregate".to_owned(),
            path: "member updates of manifests in memory; std maps with string ids",
            goal: "≥ 1 M updates/s, ≤ 48 bytes per member",
            unit: Unit::PerSecond("updates"),
            needs: None,
        }
    }

    fn run(&self, side: Side, setting: &Setting, _fixture: &str) -> Tried<Sample> {
        let updates = Updates::new(setting.scaled(MANIFESTS));
        match side {
            Side::Engine => apply(&updates),
            Side::Baseline => insert(&updates),
        }
    }
}

/// Which members settle, in which order.
struct Updates {
    manifests: Vec<ManifestKey>,
    members: Vec<MemberId>,
    /// Indexes of manifest and member.
    order: Vec<(u32, u32)>,
}

impl Updates {
    fn new(manifests: u64) -> Self {
        let pairs = (0..manifests as u32)
            .flat_map(|manifest| (0..MEMBERS as u32).map(move |member| (manifest, member)));
        let mut order: Vec<_> = pairs.collect();
        let mut random = Random::new(2);
        for last in (1..order.len()).rev() {
            order.swap(last, random.below(last as u64 + 1) as usize);
        }
        let key = |number: u64| ManifestKey::from(format!("3e1f6af5-e156-4863-a7a2-{number:012}"));
        let id = |number: u64| MemberId::from(format!("openshift_report.{number:03}.csv"));
        Self {
            manifests: (0..manifests).map(key).collect(),
            members: (0..MEMBERS).map(id).collect(),
            order,
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&ManifestKey, &MemberId)> {
        self.order.iter().map(|(manifest, member)| {
            (&self.manifests[*manifest as usize], &self.members[*member as usize])
        })
    }

    fn len(&self) -> u64 {
        self.order.len() as u64
    }
}

fn apply(updates: &Updates) -> Tried<Sample> {
    let (rules, now) = (Rules::default(), Moment::default());
    let kind = NodeName::from("report");
    let mut manifests = HashMap::new();
    for manifest in &updates.manifests {
        let expected = ProgressEvent::Expected(Expected {
            kind: kind.clone(),
            manifest: manifest.clone(),
            members: updates.members.clone(),
            version: None,
            due: Vec::new(),
            facts: serde_json::Map::new(),
            at: 0,
        });
        let mut state = ManifestState::new(now);
        state.apply(&expected, &rules, now);
        manifests.insert(manifest.clone(), state);
    }
    let mut completed = 0;
    let meter = Meter::start()?;
    for (manifest, member) in updates.iter() {
        let event = ProgressEvent::Settled(Settled {
            kind: kind.clone(),
            manifest: manifest.clone(),
            member: member.clone(),
            state: MemberState::Done,
            digest: Digest::from_bytes([7; 16]),
            facts: MemberFacts::default(),
            at: 0,
        });
        let state = manifests.get_mut(event.manifest()).ok_or("an unknown manifest")?;
        let applied = state.apply(&event, &rules, now);
        completed += u64::from(matches!(applied.effect, Effect::Completed(_)));
        black_box(&applied);
    }
    let sample = meter.stop(updates.len(), 0)?;
    if completed != updates.manifests.len() as u64 {
        return Err(format!("{completed} manifests are complete").into());
    }
    let bytes: usize = manifests.values().map(ManifestState::memory_bytes).sum();
    let each = bytes as f64 / updates.len() as f64;
    Ok(sample.with_note(format!("{each:.1} bytes per member")))
}

fn insert(updates: &Updates) -> Tried<Sample> {
    let mut manifests: HashMap<String, HashSet<String>> = HashMap::new();
    let meter = Meter::start()?;
    for (manifest, member) in updates.iter() {
        let members = manifests.entry(manifest.as_str().to_owned()).or_default();
        black_box(members.insert(member.as_str().to_owned()));
    }
    let sample = meter.stop(updates.len(), 0)?;
    let held: usize = manifests.values().map(HashSet::len).sum();
    if held as u64 == sample.items { Ok(sample) } else { Err("a member was lost".into()) }
}

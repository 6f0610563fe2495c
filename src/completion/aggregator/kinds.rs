//! The declared manifests, as aggregators need them.
//!
//! Responsible for: rules and actions by the name of the declaration.
//! Not responsible for: reading them (`topology`).

use std::collections::HashMap;
use std::time::Duration;

use crate::completion::config::{
    Action, Deadline as DeclaredDeadline, DeadlineDue, Manifest, Policy as DeclaredPolicy,
};
use crate::expr::Program;
use crate::model::NodeName;
use crate::progress::deadline::{Deadline, Since};
use crate::progress::manifest::{Policy, Rules};

/// What is declared for one kind of manifest.
#[derive(Clone, Debug, Default)]
pub struct Kind {
    /// When it is complete, and what happens when time runs out.
    pub rules: Rules,
    /// The program that says when it is complete, where the rules leave that to a predicate.
    pub predicate: Option<Program>,
    /// What happens on completion, in order.
    pub actions: Vec<Action>,
    /// Names of its facts: each is bound in SQL, also where a manifest lacks it.
    pub facts: Vec<String>,
}

/// All declared kinds, by name.
#[derive(Clone, Debug, Default)]
pub struct Kinds(HashMap<NodeName, Kind>);

impl Kinds {
    /// The kinds that a topology declares.
    pub fn new<'a>(declared: impl IntoIterator<Item = &'a (NodeName, Manifest)>) -> Self {
        let kinds = declared.into_iter().map(|(name, manifest)| {
            let kind = Kind {
                rules: Rules {
                    policy: policy(&manifest.policy),
                    deadlines: manifest.deadlines.iter().map(deadline).collect(),
                    late: manifest.late,
                    versioned: manifest.version.is_some(),
                },
                predicate: match &manifest.policy {
                    DeclaredPolicy::Predicate(program) => Some(program.clone()),
                    _ => None,
                },
                actions: manifest.on_complete.clone(),
                facts: manifest.facts.iter().map(|(name, _)| name.clone()).collect(),
            };
            (name.clone(), kind)
        });
        kinds.collect()
    }

    /// The kind of that name.
    pub fn get(&self, name: &NodeName) -> Option<&Kind> {
        self.0.get(name)
    }

    /// Whether the lists of that kind have versions.
    pub fn are_versioned(&self, name: &NodeName) -> bool {
        self.get(name).is_some_and(|kind| kind.rules.versioned)
    }

    /// Whether any of them has a deadline.
    pub fn have_deadlines(&self) -> bool {
        self.0.values().any(|kind| !kind.rules.deadlines.is_empty())
    }
}

impl FromIterator<(NodeName, Kind)> for Kinds {
    fn from_iter<I: IntoIterator<Item = (NodeName, Kind)>>(kinds: I) -> Self {
        Self(kinds.into_iter().collect())
    }
}

fn policy(declared: &DeclaredPolicy) -> Policy {
    match declared {
        DeclaredPolicy::AllDone => Policy::AllDone,
        DeclaredPolicy::AllSettled { tolerate } => Policy::AllSettled { tolerate: *tolerate },
        DeclaredPolicy::Quorum(quorum) => Policy::Quorum(*quorum),
        DeclaredPolicy::Predicate(_) => Policy::Predicate,
    }
}

fn deadline(declared: &DeclaredDeadline) -> Deadline {
    let (since, after) = match &declared.due {
        DeadlineDue::Inactivity(after) => (Since::Inactivity, *after),
        DeadlineDue::First(after) => (Since::First, *after),
        DeadlineDue::At(_) => (Since::Appointment, Duration::ZERO),
    };
    Deadline { since, after, action: declared.action, extension: declared.extension }
}

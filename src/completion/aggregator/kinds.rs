//! The declared manifests, as aggregators need them.
//!
//! Responsible for: rules and actions by the name of the declaration.
//! Not responsible for: reading them (`topology`).

use std::collections::HashMap;

use crate::completion::config::{
    Action, Deadline as DeclaredDeadline, DeadlineAction as DeclaredAction, DeadlineSince,
    Manifest, Policy as DeclaredPolicy,
};
use crate::model::NodeName;
use crate::progress::deadline::{Deadline, DeadlineAction, Since};
use crate::progress::manifest::{Policy, Rules};

/// What is declared for one kind of manifest.
#[derive(Clone, Debug)]
pub struct Kind {
    /// When it is complete, and what happens when time runs out.
    pub rules: Rules,
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
                    policy: policy(manifest.policy),
                    deadlines: manifest.deadlines.iter().map(deadline).collect(),
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

fn policy(declared: DeclaredPolicy) -> Policy {
    match declared {
        DeclaredPolicy::AllDone => Policy::AllDone,
        DeclaredPolicy::AllSettled { tolerate } => Policy::AllSettled { tolerate },
    }
}

fn deadline(declared: &DeclaredDeadline) -> Deadline {
    Deadline {
        since: match declared.since {
            DeadlineSince::Inactivity => Since::Inactivity,
            DeadlineSince::First => Since::First,
        },
        after: declared.after,
        action: match declared.action {
            DeclaredAction::Alert => DeadlineAction::Alert,
            DeclaredAction::Complete => DeadlineAction::Complete,
            DeclaredAction::Fail => DeadlineAction::Fail,
        },
    }
}

//! Compares what a run has left with what was produced.
//!
//! Responsible for: what is lost, what had its effect twice, and what nobody asked for; pure, and
//! tested against evidence that is wrong in one way each (`auditing`).
//! Not responsible for: reading the evidence (`evidence`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::evidence::{Delivery, Evidence};
use super::plan::{Expected, Member};

/// Findings of one kind that a text names.
const SHOWN: usize = 5;
/// What a completion tells, and how.
const ACTIONS: [&str; 2] = ["announce", "call"];

/// What is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What should be there and is not.
    pub lost: Vec<String>,
    /// Effects that happened more than once.
    pub doubled: Vec<String>,
    /// What nobody asked for, and what logs must not hold.
    pub strange: Vec<String>,
    /// Lists that were completed once.
    pub once: usize,
    /// Deliveries that were repeated, which is allowed under the same key.
    pub repeated: usize,
}

impl Findings {
    /// Whether everything is as it has to be.
    pub fn is_clean(&self) -> bool {
        self.lost.is_empty() && self.doubled.is_empty() && self.strange.is_empty()
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [("lost", &self.lost), ("doubled", &self.doubled), ("strange", &self.strange)];
        for (kind, found) in kinds {
            write!(f, "{kind}: {}", found.len())?;
            for one in found.iter().take(SHOWN) {
                write!(f, "\n  {one}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// Judges what a run has left.
pub fn audit(expected: &Expected, evidence: &Evidence) -> Findings {
    let mut findings = Findings { strange: evidence.alarms.clone(), ..Findings::default() };
    outputs(expected, evidence, &mut findings);
    letters(expected, evidence, &mut findings);
    for (list, members) in &expected.lists {
        for (id, member) in members {
            rows(list, id, member, evidence, &mut findings);
        }
        completion(list, members, evidence, &mut findings);
    }
    unknown(expected, evidence, &mut findings);
    deliveries(expected, evidence, &mut findings);
    findings
}

/// Each good member is in the sink's topic, any number of times and always the same.
fn outputs(expected: &Expected, evidence: &Evidence, findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for output in &evidence.outputs {
        let member = expected.lists.get(&output.list).and_then(|list| list.get(&output.member));
        match member {
            Some(member) if !member.poison && member.total() == output.total => {
                seen.insert((&output.list, &output.member));
            }
            _ => findings.strange.push(format!("the sink's topic holds {output:?}")),
        }
    }
    for (list, members) in &expected.lists {
        for (id, _) in members.iter().filter(|(_, member)| !member.poison) {
            if !seen.contains(&(list, id)) {
                findings.lost.push(format!("member {id} is not in the sink's topic"));
            }
        }
    }
}

/// Each record that cannot be processed is a dead letter, and no other is.
fn letters(expected: &Expected, evidence: &Evidence, findings: &mut Findings) {
    let found: BTreeSet<&Vec<u8>> = evidence.letters.iter().collect();
    let wanted: BTreeSet<&Vec<u8>> = expected.letters.iter().collect();
    let shown = |letter: &[u8]| String::from_utf8_lossy(letter).into_owned();
    let missing = wanted.difference(&found);
    findings.lost.extend(missing.map(|letter| format!("no dead letter of {}", shown(letter))));
    let others = found.difference(&wanted);
    findings.strange.extend(others.map(|letter| format!("a dead letter of {}", shown(letter))));
}

/// The rows of a member are in the table, each once.
fn rows(list: &str, id: &str, member: &Member, evidence: &Evidence, findings: &mut Findings) {
    let wanted = if member.poison { (0, 0) } else { (member.rows.len(), member.total()) };
    let found = evidence.rows.get(&(list.to_owned(), id.to_owned())).copied().unwrap_or_default();
    let what = format!("member {id} has {found:?} rows and their sum, {wanted:?} are right");
    match found.0.cmp(&wanted.0) {
        std::cmp::Ordering::Less => findings.lost.push(what),
        std::cmp::Ordering::Greater => findings.doubled.push(what),
        std::cmp::Ordering::Equal if found != wanted => findings.strange.push(what),
        std::cmp::Ordering::Equal => {}
    }
}

/// A list is complete under its first revision, and its completion saw all good members, once.
fn completion(
    list: &str,
    members: &BTreeMap<String, Member>,
    evidence: &Evidence,
    findings: &mut Findings,
) {
    let good = members.values().filter(|member| !member.poison);
    let (count, total) =
        good.fold((0, 0), |(count, total), member| (count + 1, total + member.total()));
    let state = |state: &str| {
        let key = (list.to_owned(), state.to_owned());
        evidence.states.get(&key).copied().unwrap_or(0)
    };
    let settled = (state("done") as i64, state("dead_lettered"));
    if settled != (count, members.len() - count as usize) {
        findings.lost.push(format!("of list {list} {settled:?} members are done and failed"));
    }
    match evidence.phases.get(list).map(|(phase, revision)| (phase.as_str(), *revision)) {
        Some(("complete", 1)) => {}
        Some(("complete", revision)) => {
            findings.doubled.push(format!("list {list} has revision {revision}"));
        }
        other => findings.lost.push(format!("list {list} is {other:?}, not complete")),
    }
    let done: Vec<_> = evidence.done.iter().filter(|done| done.list == list).collect();
    match done.as_slice() {
        [] => findings.lost.push(format!("list {list} has no completion")),
        [one] if one.times == 1 && (one.members, one.total) == (count, total) => findings.once += 1,
        [one] if one.times == 1 => {
            let saw = (one.members, one.total);
            findings.lost.push(format!("list {list} completed with {saw:?} of {count}, {total}"));
        }
        more => findings.doubled.push(format!("list {list} completed more than once: {more:?}")),
    }
}

/// Nothing is there that was never produced.
fn unknown(expected: &Expected, evidence: &Evidence, findings: &mut Findings) {
    let lists = evidence.phases.keys().chain(evidence.done.iter().map(|done| &done.list));
    let unknown = lists.filter(|list| !expected.lists.contains_key(*list));
    findings.strange.extend(unknown.map(|list| format!("list {list} was never produced")));
    let rows = evidence.rows.keys().filter(|(list, member)| {
        expected.lists.get(list).is_none_or(|members| !members.contains_key(member))
    });
    findings.strange.extend(rows.map(|(_, member)| format!("member {member} was never produced")));
}

/// Each action of each completion arrived, always under the same key, which is its own.
fn deliveries(expected: &Expected, evidence: &Evidence, findings: &mut Findings) {
    let mut keys: BTreeMap<(&str, &str, i64), BTreeSet<&str>> = BTreeMap::new();
    let mut owners: BTreeMap<&str, (&str, &str, i64)> = BTreeMap::new();
    for delivery in &evidence.deliveries {
        let Delivery { action, list, revision, key } = delivery;
        let what = (*action, list.as_str(), *revision);
        keys.entry(what).or_default().insert(key);
        if *owners.entry(key).or_insert(what) != what || key.is_empty() {
            findings.strange.push(format!("{delivery:?} has a key that is not its own"));
        }
    }
    for list in expected.lists.keys() {
        for action in ACTIONS {
            if !keys.contains_key(&(action, list.as_str(), 1)) {
                findings.lost.push(format!("{action} of list {list} never arrived"));
            }
        }
    }
    for (what, keys) in keys.iter().filter(|(_, keys)| keys.len() > 1) {
        findings.doubled.push(format!("{what:?} arrived under {} keys", keys.len()));
    }
    findings.repeated = evidence.deliveries.len() - keys.len();
}

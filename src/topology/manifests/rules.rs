//! When a manifest is complete: policy, deadlines, what is late, what conflicts.
//!
//! Responsible for: reading these keys of `[manifests.NAME]`, and which of them go together.
//! Not responsible for: judging manifests by them (`progress::manifest`).

use toml::de::DeValue;

use crate::completion::config::{Deadline, DeadlineDue, Policy};
use crate::config::diagnostic::Diagnostic;
use crate::config::document::{Section, Value};
use crate::config::units;
use crate::expr::{PREDICATE_FIELDS, Program, Purpose};
use crate::progress::deadline::{DeadlineAction, Extension, MOST_DEADLINES};
use crate::progress::manifest::{Late, Share};
use crate::topology::{names, programs};

/// The declared facts; `None` if they have errors, which have been reported.
pub(super) type Facts<'f> = Option<&'f [(String, Program)]>;

/// What `policy` may say.
const POLICIES: [(&str, &str); 4] = [
    ("all_done", "all_done"),
    ("all_settled", "all_settled"),
    ("quorum", "quorum"),
    ("predicate", "predicate"),
];

/// A key that says more about one policy, and names it where `policy` is left out.
#[derive(Clone, Copy)]
enum More {
    Tolerate,
    Quorum,
    Predicate,
}

impl More {
    const ALL: [(&'static str, Self); 3] =
        [("tolerate", Self::Tolerate), ("quorum", Self::Quorum), ("predicate", Self::Predicate)];

    /// The policy that it belongs to.
    fn policy(self) -> &'static str {
        match self {
            Self::Tolerate => "all_settled",
            Self::Quorum => "quorum",
            Self::Predicate => "predicate",
        }
    }

    fn read(self, value: &Value<'_>) -> Option<Policy> {
        match self {
            Self::Tolerate => Some(Policy::AllSettled { tolerate: share(value, 0)? }),
            Self::Quorum => Some(Policy::Quorum(share(value, 1)?)),
            Self::Predicate => Some(Policy::Predicate(predicate(value)?)),
        }
    }
}

/// `policy`, with `tolerate`, `quorum` or `predicate`.
pub(super) fn policy(section: &Section<'_>) -> Option<Policy> {
    let named = section.maybe("policy", |value| value.choice(&POLICIES));
    let given: Vec<(Value<'_>, More)> =
        More::ALL.iter().filter_map(|&(key, more)| Some((section.value(key)?, more))).collect();
    if let [(one, _), (other, _), ..] = given.as_slice() {
        let (one_key, other_key) = (one.key(), other.key());
        let message = format!("`{one_key}` and `{other_key}` belong to different policies");
        let diagnostic = Diagnostic::new(message).at(other.key_span());
        return other.fail(diagnostic.context(one.key_span(), "the other one"));
    }
    match (named?, given.first()) {
        (None | Some("all_done"), None) => Some(Policy::AllDone),
        (Some("all_settled"), None) => Some(Policy::AllSettled { tolerate: Share::Members(0) }),
        // The other policies need the key that is called like them.
        (Some(policy), None) => {
            section.required(policy);
            None
        }
        (Some(policy), Some((value, more))) if policy != more.policy() => {
            let message = format!("`{}` means nothing under the policy `{policy}`", value.key());
            let help = format!("it belongs to `policy = \"{}\"`", more.policy());
            value.fail(Diagnostic::new(message).at(value.key_span()).help(help))
        }
        (_, Some((value, more))) => more.read(value),
    }
}

/// `3` members, or `"5%"` of those expected; `least` is 0 or 1.
fn share(value: &Value<'_>, least: u64) -> Option<Share> {
    let wanted = match least {
        0 => "a number of members, or from \"0%\" to \"100%\" of them",
        _ => "a number of members from 1 on, or more than \"0%\" and at most \"100%\" of them",
    };
    let (text, share) = match value.item() {
        DeValue::Integer(_) => {
            let range = i64::try_from(least).ok()?..=i64::MAX;
            return u64::try_from(value.integer(range)?).ok().map(Share::Members);
        }
        DeValue::String(_) => {
            let text = value.text()?;
            let share = match text.trim().strip_suffix('%') {
                Some(percent) => hundredths(percent.trim()).map(Share::Hundredths),
                None => text.trim().parse().ok().map(Share::Members),
            };
            (text, share)
        }
        _ => return value.wrong(wanted),
    };
    let is_enough = |share: &Share| match share {
        Share::Members(members) => *members >= least,
        Share::Hundredths(part) => u64::from(*part) >= least,
    };
    share.filter(is_enough).or_else(|| value.not(&text, wanted))
}

/// Hundredths of a percent in a percentage with at most two decimals.
fn hundredths(percent: &str) -> Option<u32> {
    let percent = percent.parse::<f64>().ok().filter(|percent| (0.0..=100.0).contains(percent))?;
    let hundredths = percent * 100.0;
    let is_whole = (hundredths - hundredths.round()).abs() < 1e-6;
    is_whole.then(|| hundredths.round() as u32)
}

/// A condition over counts and facts.
fn predicate(value: &Value<'_>) -> Option<Program> {
    let program = programs::program(value, Purpose::Predicate)?;
    let checked = reads_only(value, &program, &PREDICATE_FIELDS, "a predicate sees no");
    checked.then_some(program)
}

/// Whether a program reads fields that there are; reports the first one that there is not.
fn reads_only(value: &Value<'_>, program: &Program, known: &[&str], sees_no: &str) -> bool {
    let Some(unknown) = program.fields_read().find(|name| !known.contains(name)) else {
        return true;
    };
    let path = format!(".{unknown}");
    let at = program.source().find(&path);
    let place = at.map_or_else(|| value.span(), |at| value.inside(at..at + path.len()));
    let diagnostic = Diagnostic::new(format!("{sees_no} `{path}`")).at(place);
    value.fail::<()>(diagnostic.help(units::hint(unknown, known)));
    false
}

/// `late`: what becomes of members that a completion did without.
pub(super) fn late(section: &Section<'_>) -> Option<Late> {
    section.or("late", Late::default(), |value| {
        value.choice(&[("drop", Late::Drop), ("revision", Late::Revision)])
    })
}

/// `conflict`: which of two contents of a member counts. One way so far; named, so that a topology
/// says what happens.
pub(super) fn conflict(section: &Section<'_>) -> Option<()> {
    section.or("conflict", (), |value| value.choice(&[("first", ())]))
}

/// `deadlines`.
pub(super) fn deadlines(section: &Section<'_>, facts: Facts<'_>) -> Option<Vec<Deadline>> {
    section.or("deadlines", Vec::new(), |value| {
        let deadlines = value.each(|value| deadline(value, facts))?;
        if deadlines.len() > MOST_DEADLINES {
            let message = format!("a manifest has at most {MOST_DEADLINES} deadlines");
            return value.fail(Diagnostic::new(message));
        }
        Some(deadlines)
    })
}

/// `{ inactivity = "24h", action = "alert" }`, with `first` or `at` in place of `inactivity`.
fn deadline(value: &Value<'_>, facts: Facts<'_>) -> Option<Deadline> {
    let section = value.section("a deadline")?;
    let inactivity = section.maybe("inactivity", Value::duration);
    let first = section.maybe("first", Value::duration);
    let at = section.maybe("at", |value| point_in_time(value, facts));
    let action = section.need("action", |value| {
        value.choice(&[
            ("alert", DeadlineAction::Alert),
            ("complete", DeadlineAction::Complete),
            ("fail", DeadlineAction::Fail),
        ])
    });
    let extension = extension(&section);
    section.finish();
    let due = match (inactivity?, first?, at?) {
        (Some(after), None, None) => DeadlineDue::Inactivity(after),
        (None, Some(after), None) => DeadlineDue::First(after),
        (None, None, Some(program)) => DeadlineDue::At(program),
        _ => {
            let message = "a deadline counts from one thing";
            let help = "give `inactivity` (since the last event), `first` (since the first) or \
                        `at` (a point in time from the facts)";
            return value.fail(Diagnostic::new(message).help(help.to_owned()));
        }
    };
    Some(Deadline { due, action: action?, extension: extension? })
}

/// `extend` and `max_extensions`: both or none.
fn extension(section: &Section<'_>) -> Option<Option<Extension>> {
    let by = section.maybe("extend", Value::duration);
    let most = section.maybe("max_extensions", |value| value.count(1));
    match (by?, most?) {
        (None, None) => Some(None),
        (Some(by), Some(most)) => Some(Some(Extension { by, most: u32::try_from(most).ok()? })),
        (Some(_), None) => section.required("max_extensions").and(None),
        (None, Some(_)) => section.required("extend").and(None),
    }
}

/// The name of a fact, or a program over the facts.
fn point_in_time(value: &Value<'_>, facts: Facts<'_>) -> Option<Program> {
    let source = value.raw()?;
    let known: Vec<&str> = facts?.iter().map(|(name, _)| name.as_str()).collect();
    if names::identifier(source).is_err() {
        let program = programs::key(value)?;
        return reads_only(value, &program, &known, "there is no fact").then_some(program);
    }
    if !known.contains(&source) {
        let help =
            units::hint(source, &known).unwrap_or_else(|| "declare it under `facts`".to_owned());
        let message = format!("unknown fact `{source}`");
        return value.fail(Diagnostic::new(message).help(help));
    }
    Program::compile(&format!(".\"{source}\""), Purpose::Key).ok()
}

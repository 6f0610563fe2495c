//! The dead letters of a manifest's members.
//!
//! Responsible for: naming those that wait in an explanation, where the log can be read.
//! Not responsible for: reading them (`dead_letters`).

use std::collections::HashMap;

use crate::model::ManifestKey;
use crate::ops::OpsError;
use crate::ops::commands::Operator;
use crate::ops::dead_letters::{DeadLetterFilter, LetterState};
use crate::ops::explanation::{Explanation, explain};
use crate::ops::time::Time;

/// Explains a manifest, and names the dead letters of its members. Should the log not answer, the
/// explanation does without them.
///
/// # Errors
/// [`OpsError::Unknown`], with keys that are like it, if there is none of that key.
pub async fn explain_with_letters(
    operator: &Operator,
    key: &ManifestKey,
    now: Time,
) -> Result<Explanation, OpsError> {
    let dead_letters = &operator.topics.dead_letters;
    let store = operator.store()?;
    let mut explanation = explain(store, &operator.pipeline, key, dead_letters, now).await?;
    if explanation.dead_letters.is_none() {
        return Ok(explanation);
    }
    let filter = DeadLetterFilter {
        manifest: Some(key.to_string()),
        state: Some(LetterState::Waiting),
        ..DeadLetterFilter::default()
    };
    match operator.dead_letters(&filter).await {
        Ok(listing) => {
            let letters = listing.letters.into_iter();
            let named = letters.filter_map(|letter| Some((letter.member?, letter.id)));
            explanation.name_letters(named);
        }
        Err(error) => {
            tracing::warn!(manifest = %key, %error, "dead letters are not named in an explanation");
        }
    }
    Ok(explanation)
}

impl Explanation {
    /// Names letters by the members that they are about.
    fn name_letters(&mut self, letters: impl Iterator<Item = (String, String)>) {
        let mut by_member: HashMap<String, Vec<String>> = HashMap::new();
        for (member, id) in letters {
            by_member.entry(member).or_default().push(id);
        }
        for member in self.failed.first.iter_mut().chain(&mut self.accepted.first) {
            member.dead_letters = by_member.remove(&member.member).unwrap_or_default();
        }
    }
}

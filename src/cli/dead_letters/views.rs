//! Dead letters as tables.
//!
//! Responsible for: columns and their order.
//! Not responsible for: what is in them (`ops`), or the style of tables (`output`).

use comfy_table::CellAlignment;

use crate::cli::manifests::output::table;
use crate::ops::dead_letters::{Encoding, LetterDetails, LetterLine, Preview};
use crate::ops::text::printable;
use crate::ops::time::Time;

/// One line for each letter.
pub(super) fn listing(letters: &[LetterLine]) -> String {
    let header = ["id", "state", "failed", "node", "class", "manifest", "member", "tries", "error"];
    let mut table = table(header);
    for letter in letters {
        table.add_row([
            letter.id.clone(),
            letter.state.as_str().to_owned(),
            letter.failed_at.map(Time::to_seconds).unwrap_or_default(),
            shown(&letter.node),
            shown(&letter.class),
            shown(&letter.manifest),
            shown(&letter.member),
            letter.attempts.to_string(),
            shown(&letter.error),
        ]);
    }
    if let Some(tries) = table.column_mut(7) {
        tries.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

fn shown(text: &Option<String>) -> String {
    text.as_deref().map(printable).unwrap_or_default()
}

/// Everything about one letter.
pub(super) fn details(details: &LetterDetails, now: Time) -> String {
    let letter = &details.letter;
    let mut rows = vec![("id", letter.id.clone()), ("state", state(letter, now))];
    rows.extend(letter.failed_at.map(|at| ("failed", ago(at, now))));
    rows.extend(letter.first_failed_at.map(|at| ("first failed", ago(at, now))));
    rows.push(("attempts", letter.attempts.to_string()));
    let texts = [
        ("node", &letter.node),
        ("class", &letter.class),
        ("error", &letter.error),
        ("manifest", &letter.manifest),
        ("member", &letter.member),
        ("source", &letter.source),
    ];
    for (name, text) in texts {
        rows.extend(text.as_deref().map(|text| (name, printable(text))));
    }
    if let (Some(topic), Some(partition), Some(offset)) =
        (&letter.topic, letter.partition, letter.offset)
    {
        rows.push(("record", format!("{}[{partition}] offset {offset}", printable(topic))));
    }
    rows.extend(letter.replay_of.as_deref().map(|id| ("replay of", printable(id))));
    rows.extend(details.key.as_ref().map(|key| ("key", preview(key))));
    for header in &details.headers {
        rows.push(("header", format!("{}: {}", printable(&header.name), preview(&header.value))));
    }
    let value = details.value.as_ref().map_or_else(|| "none: a tombstone".to_owned(), preview);
    rows.push(("value", value));
    let wide = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let lines = rows.iter().map(|(name, value)| format!("{name:wide$}  {value}"));
    lines.collect::<Vec<_>>().join("\n")
}

fn state(letter: &LetterLine, now: Time) -> String {
    let state = letter.state.as_str();
    match &letter.mark {
        None => state.to_owned(),
        Some(mark) => {
            let (who, why) = (printable(&mark.who), printable(&mark.why));
            format!("{state} {} by {who}: {why}", ago(mark.at, now))
        }
    }
}

/// "2025-03-13T05:00:00Z (3 h 12 min ago)".
fn ago(at: Time, now: Time) -> String {
    format!("{} ({} ago)", at.to_seconds(), at.until(now))
}

fn preview(preview: &Preview) -> String {
    let encoding = match preview.encoding {
        Encoding::Text => "",
        Encoding::Base64 => "base64 ",
    };
    let rest = if preview.is_cut {
        format!(" … of {} bytes, --raw prints a value whole", preview.bytes)
    } else {
        String::new()
    };
    format!("{encoding}{}{rest}", preview.shown)
}

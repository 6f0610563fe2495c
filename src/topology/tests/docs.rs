//! The blocks of docs/topology.md are topologies that are accepted.

use toml::Table;

use super::*;

const REFERENCE: &str = include_str!("../../../docs/topology.md");
const BEGIN: &str = "```toml\n";

/// The blocks of a page, each with the line of its first character.
fn blocks(page: &str) -> Vec<(usize, &str)> {
    let starts = page.match_indices(BEGIN).map(|(at, _)| at + BEGIN.len());
    let block = |start: usize| {
        let line = page[..start].matches('\n').count() + 1;
        let end = page[start..].find("```").expect("a block that ends");
        (line, &page[start..start + end])
    };
    starts.map(block).collect()
}

/// Puts `more` into `base`; what it says takes the place of what was said.
fn put(base: &mut Table, more: Table) {
    for (key, value) in more {
        match value {
            toml::Value::Table(more) if base.get(&key).is_some_and(toml::Value::is_table) => {
                if let Some(toml::Value::Table(inner)) = base.get_mut(&key) {
                    put(inner, more);
                }
            }
            value => {
                base.insert(key, value);
            }
        }
    }
}

fn env(name: &str) -> Option<String> {
    name.starts_with("LAKE_").then(|| "secret".to_owned())
}

/// What is wrong with the blocks of a page; the number of those that are right.
fn check(page: &str) -> Result<usize, String> {
    let mut base = Table::new();
    let blocks = blocks(page);
    for (line, block) in &blocks {
        let parsed: Table =
            toml::from_str(block).map_err(|error| format!("line {line}: {error}"))?;
        let topology = if parsed.contains_key("version") {
            base = parsed;
            (*block).to_owned()
        } else {
            let mut whole = base.clone();
            put(&mut whole, parsed);
            toml::to_string(&whole).map_err(|error| format!("line {line}: {error}"))?
        };
        parse("topology.md", &topology, &env)
            .map_err(|errors| format!("the block in line {line}:\n{errors}"))?;
    }
    Ok(blocks.len())
}

#[test]
fn every_block_of_the_reference_is_accepted() {
    let right = check(REFERENCE).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert!(right >= 20, "only {right} blocks were found");
}

#[test]
fn a_block_with_a_mistake_is_found() {
    for (from, to) in [("quorum = \"80%\"", "quorum = \"180%\""), ("at = \"due\"", "at = \"dew\"")]
    {
        let wrong = check(&with(REFERENCE, from, to)).unwrap_err();
        assert!(wrong.contains("1 error in topology.md"), "{wrong}");
    }
}

#[test]
fn the_reference_names_every_word_of_manifests() {
    let words = [
        "all_done",
        "all_settled",
        "quorum",
        "predicate",
        "tolerate",
        "inactivity",
        "first",
        "at",
        "alert",
        "complete",
        "fail",
        "extend",
        "max_extensions",
        "version",
        "late",
        "drop",
        "revision",
        "conflict",
        "accept",
        "shard_by",
        "retire",
    ];
    for word in words {
        let is_there = [format!("`{word}`"), format!("`{word} =")];
        assert!(is_there.iter().any(|word| REFERENCE.contains(word)), "nothing of `{word}`");
    }
}

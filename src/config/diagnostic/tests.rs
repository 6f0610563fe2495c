//! Tests of how errors are shown.

use super::*;

#[test]
fn a_place_inside_a_character_or_behind_the_end_is_cut_to_the_text() {
    let found = vec![Diagnostic::new("odd").at(1..2), Diagnostic::new("end").at(90..99)];
    let shown = Diagnostics::new("x.toml", "äb = 1", found).to_string();
    assert!(shown.contains("x.toml:1:1"), "{shown}");
    assert!(shown.contains("error: end"), "{shown}");
    assert!(shown.ends_with("2 errors in x.toml"), "{shown}");
}

#[test]
fn an_error_without_a_place_is_shown_with_its_hint() {
    let found = vec![Diagnostic::new("cannot read it").help("look".to_owned())];
    let shown = Diagnostics::new("x.toml", "", found).to_string();
    assert!(shown.starts_with("error: cannot read it"), "{shown}");
    assert!(shown.contains("help: look"), "{shown}");
}

#[test]
fn the_second_place_of_an_error_is_shown_too() {
    let found = vec![Diagnostic::new("twice").at(6..7).label("again").context(0..1, "first here")];
    let shown = Diagnostics::new("x.toml", "a = 1\na = 2\n", found).to_string();
    assert!(shown.contains("x.toml:2:1"), "{shown}");
    assert!(shown.contains("- first here"), "{shown}");
    assert!(shown.contains("^ again"), "{shown}");
}

#[test]
fn colour_is_only_there_when_asked_for() {
    let all = Diagnostics::new("x.toml", "a = 1", vec![Diagnostic::new("no").at(0..1)]);
    assert!(!all.render(false).contains('\u{1b}'));
    assert!(all.render(true).contains('\u{1b}'));
}

#[test]
fn control_characters_of_a_file_do_not_reach_the_terminal() {
    let hint = "\u{1b}[31m".to_owned();
    let found = vec![Diagnostic::new("\u{1b}[2J").at(0..1).label("\u{1b}[1m").help(hint)];
    let shown = Diagnostics::new("x.toml", "\u{1b}[5m", found).to_string();
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

//! Predicates, versions of lists, points in time and extensions, from events to rows.

use super::*;

fn kinds_of(kind: Kind) -> Arc<Kinds> {
    Arc::new(Kinds::from_iter([(NodeName::from("report"), kind)]))
}

fn predicate(source: &str) -> Arc<Kinds> {
    let program = Program::compile(source, Purpose::Predicate).unwrap();
    let rules = Rules { policy: Policy::Predicate, ..Rules::default() };
    kinds_of(Kind { rules, predicate: Some(program), ..Kind::default() })
}

fn versioned() -> Arc<Kinds> {
    let rules = Rules { versioned: true, ..Rules::default() };
    kinds_of(Kind { rules, facts: vec!["cluster".into()], ..Kind::default() })
}

/// A list with a version, and whatever else `change` makes of it.
fn list(version: i64, members: &[&str], change: impl FnOnce(&mut Expected)) -> ProgressEvent {
    let mut event = expected(members);
    if let ProgressEvent::Expected(event) = &mut event {
        event.version = Some(version);
        change(event);
    }
    event
}

/// A list without a version and with one more fact.
fn with_fact(members: &[&str], name: &str, value: Value) -> ProgressEvent {
    list(0, members, |event| {
        event.version = None;
        event.facts.insert(name.to_owned(), value);
    })
}

/// What another owner makes of the state that a change has stored.
fn reloaded(kinds: Arc<Kinds>, drafted: &Drafted) -> Ledger {
    let row = drafted.change.manifests[0].clone();
    let members = drafted.change.members.iter().map(|(_, row)| row.clone()).collect();
    let mut ledger = ledger(kinds);
    ledger.load(StoredManifest { row, members });
    ledger
}

#[test]
fn a_predicate_sees_what_the_very_event_brought_and_names_itself_as_the_reason() {
    let mut ledger = ledger(predicate(r#".done >= 1 && .facts.cluster == "c""#));
    let events = [settled("a", MemberState::Done), expected(&["a", "b"])];
    let drafted = change(&mut ledger, &events, at(1));
    let [completion] = drafted.change.completions.as_slice() else { panic!("one completion") };
    assert_eq!(completion.manifest.phase, ManifestPhase::Complete);
    assert_eq!(completion.manifest.note.as_deref(), Some("predicate"));
}

#[test]
fn a_predicate_that_fails_says_so_until_it_does_not() {
    let mut ledger = ledger(predicate("int!(.facts.parts) == .done"));
    let drafted = change(&mut ledger, &[expected(&["a"])], at(1));
    let note = drafted.change.manifests[0].note.clone().unwrap_or_default();
    assert!(note.starts_with("its predicate failed: program failed: "), "{note}");
    let drafted = change(&mut ledger, &[with_fact(&["a"], "parts", json!(1))], at(2));
    assert_eq!(drafted.change.manifests[0].note, None);
    let drafted = change(&mut ledger, &[settled("a", MemberState::Done)], at(3));
    assert_eq!(drafted.change.completions.len(), 1);
}

#[test]
fn a_member_that_a_list_leaves_out_keeps_what_it_brought() {
    for is_reloaded in [false, true] {
        let kinds = versioned();
        let mut ledger = ledger(kinds.clone());
        let events = [list(1, &["a", "b", "c"], |_| {}), settled("a", MemberState::Done)];
        let drafted = change(&mut ledger, &events, at(0));
        if is_reloaded {
            ledger = reloaded(kinds, &drafted);
        }
        let drafted = change(&mut ledger, &[list(2, &["b"], |_| {})], at(1));
        let row = member(&drafted, "a");
        assert!(!row.expected && row.state == MemberState::Done);
        assert_eq!((row.facts.rows, row.settled_at), (7, Some(2)));
        let row = member(&drafted, "c");
        assert_eq!((row.expected, row.state), (false, MemberState::Pending));
        let drafted = change(&mut ledger, &[list(3, &["a", "b"], |_| {})], at(2));
        let row = member(&drafted, "a");
        assert_eq!((row.expected, row.facts.rows, row.settled_at), (true, 7, Some(2)));
    }
}

#[test]
fn the_facts_of_the_higher_version_win_and_an_outdated_list_is_counted() {
    let cluster = |name: &'static str| {
        move |event: &mut Expected| {
            event.facts.insert("cluster".to_owned(), json!(name));
        }
    };
    let mut ledger = ledger(versioned());
    let events = [
        list(2, &["a"], cluster("first")),
        list(2, &["b"], cluster("same version")),
        list(3, &["a"], cluster("higher")),
        list(1, &["x"], cluster("outdated")),
    ];
    let drafted = change(&mut ledger, &events, at(0));
    let row = &drafted.change.manifests[0];
    assert_eq!(row.facts["cluster"], json!("higher"));
    assert_eq!((&row.extra["version"], &row.extra["outdated"]), (&json!(3), &json!(1)));
    assert!(drafted.change.members.iter().all(|(_, row)| row.member.as_str() != "x"));
    let mut ledger = reloaded(versioned(), &drafted);
    let drafted = change(&mut ledger, &[list(2, &["x"], |_| {})], at(1));
    assert_eq!(drafted.change.manifests[0].extra["outdated"], json!(2), "another owner knows it");
}

#[test]
fn a_point_in_time_is_watched_by_the_wall_clock_also_from_the_store() {
    let gone =
        Deadline { after: Duration::ZERO, ..deadline(Since::Appointment, DeadlineAction::Fail) };
    let kinds = kinds(Policy::AllDone, vec![gone], "null");
    let mut ledger = ledger(kinds.clone());
    let appointed = list(0, &["a"], |event| event.due = vec![Some(1_000_500)]);
    let drafted = change(&mut ledger, &[appointed], at(0));
    let mut other = Ledger::new("sales".into(), 0, kinds);
    other.foresee(&drafted.change.manifests[0]);
    for ledger in [&ledger, &other] {
        assert!(ledger.due(at(499), 9).is_empty());
        assert_eq!(ledger.due(at(500), 9), [ManifestKey::from("m")]);
        assert_eq!(ledger.next_due(), None, "nothing depends on the shard's time");
    }
    let mut draft = Draft::default();
    ledger.expire(&"m".into(), at(500), &mut draft);
    let drafted = finish(&mut ledger, draft, at(500));
    assert_eq!(drafted.change.manifests[0].phase, ManifestPhase::Failed);
}

#[test]
fn an_operator_puts_a_deadline_off() {
    let deadlines = vec![deadline(Since::First, DeadlineAction::Fail)];
    let mut ledger = ledger(kinds(Policy::AllDone, deadlines, "null"));
    let hour = 3_600_000;
    let extend = command(CommandAction::Extend { by_seconds: 7_200 });
    change(&mut ledger, &[expected(&["a"]), extend], at(0));
    assert!(ledger.due(at(2 * hour - 1), 9).is_empty());
    assert_eq!(ledger.due(at(2 * hour), 9), [ManifestKey::from("m")]);
}

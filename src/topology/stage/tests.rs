//! Tests of the fusion plan.

use super::*;
use crate::topology::tests::{COST_MANAGEMENT, PASSTHROUGH, valid};

fn outlet(node: usize, port: u8) -> Outlet {
    Outlet { node, port: Port(port) }
}

/// The plan of `text`, and the index of each node by name.
fn plan(text: &str) -> (Vec<Stage>, impl Fn(&str) -> usize + use<>) {
    let graph = valid(text).graph;
    let plan = stages(&graph);
    (plan, move |name: &str| graph.index_of(&name.into()).unwrap())
}

fn topology(nodes: &str) -> String {
    format!("version = 1\nname = \"t\"\n{nodes}")
}

#[test]
fn a_linear_topology_is_one_stage() {
    let (plan, _) = plan(PASSTHROUGH);
    let expected = Stage {
        id: 0,
        entries: vec![Entry { feed: Feed::Source(0), to: vec![Target::Node(1)] }],
        nodes: vec![1, 2, 3],
        routes: vec![
            Route { from: outlet(1, 0), to: vec![Target::Node(2)] },
            Route { from: outlet(2, 0), to: vec![Target::Node(3)] },
        ],
    };
    assert_eq!(plan, [expected]);
}

#[test]
fn a_fetch_and_an_unarchive_cut_cost_management_into_three_stages() {
    let (plan, at) = plan(COST_MANAGEMENT);
    assert_eq!(plan.len(), 3);
    assert_eq!(plan[0].entries[0].feed, Feed::Source(at("announcements")));
    assert_eq!(plan[0].nodes, [at("ours")]);
    assert_eq!(plan[0].edges(), [Target::Call(at("payload"))]);

    let files = at("files");
    assert_eq!(plan[1].entries[0].feed, Feed::Call(at("payload")));
    assert_eq!(plan[1].nodes, [files], "an unarchive is the last node of its stage");
    let into = |entry| [Target::Stage { stage: 2, entry }];
    assert_eq!(plan[1].targets(outlet(files, 0)), into(0));
    assert_eq!(plan[1].targets(outlet(files, 1)), into(1));

    let entries = &plan[2].entries;
    assert_eq!(entries.len(), 2, "both ports of the archive feed the stage behind it");
    assert_eq!(entries[0].feed, Feed::Edge(outlet(files, 0)));
    assert_eq!(entries[0].to, [Target::Node(at("rows"))]);
    assert_eq!(entries[1].feed, Feed::Edge(outlet(files, 1)));
    assert_eq!(entries[1].to, [Target::Node(at("claimed"))]);
    assert_eq!(plan[2].nodes.len(), 8);
    assert!(plan[2].edges().is_empty());
}

#[test]
fn each_schema_of_a_csv_node_goes_to_its_own_readers() {
    let (plan, at) = plan(COST_MANAGEMENT);
    let rows = at("rows");
    let (hours, lake) = (Target::Node(at("hours")), Target::Node(at("lake")));
    let by_namespace = Target::Node(at("by_namespace"));
    assert_eq!(plan[2].targets(outlet(rows, 0)), [hours, lake]);
    assert_eq!(plan[2].targets(outlet(rows, 1)), [hours, by_namespace, lake]);
    assert!(plan[2].targets(outlet(rows, 6)).is_empty(), "nobody reads what was rejected");
}

#[test]
fn fan_out_and_its_union_stay_in_one_stage() {
    let (plan, at) = plan(&topology(
        r#"
[sources.in]
type = "kafka"
topic = "in"
[processors.good]
type = "filter"
inputs = ["in"]
condition = '.ok == true'
rest = "port"
[processors.mended]
type = "remap"
inputs = ["good.rest"]
program = '.ok = true'
[sinks.out]
type = "kafka"
inputs = ["good", "mended"]
topic = "out"
"#,
    ));
    assert_eq!(plan.len(), 1);
    let (good, mended, out) = (at("good"), at("mended"), at("out"));
    assert_eq!(plan[0].nodes, [good, mended, out]);
    assert_eq!(plan[0].targets(outlet(good, 0)), [Target::Node(out)]);
    assert_eq!(plan[0].targets(outlet(good, 1)), [Target::Node(mended)]);
    assert_eq!(plan[0].targets(outlet(mended, 0)), [Target::Node(out)]);
}

#[test]
fn a_node_that_reads_several_stages_has_a_stage_of_its_own() {
    let (plan, at) = plan(&topology(
        r#"
[sources.a]
type = "kafka"
topic = "a"
[sources.b]
type = "kafka"
topic = "b"
[processors.slim]
type = "remap"
inputs = ["b"]
program = '. = {"id": .id}'
[sinks.both]
type = "kafka"
inputs = ["a", "slim"]
topic = "both"
"#,
    ));
    let (a, b, slim, both) = (at("a"), at("b"), at("slim"), at("both"));
    assert_eq!(plan.len(), 3);
    let fan_in = &plan[2];
    assert_eq!(fan_in.nodes, [both]);
    for stage in &plan[..2] {
        assert_eq!(stage.edges().len(), 1);
    }
    let stage_of =
        |source| plan.iter().find(|stage| stage.entries[0].feed == Feed::Source(source)).unwrap();
    assert!(stage_of(a).nodes.is_empty(), "it only passes records on");
    assert_eq!(stage_of(b).nodes, [slim]);
    for (feed, from) in [(outlet(a, 0), stage_of(a)), (outlet(slim, 0), stage_of(b))] {
        let entry = fan_in.entries.iter().position(|entry| entry.feed == Feed::Edge(feed)).unwrap();
        assert_eq!(fan_in.entries[entry].to, [Target::Node(both)]);
        let entry = u16::try_from(entry).unwrap();
        assert_eq!(from.edges(), [Target::Stage { stage: 2, entry }]);
    }
}

#[test]
fn a_source_that_is_fetched_at_once_has_a_stage_without_nodes() {
    let (plan, at) = plan(&topology(
        r#"
[sources.urls]
type = "kafka"
topic = "urls"
[processors.body]
type = "fetch"
inputs = ["urls"]
url = ".url"
allow = ["https://files.example"]
[sinks.out]
type = "kafka"
inputs = ["body"]
topic = "out"
"#,
    ));
    assert_eq!(plan.len(), 2);
    assert!(plan[0].nodes.is_empty());
    assert_eq!(plan[0].entries[0].to, [Target::Call(at("body"))]);
    assert_eq!(plan[1].entries[0].feed, Feed::Call(at("body")));
    assert_eq!(plan[1].nodes, [at("out")]);
}

#[test]
fn every_cpu_node_has_one_seat_and_every_edge_an_entry() {
    for text in [PASSTHROUGH, COST_MANAGEMENT] {
        let graph = valid(text).graph;
        let plan = stages(&graph);
        for (index, node) in graph.nodes.iter().enumerate() {
            let is_outside =
                matches!(node.kind, NodeKind::Source(_) | NodeKind::Processor(Processor::Fetch(_)));
            let seats = plan.iter().filter(|stage| stage.nodes.contains(&index)).count();
            assert_eq!(seats, usize::from(!is_outside), "{}", node.name);
        }
        for stage in &plan {
            assert_eq!(plan[stage.id], *stage, "the id is the index");
            assert!(stage.nodes.is_sorted(), "nodes stand in topological order");
            assert!(!stage.entries.is_empty());
            for edge in stage.edges() {
                if let Target::Stage { stage: to, entry } = edge {
                    assert!(to > stage.id, "edges lead along the stream");
                    assert!(plan[to].entries.len() > usize::from(entry));
                }
            }
        }
    }
}

//! Tests of the topology language: what is accepted, what it means, what is refused and how.

use super::*;

mod docs;
mod fuzz;
mod rules;
mod secrets;
mod wrong;

pub(super) const PASSTHROUGH: &str = include_str!("../../topologies/passthrough.toml");
pub(super) const COST_MANAGEMENT: &str = include_str!("../../topologies/cost-management.toml");

pub(super) fn no_env(_: &str) -> Option<String> {
    None
}

pub(super) fn valid(text: &str) -> Topology {
    parse("test.toml", text, &no_env).unwrap_or_else(|errors| panic!("{errors}"))
}

/// `text` with `from` replaced, which has to be in it.
pub(super) fn with(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in the text");
    text.replace(from, to)
}

fn names(topology: &Topology) -> Vec<&str> {
    topology.graph.nodes.iter().map(|node| node.name.as_str()).collect()
}

fn node<'t>(topology: &'t Topology, name: &str) -> &'t Node {
    let index = topology.graph.index_of(&NodeName::from(name)).unwrap();
    &topology.graph.nodes[index]
}

#[test]
fn the_shipped_passthrough_is_valid_and_needs_nothing_else() {
    let topology = valid(PASSTHROUGH);
    assert_eq!(topology.name, PipelineName::from("passthrough"));
    assert_eq!(topology.broker.bootstrap, None);
    assert_eq!(names(&topology), ["orders", "paid", "slim", "out"]);
    let NodeKind::Source(crate::source::config::Config::Kafka(source)) =
        &topology.graph.nodes[0].kind
    else {
        panic!("orders is no source");
    };
    assert_eq!(source.group, "passthrough", "the group is that of the pipeline");
    assert_eq!(topology.progress_topic(), Topic::from("passthrough.progress"));
}

#[test]
fn the_shipped_cost_management_is_valid_and_complete() {
    let topology = valid(COST_MANAGEMENT);
    assert_eq!(
        names(&topology),
        [
            "announcements",
            "ours",
            "payload",
            "files",
            "rows",
            "claimed",
            "hours",
            "by_namespace",
            "lake",
            "claimed_hours",
            "covered_hours",
            "parts",
        ]
    );
    assert_eq!(topology.broker.bootstrap, None, "no host: the embedded log");
    assert_eq!(topology.ingresses.len(), 1);
    assert_eq!(topology.receipts[0].1.of, NodeName::from("ours"));
    let (name, manifest) = &topology.manifests[0];
    assert_eq!(name, &NodeName::from("report"));
    assert_eq!(manifest.announced_by, NodeName::from("files"));
    assert_eq!(manifest.announced_port.as_deref(), Some("index"));
    let actions: Vec<&str> = manifest.on_complete.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(actions, ["summarize", "supersede", "announce"]);
    let facts: Vec<&str> = manifest.facts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(facts, ["cluster", "made", "additive", "months"]);
    let views: Vec<&str> = topology.views.iter().map(|view| view.name.as_str()).collect();
    assert_eq!(views, ["ocp_day", "ocp_ranked"]);
    assert_eq!(topology.tables.len(), 5);
}

#[test]
fn columns_of_tables_keep_the_order_of_the_file() {
    let topology = valid(COST_MANAGEMENT);
    let part = topology.tables.iter().find(|table| table.name == "ocp_part").unwrap();
    let columns: Vec<&str> = part.columns.iter().map(|(name, _)| name.as_str()).collect();
    let declared = [
        "usage_date",
        "namespace",
        "cpu_usage",
        "cpu_request",
        "cpu_limit",
        "mem_usage",
        "mem_request",
        "mem_limit",
    ];
    assert_eq!(columns, declared);
}

#[test]
fn schemas_have_the_columns_of_every_schema_and_drop_rows_by_their_doubles() {
    use crate::processor::config::{ColumnKind, Config};
    let topology = valid(COST_MANAGEMENT);
    let NodeKind::Processor(Config::Csv(csv)) = &node(&topology, "rows").kind else {
        panic!("rows is no csv");
    };
    let pods = csv.schemas.iter().find(|schema| schema.name == "pod_usage").unwrap();
    let start = pods.columns.iter().find(|column| column.name == "interval_start").unwrap();
    assert_eq!(start.kind, ColumnKind::Instant);
    let drop = pods.drop_row.as_ref().unwrap();
    assert_eq!(drop.columns.len(), 9, "all ten doubles but one");
    assert!(!drop.columns.contains(&"node_capacity_cpu_cores".to_owned()));
    assert!(csv.schemas[2].drop_row.is_none());
}

#[test]
fn reading_a_csv_node_reads_its_schemas_and_not_what_was_rejected() {
    let topology = valid(COST_MANAGEMENT);
    let graph = &topology.graph;
    let rows = graph.index_of(&NodeName::from("rows")).unwrap();
    let lake = graph.index_of(&NodeName::from("lake")).unwrap();
    let ports: Vec<String> = graph.nodes[rows].ports().into_iter().map(|port| port.name).collect();
    let names = ["storage_usage", "pod_usage", "node_labels", "namespace_labels", "vm_usage"];
    assert_eq!(ports[..5], names);
    assert_eq!(ports[5..], ["gpu_usage", "rejected"]);
    let of = |port: &str| graph.readers(rows, graph.port(rows, port).unwrap());
    assert!(of("vm_usage").contains(&lake));
    assert!(of("rejected").is_empty());
    assert_eq!(graph.reads(lake).len(), 6);
}

#[test]
fn the_environment_sets_declared_variables() {
    let env = |name: &str| match name {
        "INSIGHTS_KAFKA_HOST" => Some("kafka.example".to_owned()),
        "INSIGHTS_KAFKA_PORT" => Some("9092".to_owned()),
        "KAFKA_TOPIC" => Some("announce".to_owned()),
        _ => None,
    };
    let topology = parse("cost.toml", COST_MANAGEMENT, &env).unwrap();
    assert_eq!(topology.broker.bootstrap.as_deref(), Some("kafka.example:9092"));
    assert_eq!(topology.ingresses[0].1.topic, Topic::from("announce"));
}

#[test]
fn a_disabled_broker_is_the_embedded_log() {
    let env = |name: &str| match name {
        "INSIGHTS_KAFKA_HOST" => Some("kafka.example".to_owned()),
        "KAFKA_CONNECT" => Some("False".to_owned()),
        _ => None,
    };
    let topology = parse("cost.toml", COST_MANAGEMENT, &env).unwrap();
    assert_eq!(topology.broker.bootstrap, None);
}

#[test]
fn variables_mean_nothing_inside_programs() {
    let text = with(
        PASSTHROUGH,
        "condition = '.status == \"paid\"'",
        "condition = '.status == \"${name}\"'",
    );
    let topology = valid(&format!("{text}\n[vars]\nname = {{ default = \"x\" }}\n"));
    let NodeKind::Processor(crate::processor::config::Config::Filter(filter)) =
        &node(&topology, "paid").kind
    else {
        panic!("paid is no filter");
    };
    assert_eq!(filter.condition.source(), ".status == \"${name}\"");
}

#[test]
fn a_definition_changes_with_the_meaning_and_not_with_the_layout() {
    let before = valid(PASSTHROUGH);
    let moved = valid(&with(
        PASSTHROUGH,
        "type = \"filter\"\ninputs = [\"orders\"]",
        "# said otherwise\n'inputs' = [ 'orders' ]\n\ntype = 'filter'",
    ));
    let other = valid(&with(PASSTHROUGH, ".status == \"paid\"", ".status == \"open\""));
    let definition = |topology: &Topology| node(topology, "paid").definition.clone();
    assert_eq!(definition(&before), definition(&moved));
    assert_ne!(definition(&before), definition(&other));
}

#[test]
fn broker_properties_reach_the_client_and_stay_out_of_debug_output() {
    let text = format!(
        "{PASSTHROUGH}\n[broker]\nbootstrap = \"a:1, b:2\"\n[broker.properties]\n\
         \"client.id\" = \"tide\"\nclient.rack = \"r1\"\nsocket.timeout.ms = 5000\n"
    );
    let broker = valid(&text).broker;
    assert_eq!(broker.bootstrap.as_deref(), Some("a:1,b:2"));
    assert_eq!(broker.properties["client.rack"], "r1");
    assert_eq!(broker.properties["socket.timeout.ms"], "5000");
    assert!(!format!("{broker:?}").contains("tide"));
}

#[test]
fn a_source_can_start_at_an_instant() {
    use crate::broker::Start;
    use crate::source::config::Config;
    let start = |value: &str| {
        let to = format!("decode = \"json\"\nstart = {value}");
        let topology = valid(&with(PASSTHROUGH, "decode = \"json\"", &to));
        let NodeKind::Source(Config::Kafka(source)) = &topology.graph.nodes[0].kind else {
            panic!("orders is no source");
        };
        source.start
    };
    assert_eq!(start("\"latest\""), Start::Latest);
    assert_eq!(start("\"1970-01-01T00:00:01Z\""), Start::Timestamp(1_000));
    assert_eq!(start("1970-01-01T00:00:01Z"), Start::Timestamp(1_000));
}

#[test]
fn nodes_are_ordered_along_the_stream_wherever_they_stand_in_the_file() {
    let (head, rest) = PASSTHROUGH.split_once("# An order whose").unwrap();
    let (slim, out) = rest.split_once("# Keyed by order").unwrap();
    let turned = format!(
        "{}\n# {out}\n# {slim}\n{}",
        "version = 1\nname = \"turned\"",
        &head[head.find("[sources.orders]").unwrap()..]
    );
    assert_eq!(names(&valid(&turned)), ["orders", "paid", "slim", "out"]);
}

#[test]
fn actions_without_a_name_are_called_after_their_type() {
    let text = with(COST_MANAGEMENT, "name = \"summarize\"\n", "");
    let text = with(&text, "name = \"announce\"\n", "");
    let manifest = &valid(&text).manifests[0].1;
    let names: Vec<&str> = manifest.on_complete.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(names, ["sql-1", "supersede", "kafka-1"]);
}

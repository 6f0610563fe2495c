//! Tests of the pictures.

use super::*;
use crate::config::Config;
use crate::topology::tests::{COST_MANAGEMENT, PASSTHROUGH, valid};

fn capacities() -> Capacities {
    Capacities::from(&Config::default().limits)
}

#[test]
fn the_text_of_a_linear_topology_shows_every_node_and_queue() {
    let expected = "\
pipeline passthrough on embedded log

source orders: topic orders, group passthrough
  [8 MiB / 10000 records per partition, 128 MiB in all]
  [10000 records in flight per partition]
  -> stage 0 [8 batches of 256 per lane]

stage 0
  from orders
    -> paid
  paid (filter): keeps some records
    -> slim
  slim (remap): rewrites fields
    -> out
  out (kafka): topic orders.paid
    -> durable [8 batches of 256]
";
    assert_eq!(text(&valid(PASSTHROUGH), &capacities()), expected);
}

#[test]
fn the_text_shows_stages_ports_manifests_and_actions() {
    let shown = text(&valid(COST_MANAGEMENT), &capacities());
    for expected in [
        "ingress uploads: POST /api/ingress/v1/upload\n  -> topic platform.upload.announce\n",
        "  ours (filter): keeps some records\n    -> payload [8 batches of 256]\n",
        "fetch payload: bodies of up to 150 MiB\n  [8 batches of 256, 8 at once]\n",
        "  files (unarchive): members of archives\n    -> stage 2 [8 batches of 256 per lane]\n",
        "    .index -> stage 2 [8 batches of 256 per lane]\n",
        "stage 2\n  from files\n    -> rows\n  from files.index\n    -> claimed\n",
        "    .pod_usage -> by_namespace\n",
        "  lake (parquet): objects under file://data/lake\n",
        "topic cost-management.progress: 12 partitions, one aggregator each\n",
        "  manifest report: members of files, expected by files.index, all done\n    -> summarize\n",
    ] {
        assert!(shown.contains(expected), "no {expected:?} in:\n{shown}");
    }
}

#[test]
fn the_chart_of_a_linear_topology_is_a_flowchart_with_one_subgraph() {
    let expected = "\
flowchart LR
  n0[(\"orders<br/>topic orders, group passthrough\")]
  subgraph s0[\"stage 0\"]
    n1[\"paid<br/>filter: keeps some records\"]
    n2[\"slim<br/>remap: rewrites fields\"]
    n3[(\"out<br/>kafka: topic orders.paid\")]
  end
  n0 -->|\"8 MiB / 10000 records per partition, 128 MiB in all\"| n1
  n1 --> n2
  n2 --> n3
";
    assert_eq!(mermaid(&valid(PASSTHROUGH), &capacities()), expected);
}

#[test]
fn the_chart_shows_edges_between_stages_with_their_queues_and_the_way_of_completions() {
    let topology = valid(COST_MANAGEMENT);
    let at = |name: &str| topology.graph.index_of(&name.into()).unwrap();
    let shown = mermaid(&topology, &capacities());
    let (files, rows, claimed) = (at("files"), at("rows"), at("claimed"));
    for expected in [
        format!("  n{}{{{{\"payload<br/>bodies of up to 150 MiB\"}}}}\n", at("payload")),
        format!("  n{files} -->|\"8 batches of 256 per lane\"| n{rows}\n"),
        format!("  n{files} -->|\"files.index<br/>8 batches of 256 per lane\"| n{claimed}\n"),
        format!("  n{files} -.->|\"report: expected by files.index\"| progress\n"),
        "  progress --> aggregator\n".to_owned(),
        "  aggregator --> a0\n".to_owned(),
        "  subgraph s2[\"stage 2\"]\n".to_owned(),
    ] {
        assert!(shown.contains(&expected), "no {expected:?} in:\n{shown}");
    }
}

//! Wrong SQL in actions, as far as it shows without a database.

use super::*;
use crate::completion::config::ActionKind;

#[test]
fn mistakes_of_queries_that_retire_have_a_place_and_say_what_is_possible() {
    check(
        COST_MANAGEMENT,
        &[
            Mistake {
                from: "SELECT o.url\nFROM ocp_ranked k",
                to: "DELETE FROM ocp_ranked k",
                caret: "DELETE FROM ocp_ranked",
                said: &["the query in `query` is not valid", "it is a SELECT, and changes nothing"],
            },
            Mistake {
                from: "SELECT o.url\nFROM ocp_ranked k",
                to: "EXPLAIN SELECT o.url FROM ocp_ranked k",
                caret: "EXPLAIN",
                said: &["a statement begins with SELECT"],
            },
            Mistake {
                from: "JOIN tidemill_object o",
                to: "JOIN tidemill_member o",
                caret: "tidemill_member o",
                said: &["names that begin with tidemill_ are the engine's"],
            },
            Mistake {
                from: "o.pipeline = :pipeline",
                to: "o.pipeline = :pipline",
                caret: ":pipline",
                said: &[
                    "nothing is bound to :pipline",
                    "bound here: pipeline, manifest, revision, completed_at, cluster, made",
                ],
            },
            Mistake {
                from: "name = \"supersede\"\nquery",
                to: "name = \"supersede\"\nquerry",
                caret: "querry",
                said: &["`query` is missing in [[on_complete]]", "unknown key `querry`"],
            },
        ],
    );
}

#[test]
fn mistakes_of_statements_have_a_place_and_say_what_is_possible() {
    check(
        COST_MANAGEMENT,
        &[
            Mistake {
                from: "(:manifest, :cluster, :made, :additive)",
                to: "(:manifest, :cluster, :mad, :additive)",
                caret: ":mad,",
                said: &["the statement in `statements` is not valid: nothing is bound to :mad"],
            },
            Mistake {
                from: "'''DELETE FROM ocp_usage_summary",
                to: "'''SELECT * FROM ocp_usage_summary",
                caret: "SELECT * FROM ocp_usage_summary",
                said: &["an action changes rows with INSERT, UPDATE or DELETE"],
            },
            Mistake {
                from: "'''DELETE FROM ocp_usage_summary",
                to: "'''DELETE FROM tidemill_object",
                caret: "tidemill_object WHERE cluster_id",
                said: &["names that begin with tidemill_ are the engine's"],
            },
        ],
    );
}

#[test]
fn a_fact_cannot_be_called_like_what_is_bound_already() {
    let text = with(COST_MANAGEMENT, "facts = { cluster =", "facts = { pipeline =");
    let shown = errors(&text).to_string();
    assert!(shown.contains("`:pipeline` is bound in SQL already"), "{shown}");
    assert!(!shown.contains("nothing is bound"), "what hangs on it is no further error:\n{shown}");
}

#[test]
fn a_query_that_retires_is_kept_as_it_stands() {
    let topology = valid(COST_MANAGEMENT);
    let action = &topology.manifests[0].1.on_complete[1];
    let ActionKind::Retire { query } = &action.kind else { panic!("{action:?}") };
    assert_eq!(action.name, "supersede");
    assert!(query.starts_with("SELECT o.url\nFROM ocp_ranked k\n"), "{query}");
}

//! What every state store has to do, tried on each of them.
//!
//! Responsible for: the contract of `tidemill::state::StateStore`, as tests that run on each
//! implementation.
//! Not responsible for: what only one of them does; that is tested beside its code.

mod backlog;
mod changes;
mod kit;
mod replicas;
mod retire;
mod tables;

use std::sync::Arc;

use tidemill::model::{Epoch, ManifestKey, Offset, PipelineName};
use tidemill::state::{
    Applied, Change, Lease, ManifestFilter, ManifestPhase, ManifestRow, PipelineIdentity,
    StateError, StateStore,
};
use uuid::Uuid;

use backlog::the_backlog_counts_what_is_owed_and_what_is_open;
use changes::{
    a_completion_runs_its_statements_and_owes_its_deliveries_once,
    a_statement_that_cannot_work_blocks_its_completion_alone,
    listings_count_members_and_filter_manifests, many_shards_are_applied_at_the_same_time,
    members_and_manifests_come_back_as_they_were,
};
use kit::{
    Database, Postgres, Sqlite, Tested, change, completion, declarations, done, identity, manifest,
    mismatch, named, owned, pipeline, prepared, shard,
};
use retire::{
    a_completion_retires_what_its_query_names, a_completion_that_is_rolled_back_retires_nothing,
    a_sweep_takes_what_was_deleted_long_ago,
    an_object_is_due_until_it_is_deleted_and_again_once_it_is_named,
    an_object_that_is_named_while_it_is_deleted_stays_due,
    objects_of_another_pipeline_are_left_alone, queries_that_cannot_work_are_refused_at_start,
    the_position_of_a_shard_is_where_its_last_change_ended,
};
use tables::{
    a_changed_table_is_refused_by_name, a_changed_view_is_made_again,
    a_dead_lettered_member_shows_no_rows, a_newer_report_replaces_an_older_one_in_sql,
    only_rows_of_the_accepted_digest_are_seen, rows_of_a_digest_are_written_once,
    rows_of_a_manifest_are_written_by_one_of_its_announcements,
    rows_that_do_not_fit_are_refused_and_leave_nothing,
    statements_and_views_that_cannot_work_are_refused_at_start, values_come_back_as_declared,
};

macro_rules! contract {
    ($($behaviour:ident,)*) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $behaviour() -> super::Tested {
                super::$behaviour(super::Sqlite::open()?).await
            })*
        }

        mod postgres {
            $(#[tokio::test]
            async fn $behaviour() -> super::Tested {
                let (database, own) = super::Postgres::open().await?;
                super::$behaviour(database).await?;
                own.remove().await
            })*
        }
    };
}

contract! {
    a_takeover_raises_the_epoch_and_fences_the_former_owner,
    a_forged_token_is_fenced,
    a_change_has_to_begin_where_the_last_one_ended,
    a_manifest_of_another_shard_is_an_error,
    a_pipeline_keeps_its_group_and_its_shards,
    deliveries_wait_for_earlier_revisions,
    deliveries_are_due_again_when_nothing_is_heard_of_them,
    a_failed_delivery_waits_and_says_why,
    members_and_manifests_come_back_as_they_were,
    a_completion_runs_its_statements_and_owes_its_deliveries_once,
    a_statement_that_cannot_work_blocks_its_completion_alone,
    listings_count_members_and_filter_manifests,
    many_shards_are_applied_at_the_same_time,
    rows_of_a_digest_are_written_once,
    only_rows_of_the_accepted_digest_are_seen,
    a_dead_lettered_member_shows_no_rows,
    rows_of_a_manifest_are_written_by_one_of_its_announcements,
    rows_that_do_not_fit_are_refused_and_leave_nothing,
    values_come_back_as_declared,
    a_changed_table_is_refused_by_name,
    a_changed_view_is_made_again,
    statements_and_views_that_cannot_work_are_refused_at_start,
    a_newer_report_replaces_an_older_one_in_sql,
    a_completion_retires_what_its_query_names,
    a_completion_that_is_rolled_back_retires_nothing,
    queries_that_cannot_work_are_refused_at_start,
    an_object_is_due_until_it_is_deleted_and_again_once_it_is_named,
    a_sweep_takes_what_was_deleted_long_ago,
    an_object_that_is_named_while_it_is_deleted_stays_due,
    objects_of_another_pipeline_are_left_alone,
    the_position_of_a_shard_is_where_its_last_change_ended,
    the_backlog_counts_what_is_owed_and_what_is_open,
}

async fn a_takeover_raises_the_epoch_and_fences_the_former_owner(
    database: Box<dyn Database>,
) -> Tested {
    let store = prepared(database.as_ref()).await?;
    let first = store.take_over(&shard(0)).await?;
    assert_eq!(first.next, None);
    assert_eq!(store.apply(&first.lease, change(7, 9)).await, done());
    let second = store.take_over(&shard(0)).await?;
    assert!(second.lease.epoch > first.lease.epoch);
    assert_ne!(second.lease.token, first.lease.token);
    assert_eq!(second.next, Some(Offset(9)));

    let late = Change { manifests: vec![manifest("a")], ..change(9, 10) };
    assert_eq!(store.apply(&first.lease, late).await?, Applied::Fenced);
    assert_eq!(store.manifest(&pipeline(), &ManifestKey::from("a")).await?, None);
    assert_eq!(store.apply(&second.lease, change(9, 10)).await, done());
    assert_eq!(store.take_over(&shard(1)).await?.next, None, "other shards are untouched");
    drop(store);

    let database = database.reopened().await?;
    let store = database.store();
    let third = store.take_over(&shard(0)).await?;
    assert!(third.lease.epoch > second.lease.epoch);
    assert_eq!(third.next, Some(Offset(10)));
    Ok(())
}

async fn a_forged_token_is_fenced(database: Box<dyn Database>) -> Tested {
    let (store, lease) = owned(database.as_ref()).await?;
    let restored = Lease { token: Uuid::new_v4(), ..lease.clone() };
    assert_eq!(store.apply(&restored, change(0, 1)).await?, Applied::Fenced);
    let early = Lease { epoch: Epoch(lease.epoch.0 + 1), ..lease.clone() };
    assert_eq!(store.apply(&early, change(0, 1)).await?, Applied::Fenced);
    let elsewhere = Lease { key: shard(3), ..lease.clone() };
    assert_eq!(store.apply(&elsewhere, change(0, 1)).await?, Applied::Fenced);
    assert_eq!(store.apply(&lease, change(0, 1)).await, done());
    Ok(())
}

async fn a_change_has_to_begin_where_the_last_one_ended(database: Box<dyn Database>) -> Tested {
    let (store, lease) = owned(database.as_ref()).await?;
    assert_eq!(store.apply(&lease, change(40, 45)).await, done());
    // The same change again, as after a lost answer, and one with a gap in front of it.
    for from in [40, 46] {
        let repeated = Change { manifests: vec![manifest("a")], ..change(from, 50) };
        let Err(StateError::Fatal(why)) = store.apply(&lease, repeated).await else {
            return Err("a broken chain was applied".into());
        };
        assert!(why.contains(&from.to_string()) && why.contains("45"), "{why}");
    }
    assert_eq!(store.manifest(&pipeline(), &ManifestKey::from("a")).await?, None);
    assert_eq!(store.apply(&lease, change(45, 45)).await, done(), "no events, no movement");
    assert_eq!(store.apply(&lease, change(45, 46)).await, done());
    Ok(())
}

async fn a_manifest_of_another_shard_is_an_error(database: Box<dyn Database>) -> Tested {
    let (store, lease) = owned(database.as_ref()).await?;
    let other = store.take_over(&shard(1)).await?.lease;
    let with =
        |row: ManifestRow, from: i64| Change { manifests: vec![row], ..change(from, from + 1) };
    assert_eq!(store.apply(&lease, with(manifest("a"), 0)).await, done());
    let why = mismatch(store.load(&other, &[ManifestKey::from("a")]).await)?;
    assert!(why.contains("manifest a") && why.contains("shard 0"), "{why}");
    let stolen = ManifestRow { shard: 1, ..manifest("a") };
    mismatch(store.apply(&other, with(stolen, 0)).await)?;
    mismatch(store.apply(&other, with(manifest("b"), 0)).await)?;
    let completes = Change { completions: vec![completion("b", 1, &[])], ..change(0, 1) };
    mismatch(store.apply(&other, completes).await)?;
    assert_eq!(store.load(&lease, &[ManifestKey::from("a")]).await?[0].row, manifest("a"));
    assert_eq!(store.apply(&other, change(0, 1)).await, done(), "nothing of it was applied");
    Ok(())
}

async fn a_pipeline_keeps_its_group_and_its_shards(database: Box<dyn Database>) -> Tested {
    let store = prepared(database.as_ref()).await?;
    store.prepare(&identity(), &declarations()).await?;
    let regrouped = PipelineIdentity { group: "others".to_owned(), ..identity() };
    let why = mismatch(store.prepare(&regrouped, &declarations()).await)?;
    assert!(why.contains("group readers") && why.contains("others"), "{why}");
    let resized = PipelineIdentity { shards: 8, ..identity() };
    let why = mismatch(store.prepare(&resized, &declarations()).await)?;
    assert!(why.contains("4 shards") && why.contains("8 partitions"), "{why}");
    store.prepare(&identity(), &declarations()).await?;
    Ok(())
}

/// Completes a manifest under each of the revisions.
async fn completed(
    store: &Arc<dyn StateStore>,
    lease: &Lease,
    key: &str,
    revisions: u32,
    from: i64,
) -> Tested {
    let completions = (1..=revisions).map(|revision| completion(key, revision, &[])).collect();
    let to = from + i64::from(revisions);
    let change = Change { completions, ..change(from, to) };
    assert_eq!(store.apply(lease, change).await, done());
    Ok(())
}

async fn deliveries_wait_for_earlier_revisions(database: Box<dyn Database>) -> Tested {
    let (store, lease) = owned(database.as_ref()).await?;
    completed(&store, &lease, "a", 2, 0).await?;
    completed(&store, &lease, "b", 1, 2).await?;
    let first = store.claim(&pipeline(), 10, 100, 10).await?;
    assert_eq!(named(&first), [("a", 1), ("b", 1)]);
    assert_eq!(first[0].row, kit::delivery("a", 1, "tell"));
    assert_eq!(first[0].attempts, 0);
    store.delivered(first[1].id, 20).await?;
    assert!(store.claim(&pipeline(), 20, 100, 10).await?.is_empty());
    store.delivered(first[0].id, 30).await?;
    assert_eq!(named(&store.claim(&pipeline(), 30, 100, 10).await?), [("a", 2)]);
    let elsewhere = PipelineName::from("films");
    assert!(store.claim(&elsewhere, 1_000, 2_000, 10).await?.is_empty());
    Ok(())
}

async fn deliveries_are_due_again_when_nothing_is_heard_of_them(
    database: Box<dyn Database>,
) -> Tested {
    let (store, lease) = owned(database.as_ref()).await?;
    for (index, key) in ["a", "b", "c"].into_iter().enumerate() {
        completed(&store, &lease, key, 1, index as i64).await?;
    }
    let first = store.claim(&pipeline(), 10, 100, 2).await?;
    assert_eq!(named(&first), [("a", 1), ("b", 1)], "no more than asked for, oldest first");
    assert_eq!(named(&store.claim(&pipeline(), 99, 200, 2).await?), [("c", 1)]);
    store.delivered(first[0].id, 99).await?;
    drop(store);

    let database = database.reopened().await?;
    let store = database.store();
    let again = store.claim(&pipeline(), 100, 200, 10).await?;
    assert_eq!(named(&again), [("b", 1)]);
    assert_eq!((again[0].id, again[0].attempts), (first[1].id, 1));
    store.delivered(again[0].id, 150).await?;
    store.delivered(again[0].id, 160).await?;
    assert!(store.claim(&pipeline(), 199, 300, 10).await?.is_empty());
    assert_eq!(named(&store.claim(&pipeline(), i64::MAX, i64::MAX, 10).await?), [("c", 1)]);
    Ok(())
}

async fn a_failed_delivery_waits_and_says_why(database: Box<dyn Database>) -> Tested {
    let (store, lease) = owned(database.as_ref()).await?;
    completed(&store, &lease, "a", 1, 0).await?;
    let claimed = store.claim(&pipeline(), 10, 100, 10).await?;
    store.failed(claimed[0].id, 500, "the broker said no").await?;
    assert!(store.claim(&pipeline(), 499, 600, 10).await?.is_empty());
    let (stored, deliveries) = store
        .manifest(&pipeline(), &ManifestKey::from("a"))
        .await?
        .ok_or("the manifest is known")?;
    assert_eq!(stored.row.phase, ManifestPhase::Complete);
    let status = &deliveries[0];
    assert_eq!((status.attempts, status.delivered_at), (1, None));
    assert_eq!(status.last_error.as_deref(), Some("the broker said no"));
    let again = store.claim(&pipeline(), 500, 600, 10).await?;
    store.delivered(again[0].id, 510).await?;
    store.failed(again[0].id, 520, "too late").await?;
    assert!(store.claim(&pipeline(), 10_000, 20_000, 10).await?.is_empty());
    let known = store.manifest(&pipeline(), &ManifestKey::from("a")).await?;
    let (_, deliveries) = known.ok_or("the manifest is known")?;
    assert_eq!((deliveries[0].delivered_at, deliveries[0].attempts), (Some(510), 2));
    assert_eq!(store.manifests(&pipeline(), &ManifestFilter::default()).await?.len(), 1);
    assert!(store.delivered(i64::MAX, 1).await.is_err(), "no such delivery");
    Ok(())
}

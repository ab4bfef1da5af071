//! Taking the lease away, on a real server.

use ogelnates::store::{Error, Store};

use crate::support::{PATIENCE, server};

async fn migrated() -> Store {
    let database = server().await.fresh_database().await;
    let store = Store::connect(&server().await.url(&database), PATIENCE).await.expect("connected");
    store.migrate().await.expect("migrated");
    store
}

#[tokio::test]
async fn the_lease_tells_who_holds_it_and_since_when() {
    let store = migrated().await;
    let never = store.holder().await.expect("read");
    assert_eq!((never.epoch, never.session), (0, None));
    let lease = store.acquire("a test", PATIENCE, |_| {}).await.expect("free");
    let held = store.holder().await.expect("read");
    assert_eq!((held.epoch, held.holder.as_str()), (lease.epoch(), "a test"));
    let session = held.session.expect("held");
    assert!(held.taken_at <= held.now && session.connected_at <= held.taken_at);
    assert!(store.still_holds(lease.epoch()).await.expect("read"));
    assert!(!store.still_holds(lease.epoch() + 1).await.expect("read"));
    lease.release().await;
    let epoch = held.epoch;
    assert!(
        crate::support::eventually("freed", async || (!store.still_holds(epoch).await.ok()?).then_some(true)).await
    );
    assert_eq!(store.holder().await.expect("read").session, None);
}

#[tokio::test]
async fn a_robbed_holder_writes_nothing_and_the_next_one_need_not_wait() {
    let store = migrated().await;
    let mut robbed = store.acquire("stuck", PATIENCE, |_| {}).await.expect("free");
    let seen = robbed.epoch();
    assert_eq!(store.steal(seen + 1, "a thief").await.expect("asked"), None, "not the holder that was seen");
    assert!(store.still_holds(seen).await.expect("read"), "nothing happened");
    assert_eq!(store.steal(seen, "a thief").await.expect("taken"), Some(seen + 1));
    assert!(!store.still_holds(seen).await.expect("read"));
    let write = robbed.save_router("edge", &serde_json::json!({})).await.expect_err("robbed");
    assert!(matches!(write, Error::LeaseLost { .. } | Error::StaleEpoch { .. }), "{write:?}");
    let next = store.acquire("next", std::time::Duration::ZERO, |_| {}).await.expect("free at once");
    assert_eq!(next.epoch(), seen + 2);
    assert!(store.load().await.expect("loaded").1.routers.is_empty());
}

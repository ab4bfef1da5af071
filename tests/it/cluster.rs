//! The server behind a database service, as the local Railway runs it.

use std::process::Command;

use ogelnates::local::{Cluster, ClusterError};
use ogelnates::tenancy::Secret;
use sqlx::{Connection as _, PgConnection};

use crate::support::{
    START_MAX, binaries, eventually, execute, open_folder, server, start_on_free_port, test_settings,
};

fn url(port: u16, password: &str) -> String {
    format!("postgresql://postgres:{password}@127.0.0.1:{port}/postgres")
}

#[tokio::test]
async fn data_survives_a_stop_and_a_kill_and_the_password_is_asked_for() {
    let folder = open_folder();
    let mut cluster = Cluster::open(binaries(), folder.path()).expect("opened");
    cluster.init(&Secret::new("right")).await.expect("made");
    let port = start_on_free_port(&mut cluster, &[("work_mem".into(), "5MB".into())]).await;
    let mut connection = PgConnection::connect(&url(port, "right")).await.expect("connected");
    execute(&mut connection, "CREATE TABLE kept AS SELECT current_setting('work_mem') AS work_mem").await;
    let wrong = PgConnection::connect(&url(port, "wrong")).await.expect_err("the password is wrong");
    assert!(wrong.to_string().contains("password authentication failed"), "{wrong}");
    drop(connection);

    cluster.stop().await.expect("stopped");
    assert_eq!(cluster.process(), None);
    // A second `init` must not touch the data.
    cluster.init(&Secret::new("other")).await.expect("nothing to do");
    start_on_free_port(&mut cluster, &[]).await;

    let killed = cluster.process().expect("running").pid;
    Command::new("kill").args(["-9", &killed.to_string()]).status().expect("killed");
    // Another owner, as after a crash of the first one.
    drop(cluster);
    let mut cluster = Cluster::open(binaries(), folder.path()).expect("opened");
    eventually("the killed server is seen as gone", async || cluster.process().is_none().then_some(())).await;
    let port = start_on_free_port(&mut cluster, &[]).await;
    let mut connection = PgConnection::connect(&url(port, "right")).await.expect("connected");
    let kept: String =
        sqlx::query_scalar("SELECT work_mem FROM kept").fetch_one(&mut connection).await.expect("kept");
    assert_eq!(kept, "5MB");
    cluster.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_server_left_by_an_earlier_owner_is_found_and_stopped() {
    let folder = open_folder();
    let mut first = Cluster::open(binaries(), folder.path()).expect("opened");
    first.init(&Secret::new("x")).await.expect("made");
    let port = start_on_free_port(&mut first, &[]).await;
    drop(first);
    let mut second = Cluster::open(binaries(), folder.path()).expect("opened");
    let left = second.process().expect("still running");
    assert!(left.ready && left.port == port, "{left:?}");
    start_on_free_port(&mut second, &[]).await;
    assert_ne!(second.process().expect("running").pid, left.pid);
    second.stop().await.expect("stopped");
    assert_eq!(second.process(), None);
}

#[tokio::test]
async fn a_half_made_data_folder_is_made_again() {
    let folder = open_folder();
    let mut cluster = Cluster::open(binaries(), folder.path()).expect("opened");
    // What a kill during initdb leaves.
    std::fs::create_dir_all(folder.path().join("pgdata.new/base")).expect("made");
    std::fs::write(folder.path().join("initdb.password"), "old").expect("written");
    cluster.init(&Secret::new("x")).await.expect("made");
    assert!(cluster.is_initialised() && !folder.path().join("initdb.password").exists());
    start_on_free_port(&mut cluster, &[]).await;
    cluster.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_taken_port_and_a_wrong_setting_are_told_apart() {
    let folder = open_folder();
    let mut cluster = Cluster::open(binaries(), folder.path()).expect("opened");
    cluster.init(&Secret::new("x")).await.expect("made");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = taken.local_addr().expect("bound").port();
    let error = cluster.start(port, &[], START_MAX).await.expect_err("the port is taken");
    assert!(matches!(error, ClusterError::PortTaken { port: named } if named == port), "{error}");
    let error =
        cluster.start(port, &[("nonsense".into(), "1".into())], START_MAX).await.expect_err("no such setting");
    assert!(error.to_string().contains("nonsense"), "{error}");
}

#[tokio::test]
async fn tests_share_a_server_and_each_has_a_database_of_its_own() {
    let server = server().await;
    let (one, other) = (server.fresh_database().await, server.fresh_database().await);
    execute(&mut server.connect(&one).await, "CREATE TABLE mine ()").await;
    execute(&mut server.connect(&other).await, "CREATE TABLE mine ()").await;
}

#[tokio::test]
async fn a_start_that_was_given_up_half_way_leaves_no_server_behind() {
    use futures_util::FutureExt as _;

    let folder = open_folder();
    let mut cluster = Cluster::open(binaries(), folder.path()).expect("opened");
    cluster.init(&Secret::new("x")).await.expect("made");
    let port = ogelnates::local::free_port().expect("a port");
    // Polled once it has run the program, which has written no file by which it could be found.
    assert!(cluster.start(port, &test_settings(), START_MAX).now_or_never().is_none());
    cluster.stop().await.expect("stopped");
    let mut next = Cluster::open(binaries(), folder.path()).expect("opened");
    start_on_free_port(&mut next, &test_settings()).await;
    assert!(next.log_tail().contains("ready to accept connections"), "{}", next.log_tail());
    assert!(!next.log_tail().contains("lock file"), "{}", next.log_tail());
    next.stop().await.expect("stopped");
}

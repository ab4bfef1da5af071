//! sqlx: a pool of connections with a cache of prepared statements each. It has no cancel request of its own.

use std::str::FromStr as _;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use futures_util::future::try_join_all;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, Error, Executor as _, PgConnection, PgPool, Row as _};
use tokio::time::timeout;

use super::{CLIENTS, ROUNDS, SERVER_CONNECTIONS, Target, everywhere, sleeping};
use crate::support::{PATIENCE, execute, server};

fn options(target: &Target) -> PgConnectOptions {
    let options = PgConnectOptions::from_str(&target.url()).expect("understood");
    let options = options.options([("o7s.pooling", target.pooling)]);
    match &target.certificate {
        None => options.ssl_mode(PgSslMode::Disable),
        // Certificate and name are checked.
        Some(file) => options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert(file),
    }
}

async fn connect(target: &Target) -> PgConnection {
    PgConnection::connect_with(&options(target)).await.expect("connected")
}

/// Of as many connections as the server gives clients that keep one, or of more than that.
fn pool(target: &Target) -> PgPool {
    let count = if target.pooling == "session" { SERVER_CONNECTIONS } else { u32::try_from(CLIENTS).expect("few") };
    PgPoolOptions::new().max_connections(count).acquire_timeout(PATIENCE).connect_lazy_with(options(target))
}

fn state(error: &Error) -> Option<String> {
    error.as_database_error().and_then(|error| error.code()).map(Into::into)
}

fn refused(error: &Error, wanted: &str) {
    assert_eq!(state(error).as_deref(), Some(wanted), "{error:?}");
}

#[tokio::test]
async fn a_url_is_all_it_needs() {
    everywhere(async |target| {
        let pool = PgPool::connect(&target.url()).await.expect("connected");
        let found: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&pool).await.expect("answered");
        assert_eq!(found, target.database);
        pool.close().await;
    })
    .await;
}

#[tokio::test]
async fn queries_are_answered_and_errors_leave_the_session() {
    everywhere(async |target| {
        let mut connection = connect(&target).await;
        let row: (i32, String, Vec<u8>, Option<String>) = sqlx::query_as("SELECT $1, $2, $3, $4")
            .bind(7)
            .bind("naïve ☃")
            .bind(vec![0_u8, 255])
            .bind(None::<String>)
            .fetch_one(&mut connection)
            .await
            .expect("answered");
        assert_eq!(row, (7, "naïve ☃".into(), vec![0, 255], None));
        let long = "x".repeat(3_000_000);
        let same: bool = sqlx::query_scalar("SELECT $1 = repeat('x', 3000000)")
            .bind(long)
            .fetch_one(&mut connection)
            .await
            .expect("answered");
        assert!(same);
        let rows = sqlx::query("SELECT generate_series(1, $1)").bind(20_000).fetch(&mut connection);
        let total = rows.try_fold(0_i64, async |sum, row| Ok(sum + i64::from(row.get::<i32, _>(0)))).await;
        assert_eq!(total.expect("whole"), 200_010_000);
        for _ in 0..3 {
            let wrong = sqlx::query("SELECT 1/$1").bind(0).fetch_one(&mut connection).await.expect_err("no number");
            refused(&wrong, "22012");
            refused(&connection.execute("SELECT 1/0; SELECT 1").await.expect_err("no number"), "22012");
            assert_eq!(
                sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(&mut connection).await.expect("answered"),
                1
            );
        }
        connection.ping().await.expect("alive");
        connection.close().await.expect("closed");
    })
    .await;
}

#[tokio::test]
async fn a_query_that_was_given_up_half_way_leaves_the_connection_in_order() {
    everywhere(async |target| {
        let mut connection = connect(&target).await;
        let slow = sqlx::query("SELECT pg_sleep(0.3)").execute(&mut connection);
        timeout(Duration::from_millis(100), slow).await.expect_err("given up");
        {
            let mut rows = sqlx::query("SELECT generate_series(1, 20000)").fetch(&mut connection);
            assert!(rows.try_next().await.expect("answered").is_some());
        }
        assert_eq!(sqlx::query_scalar::<_, i32>("SELECT 7").fetch_one(&mut connection).await.expect("answered"), 7);
    })
    .await;
}

#[tokio::test]
async fn transactions_and_savepoints_hold() {
    everywhere(async |target| {
        let mut connection = connect(&target).await;
        connection.execute("DROP TABLE IF EXISTS t; CREATE TABLE t (n int)").await.expect("made");
        let insert = |n: i32| sqlx::query("INSERT INTO t VALUES ($1)").bind(n);
        let mut transaction = connection.begin().await.expect("begun");
        insert(1).execute(&mut *transaction).await.expect("inserted");
        let mut savepoint = transaction.begin().await.expect("begun");
        insert(2).execute(&mut *savepoint).await.expect("inserted");
        savepoint.rollback().await.expect("undone");
        transaction.commit().await.expect("committed");
        {
            let mut transaction = connection.begin().await.expect("begun");
            insert(3).execute(&mut *transaction).await.expect("inserted");
            refused(&transaction.execute("SELECT nothing").await.expect_err("unknown"), "42703");
            refused(&insert(4).execute(&mut *transaction).await.expect_err("failed"), "25P02");
            // Neither committed nor rolled back: dropped.
        }
        let kept: Vec<i32> =
            sqlx::query_scalar("SELECT array_agg(n) FROM t").fetch_one(&mut connection).await.expect("answered");
        assert_eq!(kept, [1]);
    })
    .await;
}

#[tokio::test]
async fn prepared_statements_follow_their_client() {
    everywhere(async |target| {
        // A cache of two: others are closed.
        let options = options(&target).statement_cache_capacity(2);
        let mut connections =
            [options.connect().await.expect("connected"), options.connect().await.expect("connected")];
        for n in 0..12_i32 {
            for (own, connection) in (0..).zip(&mut connections) {
                let sql = format!("SELECT $1 + {}", n % 4 + 10 * own);
                let sum = sqlx::query_scalar::<_, i32>(sqlx::AssertSqlSafe(sql)).bind(n).fetch_one(connection).await;
                assert_eq!(sum.expect("answered"), n + n % 4 + 10 * own);
            }
            let [one, _] = &mut connections;
            refused(&sqlx::query("SELECT 1/$1").bind(0).execute(&mut *one).await.expect_err("no number"), "22012");
            // Not kept at all.
            let once = sqlx::query_scalar::<_, i32>("SELECT $1 * 2").bind(n).persistent(false).fetch_one(one).await;
            assert_eq!(once.expect("answered"), n * 2);
        }
        let [one, _] = &mut connections;
        one.clear_cached_statements().await.expect("closed");
        assert_eq!(sqlx::query_scalar::<_, i32>("SELECT $1").bind(5).fetch_one(one).await.expect("answered"), 5);
    })
    .await;
}

#[tokio::test]
async fn copies_go_both_ways() {
    everywhere(async |target| {
        let mut connection = connect(&target).await;
        let mut transaction = connection.begin().await.expect("begun");
        transaction.execute("CREATE TEMP TABLE copied (n int) ON COMMIT DROP").await.expect("made");
        let lines: String = (0..20_000).map(|n| format!("{n}\n")).collect();
        let mut sink = transaction.copy_in_raw("COPY copied FROM STDIN").await.expect("begun");
        for part in lines.as_bytes().chunks(1000) {
            sink.send(part).await.expect("taken");
        }
        assert_eq!(sink.finish().await.expect("copied"), 20_000);
        let mut parts = transaction.copy_out_raw("COPY copied TO STDOUT").await.expect("begun");
        let mut found = Vec::new();
        while let Some(part) = parts.try_next().await.expect("answered") {
            found.extend_from_slice(&part);
        }
        assert!(found == lines.as_bytes());
        drop(parts);
        let sink = transaction.copy_in_raw("COPY copied FROM STDIN").await.expect("begun");
        sink.abort("enough").await.expect("aborted");
        transaction.rollback().await.expect("undone");

        refused(
            &connection.copy_in_raw("COPY nowhere FROM STDIN").await.map(drop).expect_err("no such table"),
            "42P01",
        );
        assert_eq!(sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(&mut connection).await.expect("answered"), 1);
    })
    .await;
}

#[tokio::test]
async fn a_query_is_cancelled_by_another_connection() {
    everywhere(async |target| {
        let (mut one, mut other) = (connect(&target).await, connect(&target).await);
        let mut transaction = one.begin().await.expect("begun");
        let process: i32 =
            sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut *transaction).await.expect("answered");
        let cancel = async {
            sleeping(server().await, &target.database).await;
            sqlx::query_scalar::<_, bool>("SELECT pg_cancel_backend($1)").bind(process).fetch_one(&mut other).await
        };
        let (ended, sent) = tokio::join!(transaction.execute("SELECT pg_sleep(60)"), cancel);
        refused(&ended.expect_err("cancelled"), "57014");
        assert!(sent.expect("answered"));
        transaction.rollback().await.expect("undone");
        assert_eq!(sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(&mut one).await.expect("answered"), 1);
    })
    .await;
}

#[tokio::test]
async fn settings_and_notifications_stay_with_their_client() {
    everywhere(async |target| {
        let own = options(&target).options([("lock_timeout", "7s")]).application_name("ours");
        {
            let mut one = PgConnection::connect_with(&own).await.expect("connected");
            let mut two = connect(&target).await;
            execute(&mut one, "SET work_mem = '123kB'").await;
            let shown = async |connection: &mut PgConnection| -> String {
                let sql = "SELECT concat_ws(' ', current_setting('work_mem'), current_setting('lock_timeout'), current_setting('application_name'))";
                sqlx::query_scalar(sql).fetch_one(connection).await.expect("answered")
            };
            for _ in 0..5 {
                assert!(!shown(&mut two).await.contains("123kB"));
                assert_eq!(shown(&mut one).await, "123kB 7s ours");
            }
        }
        let pool = pool(&target);
        let mut listener = PgListener::connect_with(&pool).await.expect("connected");
        listener.listen("bell").await.expect("listening");
        sqlx::query("SELECT pg_notify('bell', $1)").bind("ding").execute(&pool).await.expect("rung");
        let note = timeout(PATIENCE, listener.recv()).await.expect("in time").expect("heard");
        assert_eq!((note.channel(), note.payload()), ("bell", "ding"));
    })
    .await;
}

#[tokio::test]
async fn a_pool_of_clients_shares_few_server_connections() {
    everywhere(async |target| {
        let pool = pool(&target);
        pool.execute("DROP TABLE IF EXISTS t; CREATE TABLE t AS SELECT 0 AS n").await.expect("made");
        let one = async || {
            for _ in 0..ROUNDS {
                let mut transaction = pool.begin().await?;
                sqlx::query("UPDATE t SET n = n + $1").bind(1).execute(&mut *transaction).await?;
                transaction.commit().await?;
            }
            Ok::<_, Error>(())
        };
        try_join_all((0..CLIENTS).map(|_| one())).await.expect("all served");
        let counted: i32 = sqlx::query_scalar("SELECT n FROM t").fetch_one(&pool).await.expect("answered");
        assert_eq!(counted, i32::try_from(CLIENTS * ROUNDS).expect("few"));
        pool.close().await;
    })
    .await;
}

#[tokio::test]
async fn strangers_are_refused() {
    everywhere(async |target| {
        for options in [options(&target).password("wrong"), options(&target).username("nobody")] {
            let error = PgConnection::connect_with(&options).await.expect_err("refused");
            refused(&error, "28P01");
        }
    })
    .await;
}

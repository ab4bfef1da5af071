//! tokio-postgres: prepares every query, sends the next one before the answer has come, binds SCRAM to the certificate.

use std::future::poll_fn;
use std::io::Cursor;
use std::ops::Deref;

use futures_util::future::{join_all, try_join_all};
use futures_util::{SinkExt as _, TryStreamExt as _, pin_mut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_postgres::config::{ChannelBinding as Binding, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Error, NoTls, SimpleQueryMessage};

use super::tls::Tls;
use super::{CLIENTS, ROUNDS, SERVER_CONNECTIONS, Target, everywhere, sleeping};
use crate::support::{PATIENCE, server};

/// Ends with the client.
pub struct Session {
    client: Client,
    notes: mpsc::Receiver<String>,
    _connection: JoinSet<()>,
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Session {
    pub fn begin<S, T>(client: Client, mut connection: Connection<S, T>) -> Session
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (heard, notes) = mpsc::channel(16);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(note) = message {
                    let _ = heard.send(note.payload().to_owned()).await;
                }
            }
        });
        Session { client, notes, _connection: tasks }
    }
}

fn config(target: &Target) -> Config {
    let Target { port, database, password, pooling, certificate } = target;
    let text = format!("host=localhost port={port} user=postgres dbname={database} connect_timeout=10");
    let mut config: Config = text.parse().expect("understood");
    config.password(password.expose()).options(format!("-c o7s.pooling={pooling}"));
    if certificate.is_some() {
        config.ssl_mode(SslMode::Require).channel_binding(Binding::Require);
    }
    config
}

async fn connect_with(target: &Target, config: &Config) -> Result<Session, Error> {
    match &target.certificate {
        None => config.connect(NoTls).await.map(|(client, connection)| Session::begin(client, connection)),
        Some(file) => {
            config.connect(Tls::trusting(file)).await.map(|(client, connection)| Session::begin(client, connection))
        }
    }
}

async fn connect(target: &Target) -> Session {
    connect_with(target, &config(target)).await.expect("connected")
}

fn refused(error: &Error, state: &SqlState) {
    assert_eq!(error.code(), Some(state), "{error:?}");
}

#[tokio::test]
async fn a_url_is_all_it_needs() {
    everywhere(async |target| {
        let (client, connection) = tokio_postgres::connect(&target.url(), NoTls).await.expect("connected");
        let session = Session::begin(client, connection);
        let row = session.query_one("SELECT current_database()::text", &[]).await.expect("answered");
        assert_eq!(row.get::<_, &str>(0), target.database);
    })
    .await;
}

#[tokio::test]
async fn queries_are_answered_and_errors_leave_the_session() {
    everywhere(async |target| {
        let client = connect(&target).await;
        let sql = "SELECT $1::int, $2::text, $3::bytea, $4::text, $5::float8";
        let row = client.query_one(sql, &[&7_i32, &"naïve ☃", &&[0_u8, 255][..], &None::<&str>, &0.5_f64]).await;
        let row = row.expect("answered");
        assert_eq!((row.get(0), row.get(1), row.get(2)), (7_i32, "naïve ☃", &[0_u8, 255][..]));
        assert_eq!((row.get(3), row.get(4)), (None::<&str>, 0.5_f64));
        let long = "x".repeat(3_000_000);
        assert!(client.query_one("SELECT $1::text", &[&long]).await.expect("answered").get::<_, &str>(0) == long);
        let rows = client.query_raw("SELECT generate_series(1, $1::int)", [20_000_i32]).await.expect("answered");
        let total = rows.try_fold(0_i64, async |sum, row| Ok(sum + i64::from(row.get::<_, i32>(0)))).await;
        assert_eq!(total.expect("whole"), 200_010_000);
        for _ in 0..3 {
            let wrong = client.query("SELECT 1/$1::int", &[&0_i32]).await.expect_err("no number");
            refused(&wrong, &SqlState::DIVISION_BY_ZERO);
            refused(&client.batch_execute("SELECT 1/0").await.expect_err("no number"), &SqlState::DIVISION_BY_ZERO);
            assert_eq!(client.query_one("SELECT 1", &[]).await.expect("answered").get::<_, i32>(0), 1);
        }
        let told = client.simple_query("SELECT 'a'; SELECT 'b' UNION SELECT 'c'").await.expect("answered");
        assert_eq!(told.iter().filter(|message| matches!(message, SimpleQueryMessage::Row(_))).count(), 3);
        // Parse, Describe, Bind and Execute in one go, of the unnamed statement.
        let rows = client.query_typed("SELECT $1 + 1", &[(&7_i32, Type::INT4)]).await.expect("answered");
        assert_eq!(rows[0].get::<_, i32>(0), 8);
    })
    .await;
}

#[tokio::test]
async fn queries_under_way_at_once_are_answered_in_their_order() {
    everywhere(async |target| {
        let client = &connect(&target).await;
        let many = (0..300_i32).map(async |n| {
            // One of them is wrong.
            let sql = if n == 150 { "SELECT 1/($1::int - 150)" } else { "SELECT $1::int" };
            Ok::<i32, Error>(client.query_one(sql, &[&n]).await?.get(0))
        });
        for (n, answer) in (0..).zip(join_all(many).await) {
            match answer {
                Ok(found) => assert_eq!(found, n),
                Err(error) => {
                    assert_eq!(n, 150);
                    refused(&error, &SqlState::DIVISION_BY_ZERO);
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn transactions_savepoints_and_portals_hold() {
    everywhere(async |target| {
        let mut client = connect(&target).await;
        client.batch_execute("DROP TABLE IF EXISTS t; CREATE TABLE t (n int)").await.expect("made");
        let mut transaction = client.client.transaction().await.expect("begun");
        transaction.execute("INSERT INTO t VALUES ($1)", &[&1_i32]).await.expect("inserted");
        let savepoint = transaction.savepoint("s").await.expect("made");
        savepoint.execute("INSERT INTO t VALUES ($1)", &[&2_i32]).await.expect("inserted");
        savepoint.rollback().await.expect("undone");
        transaction.commit().await.expect("committed");
        let transaction = client.client.transaction().await.expect("begun");
        transaction.execute("INSERT INTO t VALUES (3)", &[]).await.expect("inserted");
        refused(&transaction.query("SELECT nothing", &[]).await.expect_err("unknown"), &SqlState::UNDEFINED_COLUMN);
        refused(&transaction.query("SELECT 1", &[]).await.expect_err("failed"), &SqlState::IN_FAILED_SQL_TRANSACTION);
        // Neither committed nor rolled back: dropped.
        drop(transaction);
        let kept = client.query_one("SELECT array_agg(n) FROM t", &[]).await.expect("answered");
        assert_eq!(kept.get::<_, Vec<i32>>(0), [1]);

        let transaction = client.client.transaction().await.expect("begun");
        let portal = transaction.bind("SELECT generate_series(1, 1000)", &[]).await.expect("bound");
        let (mut total, mut parts) = (0, 0);
        loop {
            let rows = transaction.query_portal(&portal, 100).await.expect("answered");
            if rows.is_empty() {
                break;
            }
            (total, parts) = (total + rows.iter().map(|row| row.get::<_, i32>(0)).sum::<i32>(), parts + 1);
        }
        assert_eq!((total, parts), (500_500, 10));
        transaction.commit().await.expect("committed");
    })
    .await;
}

#[tokio::test]
async fn prepared_statements_follow_their_client() {
    everywhere(async |target| {
        let clients = [connect(&target).await, connect(&target).await];
        let mut kept = Vec::new();
        for client in &clients {
            // Of two clients, two copies of one text each.
            kept.push(client.prepare(&format!("SELECT $1::int + {}", 10 * kept.len())).await.expect("prepared"));
            kept.push(client.prepare(&format!("SELECT $1::int + {}", 10 * kept.len())).await.expect("prepared"));
        }
        for n in 0..12_i32 {
            for (client, statements) in clients.iter().zip([(0, 0), (1, 10), (2, 20), (3, 30)].chunks(2)) {
                for &(index, plus) in statements {
                    let row = client.query_one(&kept[index], &[&n]).await.expect("answered");
                    assert_eq!(row.get::<_, i32>(0), n + plus);
                }
                // Prepared and closed again with each use.
                let row = client.query_one("SELECT $1::int8 * 2", &[&i64::from(n)]).await.expect("answered");
                assert_eq!(row.get::<_, i64>(0), i64::from(n) * 2);
            }
        }
        // Closed when they are dropped; others stay.
        drop(kept.remove(0));
        let row = clients[0].query_one(&kept[0], &[&1_i32]).await.expect("answered");
        assert_eq!(row.get::<_, i32>(0), 11);
    })
    .await;
}

#[tokio::test]
async fn copies_go_both_ways() {
    everywhere(async |target| {
        let mut client = connect(&target).await;
        let transaction = client.client.transaction().await.expect("begun");
        transaction.batch_execute("CREATE TEMP TABLE copied (n int) ON COMMIT DROP").await.expect("made");
        let sink = transaction.copy_in("COPY copied FROM STDIN").await.expect("begun");
        pin_mut!(sink);
        let lines: String = (0..20_000).map(|n| format!("{n}\n")).collect();
        for part in lines.as_bytes().chunks(1000) {
            sink.send(Cursor::new(part.to_vec())).await.expect("taken");
        }
        assert_eq!(sink.finish().await.expect("copied"), 20_000);
        let parts = transaction.copy_out("COPY copied TO STDOUT").await.expect("begun");
        let found = parts.try_fold(Vec::new(), async |all, part| Ok([all, part.to_vec()].concat())).await;
        assert!(found.expect("whole") == lines.as_bytes());
        transaction.commit().await.expect("committed");

        // (A COPY that is refused puts this driver out of step, without a router as well.)
        // Given up half-way: the driver fails the copy.
        client.batch_execute("DROP TABLE IF EXISTS half; CREATE TABLE half (n int)").await.expect("made");
        let sink = client.copy_in("COPY half FROM STDIN").await.expect("begun");
        {
            let mut sink = Box::pin(sink);
            sink.send(&b"1\n"[..]).await.expect("taken");
        }
        let count = client.query_one("SELECT count(*) FROM half", &[]).await.expect("answered");
        assert_eq!(count.get::<_, i64>(0), 0);
    })
    .await;
}

#[tokio::test]
async fn a_query_is_cancelled_by_the_drivers_own_token() {
    everywhere(async |target| {
        let client = connect(&target).await;
        let token = client.cancel_token();
        let cancel = async {
            sleeping(server().await, &target.database).await;
            match &target.certificate {
                None => token.cancel_query(NoTls).await.expect("sent"),
                Some(file) => token.cancel_query(Tls::trusting(file)).await.expect("sent"),
            }
        };
        let (ended, ()) = tokio::join!(client.query("SELECT pg_sleep(60)", &[]), cancel);
        refused(&ended.expect_err("cancelled"), &SqlState::QUERY_CANCELED);
        assert_eq!(client.query_one("SELECT 1", &[]).await.expect("answered").get::<_, i32>(0), 1);
    })
    .await;
}

#[tokio::test]
async fn settings_and_notifications_stay_with_their_client() {
    everywhere(async |target| {
        let mut own = config(&target);
        own.options(format!("{} -c timezone=Asia/Tokyo", own.get_options().expect("set"))).application_name("ours");
        let (mut one, two) = (connect_with(&target, &own).await.expect("connected"), connect(&target).await);
        one.batch_execute("SET work_mem = '123kB'").await.expect("set");
        for _ in 0..5 {
            let shown = async |client: &Client| -> String {
                let sql = "SELECT concat_ws(' ', current_setting('work_mem'), current_setting('timezone'), current_setting('application_name'))";
                client.query_one(sql, &[]).await.expect("answered").get(0)
            };
            assert!(!shown(&two).await.contains("123kB"));
            assert_eq!(shown(&one).await, "123kB Asia/Tokyo ours");
        }
        one.batch_execute("LISTEN bell").await.expect("listening");
        two.batch_execute("NOTIFY bell, 'ding'").await.expect("rung");
        let note = tokio::time::timeout(PATIENCE, one.notes.recv()).await.expect("in time");
        assert_eq!(note.as_deref(), Some("ding"));
    })
    .await;
}

#[tokio::test]
async fn a_crowd_shares_few_server_connections() {
    everywhere(async |target| {
        let count = if target.pooling == "session" { SERVER_CONNECTIONS as usize } else { CLIENTS };
        connect(&target)
            .await
            .batch_execute("DROP TABLE IF EXISTS t; CREATE TABLE t AS SELECT 0 AS n")
            .await
            .expect("made");
        let one = async || {
            let mut client = connect(&target).await;
            for _ in 0..ROUNDS {
                let transaction = client.client.transaction().await?;
                transaction.execute("UPDATE t SET n = n + $1", &[&1_i32]).await?;
                transaction.commit().await?;
            }
            Ok::<_, Error>(())
        };
        try_join_all((0..count).map(|_| one())).await.expect("all served");
        let row = connect(&target).await.query_one("SELECT n FROM t", &[]).await.expect("answered");
        assert_eq!(row.get::<_, i32>(0), i32::try_from(count * ROUNDS).expect("few"));
    })
    .await;
}

#[tokio::test]
async fn strangers_are_refused() {
    everywhere(async |target| {
        let (mut wrong, mut nobody) = (config(&target), config(&target));
        wrong.password("wrong");
        nobody.user("nobody");
        for config in [wrong, nobody] {
            let error = connect_with(&target, &config).await.err().expect("refused");
            refused(&error, &SqlState::INVALID_PASSWORD);
        }
    })
    .await;
}

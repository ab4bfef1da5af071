//! Carries out changes of one tenant in their order, in as few messages as their meaning allows: a distant server
//! answers in a tenth of a second, and a thousand tenants wait for each answer.

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::error::Error;
use super::guard::{FOREIGN, MISSING, TAKEN};
use super::rename;
use super::script::{Maker, Message, messages};
use super::server::Server;
use crate::plan::{DatabaseChange as Change, role_name};
use crate::tenancy::FleetUid;

/// `CREATE DATABASE` of one that is there, or that another session makes at this moment.
const ALREADY_THERE: [&str; 2] = ["42P04", "23505"];
const NO_SUCH_DATABASE: &str = "3D000";

/// Consecutive messages that may share a transaction, and the changes they belong to.
struct Batch {
    /// Indexes into the changes, in order.
    changes: Vec<usize>,
    message: Message,
}

fn batches(all: Vec<Vec<Message>>) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for (index, message) in
        all.into_iter().enumerate().flat_map(|(index, list)| list.into_iter().map(move |m| (index, m)))
    {
        match (batches.last_mut(), message) {
            (Some(Batch { changes, message: Message::Together(sql) }), Message::Together(more)) => {
                sql.push_str("; ");
                sql.push_str(&more);
                changes.push(index);
            }
            (_, message) => batches.push(Batch { changes: vec![index], message }),
        }
    }
    batches
}

impl Server {
    /// In the order given, until one fails. Not cancel safe between its messages, and safe to run again after any.
    pub async fn change(&mut self, maker: Maker<'_>, changes: &[Change]) -> Result<(), Error> {
        let scripts = scripts(maker, changes).await;
        for batch in batches(scripts.clone()) {
            let Err(error) = self.send(&batch.message, &changes[batch.changes[0]]).await else { continue };
            if batch.changes.len() == 1 || error.lost_connection() {
                return Err(error);
            }
            // The transaction is undone and does not say which part of it failed, so its parts go one by one: what can
            // be done is done, and the error names its own change.
            let alone: Vec<usize> =
                batch.changes.iter().copied().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
            for index in alone {
                for message in scripts[index].iter().filter(|message| matches!(message, Message::Together(_))) {
                    self.send(message, &changes[index]).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether a [`Change::RenameTenant`] would find its new names free. Changes nothing.
    ///
    /// # Errors
    /// [`Error::Taken`], and [`Error::Foreign`] or [`Error::Missing`] of the database itself.
    pub async fn look_before_rename(&mut self, fleet: &FleetUid, change: &Change) -> Result<(), Error> {
        let look = rename::look(fleet, change).unwrap_or_default();
        send(&mut self.connection, &look).await.map_err(|source| explain(change, source))
    }

    /// One message outside of any plan.
    pub(super) async fn run(&mut self, doing: &str, sql: &str) -> Result<(), Error> {
        let done = send(&mut self.connection, sql).await;
        done.map_err(|source| told(doing.to_owned(), source))
    }

    async fn send(&mut self, message: &Message, change: &Change) -> Result<(), Error> {
        let done = match message {
            Message::Together(sql) | Message::Apart(sql) => send(&mut self.connection, sql).await,
            Message::Create(sql) => match send(&mut self.connection, sql).await {
                Err(error) if ALREADY_THERE.contains(&code(&error).as_str()) => Ok(()),
                done => done,
            },
            Message::Inside { database, sql } => match self.open_database(database).await {
                Ok(mut inside) => {
                    let done = send(&mut inside, sql).await;
                    // It is over either way.
                    let _ = inside.close().await;
                    done
                }
                // A role outlives its database when a person dropped that.
                Err(Error::Sql { source, .. }) if code(&source) == NO_SUCH_DATABASE && is_drop(change) => {
                    send(&mut self.connection, sql).await
                }
                Err(error) => return Err(error),
            },
        };
        done.map_err(|source| explain(change, source))
    }
}

fn is_drop(change: &Change) -> bool {
    matches!(change, Change::DropRole { .. })
}

/// Half a millisecond of hashing for each password: off the threads that answer others, at most one a connection.
async fn scripts(maker: Maker<'_>, changes: &[Change]) -> Vec<Vec<Message>> {
    let (keys, fleet, owned) = (maker.keys.clone(), maker.fleet.clone(), changes.to_vec());
    let work = move || {
        let maker = Maker { keys: &keys, fleet: &fleet };
        owned.iter().map(|change| messages(maker, change)).collect()
    };
    // The only way to fail is a panic inside, and then it is ours.
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// One message of the simple protocol: Postgres runs its statements as one transaction.
async fn send(connection: &mut PgConnection, statements: &str) -> Result<(), sqlx::Error> {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))).await.map(drop)
}

fn code(error: &sqlx::Error) -> String {
    error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned()
}

fn explain(change: &Change, source: sqlx::Error) -> Error {
    told(describe(change), source)
}

fn told(doing: String, source: sqlx::Error) -> Error {
    let what = source.as_database_error().map(|error| error.message().to_owned()).unwrap_or_default();
    match code(&source).as_str() {
        FOREIGN => Error::Foreign { what },
        MISSING => Error::Missing { what },
        TAKEN => Error::Taken { what },
        _ => Error::Sql { doing, source },
    }
}

/// Completes "cannot …".
fn describe(change: &Change) -> String {
    match change {
        Change::CreateRole { tenant, role, .. } => format!("make role {}", role_name(tenant, role.as_ref())),
        Change::CreateDatabase { database, .. } => format!("make database {database}"),
        Change::AdoptDatabase { database, .. } => format!("adopt database {database}"),
        Change::JoinDatabase { database, .. } => format!("give access to database {database}"),
        Change::OpenDatabase { database, .. } => format!("open database {database}"),
        Change::GrantRole { tenant, role, .. } => format!("grant to role {}", role_name(tenant, Some(role))),
        Change::SetPassword { tenant, role, .. } => {
            format!("set the password of {}", role_name(tenant, role.as_ref()))
        }
        Change::SetLogin { tenant, role, .. }
        | Change::DropPrivileges { tenant, role }
        | Change::RevokeMemberships { tenant, role, .. }
        | Change::ResetRoleTimeout { tenant, role, .. }
        | Change::SetRoleConnectionLimit { tenant, role, .. } => {
            format!("alter role {}", role_name(tenant, role.as_ref()))
        }
        Change::SetDatabaseConnectionLimit { database, .. }
        | Change::SetStatementTimeout { database, .. }
        | Change::SetOwner { database, .. }
        | Change::CloseToPublic { database } => format!("alter database {database}"),
        Change::DropRole { tenant, role, .. } => format!("drop role {}", role_name(tenant, Some(role))),
        Change::EndConnections { database } => format!("end the connections to {database}"),
        Change::RenameDatabase { database, to } => format!("rename database {database} to {to}"),
        Change::DropDatabase { database, .. } => format!("drop database {database}"),
        Change::RenameTenant { from, to, .. } => format!("rename tenant {from} to {to}"),
        Change::Release { database, .. } => format!("take the marks off database {database} and its roles"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(all: Vec<Vec<Message>>) -> Vec<(Vec<usize>, Message)> {
        batches(all).into_iter().map(|batch| (batch.changes, batch.message)).collect()
    }

    #[test]
    fn neighbours_share_a_message_and_nothing_moves_past_what_stands_apart() {
        let together = |sql: &str| Message::Together(sql.to_owned());
        let apart = Message::Apart("x".to_owned());
        let inside = Message::Inside { database: "acme".into(), sql: "y".into() };
        let all = vec![
            vec![together("a")],
            vec![Message::Create("c".into()), together("b")],
            vec![together("d")],
            vec![apart.clone(), together("e")],
            vec![inside.clone(), inside.clone()],
        ];
        let wanted = vec![
            (vec![0], together("a")),
            (vec![1], Message::Create("c".into())),
            (vec![1, 2], together("b; d")),
            (vec![3], apart),
            (vec![3], together("e")),
            (vec![4], inside.clone()),
            (vec![4], inside),
        ];
        assert_eq!(shape(all), wanted);
    }
}

//! Brings the control database's schema up to date.

use std::borrow::Cow;

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use super::connect::{Store, open};
use super::error::Error;

/// The newest schema version this program knows: that of the last migration.
pub const SCHEMA_VERSION: u32 = 6;

fn migrator() -> Migrator {
    let control = include_str!("../../migrations/0001_control.sql").into_sql_str();
    let first = Migration::new(1, Cow::Borrowed("control"), MigrationType::Simple, control, false);
    let renames = include_str!("../../migrations/0002_renames.sql").into_sql_str();
    let second = Migration::new(2, Cow::Borrowed("renames"), MigrationType::Simple, renames, false);
    let routers = include_str!("../../migrations/0003_routers.sql").into_sql_str();
    let third = Migration::new(3, Cow::Borrowed("routers"), MigrationType::Simple, routers, false);
    let meters = include_str!("../../migrations/0004_meters.sql").into_sql_str();
    let fourth = Migration::new(4, Cow::Borrowed("meters"), MigrationType::Simple, meters, false);
    let escrow = include_str!("../../migrations/0005_escrow.sql").into_sql_str();
    let fifth = Migration::new(5, Cow::Borrowed("escrow"), MigrationType::Simple, escrow, false);
    let keys = include_str!("../../migrations/0006_api_keys.sql").into_sql_str();
    let sixth = Migration::new(6, Cow::Borrowed("api keys"), MigrationType::Simple, keys, false);
    let mut migrator = Migrator::with_migrations(vec![first, second, third, fourth, fifth, sixth]);
    // Ours lives beside what it describes, so that a service may keep a table of its own under sqlx's name.
    migrator.create_schema("o7s");
    migrator.dangerous_set_table_name("o7s.migrations");
    migrator
}

impl Store {
    /// Applies what is missing, each migration in one transaction; two at once wait for each other. Does nothing to a
    /// schema that is up to date, and refuses one that is newer.
    pub async fn migrate(&self) -> Result<(), Error> {
        let mut connection = open(&self.options, self.deadline).await?;
        match migrator().run_direct(None, &mut connection, false).await {
            Ok(()) => Ok(()),
            Err(MigrateError::VersionMissing(have)) => {
                Err(Error::NewerSchema { have: u32::try_from(have).unwrap_or(u32::MAX), known: SCHEMA_VERSION })
            }
            Err(source) => Err(Error::Migrate { source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_schema_version_is_that_of_the_last_migration() {
        assert_eq!(migrator().iter().map(|one| one.version).max(), Some(i64::from(SCHEMA_VERSION)));
    }
}

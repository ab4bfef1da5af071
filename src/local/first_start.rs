//! What the Postgres image does on an empty volume, once: makes the data folder with the superuser and password of its
//! variables, and the database, on a server nobody outside can reach yet.

use std::collections::BTreeMap;
use std::path::Path;

use sqlx::Postgres;
use sqlx::migrate::MigrateDatabase as _;

use super::cluster::{Cluster, free_port};
use super::cluster_error::ClusterError;
use super::servers::START_MAX;
use crate::tenancy::Secret;

/// Written last: a first start that was killed half-way is done again.
const DONE: &str = "first-start-done";

/// True when this was the first start.
pub async fn first_start(
    cluster: &mut Cluster,
    variables: &BTreeMap<String, String>,
    settings: &[(String, String)],
) -> Result<bool, ClusterError> {
    let done = cluster.dir().join(DONE);
    if done.is_file() {
        return Ok(false);
    }
    let given = |name: &str| variables.get(name).filter(|text| !text.is_empty()).cloned();
    let user = given("POSTGRES_USER").unwrap_or_else(|| "postgres".into());
    let password = Secret::new(given("POSTGRES_PASSWORD").unwrap_or_default());
    let database = given("POSTGRES_DB").unwrap_or_else(|| user.clone());
    cluster.init_as(&user, &password).await?;
    if database != "postgres" {
        let port = free_port().map_err(ClusterError::io("find a port for", &done))?;
        cluster.start(port, settings, START_MAX).await?;
        let made = create_database(port, &user, &password, &database).await;
        cluster.stop().await?;
        made?;
    }
    write_mark(&done)?;
    Ok(true)
}

/// sqlx's own statement for a new database; there is none of ours.
async fn create_database(port: u16, user: &str, password: &Secret, database: &str) -> Result<(), ClusterError> {
    let failed = |said: String| ClusterError::Failed { program: "the creation of its database", said };
    let mut url =
        reqwest::Url::parse(&format!("postgresql://127.0.0.1:{port}")).map_err(|error| failed(error.to_string()))?;
    let set = url.set_username(user).and_then(|()| url.set_password(Some(password.expose())));
    set.map_err(|()| failed("its user and password fit in no URL".into()))?;
    url.path_segments_mut().map_err(|()| failed("no path".into()))?.push(database);
    let exists = Postgres::database_exists(url.as_str()).await.map_err(|error| failed(error.to_string()))?;
    if exists {
        return Ok(());
    }
    Postgres::create_database(url.as_str()).await.map_err(|error| failed(error.to_string()))
}

fn write_mark(done: &Path) -> Result<(), ClusterError> {
    std::fs::write(done, "").map_err(ClusterError::io("write", done))
}

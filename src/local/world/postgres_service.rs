//! A Postgres service as Railway itself makes one (its CLI's compiler, read 2026-11-24).

use serde_json::{Value, json};

use super::deployments::POSTGRES_MOUNT;

pub const POSTGRES_IMAGE: &str = "ghcr.io/railwayapp-templates/postgres-ssl:17";
/// Letters of a generated password.
pub const PASSWORD_LETTERS: usize = 32;

/// Its part of the config blob, but for the mount of its volume.
pub fn config(image: &str, password: &str) -> Value {
    let url = |host: &str, port: &str| {
        format!("postgresql://${{{{PGUSER}}}}:${{{{POSTGRES_PASSWORD}}}}@{host}:{port}/${{{{PGDATABASE}}}}")
    };
    let values = [
        ("PGDATA", format!("{POSTGRES_MOUNT}/pgdata")),
        ("POSTGRES_USER", "postgres".into()),
        ("POSTGRES_DB", "railway".into()),
        ("POSTGRES_PASSWORD", password.into()),
        ("PGHOST", "${{RAILWAY_PRIVATE_DOMAIN}}".into()),
        ("PGPORT", "5432".into()),
        ("PGUSER", "${{POSTGRES_USER}}".into()),
        ("PGPASSWORD", "${{POSTGRES_PASSWORD}}".into()),
        ("PGDATABASE", "${{POSTGRES_DB}}".into()),
        ("DATABASE_URL", url("${{RAILWAY_PRIVATE_DOMAIN}}", "5432")),
        ("DATABASE_PUBLIC_URL", url("${{RAILWAY_TCP_PROXY_DOMAIN}}", "${{RAILWAY_TCP_PROXY_PORT}}")),
        ("SSL_CERT_DAYS", "820".into()),
        ("RAILWAY_DEPLOYMENT_DRAINING_SECONDS", "60".into()),
    ];
    let variables: Value =
        values.into_iter().map(|(name, value)| (name.to_owned(), json!({ "value": value }))).collect();
    json!({
        "source": { "image": image },
        "deploy": { "requiredMountPath": POSTGRES_MOUNT },
        "networking": { "tcpProxies": { "5432": {} } },
        "variables": variables,
        "isCreated": true,
    })
}

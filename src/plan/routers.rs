//! Router manifests as routers read them. Until routers are deployed from them they are stored, and are no change.

use serde_json::{Value, json};

use crate::manifest::Router;

/// As stored in the control database.
pub fn router_spec(router: &Router) -> Value {
    json!({
        "replicas": router.replicas,
        "domain": router.domain,
        "pooling": router.pooling,
        "identify": router.identify,
        "notices": router.notices,
        "requireTls": router.require_tls,
        "jwt": router.jwt,
    })
}

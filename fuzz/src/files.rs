//! Tokens, key sets and files of routes.

use std::path::Path;
use std::sync::Arc;

use ogelnates::manifest::{Jwt, JwtKeys};
use ogelnates::router::jwt::{KeySet, check};
use ogelnates::router::routes_file::{self, Routes};
use ogelnates::tenancy::Secret;

/// A token nobody signed is never right, and no key set is too odd.
pub fn jwt(data: &[u8]) {
    let settings = Jwt {
        keys: JwtKeys::SecretFrom("X".into()),
        audience: None,
        issuer: None,
        tenant_claim: "tenant".into(),
        role_claim: "role".into(),
        sessions_outlive: false,
    };
    let keys = KeySet::shared(&Secret::new("a shared secret of more than 32 bytes")).expect("long enough");
    let text = String::from_utf8_lossy(data);
    assert!(check(&text, &keys, &settings, 1_800_000_000).is_err());
    if let Ok(keys) = KeySet::from_jwks(data) {
        assert!(check(&text, &keys, &settings, 1_800_000_000).is_err());
    }
}

/// A file that is read twice has changed nothing.
pub fn routes(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let read = |before: &Routes| routes_file::parse(Path::new("routes.yaml"), &text, before);
    let Ok(one) = read(&Routes::default()) else { return };
    let two = read(&one).expect("as before");
    assert_eq!(one.table.entries.len(), two.table.entries.len());
    for (name, entry) in one
        .table
        .entries
        .iter()
        .map(|(name, entry)| (&**name, Some(entry)))
        .chain([("*", one.table.wildcard.as_ref())])
    {
        let again = if name == "*" { two.table.wildcard.as_ref() } else { two.table.entries.get(name) };
        assert!(entry.zip(again).is_none_or(|(one, two)| Arc::ptr_eq(one, two)), "{name}");
        assert_eq!(entry.is_some(), again.is_some());
    }
}

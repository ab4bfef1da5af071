//! API keys from their making to their end.

use std::process::{Command, Stdio};
use std::time::Duration;

use ogelnates::router::follow::{FollowConfig, Reach, begin};
use ogelnates::router::login::Bears;
use ogelnates::store::{Created, FleetRow};
use ogelnates::tenancy::{ApiKey, Keyring, Secret};
use serde_json::Value;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Router, WRONG, ended_by, manifest};
use crate::real::{Fleet, code, text};
use crate::store::{World, fleet, route, tenant};
use crate::support::{PATIENCE, eventually, server};

#[tokio::test]
async fn a_key_is_made_once_shown_opens_one_tenant_and_ends_everywhere_when_it_is_revoked() {
    let fleet = Fleet::bootstrapped();
    fleet.tenant("acme", "  roles: [{ name: reader, grants: read }]\n");
    manifest(&fleet, "  identify: [user, database, apiKey]\n");
    fleet.settle();
    let router = Router::start(&fleet, &[]);
    let key = |args: &[&str]| {
        let done = fleet.o7s(&[&["key"], args].concat());
        (code(&done), text(&done.stdout), text(&done.stderr))
    };
    let json = |args: &[&str]| -> Value {
        let (code, out, err) = key(&[args, &["--format", "json"]].concat());
        assert_eq!(code, 0, "{err}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    };
    let made = key(&["create", "acme", "--name", "ci", "--role", "reader"]);
    let (reader, said) = (made.1.trim_end().to_owned(), made.2);
    assert_eq!((made.0, reader.len()), (0, 101), "{said}");
    let owner = json(&["create", "acme", "--name", "web"]);
    let (owner, id) =
        (owner["key"].as_str().expect("a key").to_owned(), owner["id"].as_str().expect("an id").to_owned());
    for (args, exit, why) in [
        (&["create", "acme", "--name", "ci"][..], 4, "has a key named \"ci\" in use"),
        (&["create", "acme", "--name", "x", "--role", "writer"], 64, "its roles: reader"),
        (&["create", "nobody", "--name", "x"], 64, "nothing is known of tenant/nobody"),
        (&["revoke", &Uuid::from_u128(1).to_string()], 64, "there is no key"),
        (&["revoke", "acme/nobody"], 64, "there is no key \"nobody\" of acme in use"),
        (&["revoke", "00000000"], 64, "there is no key in use whose id begins with 00000000"),
    ] {
        let (code, out, err) = key(args);
        assert_eq!((code, out.as_str()), (exit, ""), "{err}");
        assert!(err.contains(why), "{err}");
    }

    let who = eventually("the key is known", async || router.who("token", &reader).await.ok()).await;
    assert_eq!(who, "acme_reader@acme");
    assert_eq!(router.who("token.acme", &owner).await.as_deref(), Ok("acme@acme"));
    assert_eq!(router.who("token.beta", &owner).await, Err(WRONG.to_owned()), "another tenant's");
    let last = if owner.ends_with('0') { '1' } else { '0' };
    assert_eq!(router.who("token", &format!("{}{last}", &owner[..owner.len() - 1])).await, Err(WRONG.to_owned()));
    assert_eq!(psql(&router, &reader), "acme_reader|acme");
    let passed = |role: &str| (200, ["acme", role, "free"].map(str::to_owned).to_vec());
    assert_eq!(router.authorize(&owner).await, passed("acme"));

    // Where neither a key nor what it is known by may be seen.
    let listed = key(&["list", "acme"]).1;
    assert!(listed.contains("ci") && listed.contains("reader") && listed.contains(&id), "{listed}");
    let status =
        reqwest::get(format!("{}/v1/status", router.http)).await.expect("answered").text().await.expect("text");
    for shown in
        [&listed, &json(&["list"]).to_string(), &text(&fleet.o7s(&["events", "tenant/acme"]).stdout), &status]
    {
        assert!(!shown.contains(&reader[37..]) && !shown.contains(&owner[37..]), "{shown}");
    }

    its_session_is_shown(&fleet, &router, &owner).await;
    let open = sessions(&router, [&owner, &owner, &reader]).await;

    let revoked = json(&["revoke", &id]);
    assert_eq!(
        (&revoked["name"], &revoked["routers"]["live"], &revoked["routers"]["lagging"]),
        (&"web".into(), &1.into(), &Value::Array(vec![]))
    );
    // At once: the command has waited for it.
    assert_eq!(router.who("token", &owner).await, Err(WRONG.to_owned()));
    assert_eq!(router.authorize(&owner).await.0, 401);
    assert_eq!(router.authorize(&reader).await, passed("acme_reader"), "the other one is good");
    the_first_two_have_ended(open).await;
    // The key itself names it as well, and once more is no error.
    assert_eq!(json(&["revoke", &owner])["revokedAt"], revoked["revokedAt"]);
    assert_eq!(json(&["list", "acme"]).as_array().map(Vec::len), Some(1));
    assert_eq!(json(&["list", "--revoked"]).as_array().map(Vec::len), Some(2));
    let events = text(&fleet.o7s(&["events", "tenant/acme"]).stdout);
    assert!(events.contains("KeyCreated") && events.contains("KeyRevoked"), "{events}");
    its_name_is_free_again(json);
}

fn its_name_is_free_again(json: impl Fn(&[&str]) -> Value) {
    let again = json(&["create", "acme", "--name", "web"]);
    assert_eq!(json(&["revoke", "acme/web"])["id"], again["id"], "by its name the one in use");
    let third = json(&["create", "acme", "--name", "web"]);
    let start = &third["id"].as_str().expect("an id")[..8];
    assert_eq!(json(&["revoke", start])["id"], third["id"]);
}

/// One of each key; the second is in a transaction.
async fn sessions(router: &Router, keys: [&str; 3]) -> [PgConnection; 3] {
    let mut open = Vec::new();
    for key in keys {
        open.push(router.login("token.acme", key).await.expect("logged in"));
    }
    sqlx::raw_sql("BEGIN; SELECT 1").execute(&mut open[1]).await.expect("begun");
    open.try_into().expect("three")
}

/// Their key was revoked, and that of the third was not.
async fn the_first_two_have_ended([mut idle, mut working, mut other]: [PgConnection; 3]) {
    let ended = Some("28000 the API key that began this session was revoked".to_owned());
    assert_eq!(ended_by(&mut idle, PATIENCE).await, ended);
    assert_eq!(ended_by(&mut working, PATIENCE).await, ended, "its transaction as well");
    sqlx::query("SELECT 1").execute(&mut other).await.expect("another key's session goes on");
}

/// By `o7s router status`, in both its forms.
async fn its_session_is_shown(fleet: &Fleet, router: &Router, owner: &str) {
    let open = router.login("token.acme", owner).await.expect("logged in");
    let http = router.http.strip_prefix("http://").expect("a URL");
    let one = text(&fleet.o7s(&["router", "status", "--address", http]).stdout);
    let row: Vec<&str> = one.lines().last().expect("a tenant").split_whitespace().take(4).collect();
    assert!(one.starts_with("replica ") && row == ["acme", "shared-1", "active", "1"], "{one}");
    let all: Value =
        serde_json::from_slice(&fleet.o7s(&["router", "status", "--format", "json"]).stdout).expect("JSON");
    assert_eq!(
        (&all["routers"][0]["live"], &all["routers"][0]["applied"]),
        (&Value::Bool(true), &all["version"]),
        "{all}"
    );
    let none = fleet.o7s(&["router", "status", "--address", "127.0.0.1:1"]);
    assert!(
        code(&none) == 7 && text(&none.stderr).contains("does not answer as a router does"),
        "{}",
        text(&none.stderr)
    );
    drop(open);
}

fn psql(router: &Router, key: &str) -> String {
    let to = format!("host=127.0.0.1 port={} user=token dbname=acme sslmode=require connect_timeout=10", router.port);
    let mut command = Command::new("timeout");
    command.args(["20", "psql", "-XAtc", "SELECT current_user, current_database()", &to]).env("PGPASSWORD", key);
    let done = command.stdin(Stdio::null()).output().expect("runs");
    assert!(done.status.success(), "{}", text(&done.stderr));
    text(&done.stdout).trim_end().to_owned()
}

#[tokio::test]
async fn keys_follow_a_rename_end_with_their_tenant_and_are_known_while_the_control_database_is_away() {
    let world = World::migrated().await;
    let keyring = Keyring::new(&Secret::new("0123456789abcdef0123456789abcdef")).expect("long enough");
    let mut lease = world.lease().await;
    lease.save_fleet(&FleetRow { uid: keyring.fleet_uid(&fleet().name), ..fleet() }).await.expect("saved");
    lease.publish_routes(&[route("acme"), route("beta"), route("cato")], &[], &[]).await.expect("published");
    let spec = serde_json::json!({ "pooling": "session", "identify": ["apiKey"] });
    lease.save_router("edge", &spec).await.expect("saved");
    let mut texts = Vec::new();
    for (number, name) in ["acme", "beta", "cato"].into_iter().enumerate() {
        let id = Uuid::from_u128(number as u128);
        let (text, hash) = ApiKey::make(id, &[number as u8; 32]);
        let key = ApiKey { id, tenant: tenant(name), role: None, hash };
        assert!(matches!(lease.create_api_key(&key, "ci").await.expect("asked"), Created::Key(_)));
        assert_eq!(lease.create_api_key(&key, "ci").await.expect("asked"), Created::NameTaken);
        texts.push(text);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let cache = folder.path().join("routes");
    let config = |database: Secret| FollowConfig {
        database,
        router: None,
        reach: Reach { private: true, encryption: None },
        cache: Some(cache.clone()),
        address: None,
        workers: 1,
        environment: Box::new(|_| None),
    };
    let (followed, following) =
        begin(config(server().await.url(&world.database)), keyring.clone()).await.expect("begun");
    let (stop, mut running) = (CancellationToken::new(), tokio::task::JoinSet::new());
    let until = stop.clone();
    running.spawn(async move { following.run(|_, _| {}, until).await });
    let tokens = followed.tokens();
    let of = async |tokens: &dyn ogelnates::router::login::Tokens, number: usize| {
        tokens.check(&texts[number]).await.expect("checked").map(|Bears { tenant, .. }| tenant)
    };
    let all = async |tokens: &dyn ogelnates::router::login::Tokens| {
        [of(tokens, 0).await, of(tokens, 1).await, of(tokens, 2).await]
    };
    let named = |names: [&str; 3]| names.map(|name| Some(name.to_owned()).filter(|name| !name.is_empty()));
    assert_eq!(all(&*tokens).await, named(["acme", "beta", "cato"]), "read at the start");

    // The names change places in one go: both keys are called `ci`.
    let renames = [(tenant("acme"), tenant("beta2")), (tenant("beta"), tenant("acme2"))];
    let removed = [tenant("acme"), tenant("beta"), tenant("cato")];
    lease.publish_routes(&[route("acme2"), route("beta2")], &removed, &renames).await.expect("published");
    let expected = named(["beta2", "acme2", ""]);
    eventually("the push arrives", async || (all(&*tokens).await == expected).then_some(())).await;
    let ended = world.store.api_keys(Some(&tenant("cato")), true).await.expect("listed");
    assert!(ended[0].revoked_at.is_some(), "one that comes later under the name does not get it");
    let revoked = world.store.revoke_api_key(Uuid::from_u128(1)).await.expect("asked").expect("there");
    assert_eq!(revoked.tenant, tenant("acme2"));
    let expected = named(["beta2", "", ""]);
    eventually("the push arrives", async || (all(&*tokens).await == expected).then_some(())).await;
    stop.cancel();
    running.join_next().await;

    // Port 1 is nobody's: what was known is on disk.
    let away = Secret::new("postgresql://postgres:pw@127.0.0.1:1/postgres");
    let begun = tokio::time::timeout(Duration::from_secs(30), begin(config(away), keyring)).await.expect("in time");
    assert_eq!(all(&*begun.expect("begun").0.tokens()).await, expected);
}

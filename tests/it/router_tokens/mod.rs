//! Tokens end to end: the real binary follows a control database, and a driver logs in through it.

mod keys;
mod signer;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{Connection as _, PgConnection};

use self::signer::{KeyServer, Signer};
use crate::real::Fleet;
use crate::support::{PATIENCE, eventually};

/// `o7s router` over a fleet's control database, with TLS and HTTP, until it is dropped.
struct Router {
    child: Child,
    port: u16,
    http: String,
    _folder: tempfile::TempDir,
}

impl Router {
    fn start(fleet: &Fleet, environment: &[(&str, &str)]) -> Router {
        let folder = tempfile::tempdir().expect("a folder");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let [certificate, key] = ["router.crt", "router.key"].map(|name| folder.path().join(name));
        std::fs::write(&certificate, made.cert.pem()).expect("written");
        std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_o7s"));
        command.args(["router", "--public", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--tls-cert"]);
        command.arg(certificate).arg("--tls-key").arg(key);
        command.envs(&fleet.railway.exports).envs(environment.iter().copied()).env_remove("RAILWAY_TOKEN");
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut said = |what: &str| {
            let found =
                lines.by_ref().map_while(Result::ok).find_map(|line| Some(line.split_once(what)?.1.to_owned()));
            found.unwrap_or_else(|| panic!("it ended before it said {what:?}"))
        };
        let http = format!("http://{}", said("answering HTTP on "));
        let address = said("serving on ");
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port");
        // Whoever stops reading would block it.
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
        Router { child, port, http, _folder: folder }
    }

    async fn login(&self, user: &str, password: &str) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::new().host("127.0.0.1").port(self.port).ssl_mode(PgSslMode::Require);
        PgConnection::connect_with(&options.username(user).password(password).database(user)).await
    }

    /// Who it is that logged in.
    async fn who(&self, user: &str, token: &str) -> Result<String, String> {
        let mut client = self.login(user, token).await.map_err(|error| refusal(&error))?;
        let asked = sqlx::query_scalar("SELECT current_user || '@' || current_database()").fetch_one(&mut client);
        Ok(asked.await.expect("answered"))
    }

    /// Status, and tenant, role and tier of what may pass.
    async fn authorize(&self, token: &str) -> (u16, Vec<String>) {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let asked = http.get(format!("{}/v1/authorize", self.http)).bearer_auth(token).send().await;
        let answer = asked.expect("an answer");
        let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok().map(str::to_owned));
        (
            answer.status().as_u16(),
            ["x-o7s-tenant", "x-o7s-role", "x-o7s-tier"].into_iter().filter_map(header).collect(),
        )
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn refusal(error: &sqlx::Error) -> String {
    let said = error.as_database_error().unwrap_or_else(|| panic!("{error}"));
    format!("{} {}", said.code().unwrap_or_default(), said.message())
}

/// A Router manifest with `spec`.
fn manifest(fleet: &Fleet, spec: &str) {
    let head = "apiVersion: ogelnates.dev/v1\nkind: Router\nmetadata: { name: edge }\nspec:\n";
    fleet.write("edge.yaml", &format!("{head}{spec}"));
    let done = fleet.reconcile();
    assert!(done.status.success(), "{}{}", crate::real::text(&done.stdout), crate::real::text(&done.stderr));
}

const WRONG: &str = "28P01 password authentication failed for user \"token\"";

#[tokio::test]
async fn a_jwt_is_a_password_over_tls_and_its_rules_change_while_the_router_runs() {
    let fleet = Fleet::bootstrapped();
    fleet.tenant("acme", "  roles: [{ name: reader, grants: read }]\n");
    fleet.settle();
    let (signer, stranger) = (Signer::new(), Signer::new());
    let published = KeyServer::start(signer.jwks()).await;
    let router = Router::start(&fleet, &[("JWT_SECRET", signer::SECRET)]);
    let now = chrono::Utc::now().timestamp();
    let owner = json!({ "org": "acme", "exp": now + 600, "aud": "db", "iss": "https://issuer.example" });
    let reader =
        json!({ "org": "acme", "role": "reader", "exp": now + 600, "aud": ["db"], "iss": "https://issuer.example" });
    let rs256 = signer.token("RS256", &owner);
    let unwelcome = "28000 this router takes no tokens as passwords";
    assert_eq!(router.who("token", &rs256).await, Err(unwelcome.to_owned()));
    assert_eq!(router.authorize(&rs256).await.0, 401);

    let jwks = format!("jwks: '{}'", published.url);
    let jwt = "audience: db, issuer: 'https://issuer.example', tenantClaim: org";
    manifest(&fleet, &format!("  identify: [user, database, jwt]\n  jwt: {{ {jwks}, {jwt} }}\n"));
    eventually("the manifest is in force", async || router.who("token", &rs256).await.ok()).await;
    for (alg, claims, who) in [
        ("RS256", &owner, "acme@acme"),
        ("ES256", &owner, "acme@acme"),
        ("EdDSA", &owner, "acme@acme"),
        ("ES256", &reader, "acme_reader@acme"),
    ] {
        assert_eq!(router.who("token.acme", &signer.token(alg, claims)).await.as_deref(), Ok(who), "{alg}");
    }
    let passed = ["acme", "acme_reader", "free"].map(str::to_owned).to_vec();
    assert_eq!(router.authorize(&signer.token("EdDSA", &reader)).await, (200, passed));

    // Whatever is wrong with a token, and a tenant that does not exist, looks like a wrong password.
    let with = |key: &str, value: serde_json::Value| {
        let mut claims = owner.clone();
        claims[key] = value;
        signer.token("RS256", &claims)
    };
    for (what, token) in [
        ("no signature", signer.token("none", &owner)),
        ("a published key as a secret", signer.token("HS256", &owner)),
        ("another's key", stranger.token("RS256", &owner)),
        ("expired", with("exp", json!(now - 60))),
        ("for somebody else", with("aud", json!("web"))),
        ("another issuer", with("iss", json!("https://other.example"))),
        ("no such tenant", with("org", json!("nobody"))),
        ("no such role", with("role", json!("writer"))),
        ("no token at all", "hunter2".to_owned()),
    ] {
        assert_eq!(router.who("token", &token).await, Err(WRONG.to_owned()), "{what}");
    }
    assert_eq!(router.who("token.beta", &rs256).await, Err(WRONG.to_owned()), "another tenant's");
    assert_eq!(router.authorize(&with("exp", json!(now - 60))).await.0, 401);
    let huge = with("pad", json!("x".repeat(70_000)));
    assert_eq!(router.who("token", &huge).await, Err("08P01 invalid length of password packet".to_owned()));

    manifest(&fleet, &format!("  identify: [user, database, jwt]\n  jwt: {{ secretFrom: JWT_SECRET, {jwt} }}\n"));
    let hs256 = signer.token("HS256", &reader);
    let who = eventually("the secret is in force", async || router.who("token", &hs256).await.ok()).await;
    assert_eq!(who, "acme_reader@acme");
    assert_eq!(router.who("token", &rs256).await, Err(WRONG.to_owned()), "keys of before");
    assert_eq!(router.authorize(&hs256).await.0, 200);
    sessions_end_with_their_token(&router, &signer).await;

    let outlive = format!("{jwt}, sessionsOutlive: true");
    manifest(&fleet, &format!("  identify: [user, database, jwt]\n  jwt: {{ secretFrom: JWT_SECRET, {outlive} }}\n"));
    // The manifest is in force everywhere once a session has outlived its token.
    let outlived = async || {
        let [mut session, _] = nearly_expired(&router, &signer).await?;
        ended_by(&mut session, Duration::from_secs(7)).await.is_none().then_some(())
    };
    eventually("a session outlives its token", outlived).await;
}

/// Two sessions of a token that is good for some seconds; `None` where they came too late.
async fn nearly_expired(router: &Router, signer: &Signer) -> Option<[PgConnection; 2]> {
    let exp = chrono::Utc::now().timestamp() - 30 + 4;
    let claims = json!({ "org": "acme", "exp": exp, "aud": "db", "iss": "https://issuer.example" });
    let token = signer.token("HS256", &claims);
    Some([router.login("token", &token).await.ok()?, router.login("token", &token).await.ok()?])
}

/// What a session at rest is told when it ends, if it does within `patience`.
async fn ended_by(session: &mut PgConnection, patience: Duration) -> Option<String> {
    let until = tokio::time::Instant::now() + patience;
    while tokio::time::Instant::now() < until {
        if let Err(error) = sqlx::query("SELECT 1").execute(&mut *session).await {
            return Some(refusal(&error));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    None
}

async fn sessions_end_with_their_token(router: &Router, signer: &Signer) {
    let begun = async || {
        let [resting, mut working] = nearly_expired(router, signer).await?;
        sqlx::raw_sql("BEGIN; CREATE TABLE late (a int)").execute(&mut working).await.ok()?;
        Some([resting, working])
    };
    let [mut resting, mut working] = eventually("two sessions", begun).await;
    let expired = Some("57P01 the token that began this session has expired".to_owned());
    assert_eq!(ended_by(&mut resting, PATIENCE).await, expired);
    // A transaction may still end.
    sqlx::raw_sql("INSERT INTO late VALUES (1); COMMIT").execute(&mut working).await.expect("time to commit");
    assert_eq!(ended_by(&mut working, PATIENCE).await, expired);
}

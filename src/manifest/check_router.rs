//! Routers: how many, under which name, and how they tell tenants apart.

use crate::tenancy::RouterName;

use super::check_pool::service_name;
use super::check_tenant::variable;
use super::code::Code;
use super::error::{Report, quote};
use super::head::Head;
use super::model::{Identify, Jwt, JwtKeys, Pooling, Router};
use super::raw::Object;
use super::read::{At, Fields, Scope, word_of};
use super::source::{File, Mark};

const POOLINGS: [(&str, Pooling); 2] = [("transaction", Pooling::Transaction), ("session", Pooling::Session)];
const IDENTIFIES: [(&str, Identify); 6] = [
    ("sni", Identify::Sni),
    ("options", Identify::Options),
    ("user", Identify::User),
    ("database", Identify::Database),
    ("jwt", Identify::Jwt),
    ("apiKey", Identify::ApiKey),
];
/// Tokens are accepted only where the manifest says so.
const DEFAULT_IDENTIFY: [Identify; 4] = [Identify::Sni, Identify::Options, Identify::User, Identify::Database];
const DEFAULT_REPLICAS: u32 = 2;
const CLAIM_CHARS_MAX: usize = 255;

pub(super) struct RouterDraft<'a> {
    pub file: &'a File<'a>,
    pub name: At<RouterName>,
    pub router: Router,
}

pub(super) fn check_router<'a>(object: &'a Object<'a>, report: &'a Report) -> Option<RouterDraft<'a>> {
    let mut head = Head::open(object, report)?;
    head.refuse_rename("Router", "a Router has no data: give it the new name");
    let name = service_name(&mut head, "router name", RouterName::parse);
    let spec = &mut head.spec;
    // Railway's largest plan runs 50 replicas of a service.
    let replicas = spec.count("replicas", 1..=50).and_then(|n| u32::try_from(n.value).ok());
    let domain = domain(spec);
    let pooling = spec.word("pooling", &POOLINGS).map(|word| word.value);
    let identify = identify(spec);
    let notices = spec.flag("notices").unwrap_or(false);
    let require_tls = spec.flag("requireTls").unwrap_or(false);
    let jwt_written = spec.seems_written("jwt");
    let jwt = spec.map("jwt").and_then(jwt);
    if let Some((_, mark)) = identify.as_ref().filter(|(ways, _)| ways.contains(&Identify::Jwt) && !jwt_written) {
        let message = "`spec.identify` lists `jwt`, and nothing says whose tokens are believed";
        let help = "add `jwt: { jwks: \"https://…\" }`, or remove `jwt` from the list";
        spec.scope.error(*mark, Code::Contradiction, message, help);
    }
    let paused = spec.flag("paused").unwrap_or(false);
    let origins = head.close();
    let name = name?;
    let router = Router {
        name: name.value.clone(),
        replicas: replicas.unwrap_or(DEFAULT_REPLICAS),
        domain,
        pooling: pooling.unwrap_or(Pooling::Transaction),
        identify: identify.map_or_else(|| DEFAULT_IDENTIFY.to_vec(), |(ways, _)| ways),
        notices,
        require_tls,
        jwt,
        paused,
        origins,
    };
    Some(RouterDraft { file: object.file, name, router })
}

fn domain(spec: &mut Fields<'_>) -> Option<String> {
    let text = spec.line("domain", 253)?;
    let label = |label: &str| {
        let plain = label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        plain && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    if text.value.contains('.') && text.value.split('.').all(label) {
        return Some(text.value.to_owned());
    }
    let message = format!("{} is no host name", quote(text.value));
    let help = "expected a name in lower case without scheme or port, as in `db.example.com`";
    spec.scope.error(text.mark, Code::BadText, message, help);
    None
}

/// The ways, and where `jwt` is among them, or else the map's own place.
fn identify(spec: &mut Fields<'_>) -> Option<(Vec<Identify>, Mark)> {
    let (path, scope) = (spec.path_of("identify"), spec.scope);
    let nodes = spec.list("identify", IDENTIFIES.len())?;
    let (mut ways, mut mark) = (Vec::new(), spec.mark());
    for node in nodes {
        let Some(way) = word_of(scope, node, &path, &IDENTIFIES) else { continue };
        if ways.contains(&way.value) {
            let message = format!("`{path}` lists a way twice");
            scope.error(way.mark, Code::DuplicateEntry, message, "the first place counts; remove this one");
        } else {
            ways.push(way.value);
            if way.value == Identify::Jwt {
                mark = way.mark;
            }
        }
    }
    if nodes.is_empty() {
        let message = format!("`{path}` is empty: no client could be told apart");
        scope.error(spec.mark(), Code::OutOfRange, message, "list at least one way, or remove the key");
    }
    Some((ways, mark))
}

fn jwt(mut fields: Fields<'_>) -> Option<Jwt> {
    let scope = fields.scope;
    let both = fields.has("jwks") && fields.has("secretFrom");
    let none = !fields.seems_written("jwks") && !fields.seems_written("secretFrom");
    let jwks = fields.line("jwks", 2_048).and_then(|text| keys_address(scope, text)).map(JwtKeys::Jwks);
    let secret = fields.line("secretFrom", 128).and_then(|text| variable(scope, text, "router"));
    let secret = secret.map(|text| JwtKeys::SecretFrom(text.value.to_owned()));
    if both {
        let message = "`spec.jwt` has both `jwks` and `secretFrom`";
        scope.error(fields.mark(), Code::Contradiction, message, "keep one: a token is checked with one set of keys");
    } else if none {
        let message = "`spec.jwt` has no keys to check tokens with";
        let help = "add `jwks: \"https://…\"`, or `secretFrom: JWT_SECRET` for a shared secret";
        scope.error(fields.mark(), Code::MissingKey, message, help);
    }
    let mut text = |key| fields.line(key, CLAIM_CHARS_MAX).map(|text| text.value.to_owned());
    let (audience, issuer) = (text("audience"), text("issuer"));
    let (tenant_claim, role_claim) = (text("tenantClaim"), text("roleClaim"));
    let sessions_outlive = fields.flag("sessionsOutlive").unwrap_or(false);
    fields.close();
    Some(Jwt {
        keys: jwks.or(secret)?,
        audience,
        issuer,
        tenant_claim: tenant_claim.unwrap_or_else(|| "tenant".to_owned()),
        role_claim: role_claim.unwrap_or_else(|| "role".to_owned()),
        sessions_outlive,
    })
}

/// Whoever can change the keys on their way can log in as anybody.
fn keys_address(scope: Scope<'_>, text: At<&str>) -> Option<String> {
    let graphic = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic());
    let is_near = |rest: &str| {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let port = |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
        let host = authority.rsplit_once(':').filter(|(_, rest)| port(rest)).map_or(authority, |(host, _)| host);
        matches!(host, "localhost" | "127.0.0.1" | "[::1]")
            || host.strip_suffix(".railway.internal").is_some_and(|name| !name.is_empty() && !name.contains('@'))
    };
    let far = text.value.strip_prefix("https://").is_some_and(graphic);
    if far || text.value.strip_prefix("http://").is_some_and(|rest| graphic(rest) && is_near(rest)) {
        return Some(text.value.to_owned());
    }
    let message = format!("{} is no address to read keys from", quote(text.value));
    let help = "expected `https://…` without spaces; `http://` only on this machine or a `.railway.internal` name";
    scope.error(text.mark, Code::BadText, message, help);
    None
}

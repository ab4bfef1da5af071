//! Which tenant and role is meant, by every way to say it.

use super::*;
use crate::router::protocol::options::ForRouter;
use crate::router::table::{Encryption, Login, Roles};

fn entry(tenant: &str, roles: &[&str], others: Option<Login>) -> (Arc<str>, Arc<Entry>) {
    let named = roles.iter().map(|&role| (role.into(), Login::Trust)).collect();
    let entry = Entry {
        tenant: tenant.into(),
        instance: "shared-1".into(),
        database: format!("{tenant}_db").into(),
        endpoints: Vec::new(),
        encryption: Encryption::Disabled,
        pooling: Pooling::Transaction,
        state: State::Active,
        roles: Roles { named, others },
        server_connections: 5,
        tier: "free".into(),
        allowance: None,
        upgrade: None,
        version: 1,
    };
    (tenant.into(), Arc::new(entry))
}

fn table() -> Table {
    let entries = [
        entry("acme", &["acme", "acme_reader"], None),
        entry("beta", &["beta"], None),
        entry("shop", &["clerk"], Some(Login::LookUp)),
    ];
    Table { version: 1, entries: entries.into(), wildcard: None }
}

fn rules() -> Rules {
    use Identify::{Database, Options, Sni, User};
    Rules {
        identify: vec![Sni, Options, User, Database],
        domain: Some("db.example.com".into()),
        notices: false,
        require_tls: false,
    }
}

/// `user`, `database`, `sni` and `option` by name, in one line.
fn ask(text: &str) -> (Option<String>, Hello) {
    let (mut sni, mut hello) = (None, Hello::default());
    for (name, value) in text.split(' ').filter_map(|part| part.split_once('=')) {
        match name {
            "user" => hello.user = value.into(),
            "database" => hello.database = Some(value.into()),
            "option" => hello.router = ForRouter { tenant: Some(value.into()), ..ForRouter::default() },
            "sni" => sni = Some(value.into()),
            _ => panic!("{name}"),
        }
    }
    (sni, hello)
}

fn line(result: Result<Identity, Report<'static>>) -> String {
    let say = |report: &Report<'_>| format!("{} {}", report.code, report.message);
    match result {
        Ok(Identity::Role(who)) => {
            let tenant = who.entry.as_ref().map_or("nobody", |entry| &entry.tenant);
            let then = who.refusal.as_ref().map(|report| format!(", then {}", say(report))).unwrap_or_default();
            format!("{tenant}: {}{then}", who.role)
        }
        Ok(Identity::Token(bearer, TokenBy::Password)) => format!("token for {:?}", bearer.tenant),
        Ok(Identity::Token(bearer, TokenBy::OAuth)) => format!("OAuth token for {:?}", bearer.tenant),
        Err(report) => say(&report),
    }
}

fn check(text: &str) -> String {
    let (sni, hello) = ask(text);
    line(identify(&rules(), &table(), sni.as_deref(), &hello))
}

#[test]
fn every_way_to_name_a_tenant_leads_to_its_role() {
    for (asked, expected) in [
        ("user=reader.acme", "acme: acme_reader"),
        ("user=acme_reader.acme", "acme: acme_reader"),
        ("user=acme_reader", "acme: acme_reader"),
        ("user=acme.acme", "acme: acme"),
        ("user=acme", "acme: acme"),
        ("user=acme database=acme", "acme: acme"),
        ("user=acme database=acme_db", "acme: acme"),
        ("user=reader.acme database=acme_db", "acme: acme_reader"),
        // libpq's own default for a missing database.
        ("user=reader.acme database=reader.acme", "acme: acme_reader"),
        ("user=acme_reader database=acme_reader", "acme: acme_reader"),
        ("user=acme sni=acme.db.example.com", "acme: acme"),
        ("user=acme sni=acme.DB.example.com", "acme: acme"),
        ("user=reader.acme option=acme sni=acme.db.example.com database=acme", "acme: acme_reader"),
        ("user=acme option=acme", "acme: acme"),
        // Adopted: roles with names of their own, also with dots.
        ("user=clerk database=shop", "shop: clerk"),
        ("user=clerk.shop", "shop: clerk"),
        ("user=john.doe database=shop", "shop: john.doe"),
        ("user=john.doe option=shop", "shop: john.doe"),
        ("user=john.doe.shop", "shop: john.doe"),
    ] {
        assert_eq!(check(asked), expected, "{asked}");
    }
}

#[test]
fn a_server_name_outside_the_domain_names_nobody() {
    for sni in ["db.example.com", "acme.example.com", "x.acme.db.example.com", "acmedb.example.com", "x", "é"] {
        assert_eq!(check(&format!("user=beta sni={sni}")), "beta: beta", "{sni}");
    }
}

#[test]
fn sources_that_differ_are_refused_naming_both() {
    assert_eq!(
        check("user=acme sni=acme.db.example.com option=beta"),
        "28000 the TLS server name names tenant \"acme\", but the option o7s.tenant names \"beta\""
    );
}

#[test]
fn row_28_a_user_suffix_that_differs_is_told_so_only_after_a_password_and_whether_or_not_it_exists() {
    for (tenant, suffix) in [("acme", "beta"), ("acme", "nope"), ("nope", "beta"), ("nope", "none"), ("shop", "beta")]
    {
        let (sni, hello) = ask(&format!("user=reader.{suffix} option={tenant}"));
        let answer = identify(&rules(), &table(), sni.as_deref(), &hello);
        let Ok(Identity::Role(who)) = answer else { panic!("{answer:?}") };
        let expected =
            format!("the option o7s.tenant names tenant \"{tenant}\", but the user name names \"{suffix}\"");
        assert_eq!(who.failure.message, expected);
        assert_eq!(who.entry.is_some(), tenant == "shop", "an adopted database may have such a role");
    }
}

#[test]
fn row_28_whatever_is_unknown_goes_on_as_a_login_that_fails() {
    for (asked, expected) in [
        ("user=nope", "nobody: nope"),
        ("user=reader.nope", "nobody: nope_reader"),
        ("user=nope_reader", "nobody: nope_reader"),
        ("user=nope.nope", "nobody: nope"),
        ("user=writer.acme", "nobody: acme_writer"),
        ("user=acme_writer", "nobody: acme_writer"),
        ("user=acme option=nope", "nobody: acme"),
        ("user=acme sni=nope.db.example.com", "nobody: acme"),
        ("user=postgres database=acme", "nobody: postgres"),
        ("user=.acme", "nobody: .acme"),
    ] {
        assert_eq!(check(asked), expected, "{asked}");
    }
}

#[test]
fn a_foreign_database_is_named_only_after_the_right_password_and_whether_or_not_it_exists() {
    for database in ["nope", "beta"] {
        let expected = format!("acme: acme, then 3D000 database \"{database}\" does not exist");
        assert_eq!(check(&format!("user=acme database={database}")), expected);
        assert_eq!(check(&format!("user=acme.acme database={database}")), expected);
        assert_eq!(check(&format!("user=acme option=acme database={database}")), expected);
    }
}

#[test]
fn suspended_and_retired_tenants_hear_it_after_the_right_password() {
    for (state, expected) in [
        (State::Suspended, "acme: acme, then 57P03 tenant \"acme\" is suspended"),
        (State::Retired, "acme: acme, then 28000 tenant \"acme\" was removed"),
        (State::Paused { patience: std::time::Duration::ZERO }, "acme: acme"),
    ] {
        let (name, acme) = entry("acme", &["acme"], None);
        let entries = [(name, Arc::new(Entry { state, ..(*acme).clone() }))].into();
        let table = Table { entries, ..Table::default() };
        assert_eq!(line(identify(&rules(), &table, None, &ask("user=acme").1)), expected);
    }
}

#[test]
fn a_source_that_is_not_listed_names_nobody() {
    let only = |source| Rules { identify: vec![source], domain: None, notices: false, require_tls: false };
    let check = |rules: Rules, text| {
        let (sni, hello) = ask(text);
        line(identify(&rules, &table(), sni.as_deref(), &hello))
    };
    assert_eq!(check(only(Identify::Database), "user=acme"), "nobody: acme");
    assert_eq!(check(only(Identify::Database), "user=acme option=beta database=acme"), "acme: acme");
    assert_eq!(check(only(Identify::User), "user=clerk database=shop"), "nobody: clerk");
    assert_eq!(check(only(Identify::User), "user=acme sni=beta.db.example.com"), "acme: acme");
}

#[test]
fn the_wildcard_takes_every_database_no_route_names() {
    let (_, any) = entry("*", &[], Some(Login::Trust));
    let table = Table { wildcard: Some(any), ..table() };
    let check = |text| line(identify(&rules(), &table, None, &ask(text).1));
    assert_eq!(check("user=bench database=pgbench"), "pgbench: bench");
    assert_eq!(check("user=bench"), "bench: bench");
    assert_eq!(check("user=a.b database=pgbench"), "pgbench: a.b");
    assert_eq!(check("user=bench database=acme"), "nobody: bench");
}

#[test]
fn pooling_is_chosen_by_option_user_or_database() {
    for (user, database, expected) in [
        ("acme~session", None, Some(Pooling::Session)),
        ("acme", Some("acme~transaction"), Some(Pooling::Transaction)),
        ("acme~session", Some("acme~session"), Some(Pooling::Session)),
        ("acme", None, None),
    ] {
        let hello = Hello { user: user.into(), database: database.map(str::to_owned), ..Hello::default() };
        let Ok(Identity::Role(who)) = identify(&rules(), &table(), None, &hello) else { panic!("a role") };
        assert_eq!((&*who.role, who.pooling, who.refusal), ("acme", expected, None), "{user}");
    }
}

#[test]
fn a_token_is_a_password_only_where_the_router_takes_tokens() {
    let takes = Rules {
        identify: vec![Identify::Options, Identify::User, Identify::Jwt],
        domain: None,
        notices: false,
        require_tls: false,
    };
    let check = |rules: &Rules, text| line(identify(rules, &table(), None, &ask(text).1));
    assert_eq!(check(&takes, "user=token"), "token for None");
    assert_eq!(check(&takes, "user=token.acme"), "token for Some(\"acme\")");
    assert_eq!(check(&takes, "user=token option=acme"), "token for Some(\"acme\")");
    assert!(check(&takes, "user=token.acme option=beta").starts_with("28000 the option o7s.tenant name"));
    let by = |token| {
        let router = ForRouter { token: Some(token), ..ForRouter::default() };
        let hello = Hello { user: "reader.acme".into(), router, ..Hello::default() };
        move |rules: &Rules| line(identify(rules, &table(), None, &hello))
    };
    assert_eq!(by(TokenBy::Password)(&takes), "token for Some(\"acme\")", "whatever the role is called");
    assert_eq!(by(TokenBy::OAuth)(&takes), "OAuth token for Some(\"acme\")");
    let keys_only =
        Rules { identify: vec![Identify::User, Identify::ApiKey], domain: None, notices: false, require_tls: false };
    assert_eq!(by(TokenBy::OAuth)(&keys_only), "28000 this router takes no tokens as passwords");
    assert_eq!(check(&rules(), "user=token"), "28000 this router takes no tokens as passwords");
    let bearer = Bearer { tenant: None, database: None, pooling: None };
    assert_eq!(line(Ok(Identity::Role(borne(&table(), "acme", "reader.acme", &bearer)))), "acme: acme_reader");
    assert_eq!(line(Ok(Identity::Role(borne(&table(), "acme", "nope", &bearer)))), "nobody: nope");
}

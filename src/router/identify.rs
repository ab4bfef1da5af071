//! Whom a client means: the tenant and the role, from what it said before anybody was asked for a password. Pure.
//!
//! Nothing said here tells a stranger which tenants exist: whatever is unknown goes on as a login that must fail.

use std::sync::Arc;

use crate::manifest::{Identify, Pooling};

use super::protocol::error::{Report, SqlState};
use super::protocol::options::TokenBy;
use super::protocol::startup::Hello;
use super::table::{Entry, State, Table};

/// The Router manifest's part in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    pub identify: Vec<Identify>,
    /// TLS names below it name a tenant by their first label; without one no TLS name does.
    pub domain: Option<String>,
    /// Sessions are told when a ceiling is nearly reached.
    pub notices: bool,
    /// Of clients on other machines.
    pub require_tls: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    Role(Who),
    /// A JWT or an API key tells who it is.
    Token(Bearer, TokenBy),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    /// `None` where no such tenant or role exists: every password is wrong.
    pub entry: Option<Arc<Entry>>,
    /// In full, as Postgres knows it: `acme_reader`, whatever form it came in.
    pub role: Arc<str>,
    pub pooling: Option<Pooling>,
    /// What a wrong password is answered with.
    pub failure: Report<'static>,
    /// What a right password is answered with, where it does not lead anywhere.
    pub refusal: Option<Report<'static>>,
}

/// What whoever presents a token said besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The token must be this tenant's.
    pub tenant: Option<String>,
    pub database: Option<String>,
    pub pooling: Option<Pooling>,
}

/// A source's name for messages, and the tenant it names.
type Named<'a> = (&'static str, &'a str);

/// The user name under which a token is the password.
const TOKEN_USER: &str = "token";

/// Fails with 28000 when two sources name different tenants, and for a token where none is taken.
pub fn identify(rules: &Rules, table: &Table, sni: Option<&str>, hello: &Hello) -> Result<Identity, Report<'static>> {
    let (user, by_user) = without_pooling(&hello.user);
    let (database, by_database) = hello.database.as_deref().map(without_pooling).unzip();
    let said = database;
    // libpq fills a missing database in with the user's name.
    let database = database.filter(|&name| name != user);
    let pooling = hello.router.pooling.or(by_user).or(by_database.flatten());
    let named = named(rules, sni, hello)?;
    let suffix = suffix(rules, user);

    let is_token_user = user == TOKEN_USER || suffix.is_some_and(|(role, _)| role == TOKEN_USER);
    if let Some(by) = hello.router.token.or(is_token_user.then_some(TokenBy::Password)) {
        let tenant = match (named, suffix) {
            (Some(one), Some((_, tenant))) if one.1 != tenant => {
                return Err(conflict(one, ("the user name", tenant)));
            }
            (one, other) => one.map(|(_, tenant)| tenant).or(other.map(|(_, tenant)| tenant)),
        };
        let bearer = Bearer { tenant: tenant.map(str::to_owned), database: database.map(str::to_owned), pooling };
        let taken = match by {
            TokenBy::Password => &[Identify::Jwt, Identify::ApiKey][..],
            TokenBy::OAuth => &[Identify::Jwt],
        };
        return if rules.identify.iter().any(|source| taken.contains(source)) {
            Ok(Identity::Token(bearer, by))
        } else {
            let message = "this router takes no tokens as passwords";
            Err(Report::fatal(SqlState::INVALID_AUTHORIZATION, message).hint("Log in as a role with its password."))
        };
    }

    let failure = match (named, suffix) {
        (Some(one), Some((_, tenant))) if one.1 != tenant => conflict(one, ("the user name", tenant)),
        _ => wrong_password(&hello.user),
    };
    let who = |found: Option<(Arc<Entry>, Arc<str>)>, role: String| match found {
        Some((entry, role)) => {
            let refusal = refusal(&entry, database);
            Who { entry: Some(entry), role, pooling, failure: failure.clone(), refusal }
        }
        None => Who { entry: None, role: role.into(), pooling, failure: failure.clone(), refusal: None },
    };
    Ok(Identity::Role(who(find(rules, table, named, user, said), canonical(named, suffix, user))))
}

/// The login that a checked token gives, as if its role had given its password.
pub fn borne(table: &Table, tenant: &str, role: &str, bearer: &Bearer) -> Who {
    let found = table.get(tenant).and_then(|entry| in_entry(entry, role));
    let refusal = found.as_ref().and_then(|(entry, _)| refusal(entry, bearer.database.as_deref()));
    let (entry, role) = found.map_or((None, role.into()), |(entry, role)| (Some(entry), role));
    Who { entry, role, pooling: bearer.pooling, failure: wrong_password(TOKEN_USER), refusal }
}

/// The tenant that TLS name and options name.
fn named<'a>(rules: &Rules, sni: Option<&'a str>, hello: &'a Hello) -> Result<Option<Named<'a>>, Report<'static>> {
    let mut named: Option<Named<'a>> = None;
    for source in &rules.identify {
        let next = match source {
            Identify::Sni => sni.and_then(|name| label(rules, name)).map(|tenant| ("the TLS server name", tenant)),
            Identify::Options => hello.router.tenant.as_deref().map(|tenant| ("the option o7s.tenant", tenant)),
            Identify::User | Identify::Database | Identify::Jwt | Identify::ApiKey => None,
        };
        match (named, next) {
            (Some(one), Some(other)) if one.1 != other.1 => return Err(conflict(one, other)),
            (None, next) => named = next,
            _ => {}
        }
    }
    Ok(named)
}

/// `acme` of `acme.db.example.com`, where `db.example.com` is the domain.
pub fn label<'a>(rules: &Rules, name: &'a str) -> Option<&'a str> {
    let domain = rules.domain.as_deref()?;
    let label = name.get(..name.len().checked_sub(domain.len())?)?.strip_suffix('.')?;
    let below = name[name.len() - domain.len()..].eq_ignore_ascii_case(domain);
    (below && !label.is_empty() && !label.contains('.')).then_some(label)
}

/// `("reader", "acme")` of `reader.acme`; the last dot counts.
fn suffix<'a>(rules: &Rules, user: &'a str) -> Option<(&'a str, &'a str)> {
    let parts = user.rsplit_once('.').filter(|(role, tenant)| !role.is_empty() && !tenant.is_empty());
    parts.filter(|_| rules.identify.contains(&Identify::User))
}

/// The name without `~session` or `~transaction` at its end. `~` is in no name of ours and needs no encoding in a URL.
fn without_pooling(name: &str) -> (&str, Option<Pooling>) {
    if let Some(name) = name.strip_suffix("~session") {
        (name, Some(Pooling::Session))
    } else if let Some(name) = name.strip_suffix("~transaction") {
        (name, Some(Pooling::Transaction))
    } else {
        (name, None)
    }
}

/// The entry that is meant, and the role in it.
fn find(
    rules: &Rules,
    table: &Table,
    named: Option<Named<'_>>,
    user: &str,
    database: Option<&str>,
) -> Option<(Arc<Entry>, Arc<str>)> {
    if let Some((_, tenant)) = named {
        return in_entry(table.get(tenant)?, user);
    }
    let by_user = rules.identify.contains(&Identify::User);
    if let Some(entry) = suffix(rules, user).and_then(|(_, tenant)| table.get(tenant)) {
        return in_entry(entry, user);
    }
    // `acme_reader` and `acme` name their tenant too, but only where the database is not another one with such a role.
    let by_database = database.filter(|_| rules.identify.contains(&Identify::Database));
    let of_database = by_database.and_then(|name| in_entry(table.get(name)?, user));
    let of_user = || {
        let tenant = user.split_once('_').map_or(user, |(tenant, _)| tenant);
        let entry = by_user.then(|| table.get(tenant).or_else(|| table.get(user))).flatten()?;
        let (role, _) = entry.roles.named.get(user)?;
        let role = Arc::clone(role);
        Some((entry, role))
    };
    let wild = || {
        let name = database.unwrap_or(user);
        let entry = if table.entries.contains_key(name) { None } else { table.wild(name) };
        in_entry(entry?, user)
    };
    of_database.or_else(of_user).or_else(wild)
}

/// The role of `entry` that `user` means, in any of its forms.
fn in_entry(entry: Arc<Entry>, user: &str) -> Option<(Arc<Entry>, Arc<str>)> {
    let named = |name: &str| entry.roles.named.get(name).map(|(role, _)| Arc::clone(role));
    let other = |name: &str| entry.roles.others.as_ref().map(|_| Arc::from(name));
    let bare = user.strip_suffix(&*entry.tenant).and_then(|rest| rest.strip_suffix('.'));
    let role = named(user).or_else(|| match bare {
        Some(role) if *role == *entry.tenant => named(role).or_else(|| other(role)),
        // An adopted database's roles have names of their own.
        Some(role) => named(&format!("{}_{role}", entry.tenant)).or_else(|| named(role)).or_else(|| other(role)),
        None => other(user),
    })?;
    Some((entry, role))
}

/// The one name for all forms of a role, so that a stranger is shown one salt for all of them.
fn canonical(named: Option<Named<'_>>, suffix: Option<(&str, &str)>, user: &str) -> String {
    match suffix {
        Some((role, tenant)) if named.is_none_or(|(_, name)| name == tenant) => {
            if role == tenant {
                tenant.to_owned()
            } else {
                format!("{tenant}_{role}")
            }
        }
        _ => user.to_owned(),
    }
}

/// Why a tenant's own client is turned away.
fn refusal(entry: &Entry, database: Option<&str>) -> Option<Report<'static>> {
    let tenant = &entry.tenant;
    if entry.state == State::Retired {
        let message = format!("tenant \"{tenant}\" was removed");
        let hint = "Whoever runs this service can tell whether its data is kept.";
        return Some(Report::fatal(SqlState::INVALID_AUTHORIZATION, message).hint(hint));
    }
    if entry.state == State::Suspended {
        let message = format!("tenant \"{tenant}\" is suspended");
        let hint = "Its data is kept. Ask whoever runs this service to resume it.";
        return Some(Report::fatal(SqlState::CANNOT_CONNECT_NOW, message).hint(hint));
    }
    let foreign = database.filter(|&name| *name != *entry.database && *name != **tenant)?;
    let message = format!("database \"{foreign}\" does not exist");
    let hint = format!("The database of tenant \"{tenant}\" is \"{}\".", entry.database);
    Some(Report::fatal(SqlState::INVALID_DATABASE, message).hint(hint))
}

fn conflict(one: Named<'_>, other: Named<'_>) -> Report<'static> {
    let ((source, tenant), (other_source, other)) = (one, other);
    let message = format!("{source} names tenant \"{tenant}\", but {other_source} names \"{other}\"");
    Report::fatal(SqlState::INVALID_AUTHORIZATION, message).hint("Name the tenant once, or the same one everywhere.")
}

/// The same for an unknown tenant, an unknown role and a wrong password.
pub fn wrong_password(user: &str) -> Report<'static> {
    let message = format!("password authentication failed for user \"{user}\"");
    Report::fatal(SqlState::INVALID_PASSWORD, message).hint(
        "Check the password, and that the tenant is named: as role.tenant in the user name, as the database, or with \
         options=-c o7s.tenant=NAME.",
    )
}

#[cfg(test)]
#[path = "identify_tests.rs"]
mod tests;

//! What a manifest may say of an object's life: paused, suspended.

use ogelnates::manifest::Desired;
use ogelnates::operator::Verdict;
use ogelnates::plan::{Code, Consent, HeldBy, PendingDeletion, render};
use ogelnates::tenancy::{InstanceName, RouteState, TenantId};
use proptest::prelude::*;
use proptest::sample::Index;

use super::laws::{bootstrapped, settle, simulate};
use super::random_laws::{tenants_of, wishes, wishes_text};
use super::safety_laws::{absent, run};
use super::sim::{Ended, Kill, Sim, fleet, fleet_text, manifest};

pub const NAMES: [&str; 3] = ["acme", "beta", "corp"];

pub fn id(name: &str) -> TenantId {
    TenantId::parse(name).expect("valid")
}

/// More lines in a tenant's `spec`.
pub fn with(text: &str, tenant: &str, more: &str) -> String {
    text.replace(&format!("name: {tenant} }}\nspec:\n"), &format!("name: {tenant} }}\nspec:\n  {more}\n"))
}

pub async fn settled(text: &str) -> Sim {
    let desired = manifest(text);
    let sim = bootstrapped(&desired, false).await;
    settle(&sim, &desired, "first").await;
    sim
}

/// At no instant an active route leads to a database that is not there, or to a role that may not log in.
pub fn assert_routes_lead_somewhere(sim: &Sim, context: &str) {
    let (rows, contents) = (sim.control.rows.borrow(), sim.servers.contents.borrow());
    for route in rows.live.routes.values().filter(|route| route.state == RouteState::Active) {
        let leads = contents.values().any(|server| {
            let open = server.databases.get(&route.database).is_some_and(|database| database.allow_connections);
            let role = server.roles.get(route.tenant.as_str());
            open && role.is_some_and(|role| role.can_login && (role.password_ours || role.mark.is_none()))
        });
        assert!(leads, "{context}: the route of {} leads nowhere", route.tenant);
    }
}

/// From the settled world of `before` to that of `after`, killed before and after every single call: the end is always
/// the same, and no data is lost on the way.
pub async fn at_every_call(before: &str, after: &str, consent: impl Fn(&Sim) -> Consent) -> String {
    let desired = manifest(after);
    let sim = settled(before).await;
    let (data, calls) = (databases(&sim), sim.calls_made());
    let Ended::Done(done) = sim.reconcile_with(&desired, &consent(&sim), |_| true).await else { panic!("ends") };
    assert_eq!(done.verdict, Verdict::Converged, "{:?}\n{}", done.report, render(&done.plan, true));
    let calls = sim.calls_made() - calls;
    settle(&sim, &desired, "undisturbed").await;
    assert_eq!(databases(&sim), data, "databases come and go");
    let wanted = sim.picture();
    for n in 0..calls {
        for kill in [Kill::Before(n), Kill::After(n)] {
            let context = format!("{kill:?}");
            let sim = settled(before).await;
            sim.kill_at(kill);
            let _ = sim.reconcile_with(&desired, &consent(&sim), |_| true).await;
            sim.quiet();
            assert_routes_lead_somewhere(&sim, &context);
            assert_eq!(databases(&sim), data, "{context}");
            let _ = sim.reconcile_with(&desired, &consent(&sim), |_| true).await;
            settle(&sim, &desired, &context).await;
            assert_eq!(sim.picture(), wanted, "{context}");
        }
    }
    wanted
}

/// How many there are: a rename changes none of it, a deletion not before its time.
pub fn databases(sim: &Sim) -> usize {
    sim.servers.contents.borrow().values().map(|server| server.databases.len()).sum()
}

fn only(desired: &Desired, keep: impl Fn(&TenantId) -> bool) -> Desired {
    let mut desired = desired.clone();
    desired.tenants.retain(|name, _| keep(name));
    desired
}

/// Property 65.
#[test]
fn what_a_paused_tenant_pool_or_fleet_waits_for_is_shown_and_not_done() {
    simulate(async || {
        let plain = fleet_text(&NAMES);
        let changed = plain.replace("serverConnections: 2", "serverConnections: 3");
        let tenant = with(&changed, "acme", "paused: true");
        let all = with(&with(&tenant, "beta", "paused: true"), "corp", "paused: true");
        let roomier =
            plain.replace("spec: { tenantsPerInstance: 50,", "spec: { volume: 90Gi, tenantsPerInstance: 50,");
        let pool = roomier.replace("spec: { volume: 90Gi,", "spec: { paused: true, volume: 90Gi,");
        let whole = changed.replace("name: sim }\nspec:\n", "name: sim }\nspec:\n  paused: true\n");
        for (text, address, pending) in [
            (&all, "tenant/acme", "~ tenant/acme"),
            (&pool, "pool/shared", "~ instance/shared-1"),
            (&whole, "fleet/sim", "~ route/beta"),
        ] {
            let sim = settled(&plain).await;
            let (before, picture) = (sim.mutations_made(), sim.picture());
            let done = run(&sim, &manifest(text)).await;
            let shown = render(&done.plan, false);
            assert!(done.plan.actions.is_empty(), "{shown}");
            let held = done.plan.held.iter().find(|held| held.address == address).expect(address);
            assert_eq!(held.why, HeldBy::Paused);
            assert!(shown.contains(&format!("  {pending}")) && shown.contains("pending"), "{shown}");
            assert_eq!((sim.mutations_made(), sim.picture()), (before, picture), "{shown}");
            assert_eq!(done.verdict, Verdict::Converged);
        }
        let sim = settled(&plain).await;
        let done = run(&sim, &manifest(&tenant)).await;
        assert_eq!(done.plan.actions.iter().filter(|action| action.address.ends_with("acme")).count(), 0);
        assert_eq!(done.verdict, Verdict::Converged, "the others go on: {:?}", done.report);
    });
}

#[test]
fn a_new_tenant_that_is_paused_or_suspended_gets_no_instance_for_it() {
    simulate(async || {
        for word in ["paused: true", "suspended: true"] {
            let text = with(&fleet_text(&NAMES), "corp", word);
            let sim = settled(&text).await;
            assert!(!sim.picture().contains("own-1"), "{word}: {}", sim.picture());
            settle(&sim, &fleet(&NAMES), "let go").await;
            assert!(sim.picture().contains("route corp to own-1"), "{word}: {}", sim.picture());
        }
    });
}

#[test]
fn a_suspended_tenant_on_a_pool_it_should_leave_is_suspended_where_it_is() {
    simulate(async || {
        let sim = settled(&fleet_text(&NAMES)).await;
        let text = with(&fleet_text(&NAMES), "acme", "suspended: true\n  placement: { pool: own }");
        let done = run(&sim, &manifest(&text)).await;
        assert_eq!(done.verdict, Verdict::Converged, "{}", render(&done.plan, true));
        assert_eq!(sim.control.rows.borrow().live.routes[&id("acme")].state, RouteState::Suspended);
        assert!(sim.servers.with("shared-1", |server| !server.roles["acme"].can_login));
        assert!(render(&done.plan, true).contains("that is a move"), "what waits is said");
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, failure_persistence: None, ..ProptestConfig::default() })]

    /// Property 65: whatever is wanted, and wherever a run is killed, a paused tenant stays as it was.
    #[test]
    fn a_paused_tenant_is_changed_by_nothing(first in wishes(), second in wishes(), at in any::<Index>()) {
        simulate(async || {
            let (first, second) = (wishes_text(&first), wishes_text(&second));
            let paused = second.replace("  tier: free\n", "  paused: true\n  tier: free\n");
            let some = with(&second, "acme", "paused: true");
            for (text, is_paused) in [(paused, None), (some, Some("acme"))] {
                let sim = settled(&first).await;
                let desired = manifest(&text);
                let held = only(&desired, |name| is_paused.is_none_or(|only| name.as_str() == only));
                let before = tenants_of(&sim, &held);
                sim.kill_at(Kill::After(at.index(20) as u64));
                let _ = sim.reconcile(&desired).await;
                sim.quiet();
                settle(&sim, &desired, "paused").await;
                assert_eq!(tenants_of(&sim, &held), before);
            }
        });
    }

    /// Property 65: of a suspended tenant exactly login and the state of its route change, whatever else is wanted.
    #[test]
    fn a_suspended_tenant_is_suspended_and_nothing_else(first in wishes(), second in wishes(), at in any::<Index>()) {
        simulate(async || {
            let mut first = first.clone();
            first.iter_mut().for_each(|wish| wish.suspended = false);
            let mut second = second.clone();
            second.iter_mut().for_each(|wish| wish.suspended = true);
            let sim = settled(&wishes_text(&first)).await;
            let desired = manifest(&wishes_text(&second));
            let both = only(&desired, |name| first.iter().any(|wish| wish.name == name.as_str()));
            let before = tenants_of(&sim, &both);
            sim.kill_at(Kill::After(at.index(20) as u64));
            let _ = sim.reconcile(&desired).await;
            sim.quiet();
            settle(&sim, &desired, "suspended").await;
            let wanted = before.replace("can_login: true", "can_login: false").replace(" active ", " suspended ");
            assert_eq!(tenants_of(&sim, &both), wanted);
            let fresh = desired.tenants.keys().filter(|name| !both.tenants.contains_key(*name));
            let routes = sim.control.rows.borrow().live.routes.clone();
            assert!(fresh.into_iter().all(|name| !routes.contains_key(name)), "a new one is not made");
        });
    }
}

/// A record that outlived its undoing, or whose database never left, is no key and no grace time: data in use goes only
/// after a key of this day and a whole grace time from now.
#[test]
fn a_stale_record_of_a_deletion_opens_nothing() {
    simulate(async || {
        let sim = settled(&fleet_text(&NAMES)).await;
        let stale = PendingDeletion {
            instance: InstanceName::parse("shared-1").expect("valid"),
            renamed_to: "zz_deleted_20260101_acme".into(),
            due_at: sim.now() - chrono::TimeDelta::days(1),
            due: true,
        };
        sim.control.rows.borrow_mut().live.deletions.insert(id("acme"), stale);
        let text = absent(&fleet_text(&NAMES), "acme");
        let done = run(&sim, &manifest(&text)).await;
        assert_eq!(done.plan.refused.iter().map(|p| p.code).collect::<Vec<_>>(), [Code::KeyMissing]);
        assert!(sim.servers.with("shared-1", |server| server.databases.contains_key("acme")));
        let key = Consent { deletions: [(id("acme"), sim.now().date_naive())].into(), ..Consent::default() };
        let _ = sim.reconcile_with(&manifest(&text), &key, |_| true).await;
        let _ = sim.reconcile_with(&manifest(&text), &key, |_| true).await;
        let kept = sim.servers.with("shared-1", |server| {
            server.databases.keys().any(|name| name.starts_with("zz_deleted_") && name.ends_with("acme"))
        });
        assert!(kept && !sim.control.rows.borrow().live.deletions[&id("acme")].due, "{}", sim.picture());
    });
}

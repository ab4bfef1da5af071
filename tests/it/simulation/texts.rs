//! What a plan says where several causes look alike: a reader must not have to guess which it is.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use ogelnates::plan::{Code, Consent, InstanceState, Live, Plan, Symbol, plan, render, summary_line};
use ogelnates::tenancy::TenantId;

use super::laws::{bootstrapped, settle, simulate};
use super::safety_laws::{absent, run};
use super::sim::{Ended, Sim, fleet, fleet_text, manifest};

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).expect("valid")
}

async fn plan_with(sim: &Sim, desired: &ogelnates::manifest::Desired, keys: &[(&str, i64)]) -> Plan {
    let day = |days| sim.now().date_naive() + TimeDelta::days(days);
    let deletions: BTreeMap<_, _> = keys.iter().map(|(name, days)| (tenant(name), day(*days))).collect();
    let Ended::Done(done) =
        sim.reconcile_with(desired, &Consent { deletions, ..Consent::default() }, |_| false).await
    else {
        panic!("ends")
    };
    done.plan
}

#[test]
fn a_second_key_that_does_not_fit_is_told_what_is_wrong_with_it() {
    simulate(async || {
        let names = ["acme", "beta", "corp"];
        let sim = bootstrapped(&fleet(&names), false).await;
        settle(&sim, &fleet(&names), "first").await;
        let gone = manifest(&absent(&fleet_text(&names), "acme"));
        // Whatever day it is for the operator: only the control database's counts.
        sim.skew.set(TimeDelta::days(30));
        let day = |days| (sim.now() + TimeDelta::days(days)).date_naive().to_string();
        let missing = || "the second key is missing".to_owned();
        let cases = [
            (&[][..], missing(), String::new()),
            (&[("acme", -2)][..], format!("of {}, which is more than a day ago", day(-2)), String::new()),
            (&[("acme", 1)][..], format!("of {}, which is to come (in UTC it is {})", day(1), day(0)), String::new()),
            (&[("acmee", 0)][..], missing(), format!("acmee@{} opens nothing: no manifest has a tenant", day(0))),
            (&[("beta", 0)][..], missing(), format!("beta@{} opens nothing: its manifest does not ask", day(0))),
        ];
        for (keys, fault, warning) in cases {
            let plan = plan_with(&sim, &gone, keys).await;
            let [problem] = &plan.refused[..] else { panic!("{:?}", plan.refused) };
            assert_eq!(problem.code, Code::KeyMissing);
            assert!(problem.message.ends_with(&fault), "{keys:?}: {}", problem.message);
            let warnings: Vec<String> = plan.warnings.iter().map(ToString::to_string).collect();
            let warnings = warnings.join("\n");
            assert!(warnings.contains(&warning) && warnings.is_empty() == warning.is_empty(), "{warnings}");
        }
    });
}

#[test]
fn a_tenant_that_is_kept_is_not_shown_as_deleted() {
    simulate(async || {
        let names = ["acme", "beta", "corp"];
        let sim = bootstrapped(&fleet(&names), false).await;
        settle(&sim, &fleet(&names), "first").await;
        let text = absent(&fleet_text(&names), "acme");
        let kept = manifest(&text.replace("deletionPolicy: delete", "deletionPolicy: retain"));
        let plan = plan_with(&sim, &kept, &[]).await;
        assert_eq!(plan.actions.len(), 2, "its route and its login");
        assert!(plan.actions.iter().all(|action| action.symbol == Symbol::Update), "{}", render(&plan, true));
        assert!(summary_line(&plan).contains("2 to update, 0 to replace, 0 to delete, 1 retained"));
        let plan = plan_with(&sim, &manifest(&text), &[("acme", 0)]).await;
        assert!(plan.actions.iter().all(|action| action.symbol == Symbol::Delete), "{}", render(&plan, true));
    });
}

#[test]
fn a_switched_tier_is_the_reason_and_the_cause_of_all_that_follows_and_its_reactions_are_shown() {
    simulate(async || {
        let head = "apiVersion: ogelnates.dev/v1\nkind: ";
        let plus = format!(
            "---\n{head}Tier\nmetadata: {{ name: plus }}\nspec:\n  limits: {{ connections: 9, serverConnections: 4 }}\n  \
             overLimit: {{ connections: {{ queue: 5s }} }}\n  placement: {{ pool: shared }}\n"
        );
        let text = fleet_text(&["acme", "beta"]) + &plus;
        let sim = bootstrapped(&manifest(&text), false).await;
        settle(&sim, &manifest(&text), "first").await;
        let switched = text.replacen("tier: free", "tier: plus", 1);
        let line = 1 + switched[..switched.find("tier: plus").expect("there")].matches('\n').count();
        let plan = plan_with(&sim, &manifest(&switched), &[]).await;
        let said: Vec<_> =
            plan.actions.iter().map(|a| (a.address.as_str(), a.reason.text.as_str(), a.cause.to_string())).collect();
        let (why, cause) = ("tier free -> plus", format!("fleet.yaml:{line}"));
        assert_eq!(said, [("tenant/acme", why, cause.clone()), ("route/acme", why, cause)]);
        let shown = render(&plan, false);
        assert!(shown.contains("overLimit.connections     reject -> queue 5s"), "{shown}");
        // The tier itself changes: its own line, and what it does now.
        let harder = text
            .replace("queue: 5s", "queue: 7s")
            .replace("name: beta }\nspec:\n  tier: free", "name: beta }\nspec:\n  tier: plus");
        let sim = bootstrapped(&manifest(&harder.replace("queue: 7s", "queue: 5s")), false).await;
        settle(&sim, &manifest(&harder.replace("queue: 7s", "queue: 5s")), "first").await;
        let plan = plan_with(&sim, &manifest(&harder), &[]).await;
        let [action] = &plan.actions[..] else { panic!("{}", render(&plan, true)) };
        let line = 1 + harder[..harder.find("queue: 7s").expect("there")].matches('\n').count();
        assert_eq!(action.cause.to_string(), format!("fleet.yaml:{line}"));
        assert!(render(&plan, false).contains("overLimit.connections  queue 5s -> queue 7s"));
    });
}

#[test]
fn tenants_of_one_silent_instance_share_a_line_and_are_counted() {
    simulate(async || {
        let names: Vec<String> = (0..30).map(|n| format!("t{n:02}")).chain(["zulu".to_owned()]).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let desired = fleet(&names);
        let sim = bootstrapped(&desired, false).await;
        settle(&sim, &desired, "first").await;
        sim.servers.silent_for(2);
        let done = run(&sim, &desired).await;
        let blocked = done.plan.blocked.iter().filter(|problem| problem.address.starts_with("tenant/")).count();
        assert_eq!(blocked, 31, "JSON keeps all of them: 30 on the shared instance, one on its own");
        let short = render(&done.plan, false);
        assert_eq!(short.matches("tenant/t").count(), 3, "{short}");
        assert!(short.contains("blocked: tenant/t00, tenant/t01, tenant/t02 and 27 more: "), "{short}");
        assert!(short.ends_with(&format!("unchanged; {} blocked.\n", done.plan.blocked.len())), "{short}");
        assert_eq!(render(&done.plan, true).matches("blocked: tenant/t").count(), 30);
    });
}

/// As a person reads it, of a world that is changed by hand and planned without being touched.
#[test]
fn what_is_half_made_or_suspended_or_too_many_is_told_as_such() {
    simulate(async || {
        let with_reader =
            |text: String| text.replace("tier: free\n", "tier: free\n  roles: [{ name: reader, grants: read }]\n");
        let text = with_reader(fleet_text(&["acme", "beta", "corp"]));
        let two_own = text.replace("name: beta }\nspec:\n", "name: beta }\nspec:\n  placement: { pool: own }\n");
        let sim = bootstrapped(&manifest(&two_own), false).await;
        settle(&sim, &manifest(&two_own), "first").await;
        let live = sim.observe().await;
        let told = |text: &str, live: &Live| {
            let plan = plan(&manifest(text), live, &Consent::default());
            let shown = render(&plan, false);
            shown.lines().skip(1).map(|line| format!("{line}\n")).collect::<String>()
        };
        let mut half = live.clone();
        half.control.routes.remove(&tenant("acme"));
        let shared = ogelnates::tenancy::InstanceName::parse("shared-1").expect("valid");
        let Some(InstanceState::Awake(server)) = half.instances.get_mut(&shared) else { panic!("awake") };
        server.databases.get_mut("acme").expect("there").tenant = None;
        server.roles.remove("acme_reader");
        let suspended = two_own
            .replacen("limits: { connections: 5", "limits: { connections: 6", 1)
            .replace("name: acme }\nspec:\n", "name: acme }\nspec:\n  suspended: true\n");
        let fewer = two_own.replace("min: 0, max: 9", "min: 0, max: 1");
        insta::assert_snapshot!(format!(
            "half made\n{}\nsuspended\n{}\none instance is allowed\n{}",
            told(&two_own, &half),
            told(&suspended, &live),
            told(&fewer, &live)
        ));
    });
}

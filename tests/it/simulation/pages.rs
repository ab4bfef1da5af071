//! What a comment and a job's summary show of a plan.

use ogelnates::plan::{Consent, plan, plan_page};

use super::laws::{bootstrapped, simulate};
use super::sim::fleet;

#[test]
fn the_page_of_a_plan_reads_well() {
    simulate(async || {
        let desired = fleet(&["acme", "beta"]);
        let sim = bootstrapped(&desired, false).await;
        let plan = plan(&desired, &sim.observe().await, &Consent::default());
        insta::assert_snapshot!(plan_page(&plan, "plan", false).render(60_000));
    });
}

#[test]
fn a_page_too_small_for_its_plan_leaves_out_whole_changes_and_counts_them() {
    simulate(async || {
        let names: Vec<String> = (0..300).map(|n| format!("t{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let desired = fleet(&names);
        let sim = bootstrapped(&desired, false).await;
        let plan = plan(&desired, &sim.observe().await, &Consent::default());
        let (whole, cut) = (plan_page(&plan, "plan", true), plan_page(&plan, "plan", true).render(10_000));
        assert!(cut.len() <= 10_000 && cut.len() > 8_000, "{}", cut.len());
        // Whatever its length, each change is there whole, or is counted at the end.
        let entries = || whole.blocks.iter().flat_map(|block| &block.entries);
        let shown = entries().filter(|entry| cut.contains(&entry.text)).count();
        let left_out = entries().count() - shown;
        assert!(shown > 10 && left_out > 10, "{shown} shown");
        let last = cut.lines().last().expect("a line");
        assert_eq!(last, format!("*{left_out} more entries are left out here, to keep within 10000 bytes.*"));
    });
}

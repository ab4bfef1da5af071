//! What each Railway plan allows, from Railway's published plan table (pricing/plans and volumes/reference, read
//! 2026-11-24). The API shows limits only as an untyped value, so the table is ours.

use crate::manifest::RailwayPlan;
use crate::plan::PlanLimits;

/// A volume's sizes are in Railway's `sizeMB`, which counts a plan's "50 GB" as 50,000. vCPU and memory are those of
/// one replica, because a service with a volume cannot have two.
pub fn plan_limits(plan: RailwayPlan) -> PlanLimits {
    let (volumes, at_creation, volume_max, vcpu_max, memory_max) = match plan {
        RailwayPlan::Free => (Some(1), 500, 500, 1, 512),
        RailwayPlan::Trial => (Some(3), 500, 500, 2, 1024),
        // 48 vCPU and 48 GB are for six replicas. The 5 GB ceiling is the plan table's.
        RailwayPlan::Hobby => (Some(10), 5_000, 5_000, 8, 8 << 10),
        RailwayPlan::Pro => (Some(20), 50_000, 1_000_000, 24, 24 << 10),
        RailwayPlan::Enterprise => (None, 50_000, 5_000_000, 48, 48 << 10),
    };
    PlanLimits {
        volumes,
        volume_mib_at_creation: at_creation,
        volume_mib_max: volume_max,
        vcpu_milli_max: vcpu_max * 1000,
        memory_mib_max: memory_max,
    }
}

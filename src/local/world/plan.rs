//! What each Railway plan allows (Railway's docs, pricing/plans and volumes/reference, read 2026-11-24).

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Plan {
    Free,
    Trial,
    Hobby,
    Pro,
}

/// Sizes in MB as Railway's `sizeMB` counts them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Allowance {
    pub volumes_per_project: usize,
    /// Stated for the trial only; elsewhere a bound all the same.
    pub services_per_project: usize,
    pub volume_mb_at_creation: u64,
    pub volume_mb_max: u64,
    pub vcpus_max: f64,
    pub memory_gb_max: f64,
    pub requests_per_hour: u32,
    /// The published table gives none for Free and Trial; the edge is said to allow 10 to unknown clients.
    pub requests_per_second: u32,
}

/// Not stated by Railway for other plans than the trial.
const SERVICES_MAX: usize = 2_000;

impl Plan {
    pub fn allowance(self) -> Allowance {
        match self {
            Plan::Free => allowance((1, 500, 500), (1.0, 0.5), (100, 10)),
            Plan::Trial => Allowance { services_per_project: 5, ..allowance((3, 500, 500), (2.0, 1.0), (100, 10)) },
            // Live resize exists on paid plans, yet the plan table ends Hobby volumes at 5 GB: the stricter one holds.
            Plan::Hobby => allowance((10, 5_000, 5_000), (48.0, 48.0), (1_000, 10)),
            Plan::Pro => allowance((20, 50_000, 1_000_000), (1_000.0, 1_000.0), (10_000, 50)),
        }
    }

    /// `SubscriptionPlanType` of a project.
    pub fn subscription(self) -> &'static str {
        match self {
            Plan::Free => "free",
            Plan::Trial => "trial",
            Plan::Hobby => "hobby",
            Plan::Pro => "pro",
        }
    }

    /// `Plan` of a workspace, which has no word for the trial.
    pub fn workspace_plan(self) -> &'static str {
        match self {
            Plan::Free | Plan::Trial => "FREE",
            Plan::Hobby => "HOBBY",
            Plan::Pro => "PRO",
        }
    }
}

fn allowance(volumes: (usize, u64, u64), caps: (f64, f64), requests: (u32, u32)) -> Allowance {
    Allowance {
        volumes_per_project: volumes.0,
        services_per_project: SERVICES_MAX,
        volume_mb_at_creation: volumes.1,
        volume_mb_max: volumes.2,
        vcpus_max: caps.0,
        memory_gb_max: caps.1,
        requests_per_hour: requests.0,
        requests_per_second: requests.1,
    }
}

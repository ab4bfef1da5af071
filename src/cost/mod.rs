//! Prices and money: integers only, no clock. The allocation of the bill comes here; today it prices a plan.
//! Read: money, price.

mod money;
mod price;

pub use money::Nanos;
pub use price::{Consumption, monthly};

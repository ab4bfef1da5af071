//! (begun elsewhere)
pub mod load;
pub mod validate;

//! (begun elsewhere)

//! `o7s schema`: the JSON Schema of manifests, for editors.

use std::io;

use super::render;
use super::report::Failure;
use crate::manifest;

pub fn run() -> Result<u8, Failure> {
    render::json(&mut io::stdout().lock(), &manifest::schema())?;
    Ok(0)
}

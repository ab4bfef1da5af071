//! Every document we can send, and the variables of the batches, against the schema Railway publishes.

use apollo_compiler::request::coerce_variable_values;
use apollo_compiler::validation::Valid;
use apollo_compiler::{ExecutableDocument, Schema};
use serde_json::Value;

use super::batch::Batch;
use super::documents::ALL;
use super::{NewService, NewVolume};
use crate::tenancy::{EnvironmentId, ProjectId, ServiceId};

fn schema() -> Valid<Schema> {
    let text = include_str!("../../graphql/schema.graphql");
    Schema::parse_and_validate(text, "graphql/schema.graphql").expect("the published schema is valid")
}

/// Fails with the validator's own words; the document must hold the operation it is sent under, and no other.
fn check(schema: &Valid<Schema>, name: &str, text: &str) -> Result<Valid<ExecutableDocument>, String> {
    let document = ExecutableDocument::parse_and_validate(schema, text, name).map_err(|e| e.errors.to_string())?;
    let names: Vec<_> = document.operations.iter().map(|operation| operation.name.clone()).collect();
    match &names[..] {
        [Some(only)] if only == name => Ok(document),
        names => Err(format!("{name}: holds {names:?}")),
    }
}

fn check_batch(schema: &Valid<Schema>, batch: &Batch) -> Result<(), String> {
    let document = check(schema, batch.operation, &batch.query)?;
    let operation = document.operations.get(Some(batch.operation)).map_err(|_| "no operation")?;
    let variables: apollo_compiler::response::JsonMap =
        serde_json::from_value(Value::Object(batch.variables.clone())).map_err(|e| e.to_string())?;
    coerce_variable_values(schema, operation, &variables).map_err(|e| e.message().to_string())?;
    Ok(())
}

fn ids() -> (ProjectId, EnvironmentId) {
    (ProjectId::parse("p").expect("valid"), EnvironmentId::parse("e").expect("valid"))
}

fn service_ids(count: usize) -> Vec<ServiceId> {
    (0..count).map(|n| ServiceId::parse(&format!("service-{n}")).expect("valid")).collect()
}

#[test]
fn every_fixed_document_is_valid_and_sent_under_its_own_name() {
    let schema = schema();
    let bad: Vec<String> = ALL.iter().filter_map(|(name, text)| check(&schema, name, text).err()).collect();
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn every_file_of_operations_is_one_we_send() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/graphql/operations");
    let files = std::fs::read_dir(folder).expect("part of the tree");
    let name = |file: std::io::Result<std::fs::DirEntry>| file.expect("readable").file_name().into_string();
    let mut files: Vec<String> = files.map(|file| name(file).expect("plain")).collect();
    let mut sent: Vec<String> = ALL.iter().map(|(name, _)| format!("{name}.graphql")).collect();
    files.sort();
    sent.sort();
    assert_eq!(files, sent);
}

#[test]
fn batches_of_any_length_are_valid_with_their_variables() {
    let (schema, (project, environment)) = (schema(), ids());
    for count in [1, 2, 10, 50] {
        let services = service_ids(count);
        let new = |n| NewService { name: format!("shared-{n}"), marker: "o7s1:00:shared".into() };
        let new_services: Vec<NewService> = (0..count).map(new).collect();
        // Every other one says where it wants to be.
        let region = |n: usize| n.is_multiple_of(2).then(|| "us-west2".to_owned());
        let volume = |(n, service): (usize, &ServiceId)| NewVolume { service: service.clone(), region: region(n) };
        let volumes: Vec<NewVolume> = services.iter().enumerate().map(volume).collect();
        for batch in [
            Batch::create_services(&project, &environment, &new_services),
            Batch::create_volumes(&project, &environment, &volumes),
            Batch::read_endpoints(&project, &environment, &services.iter().collect::<Vec<_>>()),
        ] {
            assert_eq!(check_batch(&schema, &batch), Ok(()), "{} of {count}", batch.operation);
        }
    }
}

#[test]
fn a_document_with_a_mistake_is_found_out() {
    let (schema, (project, environment)) = (schema(), ids());
    assert!(check(&schema, "X", "query X { me { shoeSize } }").is_err());
    assert!(check(&schema, "Y", "query X { me { id } }").is_err());
    let services = service_ids(2);
    let mut batch = Batch::read_endpoints(&project, &environment, &services.iter().collect::<Vec<_>>());
    batch.variables.remove("s1");
    assert!(check_batch(&schema, &batch).is_err());
}

#[test]
fn names_and_values_never_become_part_of_a_text() {
    let (project, environment) = ids();
    let evil = NewService { name: "x\") { id } evil: serviceDelete(id: \"1".into(), marker: "m".into() };
    let batch = Batch::create_services(&project, &environment, &[evil]);
    assert!(!batch.query.contains("serviceDelete"), "{}", batch.query);
}

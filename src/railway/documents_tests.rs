//! Every document we can send is valid against the schema Railway publishes.

use apollo_compiler::Schema;
use apollo_compiler::validation::Valid;

fn schema() -> Valid<Schema> {
    let text = include_str!("../../graphql/schema.graphql");
    Schema::parse_and_validate(text, "graphql/schema.graphql").expect("the published schema is valid")
}

#[test]
fn the_published_schema_is_accepted_and_has_what_we_rest_on() {
    let schema = schema();
    for field in ["serviceCreate", "volumeCreate", "environmentPatchCommit"] {
        assert!(schema.type_field("Mutation", field).is_ok(), "{field}");
    }
}

//! The JSON Schema of manifests: what editors complete and check while one types, and what `o7s explain` tells.
//!
//! It describes shapes only. Whatever needs more than one key (references, sums, circles) is `check`'s business, and
//! `check` remains the judge: `schema_tests` holds both to the same keys and bounds.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::raw::Kind;
use super::schema_values::{
    Count, Dollars, HostName, Image, InstanceLabel, KeysAddress, Label, Labels, Line, Region, Removals, RoleLabel,
    Share, Size, Time, VariableName, VirtualCpus, WebAddress,
};

const KIB: u64 = 1 << 10;
const MIB: u64 = KIB << 10;
const TIB: u64 = MIB << 20;
const SECOND: u64 = 1_000;
const DAY: u64 = 86_400 * SECOND;

type Ceiling = Count<1, 100_000>;
type AnySize = Size<0, { 1_024 * TIB }>;
type Wait = Time<1, { 300 * SECOND }>;

/// Only the shape of these types is used: `check` reads the values, because serde stops at the first mistake.
macro_rules! shape {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        #[derive(JsonSchema)]
        $(#[$doc])*
        #[schemars(deny_unknown_fields, rename_all = "camelCase")]
        #[expect(dead_code, reason = "its shape is what is used")]
        struct $name { $($(#[$field_doc])* $field: $type,)* }
    )*};
}

shape! {
    /// What an object is called.
    Metadata {
        /// The object's name: a-z, 0-9 and `-`, a letter first. Unique within its kind.
        name: Label<63>,
    }
    /// What a pool or router is called.
    ServiceMetadata {
        /// The name, which becomes that of a Railway service: a-z, 0-9 and `-`, a letter first; not `o7s…`.
        name: Label<28>,
    }
    /// What a tenant is called.
    TenantMetadata {
        /// The tenant's name, also that of its database and owner role: a-z, 0-9 and `-`, a letter first; not a name of
        /// Postgres, Railway or Ogelnates (`postgres`, `public`, `o7s…`).
        name: Label<48>,
        /// For people and filters; changes nothing.
        labels: Option<Labels>,
        /// The tenant's former name, whose data it takes over. Its old manifest must be gone; afterwards this has no effect.
        renamed_from: Option<Label<48>>,
    }

    /// Which Railway project this is, and what holds for all tenants. One per input.
    FleetSpec {
        /// Where the fleet lives on Railway.
        railway: Option<RailwayPlace>,
        /// What tenants get that do not say otherwise.
        defaults: Option<Defaults>,
        /// How Railway's bill is divided.
        billing: Option<BillingSpec>,
        /// What stops a run that would go too far.
        safety: Option<SafetySpec>,
        /// Read, compared and shown, never written.
        #[schemars(extend("default" = false))]
        paused: Option<bool>,
    }
    RailwayPlace {
        /// Name of the Railway project. Default: the fleet's name.
        project: Option<Line<100>>,
        /// Name of the Railway environment.
        #[schemars(extend("default" = "production"))]
        environment: Option<Line<100>>,
        /// The plan the fleet is written for; the live one decides the limits.
        plan: Option<PlanWord>,
    }
    Defaults {
        /// For tenants without a tier.
        tier: Option<Label<63>>,
    }
    BillingSpec {
        /// Railway bills in US dollars; nothing is converted.
        #[schemars(extend("default" = "USD"))]
        currency: Option<CurrencyWord>,
        /// How cost that no tenant caused is shared.
        #[schemars(extend("default" = "proportional"))]
        overhead: Option<OverheadWord>,
        /// What is added to the cost.
        markup: Option<Markup>,
    }
    Markup {
        /// In percent of the cost; may pass 100.
        percent: Count<0, 10_000>,
    }
    SafetySpec {
        /// Of the live tenants, at least one; or a number of them. Above it a run is refused whole.
        #[schemars(extend("default" = "10%"))]
        max_removals: Option<Removals>,
    }

    /// What a tenant may use, what happens above it, and what it pays.
    TierSpec {
        /// The ceilings of each tenant of the tier.
        limits: TierLimits,
        /// What happens above a ceiling.
        over_limit: Option<OverLimitSpec>,
        /// Where tenants of the tier live unless they say otherwise.
        placement: Option<TierPlacement>,
        /// What a tenant pays, in US dollars.
        price: Option<Price>,
        /// What a client above a ceiling is recommended. No circles.
        upgrade: Option<UpgradeSpec>,
    }
    TierLimits {
        /// Client connections at the router.
        connections: Ceiling,
        /// Connections that Postgres sees: its CONNECTION LIMIT, and what is checked against the server's
        /// `max_connections`. At most `connections`. Default: as `connections`.
        server_connections: Option<Ceiling>,
        /// Default: unlimited.
        queries_per_minute: Option<Count<1, 1_000_000_000>>,
        /// Requests a gateway asks `/v1/authorize` about. Default: unlimited.
        requests_per_minute: Option<Count<1, 1_000_000_000>>,
        /// Size of the database; an empty one has nearly 8 MiB. Default: unlimited.
        storage: Option<Size<{ 16 * MIB }, { 64 * TIB }>>,
        /// Bytes sent to clients. Default: unlimited.
        egress_per_month: Option<Size<MIB, { 1_024 * TIB }>>,
        /// Set on the database as `statement_timeout`. Default: unlimited.
        statement_timeout: Option<Time<1, { 24 * DAY }>>,
    }
    TenantLimits {
        /// Client connections at the router. Default: the tier's.
        connections: Option<Ceiling>,
        /// Connections that Postgres sees. Default: the tier's, if it sets one, else as `connections`.
        server_connections: Option<Ceiling>,
        /// Default: the tier's.
        queries_per_minute: Option<Count<1, 1_000_000_000>>,
        /// Requests a gateway asks `/v1/authorize` about. Default: the tier's.
        requests_per_minute: Option<Count<1, 1_000_000_000>>,
        /// Size of the database. Default: the tier's.
        storage: Option<Size<{ 16 * MIB }, { 64 * TIB }>>,
        /// Bytes sent to clients. Default: the tier's.
        egress_per_month: Option<Size<MIB, { 1_024 * TIB }>>,
        /// Set on the database as `statement_timeout`. Default: the tier's.
        statement_timeout: Option<Time<1, { 24 * DAY }>>,
    }
    OverLimitSpec {
        /// `reject`, or `{ queue: 5s }`: wait at most so long.
        #[schemars(extend("default" = "reject"))]
        connections: Option<RejectOrQueue>,
        /// `reject`, `{ queue: 5s }`, or `{ slow: 1s }`: delay each query at most so long.
        #[schemars(extend("default" = "reject"))]
        queries_per_minute: Option<RejectQueueOrSlow>,
        /// `reject` and nothing else.
        #[schemars(extend("default" = "reject"))]
        egress_per_month: Option<RejectWord>,
        /// `readOnly`, or `reject`.
        #[schemars(extend("default" = "readOnly"))]
        storage: Option<StorageWord>,
    }
    Queue {
        /// Wait at most so long, then reject.
        queue: Wait,
    }
    Slow {
        /// Delay each query at most so long.
        slow: Wait,
    }
    TierPlacement {
        /// A DatabasePool of this fleet.
        pool: Label<28>,
    }
    Price {
        /// A month of one tenant.
        monthly: Dollars,
        /// What that includes.
        included: Option<Included>,
        /// What is paid above it.
        overage: Option<Overage>,
    }
    Included {
        /// Bytes sent to clients in a month.
        egress: Option<AnySize>,
    }
    Overage {
        /// Of each Gi sent above what is included.
        egress_per_gi: Option<Dollars>,
    }
    UpgradeSpec {
        /// The next tier.
        to: Label<63>,
        /// Shown to the client.
        message: Option<Line<200>>,
        /// Shown to the client.
        url: Option<WebAddress>,
    }

    /// What an instance (one Postgres server: a Railway service `<pool>-<n>` with its volume) is made of, and how many
    /// there may be.
    DatabasePoolSpec {
        /// The server.
        postgres: Option<PostgresSpec>,
        /// As Railway calls it; of an instance with data it is not changed. Default: Railway's choice.
        region: Option<Region>,
        /// Of each instance; grows, never shrinks.
        #[schemars(extend("default" = "5Gi"))]
        volume: Option<Size<{ 128 * MIB }, { 64 * TIB }>>,
        /// A cap for each instance: without one nothing bounds what it costs.
        resources: Option<ResourcesSpec>,
        /// 1 is dedicated.
        #[schemars(extend("default" = 50))]
        tenants_per_instance: Option<Count<1, 10_000>>,
        /// How many instances.
        instances: Option<InstancesSpec>,
        /// The first client waits for the server to wake.
        #[schemars(extend("default" = false))]
        sleep_when_idle: Option<bool>,
        /// When a tenant is too large for the pool. Needs `storage`, `serverTimeShare` or both. No circles.
        outgrow: Option<OutgrowSpec>,
        /// Read, compared and shown, never written.
        #[schemars(extend("default" = false))]
        paused: Option<bool>,
    }
    PostgresSpec {
        /// Another major version is refused once there is data.
        #[schemars(extend("default" = super::check_pool::DEFAULT_IMAGE))]
        image: Option<Image>,
        /// Default: room for a full instance of the pool's largest tenants, worked out when it is made.
        max_connections: Option<Count<10, 10_000>>,
    }
    ResourcesSpec {
        /// Virtual CPUs, to three decimals.
        vcpu: VirtualCpus,
        /// Memory of the container.
        memory: Size<{ 128 * MIB }, { 4 * TIB }>,
    }
    InstancesSpec {
        /// Made even without a tenant.
        #[schemars(extend("default" = 0))]
        min: Option<Count<0, 999>>,
        /// Never more, and never less than `min`.
        #[schemars(extend("default" = 8))]
        max: Option<Count<1, 999>>,
    }
    OutgrowSpec {
        /// A database above it has outgrown the pool.
        storage: Option<Size<{ 16 * MIB }, { 64 * TIB }>>,
        /// A tenant that takes more of the server's time has outgrown it.
        server_time_share: Option<Share>,
        /// For so long.
        r#for: Option<Time<{ 60 * SECOND }, { 7 * DAY }>>,
        /// The pool it belongs into.
        to: Label<28>,
        /// Move without being asked; otherwise the move is only proposed.
        #[schemars(extend("default" = false))]
        auto: Option<bool>,
    }

    /// How clients reach tenants.
    RouterSpec {
        /// Replicas of the router's service.
        #[schemars(extend("default" = 2))]
        replicas: Option<Count<1, 50>>,
        /// Tenants are `<tenant>.<domain>`.
        domain: Option<HostName>,
        /// When a server connection goes back to the pool.
        #[schemars(extend("default" = "transaction"))]
        pooling: Option<PoolingWord>,
        /// How a client's tenant is told, in this order; tokens count only where they are listed.
        #[schemars(length(min = 1, max = 6), extend("uniqueItems" = true),
            extend("default" = ["sni", "options", "user", "database"]))]
        identify: Option<Vec<IdentifyWord>>,
        /// Whether sessions are told, once a minute, that a ceiling is nearly reached (80 %).
        #[schemars(extend("default" = false))]
        notices: Option<bool>,
        /// Whether clients on other machines are refused that do not encrypt.
        #[schemars(extend("default" = false))]
        require_tls: Option<bool>,
        /// Whose signed tokens are believed; needed where `identify` lists `jwt`.
        jwt: Option<JwtSpec>,
        /// Read, compared and shown, never written.
        #[schemars(extend("default" = false))]
        paused: Option<bool>,
    }

    /// Whose signed tokens are believed.
    #[schemars(extend("oneOf" = [{ "required": ["jwks"] }, { "required": ["secretFrom"] }]))]
    JwtSpec {
        /// Where the issuer publishes its keys, as a JWKS over https. Either this or `secretFrom`.
        jwks: Option<KeysAddress>,
        /// The router's environment variable that holds a shared secret of at least 32 bytes (HS256).
        secret_from: Option<VariableName>,
        /// The token must be meant for it (`aud`). Without one, a token that names an audience is refused.
        audience: Option<Line<255>>,
        /// The token must be of this issuer (`iss`).
        issuer: Option<Line<255>>,
        /// The claim that names the tenant.
        #[schemars(extend("default" = "tenant"))]
        tenant_claim: Option<Line<255>>,
        /// The claim that names the role; a token without it is the tenant's owner.
        #[schemars(extend("default" = "role"))]
        role_claim: Option<Line<255>>,
        /// Whether sessions go on when the tokens that began them expire. They end otherwise.
        #[schemars(extend("default" = false))]
        sessions_outlive: Option<bool>,
    }

    /// A database, its owner role called like the tenant, and what it may do.
    TenantSpec {
        /// A Tier of this fleet. Default: the Fleet's.
        tier: Option<Label<63>>,
        /// Default: the tier's pool. Another pool than the live one is a move.
        placement: Option<TenantPlacement>,
        /// On top of the tier's.
        limits: Option<TenantLimits>,
        /// Roles beside the owner, made as `<tenant>_<name>`, which has at most 63 bytes.
        #[schemars(length(max = 32))]
        roles: Option<Vec<RoleSpec>>,
        /// The data stays, nobody logs in.
        #[schemars(extend("default" = false))]
        suspended: Option<bool>,
        /// Read, compared and shown, never written.
        #[schemars(extend("default" = false))]
        paused: Option<bool>,
        /// The tenant's passwords, which are derived from the master key.
        credentials: Option<Credentials>,
        /// `absent` and a `deletionPolicy` say what happens to a tenant that is to go; a removed manifest does nothing.
        #[schemars(extend("default" = "present"))]
        state: Option<StateWord>,
        /// What `state: absent` does.
        #[schemars(extend("default" = "retain"))]
        deletion_policy: Option<PolicyWord>,
        /// Variables of application services that hold the tenant's connection URL.
        #[schemars(length(max = 64))]
        publish: Option<Vec<PublishSpec>>,
    }
    /// Either of the two.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
    TenantPlacement {
        /// A DatabasePool of this fleet.
        pool: Option<Label<28>>,
        /// One instance of a pool, as in `shared-2`: pins the tenant to it.
        instance: Option<InstanceLabel>,
    }
    RoleSpec {
        /// a-z, 0-9 and `_`, a letter first.
        name: RoleLabel,
        /// On all tables, present and future.
        grants: GrantsWord,
    }
    Credentials {
        /// One more rotates every password of the tenant.
        #[schemars(extend("default" = 1))]
        generation: Option<Count<1, 10_000>>,
    }
    PublishSpec {
        /// A Railway service of the same environment.
        service: Line<100>,
        /// Set to the connection URL; once in the whole fleet for a service. Not `O7S_…` or `RAILWAY_…`.
        variable: VariableName,
        /// A declared role. Default: the owner.
        role: Option<RoleLabel>,
    }
}

macro_rules! words {
    ($($name:ident { $($(#[$doc:meta])* $word:ident,)+ })*) => {$(
        #[derive(JsonSchema)]
        #[schemars(rename_all = "camelCase")]
        #[expect(dead_code, reason = "its shape is what is used")]
        enum $name { $($(#[$doc])* $word,)+ }
    )*};
}

words! {
    PlanWord { Free, Trial, Hobby, Pro, Enterprise, }
    OverheadWord {
        /// By what each tenant caused.
        Proportional,
        /// The same for all.
        Even,
    }
    RejectWord { Reject, }
    StorageWord {
        /// Writes are refused.
        ReadOnly,
        /// Connections are refused.
        Reject,
    }
    PoolingWord {
        /// After each transaction.
        Transaction,
        /// When the client leaves.
        Session,
    }
    IdentifyWord {
        /// The host name of TLS.
        Sni,
        /// `options=-c o7s.tenant=acme`.
        Options,
        /// The user, as in `reader.acme`.
        User,
        /// The database's name.
        Database,
        /// A signed token.
        Jwt,
        /// A key made by O7s.
        ApiKey,
    }
    StateWord { Present, Absent, }
    PolicyWord {
        /// Everything stays, and is listed.
        Retain,
        /// Everything stays, and O7s forgets it.
        Detach,
        /// The data goes, after a second key on the run and a grace time.
        Delete,
    }
    GrantsWord {
        /// Reads every table.
        Read,
        /// Reads and changes every table.
        Write,
    }
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "its shape is what is used")]
enum CurrencyWord {
    #[schemars(rename = "USD")]
    Usd,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "its shape is what is used")]
enum RejectOrQueue {
    Word(RejectWord),
    Queue(Queue),
}

#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "its shape is what is used")]
enum RejectQueueOrSlow {
    Word(RejectWord),
    Queue(Queue),
    Slow(Slow),
}

/// The JSON Schema (draft 7, which all editors know) of one document of any kind.
pub fn schema() -> Value {
    let kinds: Vec<&str> = Kind::WORDS.iter().map(|(word, _)| *word).collect();
    let choices: Vec<Value> = kinds
        .iter()
        .map(|kind| {
            let chosen = json!({ "properties": { "kind": { "const": kind } }, "required": ["kind"] });
            json!({ "if": chosen, "then": { "$ref": format!("#/definitions/{kind}") } })
        })
        .collect();
    let definitions: Map<String, Value> =
        Kind::WORDS.iter().map(|&(word, kind)| (word.to_owned(), of_kind(kind))).collect();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Ogelnates manifest",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata"],
        "properties": {
            "apiVersion": { "const": super::head::API_VERSION },
            "kind": { "enum": kinds, "description": "What the document declares." },
        },
        "allOf": choices,
        "definitions": definitions,
    })
}

/// One kind's whole document, with nothing left to look up.
pub(super) fn of_kind(kind: Kind) -> Value {
    let (metadata, spec) = match kind {
        Kind::Fleet => (shape_of::<Metadata>(), shape_of::<FleetSpec>()),
        Kind::Tier => (shape_of::<Metadata>(), shape_of::<TierSpec>()),
        Kind::DatabasePool => (shape_of::<ServiceMetadata>(), shape_of::<DatabasePoolSpec>()),
        Kind::Router => (shape_of::<ServiceMetadata>(), shape_of::<RouterSpec>()),
        Kind::Tenant => (shape_of::<TenantMetadata>(), shape_of::<TenantSpec>()),
    };
    let mut required = vec!["apiVersion", "kind", "metadata"];
    if spec.get("required").is_some() {
        required.push("spec");
    }
    json!({
        "type": "object",
        "description": spec["description"],
        "additionalProperties": false,
        "required": required,
        "properties": {
            "apiVersion": { "const": super::head::API_VERSION },
            "kind": { "const": kind.as_str() },
            "metadata": metadata,
            "spec": spec,
        },
    })
}

fn shape_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema: Value = Schema::into(settings.into_generator().into_root_schema_for::<T>());
    tidy(&mut schema);
    schema
}

/// A key may be left out, but `key: null` is refused; and the titles schemars makes are our type names, which nobody
/// knows.
fn tidy(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.get("title").is_some_and(Value::is_string) {
                map.remove("title");
            }
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|word| word != "null");
                if types.len() == 1
                    && let Some(one) = types.pop()
                {
                    map.insert("type".to_owned(), one);
                }
            }
            if let Some(Value::Array(words)) = map.get_mut("enum") {
                words.retain(|word| !word.is_null());
            }
            if let Some(Value::String(text)) = map.get_mut("description") {
                // Lines are the source's, not the text's.
                *text = text.replace('\n', " ");
            }
            drop_null_choice(map);
            map.values_mut().for_each(tidy);
        }
        Value::Array(list) => list.iter_mut().for_each(tidy),
        _ => {}
    }
}

fn drop_null_choice(map: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = map.get_mut("anyOf") else { return };
    choices.retain(|choice| *choice != json!({ "type": "null" }));
    if choices.len() == 1
        && let Some(Value::Object(only)) = choices.pop()
    {
        map.remove("anyOf");
        for (key, value) in only {
            map.entry(key).or_insert(value);
        }
    }
}

#[cfg(test)]
#[path = "schema_tests.rs"]
mod tests;

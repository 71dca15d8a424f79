//! `probectl tenants`: list, create and change tenants. For those who run the platform: every call needs a platform key.

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::SUCCESS;
use crate::client::Client;
use crate::terminal;

/// Manages tenants.
#[derive(Debug, Args)]
pub struct TenantsArgs {
    /// What to do
    #[command(subcommand)]
    command: TenantsCommand,
    /// Print the answer as JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum TenantsCommand {
    /// List tenants, newest first
    List {
        /// How many
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Make a tenant; give it a key next, with: keys create --tenant
    Create {
        /// Its name
        name: String,
        #[command(flatten)]
        terms: TermsArgs,
    },
    /// Change name and limits
    Set {
        /// Id of the tenant
        id: String,
        /// Its new name
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        limits: LimitsArgs,
    },
    /// Say which media roots and S3 profiles its jobs may use; each list replaces the one before
    Grant {
        /// Id of the tenant
        id: String,
        #[command(flatten)]
        grants: GrantsArgs,
    },
    /// Let its keys open nothing; its jobs go on
    Suspend {
        /// Id of the tenant
        id: String,
    },
    /// Let its keys work again
    Resume {
        /// Id of the tenant
        id: String,
    },
}

#[derive(Debug, Args)]
struct TermsArgs {
    #[command(flatten)]
    grants: GrantsArgs,
    #[command(flatten)]
    limits: LimitsArgs,
}

#[derive(Debug, Args)]
struct GrantsArgs {
    /// Names of media roots, joined by commas; * for all, an empty word for none
    #[arg(long, value_name = "NAMES")]
    media_roots: Option<String>,
    /// Names of S3 profiles, joined by commas; * for all, an empty word for none
    #[arg(long, value_name = "NAMES")]
    s3_profiles: Option<String>,
}

/// A number, or `default` for what the operator's settings say.
#[derive(Debug, Args)]
struct LimitsArgs {
    /// Most requests a minute of all its keys; `default` for what the settings say, here and below
    #[arg(long, value_name = "N", value_parser = limit)]
    rate_per_minute: Option<Value>,
    /// Most requests at once beyond that rate
    #[arg(long, value_name = "N", value_parser = limit)]
    rate_burst: Option<Value>,
    /// Most jobs that may wait
    #[arg(long, value_name = "N", value_parser = limit)]
    max_queued: Option<Value>,
    /// Most jobs running at once
    #[arg(long, value_name = "N", value_parser = limit)]
    max_running: Option<Value>,
    /// Most unfinished uploads
    #[arg(long, value_name = "N", value_parser = limit)]
    max_open_uploads: Option<Value>,
    /// Most bytes of uploads
    #[arg(long, value_name = "BYTES", value_parser = limit)]
    max_stored_bytes: Option<Value>,
}

/// Runs the command.
pub async fn run(client: &Client, args: TenantsArgs) -> Result<u8> {
    let answer = match args.command {
        TenantsCommand::List { limit } => client.get("/api/v1/tenants", &[("limit", limit.to_string())]).await?,
        TenantsCommand::Create { name, terms } => {
            let mut body = grants(terms.grants);
            body.insert("name".into(), json!(name));
            body.insert("limits".into(), limits(terms.limits));
            client.post("/api/v1/tenants", &Value::Object(body)).await?
        }
        TenantsCommand::Set { id, name, limits: given } => {
            let mut body: Map<String, Value> = name.map(|n| ("name".to_owned(), json!(n))).into_iter().collect();
            body.insert("limits".into(), limits(given));
            change(client, &id, body).await?
        }
        TenantsCommand::Grant { id, grants: given } => {
            let body = grants(given);
            if body.is_empty() {
                bail!("say what to grant: --media-roots NAMES, --s3-profiles NAMES, or both");
            }
            change(client, &id, body).await?
        }
        TenantsCommand::Suspend { id } => change(client, &id, suspended(true)).await?,
        TenantsCommand::Resume { id } => change(client, &id, suspended(false)).await?,
    };
    if args.json {
        terminal::json(&answer);
    } else {
        terminal::table(&table(&answer));
    }
    Ok(SUCCESS)
}

async fn change(client: &Client, id: &str, body: Map<String, Value>) -> Result<Value> {
    client.patch(&format!("/api/v1/tenants/{id}"), &Value::Object(body)).await
}

fn suspended(value: impl Into<Value>) -> Map<String, Value> {
    Map::from_iter([("suspended".to_owned(), value.into())])
}

fn grants(given: GrantsArgs) -> Map<String, Value> {
    let names = |text: String| json!(text.split(',').map(str::trim).filter(|n| !n.is_empty()).collect::<Vec<_>>());
    let lists = [("media_roots", given.media_roots), ("s3_profiles", given.s3_profiles)];
    lists.into_iter().filter_map(|(member, text)| Some((member.to_owned(), names(text?)))).collect()
}

fn limits(given: LimitsArgs) -> Value {
    let members = [
        ("rate_per_minute", given.rate_per_minute),
        ("rate_burst", given.rate_burst),
        ("max_queued", given.max_queued),
        ("max_running", given.max_running),
        ("max_open_uploads", given.max_open_uploads),
        ("max_stored_bytes", given.max_stored_bytes),
    ];
    members.into_iter().filter_map(|(member, value)| Some((member.to_owned(), value?))).collect()
}

fn limit(text: &str) -> Result<Value, String> {
    match text {
        "default" => Ok(Value::Null),
        _ => text.parse::<u64>().map(Value::from).map_err(|_| "write a number, or: default".to_owned()),
    }
}

/// Of one tenant, or of a page of them.
fn table(answer: &Value) -> Vec<Vec<String>> {
    let head = ["ID", "NAME", "STATE", "MEDIA ROOTS", "S3 PROFILES", "LIMITS"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let one = std::slice::from_ref(answer);
    for tenant in answer["data"].as_array().map_or(one, Vec::as_slice) {
        let names = |list: &Value| {
            let names: Vec<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if names.is_empty() { "-".to_owned() } else { names.join(",") }
        };
        let set = tenant["limits"].as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
        let set: Vec<String> = set.map(|(name, value)| format!("{name}={value}")).collect();
        let state = if tenant["suspended"] == true { "suspended" } else { "active" };
        let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        rows.push(vec![
            word(&tenant["id"]),
            word(&tenant["name"]),
            state.to_owned(),
            names(&tenant["media_roots"]),
            names(&tenant["s3_profiles"]),
            if set.is_empty() { "-".to_owned() } else { set.join(" ") },
        ]);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_fits_on_a_line() {
        let tenant = json!({"id": "1", "name": "acme", "suspended": true, "media_roots": ["a", "b"], "s3_profiles": [],
            "limits": {"max_queued": 5, "max_running": null}});
        let row = ["1", "acme", "suspended", "a,b", "-", "max_queued=5"];
        assert_eq!(table(&tenant)[1], row);
        assert_eq!(table(&json!({"data": [tenant]}))[1], row);
    }

    #[test]
    fn a_list_may_be_emptied() {
        let given = GrantsArgs { media_roots: Some(String::new()), s3_profiles: Some("a, b".into()) };
        assert_eq!(Value::Object(grants(given)), json!({"media_roots": [], "s3_profiles": ["a", "b"]}));
        assert_eq!((limit("default"), limit("7")), (Ok(Value::Null), Ok(json!(7))));
        assert!(limit("-1").is_err() && limit("none").is_err());
    }
}

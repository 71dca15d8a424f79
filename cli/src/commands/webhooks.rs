//! `probectl webhooks listen`: takes events by a stream and posts them, signed as webhooks are, to an address that the service
//! itself could never reach: the program on this laptop that is just being written.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use reqwest::redirect::Policy;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use shared::event::EventType;
use shared::webhook::{BODY_MAX_BYTES, Secret};

use super::SUCCESS;
use super::watch::kind;
use crate::client::Client;
use crate::events::{Follow, Told};
use crate::terminal;

/// Longest time for one post, as with real webhooks.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The end of `probectl webhooks listen --help`.
const MANUAL: &str = "\
Each event is posted once, in order, while this command runs, with the headers and the body that a webhook
of the service has, and the way its receiver answers is shown. Nothing is sent again; the service's own
webhooks are, for three days. After a lost connection it goes on with the next event that was not seen.

Example:
  probectl webhooks listen http://127.0.0.1:3000/hooks --events job.succeeded,job.failed";

/// Works with webhooks.
#[derive(Debug, Args)]
pub struct WebhooksArgs {
    #[command(subcommand)]
    command: WebhooksCommand,
}

#[derive(Debug, Subcommand)]
enum WebhooksCommand {
    /// Post the events that happen from now on to an address that only this machine reaches
    Listen(ListenArgs),
}

#[derive(Debug, Args)]
#[command(after_long_help = MANUAL)]
struct ListenArgs {
    /// Where to post them
    #[arg(value_name = "URL")]
    forward_to: String,
    /// Only these types, joined by commas
    #[arg(long, value_delimiter = ',', value_parser = kind, default_value = "job.succeeded,job.failed,job.canceled")]
    events: Vec<EventType>,
    /// Secret to sign with, `whsec_…`. Default: a new one, which is printed
    #[arg(long, env = "FFPROBE_WEBHOOK_SECRET", hide_env_values = true)]
    secret: Option<SecretString>,
}

/// Runs the command.
pub async fn run(client: &Client, args: WebhooksArgs) -> Result<u8> {
    let WebhooksCommand::Listen(args) = args.command;
    let secret = match &args.secret {
        Some(given) => Secret::from_bytes(given.expose_secret().as_bytes().to_vec()),
        None => Some(Secret::from_random(rand::random())),
    };
    let secret = secret.filter(|secret| secret.sign("a", 0, b"").is_some());
    let secret = secret.context("--secret: a secret is whsec_ and base64; leave it out for a new one")?;
    let receiver = reqwest::Client::builder()
        .user_agent(concat!("probectl/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(Policy::none())
        .timeout(TIMEOUT)
        .build()
        .context("cannot set up HTTP")?;
    ensure!(receiver.post(&args.forward_to).build().is_ok(), "'{}' is no http address", args.forward_to);
    if args.secret.is_none() {
        terminal::line(&format!("secret  {}", secret.expose()));
    }
    let types: Vec<&str> = args.events.iter().map(|kind| kind.as_str()).collect();
    let mut stream = Follow::new("/api/v1/events", vec![("types", types.join(","))]);
    while let Some(told) = stream.next(client).await? {
        if told.kind.parse::<EventType>().is_ok() {
            let line = forward(client, &receiver, &args.forward_to, &secret, &told).await?;
            terminal::line(&line);
        } else if told.kind == "reset" {
            terminal::remark("probectl: some events were missed; look at the jobs themselves");
        }
    }
    Ok(SUCCESS)
}

/// Posts an event, and says in a line how that went.
async fn forward(
    client: &Client,
    receiver: &reqwest::Client,
    url: &str,
    secret: &Secret,
    told: &Told,
) -> Result<String> {
    let event: Value = serde_json::from_str(&told.data).context("an event is not JSON; is this an FFprobe API?")?;
    let (id, now) = (format!("evt_{}", event["sequence"]), chrono::Utc::now().timestamp());
    let body = body(client, event).await?;
    let signature = secret.sign(&id, now, body.as_bytes()).unwrap_or_default();
    let begun = Instant::now();
    let request = receiver
        .post(url)
        .header("content-type", "application/json")
        .header("webhook-id", &id)
        .header("webhook-timestamp", now.to_string())
        .header("webhook-signature", signature)
        .header("webhook-attempt", "1");
    let how = match request.body(body).send().await {
        Ok(response) => response.status().as_u16().to_string(),
        Err(error) => format!("{:#}", anyhow::Error::new(error.without_url())),
    };
    Ok(format!("{id}  {:13}  {how}  {} ms", told.kind, begun.elapsed().as_millis()))
}

/// The body that a webhook has: with what was found, if that is not too large.
async fn body(client: &Client, mut event: Value) -> Result<String> {
    if event["data"]["job"].is_object() {
        let mut media = Value::Null;
        event["data"]["result_url"] = Value::Null;
        if event["type"] == "job.succeeded"
            && let Some(job) = event["data"]["job"]["id"].as_str()
        {
            let path = format!("/api/v1/jobs/{job}/result");
            // one that was erased meanwhile is told of without what was found
            media = client.get(&path, &[]).await.map(|mut result| result["media"].take()).unwrap_or_default();
            event["data"]["result_url"] = format!("{}{path}", client.url()).into();
        }
        event["data"]["media"] = media;
    }
    let whole = event.to_string();
    if whole.len() <= BODY_MAX_BYTES {
        return Ok(whole);
    }
    event["data"]["media"] = Value::Null;
    Ok(event.to_string())
}

//! `probectl login` and `logout`: exchange a key for a session that the other commands use, so that the key need not lie
//! about in files and environments, and end it.

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::json;

use super::{SUCCESS, Target};
use crate::session::{Place, Session, Tokens};
use crate::terminal;
use crate::up::StateArgs;

/// Exchanges the key for a session.
#[derive(Debug, Args)]
#[command(after_help = "The key may come from standard input: probectl login --api-key-file /dev/stdin")]
pub struct LoginArgs {
    /// Rights to narrow the session to, joined by commas: jobs:read,uploads:read. Default: all that the key has
    #[arg(long, value_delimiter = ',')]
    scope: Vec<String>,
}

fn place(target: &Target, state: &StateArgs) -> Result<Place> {
    let folder = state.session_folder().context("name a directory for the session with FFPROBE_API_STATE_DIR")?;
    Ok(Place::new(&folder, &target.url))
}

/// Runs `login`. The key is sent once and not kept.
pub async fn login(target: &Target, state: &StateArgs, args: LoginArgs) -> Result<u8> {
    let place = place(target, state)?;
    let key = target.key(state)?;
    if key.is_none() {
        bail!("there is no key to log in with; set FFPROBE_API_KEY, or name a file with --api-key-file");
    }
    let client = target.client_with_key(key)?;
    let mut body = json!({"grant_type": "api_key"});
    if !args.scope.is_empty() {
        body["scope"] = args.scope.join(" ").into();
    }
    let tokens = Tokens::of(&client.post("/api/v1/auth/token", &body).await?)?;
    let held = place.hold().await?;
    let before = place.read();
    place.write(&tokens)?;
    if let Some(before) = before {
        // nobody has its tokens any more; a service that does not answer now lets it expire
        let _ = client.tell("/api/v1/auth/revoke", &json!({"token": before.refresh_token()})).await;
    }
    drop(held);
    let session = Session::open(place).context("the session cannot be read again")?;
    let me = target.client_with_session(session)?.get("/api/v1/auth/me", &[]).await?;
    let word = |name: &str| me[name].as_str().unwrap_or("unknown").to_owned();
    terminal::remark(&format!("Logged in to {} with the key {} ({}).", target.url, word("key"), word("role")));
    terminal::remark(
        "The other commands use this session where FFPROBE_API_KEY is not set; `probectl logout` ends it.",
    );
    Ok(SUCCESS)
}

/// Runs `logout`.
pub async fn logout(target: &Target, state: &StateArgs) -> Result<u8> {
    let place = place(target, state)?;
    let _held = place.hold().await?;
    let Some(tokens) = place.read() else {
        place.clear()?;
        terminal::remark(&format!("There is no session at {}.", target.url));
        return Ok(SUCCESS);
    };
    let client = target.client_with_key(None)?;
    client
        .tell("/api/v1/auth/revoke", &json!({"token": tokens.refresh_token()}))
        .await
        .context("the session goes on; try again")?;
    place.clear()?;
    terminal::remark(&format!("Logged out of {}.", target.url));
    Ok(SUCCESS)
}

//! The life of an API key: create, change, rotate, revoke. Called by the routes of keys, and by those of tenants for a
//! tenant's first key. The secret leaves this module once, in [`MadeKey`], and is never stored.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};

use super::{Beside, Made, Stewardship};
use crate::access::{ApiKey, Pepper, Principal, Reach, Right, Rights, Role, Standing};
use crate::audit::Event;
use crate::error::{Code, Error, Result};
use crate::id::{ApiKeyId, TenantId};
use crate::store;
use crate::store::access::key::{Bounds, Expiry, KeyRecord};
use crate::store::access::{NewKey, insert_key_as};
use crate::store::idempotency::Request;

/// Most keys of a tenant that are in force at a time.
pub const MOST_KEYS: i64 = 500;
/// Keys that are not in force any more and stay in the list; older ones are forgotten.
pub const MOST_DEAD_KEYS: i64 = 500;

/// Who makes a key, and with what.
#[derive(Clone, Copy)]
pub struct Maker<'a> {
    /// Whose rights are the most that the key can have.
    pub who: &'a Principal,
    /// For the digest.
    pub pepper: &'a Pepper,
    /// The request, if it may be repeated.
    pub request: Option<&'a Request>,
}

/// A key that is wanted.
#[derive(Debug, Clone)]
pub struct Wish {
    /// What it may do at most.
    pub role: Role,
    /// How far it reaches.
    pub reach: Reach,
    /// Everything else.
    pub bounds: Bounds,
}

/// A key that was just made.
pub struct MadeKey {
    /// The whole key, to be shown once.
    pub key: ApiKey,
    /// What is stored of it.
    pub record: KeyRecord,
}

/// Makes a key of `tenant`, and what `beside` makes of it.
///
/// # Errors
/// `forbidden` if it would have more rights than its maker, `not_found` without such a tenant, `too_many_keys`.
pub async fn create(
    db: &PgPool,
    maker: Maker<'_>,
    tenant: TenantId,
    wish: &Wish,
    beside: impl FnOnce(&KeyRecord) -> Result<Beside>,
) -> Result<Made<MadeKey>> {
    check_scopes(wish.role, wish.reach, wish.bounds.scopes.as_deref())?;
    maker.who.check_may_give(rights(wish.role, wish.reach, wish.bounds.scopes.as_deref()), wish.reach)?;
    let (id, mut tx) = (ApiKeyId::new(), db.begin().await?);
    if let Some(request) = maker.request
        && let Some(kept) = store::idempotency::begin(&mut tx, maker.who.tenant, request, id.0).await?
    {
        return Ok(Made::Repeated(kept));
    }
    let key = insert(&mut tx, maker, id, tenant, &wish.bounds.name, (wish.role, wish.reach)).await?;
    let record = store::access::key::update(&mut *tx, id, &wish.bounds).await?;
    keep(&mut tx, maker, &beside(&record)?).await?;
    tx.commit().await?;
    Ok(Made::New(MadeKey { key, record }))
}

/// What changes of a key; `None` stays as it is.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// A name for people.
    pub name: Option<String>,
    /// Rights it is narrowed to, or not any more.
    pub scopes: Option<Option<Vec<String>>>,
    /// Address ranges it may be used from.
    pub networks: Option<Vec<String>>,
    /// When it opens nothing any more.
    pub expiry: Option<Expiry>,
    /// Most requests a minute, or as the settings say.
    pub rate_per_minute: Option<Option<u32>>,
}

/// Changes a key that is in force; `event` tells of it.
///
/// # Errors
/// `forbidden` if it has, or would have, more rights than `who`; `key_not_in_force`; `last_admin_key`.
pub async fn change(db: &PgPool, who: &Principal, id: ApiKeyId, change: Change, event: &Event) -> Result<KeyRecord> {
    let mut tx = db.begin().await?;
    let old = find_in_force(&mut tx, who.tenant, id).await?;
    who.check_may_give(old.rights(), reach(&old))?;
    let same_expiry = old.expires_at.map_or(Expiry::Never, Expiry::At);
    let same_rate = old.rate_per_minute.and_then(|n| u32::try_from(n).ok());
    if let Some(Some(scopes)) = &change.scopes {
        check_scopes(old.role, reach(&old), Some(scopes))?;
    }
    let bounds = Bounds {
        name: change.name.unwrap_or_else(|| old.name.clone()),
        scopes: change.scopes.unwrap_or_else(|| old.scopes.clone()),
        networks: change.networks.unwrap_or_else(|| old.networks.clone()),
        expiry: change.expiry.unwrap_or(same_expiry),
        rate_per_minute: change.rate_per_minute.unwrap_or(same_rate),
    };
    who.check_may_give(rights(old.role, reach(&old), bounds.scopes.as_deref()), reach(&old))?;
    let watch = watch(&mut tx, &old).await?;
    let record = store::access::key::update(&mut *tx, id, &bounds).await?;
    if let Some(watch) = watch {
        watch.check(&mut tx).await?;
    }
    store::audit::insert(&mut *tx, event).await?;
    tx.commit().await?;
    Ok(record)
}

/// Revokes a key, for good; `event` tells of it. One that was revoked before stays so.
///
/// # Errors
/// `forbidden` for a key with platform reach and a `who` without; `last_admin_key`.
pub async fn revoke(db: &PgPool, who: &Principal, id: ApiKeyId, event: &Event) -> Result<()> {
    let mut tx = db.begin().await?;
    let old = store::access::key::find_for_update(&mut *tx, who.tenant, id).await?;
    let old = old.ok_or_else(|| Error::not_found("API key"))?;
    // whoever manages keys can take any of the tenant away, a leaked one above all; only the platform's own is beyond reach
    who.check_may_give(Rights::default(), reach(&old))?;
    let watch = watch(&mut tx, &old).await?;
    store::access::key::revoke(&mut *tx, id).await?;
    if let Some(watch) = watch {
        watch.check(&mut tx).await?;
    }
    store::audit::insert(&mut *tx, event).await?;
    tx.commit().await?;
    Ok(())
}

/// Makes a key that takes over from another with the same properties; the other one opens nothing after `overlap`.
///
/// # Errors
/// As [`create`], and `key_not_in_force`.
pub async fn rotate(
    db: &PgPool,
    maker: Maker<'_>,
    id: ApiKeyId,
    overlap: Duration,
    beside: impl FnOnce(&KeyRecord) -> Result<Beside>,
) -> Result<Made<MadeKey>> {
    let (new, tenant, mut tx) = (ApiKeyId::new(), maker.who.tenant, db.begin().await?);
    if let Some(request) = maker.request
        && let Some(kept) = store::idempotency::begin(&mut tx, tenant, request, new.0).await?
    {
        return Ok(Made::Repeated(kept));
    }
    // the tenant's row before the key's, as whoever suspends a tenant takes them
    store::access::tenant::find_for_update(&mut *tx, tenant).await?;
    let old = find_in_force(&mut tx, tenant, id).await?;
    maker.who.check_may_give(old.rights(), reach(&old))?;
    if let Some(successor) = old.replaced_by
        && let Some(successor) = store::access::key::find(&mut *tx, tenant, successor).await?
        && successor.standing == Standing::Good
    {
        let detail = format!("The key was rotated: {} takes over. Rotate that, or revoke it first.", successor.id);
        return Err(Error::new(Code::KeyNotInForce, detail));
    }
    let key = insert(&mut tx, maker, new, tenant, &old.name, (old.role, reach(&old))).await?;
    let record = store::access::key::copy_bounds(&mut *tx, id, new).await?;
    store::access::key::replace(&mut *tx, id, new, overlap).await?;
    keep(&mut tx, maker, &beside(&record)?).await?;
    tx.commit().await?;
    Ok(Made::New(MadeKey { key, record }))
}

/// Stores a fresh key, if the tenant has room for one.
async fn insert(
    tx: &mut PgConnection,
    maker: Maker<'_>,
    id: ApiKeyId,
    tenant: TenantId,
    name: &str,
    (role, reach): (Role, Reach),
) -> Result<ApiKey> {
    // one at a time, so that two cannot both take the last place
    let there = store::access::tenant::find_for_update(&mut *tx, tenant).await?;
    there.ok_or_else(|| Error::not_found("tenant"))?;
    if store::access::key::count(&mut *tx, tenant, MOST_KEYS).await? >= MOST_KEYS {
        let detail = format!("The tenant has {MOST_KEYS} keys in force, which is the most. Revoke some first.");
        return Err(Error::new(Code::TooManyKeys, detail));
    }
    store::access::key::delete_dead(&mut *tx, tenant, MOST_DEAD_KEYS).await?;
    let key = ApiKey::from_random(rand::random(), rand::random());
    let digest = key.digest(maker.pepper);
    insert_key_as(&mut *tx, id, &NewKey { tenant, public_id: key.public_id(), digest, name, role, reach }).await?;
    store::access::key::set_maker(&mut *tx, id, maker.who.key).await?;
    Ok(key)
}

async fn keep(tx: &mut PgConnection, maker: Maker<'_>, beside: &Beside) -> Result<()> {
    store::audit::insert(&mut *tx, &beside.event).await?;
    if let Some(request) = maker.request {
        store::idempotency::keep(tx, maker.who.tenant, &request.key, &beside.answer).await?;
    }
    Ok(())
}

async fn find_in_force(tx: &mut PgConnection, tenant: TenantId, id: ApiKeyId) -> Result<KeyRecord> {
    let key = store::access::key::find_for_update(tx, tenant, id).await?.ok_or_else(|| Error::not_found("API key"))?;
    let why = match key.standing {
        Standing::Revoked => "was revoked",
        Standing::Expired => "has expired",
        Standing::Good | Standing::Suspended => return Ok(key),
    };
    Err(Error::new(Code::KeyNotInForce, format!("The key {why}, and stays so. Make a new one.")))
}

async fn watch(tx: &mut PgConnection, key: &KeyRecord) -> Result<Option<Stewardship>> {
    let steward = key.standing == Standing::Good && key.role == Role::Admin && key.platform;
    Ok(if steward { Some(Stewardship::watch(tx, key.expires_at).await?) } else { None })
}

/// Refuses scopes that the role does not carry: they would give nothing, and whoever wrote them means something else.
fn check_scopes(role: Role, reach: Reach, scopes: Option<&[String]>) -> Result<()> {
    let carried = Rights::of_role(role, reach == Reach::Platform);
    for (at, word) in scopes.into_iter().flatten().enumerate() {
        if !word.parse::<Right>().is_ok_and(|right| carried.has(right)) {
            let known = carried.iter().map(Right::as_str).collect::<Vec<_>>().join(", ");
            let detail = format!("'{word}' is not among the rights of such a key. They are {known}.");
            return Err(Error::new(Code::InvalidValue, detail).at(format!("/scopes/{at}")));
        }
    }
    Ok(())
}

fn rights(role: Role, reach: Reach, scopes: Option<&[String]>) -> Rights {
    let carried = Rights::of_role(role, reach == Reach::Platform);
    scopes.map_or(carried, |words| carried.and(Rights::of_scopes(words.iter().map(String::as_str))))
}

fn reach(key: &KeyRecord) -> Reach {
    if key.platform { Reach::Platform } else { Reach::Tenant }
}

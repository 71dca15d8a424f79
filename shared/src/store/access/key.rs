//! API keys as they are managed: listed, changed, rotated, revoked. Called by `tenancy`, which decides, and by the API for
//! lists, the roll and the time of last use. The digest of a key is read for the roll alone, and its secret is nowhere.

use std::net::IpAddr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection, PgExecutor};
use uuid::Uuid;

use crate::access::{Rights, Role, Standing};
use crate::error::Result;
use crate::id::{ApiKeyId, TenantId};

/// The advisory lock of whoever may take the last admin key of the platform away. Any number; only this place uses it.
const STEWARDS: i64 = 0x6666_7075_7374_6577;

/// The columns of a [`KeyRecord`], in its order.
macro_rules! columns {
    () => {
        "id, tenant_id as tenant, public_id, name, role, platform, scopes, networks, rate_per_minute, created_at, created_by,
         expires_at, revoked_at, replaced_by, last_used_at, last_used_from,
         case when revoked_at is not null then 'revoked' when expires_at <= clock_timestamp() then 'expired' else 'good' end
            as standing"
    };
}

/// A key as stored, without its digest.
#[derive(Debug, Clone, FromRow)]
pub struct KeyRecord {
    /// The key.
    pub id: ApiKeyId,
    /// The owner.
    pub tenant: TenantId,
    /// The part that may be shown and logged.
    pub public_id: String,
    /// A name for people.
    pub name: String,
    /// What it may do at most.
    pub role: Role,
    /// Whether it reaches beyond its tenant.
    pub platform: bool,
    /// Rights it is narrowed to; none: everything its role carries.
    pub scopes: Option<Vec<String>>,
    /// Address ranges it may be used from; all if empty.
    pub networks: Vec<String>,
    /// Most requests a minute; none: as the settings say.
    pub rate_per_minute: Option<i32>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// The key that made it.
    pub created_by: Option<ApiKeyId>,
    /// When it opens nothing any more.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// The key that takes over from it.
    pub replaced_by: Option<ApiKeyId>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// From where it was used then.
    pub last_used_from: Option<String>,
    /// Whether it is in force; the tenant's own standing is left out.
    pub standing: Standing,
}

impl KeyRecord {
    /// What it may do.
    pub fn rights(&self) -> Rights {
        let role = Rights::of_role(self.role, self.platform);
        match &self.scopes {
            Some(scopes) => role.and(Rights::of_scopes(scopes.iter().map(String::as_str))),
            None => role,
        }
    }
}

/// A place in a list: the last item already seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After {
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Its id, which parts those of the same instant.
    pub id: Uuid,
}

/// When a key opens nothing any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// It does not expire.
    Never,
    /// At this instant.
    At(DateTime<Utc>),
    /// So long from now, by PostgreSQL's clock.
    In(Duration),
}

/// Everything of a key that may be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// A name for people.
    pub name: String,
    /// Rights it is narrowed to, by their words; none: everything its role carries.
    pub scopes: Option<Vec<String>>,
    /// Address ranges (CIDR) it may be used from; all if empty.
    pub networks: Vec<String>,
    /// When it opens nothing any more.
    pub expiry: Expiry,
    /// Most requests a minute; none: as the settings say.
    pub rate_per_minute: Option<u32>,
}

/// The tenant's key with this id, whatever its standing.
pub async fn find(db: impl PgExecutor<'_>, tenant: TenantId, id: ApiKeyId) -> Result<Option<KeyRecord>> {
    let sql = concat!("select ", columns!(), " from api_key where tenant_id = $1 and id = $2");
    Ok(sqlx::query_as(sql).bind(tenant).bind(id).fetch_optional(db).await?)
}

/// The same, and nobody else changes it until the transaction ends.
pub async fn find_for_update(db: impl PgExecutor<'_>, tenant: TenantId, id: ApiKeyId) -> Result<Option<KeyRecord>> {
    let sql = concat!("select ", columns!(), " from api_key where tenant_id = $1 and id = $2 for no key update");
    Ok(sqlx::query_as(sql).bind(tenant).bind(id).fetch_optional(db).await?)
}

/// The tenant's keys from there on, the newest first.
pub async fn list(
    db: impl PgExecutor<'_>,
    tenant: TenantId,
    after: Option<After>,
    limit: i64,
) -> Result<Vec<KeyRecord>> {
    let sql = concat!(
        "select ",
        columns!(),
        " from api_key where tenant_id = $1 and ($2::timestamptz is null or (created_at, id) < ($2, $3))
            order by created_at desc, id desc limit $4"
    );
    Ok(sqlx::query_as(sql)
        .bind(tenant)
        .bind(after.map(|a| a.created_at))
        .bind(after.map(|a| a.id))
        .bind(limit)
        .fetch_all(db)
        .await?)
}

/// A key of any tenant, by what it is recognised by.
#[derive(Debug, FromRow)]
pub struct Listed {
    /// The key.
    pub id: ApiKeyId,
    /// The part that may be shown.
    pub public_id: String,
    /// HMAC of the whole key.
    pub digest: Vec<u8>,
}

/// Keys of all tenants that were made after that one, or up to `overlap` before it; all of them without one. At most `limit`.
pub async fn list_after(
    db: impl PgExecutor<'_>,
    after: Option<ApiKeyId>,
    overlap: Duration,
    limit: i64,
) -> Result<Vec<Listed>> {
    // ids begin with the millisecond in which they were made (UUIDv7), so that this is a range of the primary key
    let millis = |id: ApiKeyId| (id.0.as_u128() >> 80).saturating_sub(overlap.as_millis());
    let from = Uuid::from_u128(after.map_or(0, millis) << 80);
    let sql = "select id, public_id, digest from api_key where id >= $1 order by id limit $2";
    Ok(sqlx::query_as(sql).bind(from).bind(limit).fetch_all(db).await?)
}

/// Sets everything that may be changed.
pub async fn update(db: impl PgExecutor<'_>, id: ApiKeyId, bounds: &Bounds) -> Result<KeyRecord> {
    let sql = concat!(
        "update api_key set name = $2, scopes = $3, networks = $4,
            expires_at = coalesce($5, clock_timestamp() + make_interval(secs => $6)), rate_per_minute = $7
            where id = $1 returning ",
        columns!()
    );
    let (at, seconds) = match bounds.expiry {
        Expiry::Never => (None, None),
        Expiry::At(at) => (Some(at), None),
        Expiry::In(wait) => (None, Some(wait.as_secs_f64())),
    };
    Ok(sqlx::query_as(sql)
        .bind(id)
        .bind(&bounds.name)
        .bind(&bounds.scopes)
        .bind(&bounds.networks)
        .bind(at)
        .bind(seconds)
        .bind(bounds.rate_per_minute.map(|n| i32::try_from(n).unwrap_or(i32::MAX)))
        .fetch_one(db)
        .await?)
}

/// Gives a new key the scopes, networks, expiry and rate of another.
pub async fn copy_bounds(db: impl PgExecutor<'_>, from: ApiKeyId, to: ApiKeyId) -> Result<KeyRecord> {
    let sql = concat!(
        "update api_key set (scopes, networks, expires_at, rate_per_minute) =
                (select o.scopes, o.networks, o.expires_at, o.rate_per_minute from api_key o where o.id = $1)
            where id = $2 returning ",
        columns!()
    );
    Ok(sqlx::query_as(sql).bind(from).bind(to).fetch_one(db).await?)
}

/// Notes the key that made another.
pub async fn set_maker(db: impl PgExecutor<'_>, id: ApiKeyId, maker: ApiKeyId) -> Result<()> {
    sqlx::query("update api_key set created_by = $2 where id = $1").bind(id).bind(maker).execute(db).await?;
    Ok(())
}

/// Names the key that takes over; the old one goes on for `overlap`, and never longer than it would have.
pub async fn replace(db: impl PgExecutor<'_>, id: ApiKeyId, by: ApiKeyId, overlap: Duration) -> Result<()> {
    let sql = "update api_key set replaced_by = $2,
            expires_at = least(expires_at, clock_timestamp() + make_interval(secs => $3)) where id = $1";
    sqlx::query(sql).bind(id).bind(by).bind(overlap.as_secs_f64()).execute(db).await?;
    Ok(())
}

/// Revokes a key. One that is revoked keeps its time.
pub async fn revoke(db: impl PgExecutor<'_>, id: ApiKeyId) -> Result<()> {
    let sql = "update api_key set revoked_at = coalesce(revoked_at, clock_timestamp()) where id = $1";
    sqlx::query(sql).bind(id).execute(db).await?;
    Ok(())
}

/// How many keys of the tenant are in force, counted up to `most`.
pub async fn count(db: impl PgExecutor<'_>, tenant: TenantId, most: i64) -> Result<i64> {
    let sql = "select count(*) from (select from api_key where tenant_id = $1 and revoked_at is null
            and (expires_at is null or expires_at > clock_timestamp()) limit $2) k";
    Ok(sqlx::query_scalar(sql).bind(tenant).bind(most).fetch_one(db).await?)
}

/// Forgets keys of the tenant that are not in force, all but the `kept` newest of them.
pub async fn delete_dead(db: impl PgExecutor<'_>, tenant: TenantId, kept: i64) -> Result<()> {
    let sql = "delete from api_key where id in (select id from api_key where tenant_id = $1
            and (revoked_at is not null or expires_at <= clock_timestamp())
            order by created_at desc, id desc offset $2)";
    sqlx::query(sql).bind(tenant).bind(kept).execute(db).await?;
    Ok(())
}

/// Makes those take turns, until their transactions end, who may take the last admin key of the platform away.
pub async fn lock_stewards(tx: &mut PgConnection) -> Result<()> {
    sqlx::query("select pg_advisory_xact_lock($1)").bind(STEWARDS).execute(tx).await?;
    Ok(())
}

/// Whether some key can manage keys and tenants of the whole installation until `until`, or for `enough`, whichever comes
/// first.
pub async fn steward_remains(db: impl PgExecutor<'_>, until: Option<DateTime<Utc>>, enough: Duration) -> Result<bool> {
    let sql = "select exists (select from api_key k join tenant t on t.id = k.tenant_id
            where k.role = 'admin' and k.platform and k.revoked_at is null and t.suspended_at is null
            and (k.scopes is null or k.scopes @> array['keys:write', 'tenants:write'])
            and (k.expires_at is null or (k.expires_at > clock_timestamp()
                and k.expires_at >= least($1, clock_timestamp() + make_interval(secs => $2)))))";
    Ok(sqlx::query_scalar(sql).bind(until).bind(enough.as_secs_f64()).fetch_one(db).await?)
}

/// A use of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// The key.
    pub key: ApiKeyId,
    /// How long ago.
    pub age: Duration,
    /// From where.
    pub from: IpAddr,
}

/// Notes uses in one statement; a key whose last noted use is less than `pause` older is left as it is. So is a row that
/// somebody holds: processes that note the same keys in another order would wait for each other.
pub async fn note_uses(db: impl PgExecutor<'_>, uses: &[Use], pause: Duration) -> Result<()> {
    let sql = "with due as (
            select k.id, u.at, u.address from api_key k
            join (select n.id, clock_timestamp() - make_interval(secs => n.age) as at, n.address
                from unnest($1::uuid[], $2::float8[], $3::text[]) as n (id, age, address)) u on u.id = k.id
            where k.last_used_at is null or k.last_used_at <= u.at - make_interval(secs => $4)
            for no key update of k skip locked
        )
        update api_key set last_used_at = due.at, last_used_from = due.address from due where due.id = api_key.id";
    let ids: Vec<ApiKeyId> = uses.iter().map(|u| u.key).collect();
    let ages: Vec<f64> = uses.iter().map(|u| u.age.as_secs_f64()).collect();
    let addresses: Vec<String> = uses.iter().map(|u| u.from.to_string()).collect();
    sqlx::query(sql).bind(ids).bind(ages).bind(addresses).bind(pause.as_secs_f64()).execute(db).await?;
    Ok(())
}

//! The two roles of the database. The **owner** owns the schema, migrates and prunes; the **application** owns nothing,
//! makes no tables, and can add to the audit trail but not change it. Called by `probectl migrate`, by `probectl up` and by
//! the start of the API. A single role for both still works, and is told of as what it is.

use anyhow::{Context, bail};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection, PgExecutor};

use crate::error::Result;

/// What the role of a connection can do to the audit trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// Add to it and read it.
    AppendOnly,
    /// Change it, too: it owns the table, or was granted too much.
    Unrestricted,
    /// Not even that: `probectl migrate` has not granted it what the application needs.
    Insufficient,
}

/// What the role of this connection can do to the audit trail.
pub async fn privilege(db: impl PgExecutor<'_>) -> Result<Privilege> {
    let sql = "select has_table_privilege(c.oid, 'insert') and has_table_privilege(c.oid, 'select'),
            has_table_privilege(c.oid, 'update') or has_table_privilege(c.oid, 'delete')
                or has_table_privilege(c.oid, 'truncate') or pg_has_role(c.relowner, 'usage')
        from pg_class c where c.oid = 'audit_event'::regclass";
    let (may_add, may_change): (bool, bool) = sqlx::query_as(sql).fetch_one(db).await?;
    Ok(match (may_add, may_change) {
        (_, true) => Privilege::Unrestricted,
        (true, false) => Privilege::AppendOnly,
        (false, false) => Privilege::Insufficient,
    })
}

/// Gives the role `application` what the application needs and nothing more, now and for tables to come. The connection is
/// the owner's. Safe to run again and from several processes at once.
pub async fn grant(owner: PgConnectOptions, application: &str) -> anyhow::Result<()> {
    let mut connection = owner.application_name("ffprobe-api migrate").connect().await?;
    let mut tx = connection.begin().await?;
    let found: bool = sqlx::query_scalar("select exists (select from pg_roles where rolname = $1)")
        .bind(application)
        .fetch_one(&mut *tx)
        .await?;
    if !found {
        bail!(
            "the database has no role '{application}', which the application connects as. Fix: as a superuser, run \
             `create role {application} login password '…'`, then migrate again"
        );
    }
    name(&mut tx, "ffprobe_api.application", application).await?;
    sqlx::raw_sql(GRANT).execute(&mut *tx).await.context("the application's role was not given its rights")?;
    tx.commit().await?;
    Ok(())
}

/// Makes both roles where they are missing, without passwords, and hands the database and all that is in it to `owner`. The
/// connection is a superuser's, on a server whose socket is its protection.
pub async fn found(superuser: PgConnectOptions, owner: &str, application: &str) -> anyhow::Result<()> {
    let mut connection = superuser.application_name("ffprobe-api").connect().await?;
    let mut tx = connection.begin().await?;
    name(&mut tx, "ffprobe_api.owner", owner).await?;
    name(&mut tx, "ffprobe_api.application", application).await?;
    sqlx::raw_sql(FOUND).execute(&mut *tx).await.context("the roles of the database could not be made")?;
    tx.commit().await?;
    Ok(())
}

/// Tells the statements below a name: they quote it themselves, so no text of ours is ever put together into SQL.
async fn name(tx: &mut PgConnection, variable: &str, value: &str) -> sqlx::Result<()> {
    sqlx::query("select set_config($1, $2, true)").bind(variable).bind(value).execute(tx).await?;
    Ok(())
}

/// Everything at once or nothing: no moment is without its rights. The lock lets those who migrate at the same time take
/// turns.
const GRANT: &str = "
do $$
declare
    application text := current_setting('ffprobe_api.application');
begin
    perform pg_advisory_xact_lock(7370622147850562162);
    execute format('grant connect on database %I to %I', current_database(), application);
    execute format('revoke temporary on database %I from public, %I', current_database(), application);
    execute format('revoke create on schema public from public, %I', application);
    execute format('grant usage on schema public to %I', application);
    execute format('grant select, insert, update, delete on all tables in schema public to %I', application);
    execute format('grant usage, select on all sequences in schema public to %I', application);
    -- for what a later migration makes, between its commit and the next grant
    execute format('alter default privileges in schema public
        grant select, insert, update, delete on tables to %I', application);
    execute format('alter default privileges in schema public grant usage, select on sequences to %I', application);
    -- what it only reads
    execute format('revoke all on _sqlx_migrations, installation, audit_event from %I', application);
    execute format('grant select on _sqlx_migrations, installation to %I', application);
    -- what it adds to
    execute format('grant select, insert on audit_event to %I', application);
end
$$";

/// The data of an earlier version is the superuser's, which `reassign owned` refuses to touch, so it goes table by table.
const FOUND: &str = "
do $$
declare
    owner text := current_setting('ffprobe_api.owner');
    application text := current_setting('ffprobe_api.application');
    role text;
    relation regclass;
begin
    perform pg_advisory_xact_lock(7370622147850562163);
    foreach role in array array[owner, application] loop
        if not exists (select from pg_roles where rolname = role) then
            execute format('create role %I login', role);
        end if;
    end loop;
    execute format('alter database %I owner to %I', current_database(), owner);
    execute format('alter schema public owner to %I', owner);
    for relation in
        select oid from pg_class
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v') and relowner <> owner::regrole
    loop
        execute format('alter table %s owner to %I', relation, owner);
    end loop;
end
$$";

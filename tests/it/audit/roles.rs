//! The roles of the database, by what they can do with real connections: the application's adds to the trail and cannot
//! change it, makes no tables and owns nothing; the owner prunes; one role for both still works and says so.

use cli::private::{APPLICATION, OWNER, SUPERUSER};
use shared::store::role::{self, Privilege};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tests::{Installation, Program, binaries};

use super::{count, seed};

async fn refused(application: &mut PgConnection, sql: &str) -> String {
    let outcome = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut *application).await;
    let error = outcome.expect_err(sql);
    error.as_database_error().and_then(|e| e.code()).expect(sql).into_owned()
}

#[tokio::test]
async fn the_application_can_only_add() {
    let installation = Installation::new().await;
    seed(&installation, 3).await;
    let mut application = PgConnection::connect(&installation.application_url()).await.expect("connects");
    for sql in [
        "update audit_event set outcome = 'failed'",
        "update audit_event set happened_at = now() where false",
        "delete from audit_event",
        "delete from audit_event where false",
        "truncate audit_event",
        "alter table audit_event disable trigger all",
        "alter table audit_event drop constraint audit_event_outcome_known",
        "alter table audit_event owner to ffprobe_api",
        "drop table audit_event",
        "create trigger t before insert on audit_event for each row execute function suppress_redundant_updates_trigger()",
        "create rule r as on insert to audit_event do instead nothing",
        "create policy p on audit_event",
        "insert into audit_event select * from audit_event on conflict (id) do update set outcome = 'failed'",
        "select * from audit_event for update",
        "do $$ begin lock table audit_event in share row exclusive mode; end $$",
        "create table t (n int)",
        "create temporary table t (n int)",
        "create schema s",
        "create function f() returns int language sql as 'select 1'",
        "create role r",
        "set role ffprobe_api_owner",
        "set session authorization postgres",
        "update _sqlx_migrations set success = false",
        "delete from installation",
        "alter default privileges for role ffprobe_api_owner grant all on tables to ffprobe_api",
        "truncate job cascade",
        "drop table job",
        "copy audit_event to program 'cat'",
    ] {
        let code = refused(&mut application, sql).await;
        // 42501 insufficient privilege; nothing here may fail for another reason
        assert_eq!(code, "42501", "{sql}");
    }
    assert_eq!(count(&installation).await, 3);
    let owned: i64 = sqlx::query_scalar("select count(*) from pg_class where relowner = current_user::regrole")
        .fetch_one(&mut application)
        .await
        .expect("a count");
    assert_eq!(owned, 0);
    // PostgreSQL answers this with a warning, and does nothing
    sqlx::raw_sql("grant update on audit_event to ffprobe_api").execute(&mut application).await.expect("a warning");
    let granted: Vec<String> = sqlx::query_scalar(
        "select privilege_type::text from information_schema.role_table_grants
         where table_name = 'audit_event' and grantee = 'ffprobe_api' order by 1",
    )
    .fetch_all(&mut application)
    .await
    .expect("grants");
    assert_eq!(granted, ["INSERT", "SELECT"]);
}

#[tokio::test]
async fn a_table_of_a_later_migration_is_open_to_the_application() {
    let installation = Installation::new().await;
    let mut owner = PgConnection::connect(&installation.owner_url()).await.expect("connects");
    sqlx::raw_sql("create table later (n int)").execute(&mut owner).await.expect("makes a table");
    let mut application = PgConnection::connect(&installation.application_url()).await.expect("connects");
    sqlx::raw_sql("insert into later values (1); update later set n = 2; delete from later")
        .execute(&mut application)
        .await
        .expect("may write");
}

#[tokio::test]
async fn what_an_earlier_version_made_as_the_superuser_is_handed_over() {
    let installation = Installation::new().await;
    let owned = "select count(*) from pg_class where relnamespace = 'public'::regnamespace and relowner = $1::regrole";
    let count = async |role: &str| -> i64 {
        sqlx::query_scalar(owned).bind(role).fetch_one(&installation.db).await.expect("a count")
    };
    let all = count(OWNER).await;
    sqlx::raw_sql("alter table job owner to postgres; alter table audit_event owner to postgres")
        .execute(&installation.db)
        .await
        .expect("gives away");
    assert!(count(SUPERUSER).await > 0);
    let superuser = installation.database_url().parse().expect("a URL");
    role::found(superuser, OWNER, APPLICATION).await.expect("takes over");
    assert_eq!((count(OWNER).await, count(SUPERUSER).await), (all, 0));
    role::grant(installation.owner_url().parse().expect("a URL"), APPLICATION).await.expect("grants");
    let mut application = PgConnection::connect(&installation.application_url()).await.expect("connects");
    assert_eq!(role::privilege(&mut application).await.expect("rights"), Privilege::AppendOnly);
}

#[tokio::test]
async fn the_owner_prunes_what_is_old() {
    let installation = Installation::new().await;
    let (_api, http) = installation.api(&[]);
    seed(&installation, 12_000).await;
    sqlx::query("update audit_event set happened_at = clock_timestamp() where actor_id in ('k1', 'k2')")
        .execute(&installation.db)
        .await
        .expect("shifts rows");
    let prune = ["audit", "prune", "--older-than", "30d"];
    let mut refused = Program::start("probectl", &binaries::path("probectl"), &prune, &installation.environment());
    assert!(!refused.wait().success(), "the application's role cannot: {}", refused.log());
    assert_eq!(count(&installation).await, 12_000);
    let mut pruned = installation.probectl(&http, &prune);
    assert!(pruned.wait().success(), "{}", pruned.log());
    assert_eq!(count(&installation).await, 2);
}

#[tokio::test]
async fn migrate_gives_the_application_its_rights_and_says_when_it_has_none() {
    let installation = Installation::new().await;
    let migrate = |changes: &[(&str, String)]| {
        let mut environment = installation.environment();
        for (name, value) in changes {
            environment.retain(|(n, _)| n != name);
            environment.push(((*name).to_owned(), value.clone()));
        }
        let mut program = Program::start("probectl", &binaries::path("probectl"), &["migrate"], &environment);
        let status = program.wait();
        (status.success(), program.log())
    };
    sqlx::raw_sql("revoke all on audit_event from ffprobe_api").execute(&installation.db).await.expect("revokes");
    let mut environment = installation.environment();
    environment.retain(|(n, _)| n != "MIGRATE_DATABASE_URL");
    let mut api = Program::start("api", &binaries::path("ffprobe-api"), &[], &environment);
    api.wait_for(|line| line.contains("probectl migrate").then_some(()), "what to do");
    assert!(!api.wait().success());

    let owner = ("MIGRATE_DATABASE_URL", installation.owner_url());
    let (done, log) = migrate(std::slice::from_ref(&owner));
    assert!(done && log.contains("ffprobe_api has what it needs"), "{log}");
    let (_api, http) = installation.api(&[]);
    assert_eq!(http.get("/api/v1/probe/health").await.json["audit_append_only"], true);

    let (done, log) = migrate(&[]);
    assert!(!done && log.contains("MIGRATE_DATABASE_URL"), "{log}");
    let nobody = tests::servers::as_role(installation.database_url(), "nobody_of_that_name");
    let (done, log) = migrate(&[owner, ("DATABASE_URL", nobody)]);
    assert!(!done && log.contains("nobody_of_that_name") && log.contains("create role"), "{log}");
}

#[tokio::test]
async fn one_role_for_everything_works_and_is_told_of() {
    let installation = Installation::new().await;
    let owner = installation.owner_url();
    let (mut api, http) = installation.api(&[("DATABASE_URL", &owner)]);
    api.wait_for(|line| line.contains("may change the audit trail").then_some(()), "a warning");
    let health = http.get("/api/v1/probe/health").await;
    assert_eq!(health.json["audit_append_only"], false);
    let listed = http.get("/api/v1/jobs").await;
    assert_eq!(super::rows_of(&installation, listed.header("x-request-id")).await.len(), 1);
    api.signal(rustix::process::Signal::TERM);
    api.wait();
    let mut migrate =
        Program::start("probectl", &binaries::path("probectl"), &["migrate"], &[("DATABASE_URL".to_owned(), owner)]);
    assert!(migrate.wait().success() && migrate.log().contains("MIGRATE_DATABASE_URL"), "{}", migrate.log());
}

#!/bin/sh
# Makes the two roles and the database when PostgreSQL's volume is new: one role owns the schema, the other is the services'
# (docs/operations.md#two-roles). The image runs it once. Passwords come from files; psql reads them, so no process shows them.
set -eu
psql --username "${POSTGRES_USER:-postgres}" --dbname postgres --no-psqlrc --set ON_ERROR_STOP=1 \
  --set application="$APPLICATION" --set database="$DATABASE" <<'SQL'
\set owner_password `cat /run/secrets/postgres_owner_password`
\set password `cat /run/secrets/postgres_password`
create role ffprobe_api_owner login password :'owner_password';
create role :"application" login password :'password';
create database :"database" owner ffprobe_api_owner;
revoke connect on database :"database" from public;
SQL

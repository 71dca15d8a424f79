#!/bin/sh
# Writes the secrets that compose.yaml mounts, at random, into compose/secrets/. What is there already stays, so it can be run
# again; what compose/.env says of PostgreSQL goes into the owner's URL. Run it once before the first start.
# Keep a copy: without api_key_pepper no key works any more, without encryption_keys no stored secret can be read.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir -p secrets

# A setting of .env, or its default.
setting() {
  value=$(sed -n "s/^$1=//p" .env 2>/dev/null | tail -n 1)
  echo "${value:-$2}"
}

random_hex() { head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

# The containers' users are others than the one who runs this, so the files are readable and the folder is closed.
keep() {
  if [ -s "secrets/$1" ]; then
    return 0
  fi
  cat >"secrets/$1.new"
  [ -s "secrets/$1.new" ]
  chmod 444 "secrets/$1.new"
  mv "secrets/$1.new" "secrets/$1"
  echo "made secrets/$1"
}

for name in postgres_superuser_password postgres_owner_password postgres_password redis_password api_key_pepper jwt_secret; do
  random_hex | keep "$name"
done
echo "first:$(head -c 32 /dev/urandom | base64 | tr -d '\n')" | keep encryption_keys
echo "postgres://ffprobe_api_owner:$(cat secrets/postgres_owner_password)@$(setting POSTGRES_HOST postgres):$(setting POSTGRES_PORT 5432)/$(setting POSTGRES_DB ffprobe_api)" |
  keep migrate_database_url

#!/bin/sh
# Starts Redis with the settings that this service needs. They go in through standard input, so that neither a file of the image
# nor a list of processes shows the password.
set -eu
exec redis-server - <<CONF
bind * -::*
protected-mode yes
requirepass $(cat /run/secrets/redis_password)
dir /data
appendonly yes
appendfsync everysec
save ""
# full means that tickets are refused for a while; nothing is ever thrown away
maxmemory 256mb
maxmemory-policy noeviction
CONF

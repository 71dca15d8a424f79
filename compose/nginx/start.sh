#!/bin/sh
# Starts nginx with the configuration beside this file. nginx wants to be told who resolves names, and that differs from engine
# to engine: it is the first server in resolv.conf. Those behind it may not know the services.
set -eu
resolver=$(awk '$1 == "nameserver" { print $2; exit }' /etc/resolv.conf)
case $resolver in
  *:*) resolver="[$resolver]" ;;
esac
sed "s/@RESOLVER@/$resolver/" /etc/nginx/nginx.conf.in >/tmp/nginx.conf
exec nginx -c /tmp/nginx.conf -g 'daemon off;'

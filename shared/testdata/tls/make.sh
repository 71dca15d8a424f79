#!/bin/sh
# Makes the certificates of this folder again (OpenSSL 3): a CA, an origin called origin.test that is valid until 2120, and
# the same one expired. The CA's key is thrown away.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: > "$work/index.txt"
cat > "$work/ca.conf" <<CONF
[ca]
default_ca = test
[test]
dir = $work
database = $work/index.txt
new_certs_dir = $work
default_md = sha256
policy = any
unique_subject = no
rand_serial = yes
[any]
commonName = supplied
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
[leaf]
basicConstraints = CA:FALSE
subjectAltName = DNS:origin.test
CONF
request() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" -keyout "$2" -out "$3"; }
sign() { openssl ca -batch -notext -config "$work/ca.conf" -startdate 20200101000000Z "$@"; }
request "FFprobe API test CA" "$work/ca.key" "$work/ca.csr"
sign -selfsign -keyfile "$work/ca.key" -extensions root -enddate 21200101000000Z -in "$work/ca.csr" -out ca.pem
request origin.test origin.key "$work/origin.csr"
set -- -cert ca.pem -keyfile "$work/ca.key" -extensions leaf -in "$work/origin.csr"
sign "$@" -enddate 21200101000000Z -out origin.pem
sign "$@" -enddate 20210101000000Z -out expired.pem

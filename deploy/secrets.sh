#!/bin/sh
# Makes the secrets docker-compose.yml reads, in deploy/secrets or the folder given. What is there is left as it is.
set -eu
umask 077
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 700 "$folder" # keeps others out; the files themselves are read by the containers' users, whose ids differ
cd "$folder"

make() { # name, text
    [ -n "$2" ] || { echo "No value for $1: is openssl installed?" >&2; exit 1; }
    [ -s "$1" ] || printf '%s\n' "$2" >"$1"
    chmod 644 "$1"
}

make postgres_password "$(openssl rand -hex 32)"
make database_password "$(openssl rand -hex 32)"
make temporal_database_password "$(openssl rand -hex 32)"
make database_url "postgresql://loyalty_webhooks:$(cat database_password)@postgres:5432/loyalty_webhooks"
make encryption_keys "$(openssl rand -base64 32 | tr '+/' '-_')"
make jwt_secrets "$(openssl rand -hex 32)"
make grafana_password "$(openssl rand -hex 32)"
echo "Secrets are in $(pwd). Keep a copy of encryption_keys: what was sealed with it can be read with no other key."

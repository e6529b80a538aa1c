#!/bin/sh
# Makes the databases and their owners in an empty PostgreSQL: ours and Temporal's two.
set -eu
secrets=${SECRETS_DIR:-/run/secrets}
ours=$(cat "$secrets/database_password")
temporals=$(cat "$secrets/temporal_database_password")
psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres <<SQL
CREATE ROLE loyalty_webhooks LOGIN PASSWORD '$ours';
CREATE ROLE temporal LOGIN PASSWORD '$temporals';
CREATE DATABASE loyalty_webhooks OWNER loyalty_webhooks;
CREATE DATABASE temporal OWNER temporal;
CREATE DATABASE temporal_visibility OWNER temporal;
SQL

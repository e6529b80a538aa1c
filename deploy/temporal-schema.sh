#!/bin/sh
# Brings Temporal's two databases to the schema of this version of its tools. Safe to run again.
set -eu
SQL_PASSWORD=$(cat /run/secrets/temporal_database_password)
export SQL_PASSWORD
versions=/etc/temporal/schema/postgresql/v12
temporal-sql-tool --db temporal setup-schema --version 0.0
temporal-sql-tool --db temporal update-schema --schema-dir "$versions/temporal/versioned"
temporal-sql-tool --db temporal_visibility setup-schema --version 0.0
temporal-sql-tool --db temporal_visibility update-schema --schema-dir "$versions/visibility/versioned"

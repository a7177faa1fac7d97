#!/bin/bash
# Makes the roles and the database of docs/database.md when PostgreSQL starts for the first time.
set -eu
psql -v ON_ERROR_STOP=1 -v owner="$NETRA_OWNER_PASSWORD" -v app="$NETRA_APP_PASSWORD" -U "$POSTGRES_USER" <<'SQL'
CREATE ROLE netra_owner LOGIN PASSWORD :'owner';
CREATE ROLE netra_app LOGIN PASSWORD :'app';
CREATE DATABASE netra OWNER netra_owner;
SQL

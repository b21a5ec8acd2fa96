#!/bin/sh
# Creates Temporal's user and databases next to Hutong's, when PostgreSQL starts for the first time.
set -eu
psql -v ON_ERROR_STOP=1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" <<SQL
CREATE ROLE temporal LOGIN PASSWORD '$TEMPORAL_PASSWORD';
CREATE DATABASE temporal OWNER temporal;
CREATE DATABASE temporal_visibility OWNER temporal;
SQL

#!/bin/sh
# Creates the tables of Temporal's databases, or upgrades them to the version of this image.
set -eu
for name in temporal visibility; do
  database=temporal
  [ "$name" = temporal ] || database=temporal_visibility
  export SQL_DATABASE="$database"
  # An empty database has no version yet.
  temporal-sql-tool update-schema --schema-name "postgresql/v12/$name" || {
    temporal-sql-tool setup-schema -v 0.0
    temporal-sql-tool update-schema --schema-name "postgresql/v12/$name"
  }
done

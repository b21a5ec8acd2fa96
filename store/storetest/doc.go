// Package storetest gives tests real databases: a SQLite file, and a PostgreSQL that it is told of or starts itself.
package storetest

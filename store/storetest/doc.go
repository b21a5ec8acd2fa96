// Package storetest gives tests real databases: a SQLite file, and a database of a PostgreSQL server, which
// it starts if the environment names none.
package storetest

// Package party holds the configuration of a party ([Config]) and starts its servers and workers.
//
// Parties differ only in their configuration. The same binary serves any of them, and one process can run
// several.
//
// The configuration has three sources: the defaults ([Default]), a YAML file and the environment. Later
// sources override earlier ones. The environment variable of a field is HUTONG_ and its path in capitals,
// joined by underscores: database.url is HUTONG_DATABASE_URL. deploy/config/party.example.yaml shows all
// fields.
package party

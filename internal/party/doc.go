// Package party is one institution's deployment: its configuration ([Config]) and the parts that are assembled from it.
//
// A party is a configuration, and nothing else tells parties apart: the same binary serves any of them, and several in
// one process are several configurations. Values come from three places, each over the one before: the defaults
// ([Default]), a YAML file, and the environment, where every field has a variable: its path in the file in capitals,
// joined by underscores, behind HUTONG_ (database.url is HUTONG_DATABASE_URL). deploy/config/party.example.yaml shows all of them.
package party

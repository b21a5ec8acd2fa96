package fateclient

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"

	"hutong/bfia"
	"hutong/fateflow"
)

// params collects parameters by role, by indexes such as "0" or "0|1", by task and by name.
type params map[string]map[string]map[string]map[string]json.RawMessage

// set sets a parameter. It refuses a second, different value, which would silently replace the first.
func (p params) set(role, key, task, name string, value json.RawMessage) error {
	values := child(child(child(p, role), key), task)
	if old, twice := values[name]; twice && !bytes.Equal(old, value) {
		return bfia.Errorf(bfia.CodeBadRequest, "%s: is given twice, with different values, to %s.%s", name,
			role, key)
	}
	values[name] = value
	return nil
}

// with returns the parameters as a JSON object, with values for all roles.
func (p params) with(common object) object {
	all := object{"common": common}
	for role, byKey := range p {
		all[role] = byKey
	}
	return all
}

// child returns the map under a key; it creates the map if there is none.
func child[M ~map[string]V, V ~map[string]W, W any](parent M, key string) V {
	if parent[key] == nil {
		parent[key] = V{}
	}
	return parent[key]
}

// positions returns the indexes that parties have in their role, such as "0|2".
func (t *translation) positions(p fateflow.Parties) (string, error) {
	all := t.nodesOf(p.Role)
	for _, id := range p.PartyID {
		if !slices.Contains(all, id) {
			return "", bfia.Errorf(bfia.CodeBadRequest, "%s: dag.parties has no %[1]s %s", p.Role, id)
		}
	}

	var indexes []string
	for i, id := range all {
		if slices.Contains(p.PartyID, id) {
			indexes = append(indexes, strconv.Itoa(i))
		}
	}
	return strings.Join(indexes, "|"), nil
}

// nodesOf returns the nodes of a role, in the order of their indexes.
func (t *translation) nodesOf(role string) []string {
	var all []string
	for _, p := range t.Parties {
		for _, id := range p.PartyID {
			if p.Role == role && !slices.Contains(all, id) {
				all = append(all, id)
			}
		}
	}
	return all
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

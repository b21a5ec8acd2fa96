package storage

import (
	"slices"
	"strings"

	"hutong/store/blob"
)

// Grant holds what a run may do with the party's bucket. The prefixes are of the form namespace/name, and
// hold the objects below them: "a/b" holds "a/b/c", and neither "a/b" nor "a/bc".
type Grant struct {
	Read  []string // its inputs
	Write []string // its outputs, which it may also read and delete
}

// under returns whether a key is below one of the prefixes.
func under(key string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(prefix string) bool {
		return prefix != "" && strings.HasPrefix(key, prefix+"/") && len(key) > len(prefix)+1
	})
}

// mayWrite returns whether a run may put and delete an object.
func (g Grant) mayWrite(key string) bool { return validKey(key) && under(key, g.Write) }

// mayRead returns whether a run may get an object.
func (g Grant) mayRead(key string) bool {
	return validKey(key) && (under(key, g.Read) || under(key, g.Write))
}

// validKey returns whether a key is one that the party's storage can hold. A slash at the end, by which some
// clients mark an empty folder, is fine. It refuses keys such as "a/../b", which another server on the way
// could read as "b".
func validKey(key string) bool { return blob.CheckKey(strings.TrimSuffix(key, "/")) == nil }

// visible returns the prefixes of objects that a run may see among those that begin with prefix, sorted and
// without duplicates.
func (g Grant) visible(prefix string) []string {
	var visible []string
	for _, granted := range slices.Concat(g.Read, g.Write) {
		switch folder := granted + "/"; {
		case granted == "":
		case strings.HasPrefix(folder, prefix):
			visible = append(visible, folder)
		case strings.HasPrefix(prefix, folder):
			visible = append(visible, prefix)
		}
	}
	slices.Sort(visible)
	return slices.Compact(visible)
}

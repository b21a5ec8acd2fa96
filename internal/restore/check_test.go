package restore

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/activities/housekeeping"
	"hutong/store"
	"hutong/workflows"
)

// Marks are counted up in Temporal, the storage and the database, in this order, so a process that dies in
// between leaves marks that agree. All other combinations are those of a restored service.
func TestProblems(t *testing.T) {
	const none = -1
	for _, c := range []struct {
		name                        string
		temporal, storage, database int64
		problems                    []string
	}{
		{"a new party", none, 0, 0, nil},
		{"died after Temporal's first mark", 1, 0, 0, nil},
		{"died after the storage's first mark", 1, 1, 0, nil},
		{"at rest", 7, 7, 7, nil},
		{"died after Temporal's mark", 8, 7, 7, nil},
		{"died after the storage's mark", 8, 8, 7, nil},
		{"an older database", 9, 9, 7,
			[]string{"the database is older than Temporal", "older than the storage"}},
		{"a new database", 9, 0, 0, []string{"the database is older than Temporal"}},
		{"an older Temporal", 6, 7, 7, []string{"Temporal is older than the database"}},
		{"a lost Temporal", none, 7, 7, []string{"Temporal has lost the party's workflows"}},
		{"an older storage", 7, 6, 7, []string{"the storage is older than the database"}},
		{"a lost storage", 7, 0, 7, []string{"the storage was lost"}},
		{"a lost Temporal and storage", none, 0, 7, []string{"Temporal has lost", "the storage was lost"}},
		{"an older database and storage", 9, 7, 7, []string{"the database is older than Temporal"}},
	} {
		m := Marks{Deployment: "d", InTemporal: c.temporal != none,
			Database: store.RestoreMark{Number: c.database, MarkedAt: time.Now()},
			Storage:  housekeeping.StorageMark{Number: c.storage},
			Temporal: workflows.RestoreMark{Deployment: "d", Number: max(c.temporal, 0)}}
		problems := m.Problems()
		if !assert.Len(t, problems, len(c.problems), c.name) {
			continue
		}
		for i, text := range c.problems {
			assert.Contains(t, problems[i], text, c.name)
		}
	}
	m := Marks{Deployment: "a", InTemporal: true, Temporal: workflows.RestoreMark{Deployment: "b"}}
	require.Len(t, m.Problems(), 1)
	assert.Contains(t, m.Problems()[0], "the database is not the one that the workflows in Temporal belong to")
}

package store

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func cached(job string, size int) cachedDocument {
	return cachedDocument{row: document{JobID: job, Document: bytes.Repeat([]byte{'x'}, size)},
		record: &JobRecord{}, used: time.Now()}
}

// TestDocumentCacheIsBounded checks that the records that were used last stay, within the bytes for them.
func TestDocumentCacheIsBounded(t *testing.T) {
	var p documentCache
	a, b, c := cached("a", maxCachedBytes/2), cached("b", maxCachedBytes/2), cached("c", 1)
	p.put(a)
	p.put(b)
	require.Same(t, a.record, p.get(a.row))
	p.put(c)
	require.Same(t, a.record, p.get(a.row))
	require.Same(t, c.record, p.get(c.row))
	require.Nil(t, p.get(b.row))

	other := a.row
	other.Document = []byte("created again")
	require.Nil(t, p.get(other))
	p.put(cachedDocument{row: other, record: &JobRecord{}, used: time.Now()})
	require.Nil(t, p.get(a.row))
}

// TestDocumentCacheForgetsEndedJobs checks that many small jobs do not stay in the cache when they are not
// used any more.
func TestDocumentCacheForgetsEndedJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p documentCache
		long := cached("long", 1)
		p.put(long)
		for i := range 1000 {
			time.Sleep(time.Second)
			p.put(cached(fmt.Sprint(i), 1))
			require.Same(t, long.record, p.get(long.row))
		}
		require.Len(t, p.entries, int(maxUnused/time.Second)+2)
	})
}

package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"hutong/bfia"
)

const (
	// maxCachedBytes bounds the total size of the documents in the cache, in bytes. Parsed, they take several
	// times as much.
	maxCachedBytes = 16 << 20

	// maxUnused is how long a record stays in the cache without a use. Without it the records of thousands of
	// small jobs that have ended would stay.
	maxUnused = 5 * time.Minute
)

// documentCache is an LRU cache of parsed records: each container of a job needs its record, and a large DAG
// takes milliseconds to parse.
type documentCache struct {
	mu      sync.Mutex
	entries []cachedDocument // least recently used first
}

type cachedDocument struct {
	row    document
	record *JobRecord
	used   time.Time
}

func (e cachedDocument) size() int {
	return len(e.row.Document) + len(e.row.Providers) + len(e.row.Images)
}

// JobDocument returns the parsed document of a job, or CodeNotFound if there is none. The caller must not
// change it.
func (s *Store) JobDocument(ctx context.Context, jobID string) (*bfia.Document, error) {
	record, err := s.JobRecord(ctx, jobID)
	if err != nil {
		return nil, err
	}
	return record.Document, nil
}

// JobRecord returns the record of a job, or CodeNotFound if there is none. The caller must not change it.
func (s *Store) JobRecord(ctx context.Context, jobID string) (*JobRecord, error) {
	row, err := s.documentRow(ctx, jobID)
	if err != nil {
		return nil, err
	}
	// Compare the bytes: a job whose creation was undone may be created again with another document.
	if record := s.documents.get(row); record != nil {
		return record, nil
	}

	doc, err := bfia.ParseDocument(row.Document)
	if err != nil {
		return nil, err
	}
	var providers []Provider
	if err := json.Unmarshal(row.Providers, &providers); err != nil {
		return nil, fmt.Errorf("store: failed to decode the providers of job %s: %w", jobID, err)
	}
	images, err := row.images()
	if err != nil {
		return nil, err
	}
	record := &JobRecord{Document: doc, Registry: NewRegistry(providers), Images: images}
	s.documents.put(cachedDocument{row: row, record: record, used: time.Now()})
	return record, nil
}

func (p *documentCache) get(row document) *JobRecord {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.entries, func(e cachedDocument) bool { return e.row.JobID == row.JobID })
	if i < 0 || !bytes.Equal(p.entries[i].row.Document, row.Document) ||
		!bytes.Equal(p.entries[i].row.Providers, row.Providers) || p.entries[i].row.Images != row.Images {
		return nil
	}
	e := p.entries[i]
	e.used = time.Now()
	p.entries = append(slices.Delete(p.entries, i, i+1), e)
	return e.record
}

func (p *documentCache) put(e cachedDocument) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.entries = append(
		slices.DeleteFunc(p.entries, func(old cachedDocument) bool { return old.row.JobID == e.row.JobID }),
		e,
	)
	size := 0
	for i, old := range slices.Backward(p.entries) {
		if size += old.size(); size > maxCachedBytes || e.used.Sub(old.used) > maxUnused {
			p.entries = slices.Delete(p.entries, 0, i+1)
			break
		}
	}
}

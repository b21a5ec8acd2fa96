package store

import (
	"bytes"
	"context"
	"slices"
	"sync"

	"hutong/bfia"
)

// maxCachedBytes bounds the total size of the documents in the cache, in bytes.
const maxCachedBytes = 16 << 20

// documentCache is an LRU cache of parsed documents: each container of a job needs the document, and a large
// DAG takes milliseconds to parse.
type documentCache struct {
	mu      sync.Mutex
	entries []cachedDocument // least recently used first
}

type cachedDocument struct {
	jobID string
	body  []byte
	doc   *bfia.Document
}

// JobDocument returns the parsed document of a job, or CodeNotFound if there is none. The caller must not
// change it.
func (s *Store) JobDocument(ctx context.Context, jobID string) (*bfia.Document, error) {
	body, err := s.Document(ctx, jobID)
	if err != nil {
		return nil, err
	}
	// Compare the bytes: a job whose creation was undone may be created again with another document.
	if doc := s.documents.get(jobID, body); doc != nil {
		return doc, nil
	}
	doc, err := bfia.ParseDocument(body)
	if err != nil {
		return nil, err
	}
	s.documents.put(cachedDocument{jobID, body, doc})
	return doc, nil
}

func (p *documentCache) get(jobID string, body []byte) *bfia.Document {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.IndexFunc(p.entries, func(e cachedDocument) bool { return e.jobID == jobID })
	if i < 0 || !bytes.Equal(p.entries[i].body, body) {
		return nil
	}
	e := p.entries[i]
	p.entries = append(slices.Delete(p.entries, i, i+1), e)
	return e.doc
}

func (p *documentCache) put(e cachedDocument) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.entries = append(
		slices.DeleteFunc(p.entries, func(old cachedDocument) bool { return old.jobID == e.jobID }),
		e,
	)
	size := 0
	for i, e := range slices.Backward(p.entries) {
		if size += len(e.body); size > maxCachedBytes {
			p.entries = slices.Delete(p.entries, 0, i+1)
			break
		}
	}
}

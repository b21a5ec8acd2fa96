package store

import (
	"bytes"
	"context"
	"slices"
	"sync"

	"hutong/bfia"
)

// maxParsed bounds the bytes of the documents that are kept parsed.
const maxParsed = 16 << 20

// parsed keeps documents of jobs that were read lately in their parsed form: each run of a job's tasks needs it, and a large
// DAG takes milliseconds to parse.
type documentCache struct {
	mu      sync.Mutex
	entries []cachedDocument // the last one was used last
}

type cachedDocument struct {
	jobID string
	body  []byte
	doc   *bfia.Document
}

// JobDocument is the parsed document of a job, which must not be changed; CodeNotFound when there is none.
func (s *Store) JobDocument(ctx context.Context, jobID string) (*bfia.Document, error) {
	body, err := s.Document(ctx, jobID)
	if err != nil {
		return nil, err
	}
	// The bytes tell whether it is the same: a job that was undone may be created anew with another document.
	if doc := s.documents.find(jobID, body); doc != nil {
		return doc, nil
	}
	doc, err := bfia.ParseDocument(body)
	if err != nil {
		return nil, err
	}
	s.documents.keep(cachedDocument{jobID, body, doc})
	return doc, nil
}

func (p *documentCache) find(jobID string, body []byte) *bfia.Document {
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

func (p *documentCache) keep(e cachedDocument) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.entries = append(slices.DeleteFunc(p.entries, func(old cachedDocument) bool { return old.jobID == e.jobID }), e)
	size := 0
	for i, e := range slices.Backward(p.entries) {
		if size += len(e.body); size > maxParsed {
			p.entries = slices.Delete(p.entries, 0, i+1)
			break
		}
	}
}

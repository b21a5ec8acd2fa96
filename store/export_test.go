package store

import (
	"context"

	"github.com/uptrace/bun"
)

// OnRead calls a function with each statement by which a store reads.
func (s *Store) OnRead(call func(statement string)) { s.r.AddQueryHook(readHook(call)) }

type readHook func(string)

func (h readHook) BeforeQuery(ctx context.Context, e *bun.QueryEvent) context.Context {
	h(e.Query)
	return ctx
}

func (readHook) AfterQuery(context.Context, *bun.QueryEvent) {}

// OnWriteError calls a function with the error of each statement by which a store fails to write.
func (s *Store) OnWriteError(call func(error)) { s.w.AddQueryHook(errorHook(call)) }

type errorHook func(error)

func (errorHook) BeforeQuery(ctx context.Context, _ *bun.QueryEvent) context.Context { return ctx }

func (h errorHook) AfterQuery(_ context.Context, e *bun.QueryEvent) {
	if e.Err != nil {
		h(e.Err)
	}
}

// ArchiveBatch is how many rows of archived entries a transaction removes.
const ArchiveBatch = archiveBatch

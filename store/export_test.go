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

// Package parallel runs the iterations of a loop on all CPUs (GOMAXPROCS). Both functions return the first
// error. They stop early after an error or at the end of the context.
package parallel

import (
	"context"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Each calls do for 0..count-1. Each worker takes the next index when it is free.
func Each(ctx context.Context, count int, do func(i int) error) error {
	var next atomic.Int64
	g, ctx := errgroup.WithContext(ctx)
	for range min(runtime.GOMAXPROCS(0), count) {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= count {
					return nil
				}
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err := do(i); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}

// Ranges splits 0..count into one range per CPU and calls do for each, concurrently. It suits work that
// carries state from one item to the next.
func Ranges(ctx context.Context, count int, do func(ctx context.Context, from, to int) error) error {
	workers := min(runtime.GOMAXPROCS(0), count)
	g, ctx := errgroup.WithContext(ctx)
	for w := range workers {
		g.Go(func() error { return do(ctx, count*w/workers, count*(w+1)/workers) })
	}
	return g.Wait()
}

package queue

import (
	"context"
	"testing"
)

// BenchmarkBroker measures the queues alone.
func BenchmarkBroker(b *testing.B) {
	broker := newBroker(b, Limits{})
	defer broker.Stop()
	s, err := broker.Enter("s")
	if err != nil {
		b.Fatal(err)
	}
	payload := make([]byte, 1<<10)
	for b.Loop() {
		a, err := s.Allocate(context.Background(), Inbound, int64(len(payload)), "")
		if err != nil {
			b.Fatal(err)
		}
		body := broker.NewBody(1<<20, -1)
		_, _ = body.Write(payload)
		if _, err := s.Push("x", "", body, a); err != nil {
			b.Fatal(err)
		}
		d, err := s.Peek(context.Background(), "x", "")
		if err != nil || d == nil {
			b.Fatal(err)
		}
		d.Ack()
	}
}

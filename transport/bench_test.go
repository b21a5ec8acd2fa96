package transport

import (
	"context"
	"fmt"
	"testing"
)

// BenchmarkPushPop is one container that pushes and one that pops, each call
// over HTTP with protobuf bodies, as many pairs at once as there are processors.
func BenchmarkPushPop(b *testing.B) {
	for _, nodes := range []int{1, 2} {
		for _, size := range []int{1 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("nodes=%d/bytes=%d", nodes, size), func(b *testing.B) {
				net := newNetwork(b, Limits{}, "A", "B")
				from := "B"
				if nodes == 2 {
					from = "A"
				}
				payload := make([]byte, size)
				b.SetBytes(int64(size))
				b.RunParallel(func(pb *testing.PB) {
					topic := fmt.Sprintf("%p", pb)
					s := net[from].container(b, "s").protobuf()
					r := net["B"].container(b, "s").protobuf()
					body := s.pushBody(topic, payload)
					for pb.Next() {
						if _, out, err := s.post(context.Background(), pathPush, "B", body); err != nil || out.code != CodeOK {
							b.Errorf("push: %v %s", err, out.code)
							return
						}
						if out := r.pop(topic, 0); out.code != CodeOK {
							b.Errorf("pop: %s", out.code)
							return
						}
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			})
		}
	}
}

// BenchmarkBroker is the queues alone.
func BenchmarkBroker(b *testing.B) {
	br := spooled(b, Limits{}.withDefaults())
	defer br.close()
	s, err := br.enter("s")
	if err != nil {
		b.Fatal(err)
	}
	payload := make([]byte, 1<<10)
	for b.Loop() {
		h, err := br.reserve(context.Background(), &s.in, int64(len(payload)))
		if err != nil {
			b.Fatal(err)
		}
		c := br.spool.newContent(1 << 20)
		_, _ = c.Write(payload)
		if _, err := br.push(s, "x", "", c, h); err != nil {
			b.Fatal(err)
		}
		d, err := br.peek(context.Background(), s, "x", "")
		if err != nil || d == nil {
			b.Fatal(err)
		}
		d.done()
	}
}

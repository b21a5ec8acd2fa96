package transport

import (
	"context"
	"fmt"
	"testing"

	"hutong/transport/status"
)

// BenchmarkPushPop measures a container that pushes and one that pops, each call over HTTP with protobuf
// bodies, with one pair for each processor.
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
						if _, out, err := s.post(context.Background(), pathPush, "B", body); err != nil ||
							out.Code != status.OK {
							b.Errorf("push: %v %s", err, out.Code)
							return
						}
						if out := r.pop(topic, 0); out.Code != status.OK {
							b.Errorf("pop: %s", out.Code)
							return
						}
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			})
		}
	}
}

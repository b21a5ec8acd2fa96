package process_test

import (
	"crypto/rand"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
	"hutong/activities/driver/drivertest"
	"hutong/activities/driver/process"
)

// BenchmarkProcess runs processes one after the other, and then four per core at the same time.
func BenchmarkProcess(b *testing.B) {
	r, err := process.New(processOptions(b))
	require.NoError(b, err)
	spec := func() driver.Spec {
		return driver.Spec{Name: "bench-" + rand.Text(), Command: []string{prog.path}}
	}
	drivertest.RunOnce(b, r, spec()) // starts the supervisor
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			drivertest.RunOnce(b, r, spec())
		}
	})
	b.Run("many", func(b *testing.B) {
		var done atomic.Int64
		b.SetParallelism(4)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				drivertest.RunOnce(b, r, spec())
				done.Add(1)
			}
		})
		b.ReportMetric(float64(done.Load())/b.Elapsed().Seconds(), "runs/s")
	})
}

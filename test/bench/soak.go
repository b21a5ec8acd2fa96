package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/common/expfmt"

	"hutong/bfia"
	"hutong/test/testenv/apiclient"
)

const (
	// soakEvery is the time between two jobs. It leaves the machine half idle, so that nothing piles up.
	soakEvery = time.Second

	// soakReadings is how often everything is read within a third of the soak.
	soakReadings = 40
)

// measureSoak lets two parties, each with its processes and its Temporal server apart, run jobs at a constant
// rate and remove them after a sixth of the time, while clients read lists and statuses. It compares the last
// third with the second one, when everything has warmed up.
func measureSoak(ctx context.Context, o options, into *report) error {
	pair, err := startPair(ctx, o, func(f *federation) {
		f.watched, f.profiled, f.retention = true, o.profile != "", (o.soak / 6).Round(time.Second)
	})
	for _, f := range pair {
		defer f.stop()
	}
	if err != nil {
		return err
	}
	load, err := startSoakLoad(ctx, pair)
	if err != nil {
		return err
	}
	defer func() { _ = load.stop() }()

	third := o.soak / 3
	if err := sleep(ctx, third); err != nil {
		return err
	}
	second, err := readAgain(ctx, pair, third)
	if err != nil {
		return err
	}
	if err := writeHeaps(ctx, o, pair, "second"); err != nil {
		return err
	}
	last, err := readAgain(ctx, pair, third)
	if err != nil {
		return err
	}
	if err := writeHeaps(ctx, o, pair, "last"); err != nil {
		return err
	}
	if err := load.stop(); err != nil {
		return fmt.Errorf("failed to run jobs: %w", err)
	}

	section := into.addSection(fmt.Sprintf("%d jobs in %s: the last third of the time", load.ended.Load(),
		o.soak), "the second third")
	for i, r := range second[0] {
		later, earlier := mean(last, i), mean(second, i)
		section.add(figure{name: r.name, measured: fmt.Sprintf("%.1f", later),
			baseline: fmt.Sprintf("%.1f", earlier), ratio: later / earlier, target: r.target})
	}
	return nil
}

// writeHeaps writes a profile of what the heap of each process holds, if the options name a folder for them.
func writeHeaps(ctx context.Context, o options, pair []*federation, third string) error {
	for i, f := range pair {
		for k, address := range f.pprof {
			if address == "" {
				continue
			}
			file := fmt.Sprintf("soak-%s-%s-%s.pprof", partyNames[i], f.kinds[k], third)
			url := "http://" + address + "/debug/pprof/heap?gc=1"
			if err := fetchProfile(ctx, url, filepath.Join(o.profile, file)); err != nil {
				return err
			}
		}
	}
	return nil
}

// partyNames are what the parties are called in the results.
var partyNames = []string{"scheduler", "participant"}

// reading is something that was read of the parties.
type reading struct {
	name   string
	value  float64
	target target
}

// mean returns the mean of the i-th readings.
func mean(all [][]reading, i int) float64 {
	sum := 0.0
	for _, one := range all {
		sum += one[i].value
	}
	return sum / float64(len(all))
}

// readAgain reads everything several times within some time. All readings have the same order.
func readAgain(ctx context.Context, pair []*federation, within time.Duration) (all [][]reading, err error) {
	for range soakReadings {
		if err := sleep(ctx, within/soakReadings); err != nil {
			return nil, err
		}
		now, err := readPair(ctx, pair)
		if err != nil {
			return nil, err
		}
		all = append(all, now)
	}
	return all, nil
}

func readPair(ctx context.Context, pair []*federation) (all []reading, err error) {
	flat := atMost(1.1)
	for i, f := range pair {
		party := partyNames[i]
		for k, cmd := range f.started {
			name := func(what string) string { return fmt.Sprintf("%s, %s: %s", party, f.kinds[k], what) }
			pid := cmd.Process.Pid
			resident := reading{name: name("resident memory, MB"), value: float64(memoryOf(pid)) / 1e6,
				target: flat}
			if f.metrics[k] == "" {
				resident.target = target{} // Temporal's server fills its caches
				all = append(all, resident)
				continue
			}
			values, err := metricsOf(ctx, f.metrics[k], "go_goroutines", "go_gc_heap_live_bytes",
				"process_open_fds")
			if err != nil {
				return nil, fmt.Errorf("failed to read the metrics of %s: %w", name(""), err)
			}
			all = append(all, resident,
				// As of the last garbage collection.
				reading{name: name("live heap, MB"), value: values[1] / 1e6, target: flat},
				reading{name: name("goroutines"), value: values[0], target: flat},
				reading{name: name("open files"), value: values[2], target: flat})
		}
		size := f.sizes(ctx)
		if size.err != nil {
			return nil, size.err
		}
		all = append(all,
			// They outlive the jobs.
			reading{name: party + ": audit trail and accounts, MB", value: float64(size.kept) / 1e6},
			reading{name: party + ": database without them, MB",
				value: float64(size.database-size.kept) / 1e6, target: flat},
			// It keeps histories for a day at least.
			reading{name: party + ": Temporal's database, MB", value: float64(size.temporal) / 1e6})
	}
	return all, nil
}

// metricsOf returns the values of gauges that a process serves.
func metricsOf(ctx context.Context, address string, names ...string) ([]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	var parser expfmt.TextParser
	families, err := parser.TextToMetricFamilies(answer.Body)
	if err != nil {
		return nil, err
	}
	var values []float64
	for _, name := range names {
		metrics := families[name].GetMetric()
		if len(metrics) != 1 {
			return nil, fmt.Errorf("%s has %d values", name, len(metrics))
		}
		values = append(values, metrics[0].GetGauge().GetValue())
	}
	return values, nil
}

// soakLoad runs jobs until it is stopped.
type soakLoad struct {
	cancel  context.CancelFunc
	clients sync.WaitGroup
	ended   atomic.Int64
	mu      sync.Mutex
	failure error // of the first job that failed
}

// startSoakLoad begins to run jobs, and to read them as the console and people do.
func startSoakLoad(ctx context.Context, pair []*federation) (*soakLoad, error) {
	document, err := pair[0].documentWith("nothing", 2, pair[1].ownID())
	if err != nil {
		return nil, err
	}
	l := &soakLoad{}
	ctx, l.cancel = context.WithCancel(ctx)
	for _, f := range pair {
		f.deployment.every = time.Second / 4
	}
	l.clients.Go(func() {
		tick := time.NewTicker(soakEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				l.clients.Go(func() { l.fail(ctx, l.runJob(ctx, pair, document)) })
			}
		}
	})
	return l, nil
}

// runJob runs a job, and reads the first page of each list at both parties.
func (l *soakLoad) runJob(ctx context.Context, pair []*federation, document []byte) error {
	t, err := pair[0].deployment.runJob(ctx, document)
	if err != nil {
		return err
	}
	if err := pair[1].deployment.awaitEnd(ctx, pair[1].deployment.guest, t.status.JobID); err != nil {
		return err
	}
	for _, f := range pair {
		for _, query := range []string{"", "?job_status=RUNNING", "?text=nothing"} {
			url := f.deployment.urls[f.deployment.guest] + bfia.PathPlatformJobList + query
			if err := apiclient.Call(ctx, http.MethodGet, url, nil, nil); err != nil {
				return err
			}
		}
	}
	l.ended.Add(1)
	return nil
}

func (l *soakLoad) fail(ctx context.Context, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ctx.Err() == nil && err != nil && l.failure == nil {
		l.failure = err
		fmt.Fprintln(os.Stderr, "soak:", err)
	}
}

// stop ends the load, and returns why a job failed, if one did.
func (l *soakLoad) stop() error {
	l.cancel()
	l.clients.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failure == nil && l.ended.Load() == 0 {
		return errors.New("no job has ended")
	}
	return l.failure
}

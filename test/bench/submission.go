package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"hutong/bfia"
	"hutong/test/testenv/apiclient"
)

// clientCounts are the numbers of concurrent clients.
var clientCounts = []int{1, 8, 64}

// sendRequests has n clients send one request after the other for a while, and returns the latencies. A
// client that is refused since the party is busy waits as long as the party says, as 'hutong job submit'
// does.
func sendRequests(ctx context.Context, n int, length time.Duration,
	send func(i int) error) (each []time.Duration, took time.Duration, err error) {
	var mu sync.Mutex
	var count atomic.Int64
	var failed atomic.Bool
	began := time.Now()
	err = forEachParallel(n, n, func(int) error {
		for time.Since(began) < length && !failed.Load() {
			asked := time.Now()
			var busy *apiclient.Error
			switch err := send(int(count.Add(1))); {
			case errors.As(err, &busy) && busy.RetryAfter > 0:
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(busy.RetryAfter):
				}
				continue
			case err != nil:
				failed.Store(true)
				return err
			}
			mu.Lock()
			each = append(each, time.Since(asked))
			mu.Unlock()
		}
		return nil
	})
	return each, time.Since(began), err
}

// measureSubmission measures how many jobs are accepted each second. An accepted job is recorded at both
// parties. No job ends meanwhile: the first ones hold all slots, the others queue.
func measureSubmission(ctx context.Context, o options, into *report) error {
	c := into.addSection("Submission: requests each second", "with 1 client")
	var first float64
	for _, n := range clientCounts {
		mine, each, err := submission(ctx, o, n)
		if err != nil {
			return err
		}
		if n == clientCounts[0] {
			first = mine
		}
		p99 := percentile(each, 99)
		c.add(
			figure{
				name:     fmt.Sprintf("%d clients", n),
				measured: fmt.Sprintf("%.1f /s", mine),
				baseline: fmt.Sprintf("%.1f /s", first),
				ratio:    mine / first,
				notes: []string{
					fmt.Sprintf("latency: median %s, p99 %s", formatDuration(median(each)),
						formatDuration(p99)),
				},
			},
		)
		c.add(
			figure{
				name:     fmt.Sprintf("%d clients: p99 of the accepted requests", n),
				measured: formatDuration(p99),
				baseline: formatDuration(promisedLatency),
				ratio:    p99.Seconds() / promisedLatency.Seconds(),
				target:   atMost(1),
			},
		)
	}
	return nil
}

// promisedLatency bounds the answer to a submission that is accepted, whatever the number of clients. Others
// are refused at once.
const promisedLatency = time.Second

func submission(ctx context.Context, o options, n int) (float64, []time.Duration, error) {
	d, err := startDeployment(ctx, o, slots, "--no-docker")
	if err != nil {
		return 0, nil, err
	}
	defer d.stop()
	// The processes outlive hutong, as all containers do, and end on their own.
	if err := d.registerProgram(ctx, "idle", 1, sleepProgram, "60"); err != nil {
		return 0, nil, err
	}
	document, err := d.dagDocument("idle", shapes[0], 2)
	if err != nil {
		return 0, nil, err
	}
	submit := func(int) error {
		return apiclient.Call(ctx, http.MethodPost, d.urls[d.guest]+bfia.PathPlatformCreateAll, document, nil)
	}
	for range 3 { // to warm up, and to occupy the slots
		if err := submit(0); err != nil {
			return 0, nil, err
		}
	}
	var each []time.Duration
	var took time.Duration
	err = d.withProfile(ctx, o, fmt.Sprintf("submit-%d", n), func() (err error) {
		each, took, err = sendRequests(ctx, n, 8*time.Second, submit)
		return err
	})
	return perSecond(len(each), took), each, err
}
